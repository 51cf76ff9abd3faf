//! The token and revocation endpoints, as the layer calls them: with the provider's tokens.

use axum::Router;

use crate::app::App;

pub(crate) fn routes(_: &App) -> Router<App> {
    Router::new()
}
