//! The context that the steps of one intercepted request share.
//!
//! It is below the endpoints and imports none of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Response;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use crate::body::ResponseBody;
use crate::endpoint::progress::Progress;
use crate::endpoint::state::State;
use crate::endpoint::upstream::{self, Accept, Inner, Reading, Reply};
use crate::error::RefreshError;
use crate::event::{Detail, EventKind, EventSubject, Reuse};
use crate::store::{InstrumentedStore, Key, Store, StoreError};
use crate::token::RefreshToken;
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

/// The result of an intercepted request.
pub(crate) type Outcome<ResBody, E> = Result<Response<ResponseBody<ResBody>>, Failure<E>>;

/// The context that the steps of one request share.
pub(crate) struct RequestContext<St> {
    pub(crate) shared: Arc<State<St>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) started: Instant,
}

impl<St: Store> RequestContext<St> {
    pub(crate) fn new(shared: Arc<State<St>>, progress: Arc<Progress>) -> Self {
        Self {
            shared,
            progress,
            started: Instant::now(),
        }
    }

    pub(crate) fn store(&self) -> &InstrumentedStore<St> {
        self.shared.store()
    }

    /// Sets and returns the time until which the client waits. After it, the client gets an error.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = Instant::now() + self.shared.config().rotation_timeout;
        self.progress.set_deadline(deadline);
        deadline
    }

    pub(crate) fn emit(&self, kind: EventKind, subject: EventSubject<'_>) {
        self.shared.emit(kind, subject, self.started.elapsed());
    }

    pub(crate) fn emit_reuse(&self, kind: EventKind, subject: EventSubject<'_>, reuse: Reuse) {
        let detail = Detail {
            reuse: Some(reuse),
            ..Detail::default()
        };
        self.shared
            .emit_with_detail(kind, subject, self.started.elapsed(), detail);
    }

    /// Returns a random token that the inner service has never issued. With it the inner service
    /// authenticates the sender of a request, but has nothing to use.
    pub(crate) fn never_issued(&self) -> Result<Zeroizing<String>, RefreshError> {
        let id = self.shared.random()?;
        Ok(RefreshToken::new(id, 0, &self.shared.random()?).encode(""))
    }

    /// Awaits a call of the inner service for at most `limit`. A call that returns `None` has got a
    /// response that cannot be read or must not be passed on.
    ///
    /// This is the one place where such a response, a time-out (`timed_out`) or an error of the
    /// inner service becomes the failure of a request, and its event is emitted.
    // Not an `async fn`: its future would hold `call` twice, as an argument and as a local
    // variable.
    pub(crate) fn within<T, E>(
        &self,
        limit: Duration,
        timed_out: RefreshError,
        subject: EventSubject<'_>,
        call: impl Future<Output = Result<Option<T>, E>>,
    ) -> impl Future<Output = Result<T, Failure<E>>> {
        timeout(limit, call).map(move |reply| match reply {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => {
                self.emit(EventKind::UpstreamUnreadable, subject);
                Err(RefreshError::UpstreamUnreadable.into())
            }
            Ok(Err(error)) => Err(Failure::Inner(error)),
            Err(_) => {
                self.emit(EventKind::UpstreamTimeout, subject);
                Err(timed_out.into())
            }
        })
    }

    /// Sends a refresh with the upstream token `secret` to the inner service.
    pub(crate) fn refresh<I: Inner>(
        &self,
        upstream: Box<I>,
        form: Bytes,
        secret: &str,
        subject: EventSubject<'_>,
    ) -> impl Future<Output = Result<Reply<I::ResBody>, Failure<I::Error>>> {
        let limit = self.shared.config().upstream_timeout();
        let call = upstream::token_request(upstream, form, self.reading(Some(secret)));
        self.within(limit, RefreshError::UpstreamUnavailable, subject, call)
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
    pub(crate) async fn pass<I: Inner>(
        &self,
        upstream: Box<I>,
        body: Bytes,
    ) -> Outcome<I::ResBody, I::Error> {
        let config = self.shared.config();
        let subject = EventSubject::client(None);
        let call = async {
            if !config.reference {
                // The client already has a token of the inner service, so nothing needs to be
                // withheld from it.
                let response = upstream.send(body, Accept::Any).await?;
                return Ok(Some(response.map(ResponseBody::inner)));
            }
            let response = upstream.send(body, Accept::Plain).await?;
            let reading = Reading {
                withheld: Withheld::ALL,
                ..self.reading(None)
            };
            Ok(upstream::checked(response, reading).await)
        };
        let limit = config.upstream_timeout();
        self.within(limit, RefreshError::UpstreamUnavailable, subject, call)
            .await
    }

    /// Announces that the grant or the access token under `key` has ended, if the layer issues
    /// reference access tokens.
    pub(crate) async fn announce(&self, key: &Key) {
        if self.shared.config().reference {
            self.shared.announce(key).await;
        }
    }

    /// Emits a store-failure event and returns the error for the client.
    pub(crate) fn store_failed(
        &self,
        error: StoreError,
        subject: EventSubject<'_>,
    ) -> RefreshError {
        self.shared
            .emit_failure(&error, subject, self.started.elapsed());
        error.into()
    }
}
