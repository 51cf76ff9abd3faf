//! The middleware around the refresh layer.

use std::fmt;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::assertion::Accepted;
use super::consumed::{Outcome, Slot};
use super::{MOST_BYTES, is_form, too_large};
use crate::app::App;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::scopes::OFFLINE_ACCESS;

/// Wraps the token endpoint.
pub(super) async fn token(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, OauthError> {
    if !is_form(&request) {
        return Ok(next.run(request).await);
    }
    let (mut head, body) = request.into_parts();
    let body = with_defaults(&app, &whole(body).await?)?;
    let slot = Slot::default();
    head.extensions.insert(slot.clone());
    head.extensions.insert(Accepted::default());
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    match slot.take() {
        Some(Outcome::Consumed(consumed)) => Ok(consumed.finish(response).await),
        Some(Outcome::Repeated(answer)) => Ok((
            [
                (CACHE_CONTROL, "no-store"),
                (CONTENT_TYPE, "application/json"),
            ],
            answer,
        )
            .into_response()),
        None => Ok(response),
    }
}

/// Wraps the revocation endpoint.
pub(super) async fn revoke(
    State(_): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, OauthError> {
    if !is_form(&request) {
        return Ok(next.run(request).await);
    }
    let (mut head, body) = request.into_parts();
    let body = whole(body).await?;
    if let Ok(Some(token)) = Parameters::parse(&body).one("token") {
        head.extensions.insert(Presented(token.to_owned()));
    }
    head.extensions.insert(Accepted::default());
    Ok(next.run(Request::from_parts(head, Body::from(body))).await)
}

/// The token in a revocation request, before the layer replaces it.
#[derive(Clone)]
pub(super) struct Presented(String);

impl Presented {
    pub(super) fn is(&self, token: &str) -> bool {
        self.0 == token
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented")
    }
}

async fn whole(body: Body) -> Result<Bytes, OauthError> {
    to_bytes(body, MOST_BYTES).await.map_err(|_| too_large())
}

/// Returns the form with the resource of this server, so that the layer binds the access token to
/// it, whether or not the client names it and however the client spells it. Returns an error if the
/// form names another resource. A refresh names only scopes that this server supports, because it
/// is compared with what was granted.
fn with_defaults(app: &App, form: &[u8]) -> Result<Bytes, OauthError> {
    let resource = app.issuer.resource();
    let parameters = Parameters::parse(form);
    if !parameters
        .all("resource")
        .all(|named| app.issuer.is_resource(named))
    {
        return Err(OauthError::new(
            "invalid_target",
            format!("the resource of this server is {resource}"),
        ));
    }
    let is_refresh = matches!(parameters.one("grant_type"), Ok(Some("refresh_token")));
    let mut set = vec![("resource", resource)];
    if is_refresh && let Ok(Some(scope)) = parameters.one("scope") {
        let mut scopes = app.scopes.read(scope)?;
        scopes.retain(|scope| *scope != OFFLINE_ACCESS);
        set.push(("scope", scopes.join(" ")));
    }
    let replaced = |piece: &&[u8]| {
        let named = form_urlencoded::parse(piece).next();
        named.is_some_and(|(named, _)| set.iter().any(|(name, _)| named == *name))
    };
    let kept = form
        .split(|byte| *byte == b'&')
        .filter(|piece| !replaced(piece));
    let encoded = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(set.iter().filter(|(_, value)| !value.is_empty()))
        .finish();
    let pieces: Vec<_> = kept.chain([encoded.as_bytes()]).collect();
    Ok(pieces.join(&b'&').into())
}
