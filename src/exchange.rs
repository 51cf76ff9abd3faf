//! Handles one intercepted request: reads the form, dispatches it to its endpoint, and turns errors
//! into OAuth error responses.
//!
//! [`run`] is the entry point. [`Exchange`] is the context that the steps of one request share.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use tokio::time::{Instant, timeout};
use tower_service::Service;
use tracing::Instrument as _;

use crate::body::{self, ReadError, RequestBody, ResponseBody};
use crate::client::{self, Client, ClientError, Credential};
use crate::disclosure::Withheld;
use crate::error::Error;
use crate::event::EventKind;
pub(crate) use crate::event::Subject;
use crate::form::{self, FormError, Param, TokenForm};
use crate::future::Progress;
use crate::introspection;
use crate::path::replace_path;
use crate::random::RandomUnavailable;
use crate::revocation;
use crate::rotation;
use crate::service::Endpoint;
use crate::shared::Shared;
use crate::store::{CatchPanics, Key, Store, StoreError};
use crate::upstream::{self, Reading, Upstream};

/// The reason why a request has no regular response.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The layer returns an error response.
    Refused(Error),
    /// The inner service returned an error, and the layer returns the same error.
    Inner(E),
}

impl<E> From<Error> for Failure<E> {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl<E> From<RandomUnavailable> for Failure<E> {
    fn from(error: RandomUnavailable) -> Self {
        Self::Refused(error.into())
    }
}

/// The result of an intercepted request.
pub(crate) type Outcome<ResBody, E> = Result<Response<ResponseBody<ResBody>>, Failure<E>>;

/// The context that the steps of one request share.
pub(crate) struct Exchange<St> {
    pub(crate) shared: Arc<Shared<St>>,
    pub(crate) progress: Arc<Progress>,
    started: Instant,
}

impl<St: Store> Exchange<St> {
    pub(crate) fn store(&self) -> &CatchPanics<St> {
        self.shared.store()
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Sets and returns the time until which the client waits. After it, the client gets an error.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.shared.config().rotation_timeout;
        self.progress.set_deadline(deadline);
        deadline
    }

    pub(crate) fn emit(&self, kind: EventKind, subject: Subject<'_>) {
        self.shared.tell(kind, subject, self.started.elapsed());
    }

    /// Awaits a call of the inner service for at most `limit`. On a time-out, emits an event and
    /// returns `error`.
    pub(crate) async fn within<T, E>(
        &self,
        limit: Duration,
        subject: Subject<'_>,
        error: Error,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure<E>> {
        match timeout(limit, call).await {
            Ok(result) => result.map_err(Failure::Inner),
            Err(_) => {
                self.emit(EventKind::UpstreamTimeout, subject);
                Err(error.into())
            }
        }
    }

    /// Returns the rules for reading the response to a token request. An error response that
    /// contains `secret` is not passed on.
    pub(crate) fn reading<'a>(&self, secret: Option<&'a str>) -> Reading<'a> {
        let config = self.shared.config();
        Reading {
            limit: config.max_response_body,
            secret,
            withheld: config.withheld(),
            requests_refresh_token: false,
        }
    }

    /// Forwards a request about a token of another format, and returns the response without the
    /// withheld tokens.
    pub(crate) async fn pass<S, B, ResBody>(
        &self,
        mut upstream: Box<Upstream<S, B>>,
        body: Bytes,
    ) -> Outcome<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let config = self.shared.config();
        let subject = Subject {
            client_id: None,
            grant: None,
        };
        let call = async {
            if !config.reference {
                // The client already has a token of the inner service, so nothing needs to be
                // withheld from it.
                return upstream
                    .call(body)
                    .await
                    .map(|response| Some(response.map(ResponseBody::inner)));
            }
            upstream.ask_for_plain();
            let response = upstream.call(body).await?;
            Ok(upstream::checked(response, config.max_response_body, Withheld::ALL, None).await)
        };
        let answered = self
            .within(
                config.upstream_timeout(),
                subject,
                Error::UpstreamUnavailable,
                call,
            )
            .await?;
        answered.ok_or_else(|| {
            self.emit(EventKind::UpstreamUnreadable, subject);
            Error::UpstreamUnreadable.into()
        })
    }

    /// Announces that the grant or the access token under `key` has ended, if the layer issues
    /// reference access tokens.
    pub(crate) async fn announce(&self, key: &Key) {
        if self.shared.config().reference {
            self.shared.announce(key).await;
        }
    }

    /// Emits a store-failure event and returns the error for the client.
    pub(crate) fn store_failed(&self, error: StoreError, subject: Subject<'_>) -> Error {
        self.shared.tell_why(
            EventKind::of_failure(&error),
            subject,
            self.started.elapsed(),
            error.source(),
        );
        error.into()
    }
}

/// Handles one request to a guarded endpoint.
pub(crate) async fn run<St, S, B, ResBody>(
    endpoint: Endpoint,
    shared: Arc<Shared<St>>,
    progress: Arc<Progress>,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<ResBody>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let http1 = request.version() <= Version::HTTP_11;
    let exchange = Exchange {
        shared,
        progress,
        started: Instant::now(),
    };
    let span = tracing::debug_span!("oauth_refresh", ?endpoint);
    // Boxed because the future is large and `instrument` takes it by value.
    match Box::pin(answer(endpoint, &exchange, inner, request))
        .instrument(span)
        .await
    {
        Ok(response) => Ok(response),
        Err(Failure::Inner(error)) => Err(error),
        Err(Failure::Refused(error)) => {
            let close = http1 && matches!(error, Error::RequestTimeout);
            let mut response = error.into_response(exchange.shared.config().invalid_grant_status);
            if close {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }
}

async fn answer<St, S, B, ResBody>(
    endpoint: Endpoint,
    exchange: &Exchange<St>,
    inner: S,
    request: Request<B>,
) -> Outcome<ResBody, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let (mut head, body) = request.into_parts();
    let config = exchange.shared.config();
    head.method = Method::POST;
    if let Some(path) = config.paths.of(endpoint) {
        head.uri = replace_path(head.uri, path)
            .map_err(|_| Error::InvalidRequest("the request target is too long"))?;
    }
    form::check_headers(&head.headers).map_err(malformed)?;
    let read = body::read(body, config.max_request_body);
    let read = timeout(config.request_body_timeout, read)
        .await
        .map_err(|_| Error::RequestTimeout)?;
    let body = read.map_err(unread)?;
    let form = TokenForm::parse(body.clone()).map_err(malformed)?;
    if head.uri.query().is_some_and(form::names_a_param) {
        return Err(
            Error::InvalidRequest("a parameter is in the query instead of the body").into(),
        );
    }
    if matches!(endpoint, Endpoint::Token) {
        form.check_limits()?;
    }
    let identified = client::identify(head.extensions.get(), &head.headers, &form);
    let upstream = Upstream::new(inner, head);
    match (endpoint, form.get(Param::GrantType)) {
        (Endpoint::Revocation, _) => {
            revocation::revoke(
                exchange,
                upstream,
                body,
                &form,
                identified.map_err(unidentified),
            )
            .await
        }
        // The caller is a resource server, not the client of the grant.
        (Endpoint::Introspection, _) => {
            introspection::introspect(exchange, upstream, body, &form).await
        }
        (Endpoint::Token, Some("refresh_token")) => {
            let client = identified.map_err(unidentified)?;
            rotation::refresh(exchange, upstream, body, &form, &client).await
        }
        (Endpoint::Token, _) => {
            let client = match identified {
                // The inner service decides whether these credentials are valid.
                Err(ClientError::Basic) => Client {
                    id: None,
                    credential: Credential::None,
                },
                identified => identified.map_err(unidentified)?,
            };
            rotation::issue(exchange, upstream, body, &form, &client).await
        }
    }
}

fn unidentified(error: ClientError) -> Error {
    match error {
        ClientError::Basic => Error::InvalidClient { basic: true },
        ClientError::TooLong { basic } => Error::InvalidClient { basic },
        error => Error::InvalidRequest(error.description()),
    }
}

fn malformed(error: FormError) -> Error {
    Error::InvalidRequest(error.description())
}

fn unread(error: ReadError) -> Error {
    match error {
        ReadError::TooLarge => Error::BodyTooLarge,
        ReadError::Broken => Error::InvalidRequest("the request body is incomplete"),
    }
}
