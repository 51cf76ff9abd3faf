//! From the authorization request to the authorization code.

mod code;

use axum::Router;

use crate::app::App;

pub(crate) use self::code::{CODE_LIFETIME, Code, Fresh};

pub(crate) fn routes() -> Router<App> {
    Router::new()
}
