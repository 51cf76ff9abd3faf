//! The context that the steps of one intercepted request share.
//!
//! It is below the endpoints and imports none of them.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout};
use tower::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::endpoint::progress::Progress;
use crate::endpoint::state::State;
use crate::endpoint::upstream::{self, Reading, Upstream};
use crate::error::RefreshError;
use crate::event::{EventKind, Subject};
use crate::random::RandomUnavailable;
use crate::store::{CatchPanics, Key, Store, StoreError};
use crate::wire::disclosure::Withheld;

/// The reason why a request has no regular response.
#[derive(Debug)]
pub(crate) enum Failure<E> {
    /// The layer returns an error response.
    Refused(RefreshError),
    /// The inner service returned an error, and the layer returns the same error.
    Inner(E),
}

impl<E> From<RefreshError> for Failure<E> {
    fn from(error: RefreshError) -> Self {
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
pub(crate) struct RequestContext<St> {
    pub(crate) shared: Arc<State<St>>,
    pub(crate) progress: Arc<Progress>,
    started: Instant,
}

impl<St> RequestContext<St> {
    pub(crate) fn new(shared: Arc<State<St>>, progress: Arc<Progress>) -> Self {
        Self {
            shared,
            progress,
            started: Instant::now(),
        }
    }
}

impl<St: Store> RequestContext<St> {
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
        error: RefreshError,
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
                RefreshError::UpstreamUnavailable,
                call,
            )
            .await?;
        answered.ok_or_else(|| {
            self.emit(EventKind::UpstreamUnreadable, subject);
            RefreshError::UpstreamUnreadable.into()
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
    pub(crate) fn store_failed(&self, error: StoreError, subject: Subject<'_>) -> RefreshError {
        self.shared.tell_why(
            EventKind::of_failure(&error),
            subject,
            self.started.elapsed(),
            error.source(),
        );
        error.into()
    }
}
