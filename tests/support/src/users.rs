//! Log-ins of users whom the authorization server names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Extensions;
use tower_oauth_refresh::Store;

use super::{Act, App};

/// Returns an ID token with these claims, a JSON object. No client would accept its
/// signature.
pub fn id_token(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(claims))
}

/// Makes the next token answer contain an ID token with these claims.
pub fn next_id_token<St: Store + Clone>(app: &App<St>, claims: &str) {
    let members = format!(r#"{{"id_token":"{}"}}"#, id_token(claims));
    app.upstream.then(Act::With(members.leak()));
}

/// Makes the next response of the server have this extension.
pub fn next_extension<St: Store + Clone, T: Clone + Send + Sync + 'static>(
    app: &App<St>,
    extension: T,
) {
    let mut extensions = Extensions::new();
    extensions.insert(extension);
    app.upstream.then(Act::Extended(extensions));
}
