//! The intercepted endpoints, one file or folder each: [`token`], [`revocation`] and
//! [`introspection`]. The application itself calls [`end_grant`] and [`sessions`].
//!
//! [`run`] handles one intercepted request: it reads the form, dispatches it to its endpoint, and
//! turns errors into OAuth error responses. The endpoints share [`context`], [`upstream`],
//! [`config`], [`state`] and [`progress`], which import no endpoint. This module imports the rooms
//! below it: the store, the pure rules of grants and access tokens, and the parsers in `wire`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, Version, request};
use http_body::Body;
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};
use tracing::Instrument as _;
use tracing::field::Empty;

use self::context::{Failure, Outcome, RequestContext};
use self::progress::Progress;
use self::state::State;
use self::upstream::{Inner, Upstream};
use crate::body::{self, ReadError, RequestBody, ResponseBody};
use crate::error::RefreshError;
use crate::store::Store;
use crate::wire::client::{self, Client, ClientError, Credential, Proofs};
use crate::wire::path::replace_path;
use crate::wire::token_request::{self, FormError, Param, TokenRequest};

pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod direct;
pub(crate) mod end_grant;
mod inner;
mod introspection;
mod presented;
pub(crate) mod progress;
mod proof;
mod refusal;
pub(crate) mod renewals;
mod retryable_write;
mod revocation;
pub(crate) mod sessions;
pub(crate) mod state;
pub(crate) mod token;
mod upstream;
mod upstream_revocation;
mod walk;

/// A guarded endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Token,
    Revocation,
    Introspection,
}

impl Endpoint {
    /// Returns the name of the endpoint in a span.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Revocation => "revocation",
            Self::Introspection => "introspection",
        }
    }

    /// Returns the name of the builder method that sets the path of this endpoint.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Self::Token => "token_path",
            Self::Revocation => "revocation_path",
            Self::Introspection => "introspection_path",
        }
    }
}

/// Handles one request to a guarded endpoint.
pub(crate) async fn run<St, S, B, ResBody>(
    endpoint: Endpoint,
    shared: Arc<State<St>>,
    progress: Arc<Progress>,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let http1 = request.version() <= Version::HTTP_11;
    let context = RequestContext::new(shared, progress);
    let span = tracing::debug_span!(
        "oauth_refresh",
        endpoint = endpoint.as_str(),
        otel.status_code = Empty,
        error.type = Empty,
    );
    let inner = inner.map_request(|request: Request<Bytes>| request.map(RequestBody::full));
    let upstream = |head| Upstream::new(inner, head);
    // Boxed because the future is large and `instrument` takes it by value.
    match Box::pin(answer(endpoint, &context, upstream, request))
        .instrument(span.clone())
        .await
    {
        Ok(response) => Ok(response),
        Err(Failure::Inner(error)) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", inner::OTHER);
            Err(error)
        }
        Err(Failure::Refused(error)) => {
            span.record("error.type", error.code());
            if error.status().is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
            let close = http1 && matches!(error, RefreshError::RequestTimeout);
            let mut response = error.into_response(context.shared.config().invalid_grant_status);
            if close {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }
}

async fn answer<St: Store, I: Inner, B: Body<Data = Bytes>>(
    endpoint: Endpoint,
    context: &RequestContext<St>,
    upstream: impl FnOnce(request::Parts) -> Box<I>,
    request: Request<B>,
) -> Outcome<I::ResBody, I::Error> {
    let (mut head, body) = request.into_parts();
    let config = context.shared.config();
    head.method = Method::POST;
    if let Some(path) = config.paths.of(endpoint) {
        head.uri = replace_path(head.uri, path)
            .map_err(|_| RefreshError::InvalidRequest("the request target is too long"))?;
    }
    token_request::normalize_headers(&mut head.headers).map_err(malformed)?;
    let read = body::read(body, config.max_request_body);
    let read = timeout(config.request_body_timeout, read)
        .await
        .map_err(|_| RefreshError::RequestTimeout)?;
    let body = read.map_err(unread)?;
    // A request whose form has not arrived takes no place, so that half-sent forms cannot take all
    // of them. The permit is released when the request is complete, with or without its client.
    let _permit = context
        .shared
        .requests
        .take()
        .ok_or(RefreshError::Overloaded)?;
    let mut form = TokenRequest::parse(body.clone()).map_err(malformed)?;
    if let Some(query) = head.uri.query() {
        form.check_query(query).map_err(malformed)?;
    }
    if matches!(endpoint, Endpoint::Token) {
        form.check_limits()?;
    }
    let identified = client::identify(head.extensions.get(), &head.headers, &form);
    let proofs = Proofs::read(&head.extensions, &head.headers);
    let upstream = upstream(head);
    match endpoint {
        Endpoint::Revocation => {
            let client = identified.map_err(unidentified);
            revocation::revoke(context, upstream, body, &form, client).await
        }
        // The caller is a resource server, not the client of the grant.
        Endpoint::Introspection => introspection::introspect(context, upstream, body, &form).await,
        Endpoint::Token if form.get(Param::GrantType) == Some("refresh_token") => {
            let client = identified.map_err(unidentified)?;
            token::refresh(context, upstream, body, &form, &client, proofs).await
        }
        Endpoint::Token => {
            let client = match identified {
                // The inner service decides whether these credentials are valid.
                Err(ClientError::Basic) => Client {
                    id: None,
                    credential: Credential::None,
                },
                identified => identified.map_err(unidentified)?,
            };
            // Boxed because its future is larger than that of a refresh, which comes more often.
            let issued = token::issue(context, upstream, body, &form, &client, proofs);
            Box::pin(issued).await
        }
    }
}

fn unidentified(error: ClientError) -> RefreshError {
    match error {
        ClientError::Basic => RefreshError::InvalidClient { basic: true },
        ClientError::TooLong { basic } => RefreshError::InvalidClient { basic },
        ClientError::Issuer => RefreshError::InvalidClient { basic: false },
        error => RefreshError::InvalidRequest(error.description()),
    }
}

fn malformed(error: FormError) -> RefreshError {
    RefreshError::InvalidRequest(error.description())
}

fn unread(error: ReadError) -> RefreshError {
    match error {
        ReadError::TooLarge => RefreshError::BodyTooLarge,
        ReadError::Broken => RefreshError::InvalidRequest("the request body is incomplete"),
    }
}
