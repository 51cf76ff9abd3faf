//! The parts that the demo servers of both programs share: authorization codes, one-time refresh
//! tokens, and the endpoints that exchange and revoke them. Each program has clients and an
//! authorization endpoint of its own.

pub mod client;
pub mod state;
pub mod token;

use axum::http::HeaderMap;

use self::client::{OauthError, Parameters};
use self::state::Sessions;

/// The parts of a demo server that its token and revocation endpoints need.
pub trait Demo: Clone + Send + Sync + 'static {
    /// The sessions of its users.
    fn sessions(&self) -> &Sessions;

    /// Returns the ID token for an exchanged code, if the demo issues one.
    fn id_token(&self, _: &state::Code) -> Option<String> {
        None
    }

    /// Authenticates the client that sent a form to the token or revocation endpoint.
    fn authenticate(headers: &HeaderMap, form: &Parameters) -> Result<&'static str, OauthError>;
}
