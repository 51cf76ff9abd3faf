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
use crate::issuer::Issuer;
use crate::parameters::Parameters;

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
    let body = with_resource(&app.issuer, &whole(body).await?)?;
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
/// form names another resource.
fn with_resource(issuer: &Issuer, form: &[u8]) -> Result<Bytes, OauthError> {
    let resource = issuer.resource();
    if !Parameters::parse(form)
        .all("resource")
        .all(|named| issuer.is_resource(named))
    {
        return Err(OauthError::new(
            "invalid_target",
            format!("the resource of this server is {resource}"),
        ));
    }
    let encoded: String = form_urlencoded::byte_serialize(resource.as_bytes()).collect();
    let named = |piece: &&[u8]| {
        form_urlencoded::parse(piece)
            .next()
            .is_some_and(|(name, _)| name == "resource")
    };
    let mut pieces: Vec<_> = form
        .split(|byte| *byte == b'&')
        .filter(|piece| !named(piece))
        .collect();
    let piece = [b"resource=", encoded.as_bytes()].concat();
    pieces.push(&piece);
    Ok(pieces.join(&b'&').into())
}
