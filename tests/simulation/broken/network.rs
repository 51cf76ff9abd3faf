//! Bugs between the client, the layer and the authorization server.

use std::future::Future;

use http::StatusCode;

use super::Breakage;

/// The secret of a client, in a place that the layer does not read.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

/// Applies what happens between the client and the layer: [`Breakage::ReplayWithoutCredential`]
/// hides the secret from the layer.
pub(crate) fn outside(breakage: Option<Breakage>, form: &mut Vec<(&str, &str)>) -> Option<Secret> {
    if breakage != Some(Breakage::ReplayWithoutCredential) {
        return None;
    }
    let at = form.iter().position(|(name, _)| *name == "client_secret")?;
    Some(Secret(form.remove(at).1.to_owned()))
}

/// Returns the status and the error with which a bug answers a probe of the client instead of the
/// authorization server.
pub(crate) fn probe(breakage: Option<Breakage>) -> Option<(StatusCode, &'static str)> {
    match breakage? {
        Breakage::NoProof => Some((StatusCode::BAD_REQUEST, "invalid_grant")),
        Breakage::NoClientProves => Some((StatusCode::SERVICE_UNAVAILABLE, "server_error")),
        _ => None,
    }
}

/// Drops the future of a request whose client has hung up.
///
/// [`Breakage::NoDetach`] drops it outside a runtime, so that no task can continue it.
pub(crate) fn hang_up<F: Future + Send + 'static>(breakage: Option<Breakage>, request: F) {
    if breakage == Some(Breakage::NoDetach) {
        std::thread::spawn(move || drop(request)).join().unwrap();
    }
}
