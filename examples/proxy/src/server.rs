//! Serves clients with the layer in front of the upstream.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use pin_project::pin_project;
use server_common::causes;
use server_common::forward::{Forward, ForwardError};
use server_common::listener::{self, Connections, Listener, Throttle};
use server_common::metrics::{InFlight, Metrics};
use server_common::oauth_error::oauth_error;
use server_common::receivers::Receivers;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_oauth_refresh::access::{Access, AccessBody};
use tower_oauth_refresh::{AccessLayer, Refresh, RefreshLayer, RequestBody, ResponseBody, Store};

use crate::answer;
use crate::discovery::Discovery;

type Inner = Discovery<Forward<RequestBody<listener::RequestBody>>>;

/// The upstream's body, or a rewritten discovery document.
type InnerBody = Either<Incoming, Full<Bytes>>;

/// The server of one proxy.
pub(crate) struct Server<S> {
    pub(crate) layer: RefreshLayer<S>,
    pub(crate) access: AccessLayer<S>,
    pub(crate) inner: Inner,
    pub(crate) receivers: Receivers,
    pub(crate) metrics: Metrics,
}

impl<S: Store> Server<S> {
    /// Serves clients until `end` completes. Returns the connections that are still open.
    pub(crate) async fn run(
        self,
        listener: Listener,
        end: impl Future<Output = ()>,
    ) -> Connections {
        let failures = Arc::new(Throttle::default());
        let service = |client: SocketAddr| {
            let inner = self.inner.around(self.inner.get_ref().for_client(client));
            let service = self.layer.layer(self.access.layer(inner));
            let metrics = self.metrics.clone();
            let receivers = self.receivers.clone();
            let failures = Arc::clone(&failures);
            service_fn(move |request| {
                let answering = Answering {
                    service: service.clone(),
                    receivers: receivers.clone(),
                    failures: Arc::clone(&failures),
                };
                answer(answering, metrics.in_flight(), request)
            })
        };
        listener.run(service, end).await
    }
}

/// The service that answers one request.
struct Answering<S> {
    service: Refresh<Access<Inner, S>, S>,
    receivers: Receivers,
    failures: Arc<Throttle>,
}

/// Answers one request. Errors become error responses.
async fn answer<S: Store>(
    answering: Answering<S>,
    in_flight: InFlight,
    request: Request<listener::RequestBody>,
) -> Result<Response<AnswerBody>, Infallible> {
    let Answering {
        service,
        receivers,
        failures,
    } = answering;
    // The query is not logged, because it may contain an authorization code.
    let logged = tracing::enabled!(tracing::Level::DEBUG).then(|| {
        (
            Instant::now(),
            request.method().clone(),
            request.uri().path().to_owned(),
        )
    });
    let response = if *request.method() == Method::CONNECT {
        let why = "CONNECT is not supported";
        answer::error(StatusCode::NOT_IMPLEMENTED, why).map(Either::Right)
    } else if receivers.receives(request.uri().path()) {
        receivers.answer(request).await.map(Either::Right)
    } else {
        match service.oneshot(request).await {
            Ok(response) => response.map(Either::Left),
            Err(error) => failed(&error, &failures).map(Either::Right),
        }
    };
    if let Some((start, method, path)) = logged {
        let status = response.status().as_u16();
        tracing::debug!(%method, path, status, elapsed = ?start.elapsed(), "request");
    }
    Ok(response.map(|body| AnswerBody {
        body,
        _in_flight: in_flight,
    }))
}

fn failed(error: &ForwardError, failures: &Throttle) -> Response<Full<Bytes>> {
    let status = error.status();
    if !status.is_server_error() {
        tracing::debug!(error = causes::causes(error), "a request was refused");
    } else if let Some(suppressed) = failures.line() {
        tracing::warn!(
            error = causes::causes(error),
            suppressed,
            "a request to the upstream failed"
        );
    }
    oauth_error(status, error.code(), &error.to_string())
}

/// The body of a response. Its request is in flight until it is dropped.
#[pin_project]
struct AnswerBody {
    #[pin]
    body: Either<ResponseBody<AccessBody<InnerBody>>, Full<Bytes>>,
    _in_flight: InFlight,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
