//! Serves clients: accepts connections, and answers their requests by the layer over the upstream.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use pin_project_lite::pin_project;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tower::{Layer as _, ServiceExt as _};
use tower_oauth_refresh::{Refresh, RefreshLayer, RequestBody, ResponseBody, Store};

use crate::discovery::Discovery;
use crate::forward::{Forward, ForwardError};
use crate::metrics::{InFlight, Metrics};
use crate::resources::{self, Guarded, Resources};
use crate::{answer, causes};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

const MOST_STREAMS: u32 = 256;

type Inner = Discovery<Forward<RequestBody<Incoming>>>;

/// What the upstream sends, unless it is a document that was rewritten.
type InnerBody = Either<Incoming, Full<Bytes>>;

/// The server of one proxy.
pub(crate) struct Server<S> {
    pub(crate) layer: RefreshLayer<S>,
    pub(crate) resources: Resources<S>,
    pub(crate) inner: Inner,
    pub(crate) metrics: Metrics,
}

impl<S: Store> Server<S> {
    /// Takes connections until `end`, and gives back those that are open then.
    pub(crate) async fn run(self, listener: TcpListener, end: impl Future<Output = ()>) -> GracefulShutdown {
        let mut end = pin!(end);
        let connections = GracefulShutdown::new();
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MOST_STREAMS).keep_alive_interval(HEAD_TIMEOUT);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut end => return connections,
            };
            match accepted {
                Ok((stream, address)) => self.connection(stream, address, &builder, &connections),
                Err(error) => {
                    // Too many open files, as a rule: some will be closed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        builder: &auto::Builder<TokioExecutor>,
        connections: &GracefulShutdown,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            // It is gone already.
            return tracing::debug!(%error, "a connection could not be set up");
        }
        let inner = self.inner.around(self.inner.get_ref().for_client(address));
        let service = self.layer.layer(self.resources.layer(inner));
        let metrics = self.metrics.clone();
        let service = service_fn(move |request| answer(service.clone(), metrics.in_flight(), request));
        let (builder, watcher) = (builder.clone(), connections.watcher());
        tokio::spawn(async move {
            // hyper's own time-out begins with the first byte.
            if !matches!(timeout(HEAD_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
                return;
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error = causes::causes(&*error), "a connection ended early");
            }
        });
    }
}

/// Answers one request, always.
async fn answer<S: Store>(
    service: Refresh<Guarded<Inner, S>, S>,
    in_flight: InFlight,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    // The query may hold an authorization code.
    let logged = tracing::enabled!(tracing::Level::DEBUG)
        .then(|| (Instant::now(), request.method().clone(), request.uri().path().to_owned()));
    let response = match refuse(&request) {
        Some((status, why)) => answer::error(status, why).map(Either::Right),
        None => match service.oneshot(request).await {
            Ok(response) => response.map(Either::Left),
            Err(error) => failed(&error).map(Either::Right),
        },
    };
    if let Some((start, method, path)) = logged {
        let status = response.status().as_u16();
        tracing::debug!(%method, path, status, elapsed = ?start.elapsed(), "request");
    }
    Ok(response.map(|body| AnswerBody { body, _in_flight: in_flight }))
}

/// What is no request to a reverse proxy.
fn refuse<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    if *request.method() == Method::CONNECT {
        return Some((StatusCode::NOT_IMPLEMENTED, "this is not a proxy for clients"));
    }
    // RFC 9112 §3.2.
    match request.headers().get_all(HOST).iter().count() {
        0 if request.uri().authority().is_none() && request.version() == Version::HTTP_11 => {
            Some((StatusCode::BAD_REQUEST, "the request names no host"))
        }
        0 | 1 => None,
        _ => Some((StatusCode::BAD_REQUEST, "the request names more than one host")),
    }
}

fn failed(error: &ForwardError) -> Response<Full<Bytes>> {
    let status = error.status();
    if status.is_server_error() {
        tracing::warn!(error = causes::causes(error), "a request failed");
    } else {
        tracing::debug!(error = causes::causes(error), "a request was refused");
    }
    answer::error_with_code(status, error.code(), &error.to_string())
}

pin_project! {
    /// The body of an answer; until it is dropped its request is under way.
    struct AnswerBody {
        #[pin]
        body: Either<ResponseBody<resources::Body<InnerBody>>, Full<Bytes>>,
        _in_flight: InFlight,
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
