//! Accepts connections, and serves them until the server shuts down.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

use super::activity::{Entry, OpenRequest, Registry};
use super::connections::Connections;
use super::io::WriteTimeout;
use super::limits::{CONNECTION_WINDOW, HTTP1_BUFFER, Limits, MAX_STREAMS, STREAM_WINDOW};
use super::refusal::Refusal;
use super::request::{Budget, Held, RequestBody};
use super::response::{Holds, ResponseBody};
use super::sending::{Sending, StreamExecutor};
use super::throttle::Throttle;

/// The time that an idle connection has to close gracefully before it is dropped.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// TCP keep-alive: detects clients that disappeared while their request waits for events.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15));

/// The most idle connections that close at once to make room.
const MOST_EVICTED: usize = 32;

/// The shortest and the longest wait after an accept error.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The time to wait for a connection to close before more connections are evicted.
const EVICTION: Duration = Duration::from_millis(100);

/// Accepts the connections of clients.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// The state that the connections of a listener share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    connections: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    budget: Arc<Budget>,
    registry: Registry,
    refusals: [Throttle; 2],
}

impl Listener {
    pub fn new(listener: TcpListener, limits: Limits) -> Self {
        let shared = Shared {
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            in_flight: Arc::new(Semaphore::new(limits.max_in_flight)),
            budget: Arc::new(Budget::new(limits.body_memory)),
            registry: Registry::default(),
            refusals: Default::default(),
            limits,
        };
        Self {
            listener,
            shared: Arc::new(shared),
        }
    }

    /// Serves connections until `end` completes. `service` returns the service for the requests of
    /// one client address.
    ///
    /// Returns the connections that are still open.
    pub async fn run<S, B>(
        self,
        service: impl Fn(SocketAddr) -> S,
        end: impl Future<Output = ()>,
    ) -> Connections
    where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connections = Connections::default();
        let builder = builder(&self.shared.limits);
        let mut end = pin!(end);
        let mut accepting = Accepting::default();
        loop {
            let accepted = tokio::select! {
                accepted = accepting.next(&self) => accepted,
                () = &mut end => return connections,
            };
            let (stream, client, permit) = accepted;
            let entry = self.shared.registry.add();
            let connection = Connection {
                entry,
                _permit: permit,
                shared: Arc::clone(&self.shared),
            };
            let serving = connection.serve(
                stream,
                builder.clone(),
                service(client),
                connections.closing.clone(),
                connections.ending.clone(),
            );
            connections.tasks.spawn(serving);
        }
    }
}

fn builder(limits: &Limits) -> auto::Builder<StreamExecutor> {
    let mut builder = auto::Builder::new(StreamExecutor::new(limits.stall_timeout));
    // The idle time-out also limits the time that a request head may take.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// The state of the accept loop.
#[derive(Debug, Default)]
struct Accepting {
    errors: Throttle,
    full: Throttle,
    delay: Option<Duration>,
}

impl Accepting {
    /// Waits for a connection and for a permit to serve it.
    async fn next(&mut self, listener: &Listener) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            match listener.listener.accept().await {
                Ok((stream, client)) => {
                    self.delay = None;
                    return (stream, client, self.room(&listener.shared).await);
                }
                Err(error) => self.failed(&error, &listener.shared).await,
            }
        }
    }

    async fn room(&self, shared: &Shared) -> OwnedSemaphorePermit {
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = Arc::clone(&shared.connections).try_acquire_owned() {
                return permit;
            }
            let most = (shared.limits.max_connections / MOST_EVICTED).clamp(1, MOST_EVICTED);
            let evicted = shared.registry.evict(most);
            if let Some(suppressed) = self.full.line() {
                let limit = shared.limits.max_connections;
                tracing::warn!(
                    limit,
                    evicted,
                    suppressed,
                    "all connections are in use: closing idle ones, new ones wait until one is free"
                );
            }
            if let Ok(Ok(permit)) =
                timeout(EVICTION, Arc::clone(&shared.connections).acquire_owned()).await
            {
                return permit;
            }
        }
    }

    async fn failed(&mut self, error: &io::Error, shared: &Shared) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
        ) {
            // The error concerns one connection only.
            return;
        }
        // The usual cause is that the process or the system has no descriptors left.
        shared.registry.evict(MOST_EVICTED);
        if let Some(suppressed) = self.errors.line() {
            tracing::warn!(%error, suppressed, "cannot accept connections: closing idle ones and retrying");
        }
        let (shortest, longest) = BACKOFF;
        let delay = self
            .delay
            .map_or(shortest, |delay| (delay * 2).min(longest));
        self.delay = Some(delay);
        sleep(delay).await;
    }
}

/// One connection.
struct Connection {
    entry: Entry,
    _permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
}

impl Connection {
    async fn serve<S, B>(
        self,
        stream: TcpStream,
        builder: auto::Builder<StreamExecutor>,
        service: S,
        closing: CancellationToken,
        ending: CancellationToken,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let socket = SockRef::from(&stream);
        if let Err(error) = stream
            .set_nodelay(true)
            .and_then(|()| socket.set_tcp_keepalive(&KEEPALIVE))
        {
            // The client has already disconnected.
            return tracing::debug!(%error, "cannot set the options of a connection");
        }
        let activity = Arc::clone(&self.entry.activity);
        let limits = &self.shared.limits;
        let io = WriteTimeout::new(
            TokioIo::new(stream),
            limits.stall_timeout,
            Arc::clone(&activity),
        );
        let (shared, requests) = (Arc::clone(&self.shared), Arc::clone(&activity));
        let service = service_fn(move |request| {
            // The request is counted here and not in its future, because the future of a request on
            // an HTTP/2 stream is first polled later.
            let open = requests.open();
            let ending = ending.clone();
            answer(Arc::clone(&shared), service.clone(), open, ending, request)
        });
        let mut connection = pin!(builder.serve_connection(io, service));
        let grace = tokio::select! {
            ended = connection.as_mut() => return log(ended),
            () = activity.idle_for(limits.idle_timeout, Instant::now()) => CLOSE_GRACE,
            () = closing.cancelled() => CLOSE_GRACE,
            () = activity.evicted() => Duration::ZERO,
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            ended = connection.as_mut() => log(ended),
            () = activity.idle_for(grace, Instant::now()) => tracing::debug!("closed an idle connection"),
        }
    }
}

fn log(ended: Result<(), Box<dyn StdError + Send + Sync>>) {
    if let Err(error) = ended {
        let cause = error.source().map(tracing::field::display);
        tracing::debug!(%error, cause, "a connection failed");
    }
}

type AnswerBody<B> = ResponseBody<Either<B, Full<Bytes>>>;

/// Answers one request: the service does, unless the listener refuses the request.
async fn answer<S, B>(
    shared: Arc<Shared>,
    service: S,
    open: OpenRequest,
    ending: CancellationToken,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody<B>>, Infallible>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let in_flight = Arc::clone(&shared.in_flight).try_acquire_owned().ok();
    let refusal = match &in_flight {
        Some(_) => Refusal::of_request(&request),
        None => Some(Refusal::InFlight),
    };
    let response = match refusal {
        Some(refusal) => Err(refusal),
        None => serve(&shared, service, request).await,
    };
    let response = match response {
        Ok(response) => response.map(Either::Left),
        Err(refusal) => {
            shared.log(refusal);
            refusal.response().map(Either::Right)
        }
    };
    let holds = Holds {
        _open: open,
        _in_flight: in_flight,
    };
    let ending = is_event_stream(&response).then(|| ending.cancelled_owned());
    Ok(response.map(|body| ResponseBody::new(body, Sending::current(), ending, holds)))
}

/// Returns whether a response is a stream of events: whenever it ends, its client has received
/// whole events, and connects again.
fn is_event_stream<B>(response: &Response<B>) -> bool {
    let value = response.headers().get(CONTENT_TYPE);
    let value = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

/// Calls the service. If the listener has cut off the request body, its refusal replaces the
/// response of the service.
async fn serve<S, B>(
    shared: &Shared,
    service: S,
    request: Request<Incoming>,
) -> Result<Response<B>, Refusal>
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>,
{
    let limits = &shared.limits;
    let held = (!request.body().is_end_stream())
        .then(|| Arc::new(Held::new(Arc::clone(&shared.budget), limits.body_held)));
    let mut request =
        request.map(|body| RequestBody::new(body, held.clone(), limits.stall_timeout));
    if let Some(held) = &held {
        request.extensions_mut().insert(Arc::clone(held));
    }
    let response = match service.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    held.and_then(|held| held.failure())
        .map_or(Ok(response), Err)
}

impl Shared {
    fn log(&self, refusal: Refusal) {
        let [in_flight, memory] = &self.refusals;
        match refusal {
            Refusal::InFlight => {
                if let Some(suppressed) = in_flight.line() {
                    let limit = self.limits.max_in_flight;
                    tracing::warn!(
                        limit,
                        suppressed,
                        "too many requests are in flight: clients get 503"
                    );
                }
            }
            Refusal::Memory => {
                if let Some(suppressed) = memory.line() {
                    let limit = self.limits.body_memory;
                    tracing::warn!(
                        limit,
                        suppressed,
                        "request bodies use too much memory: clients get 503"
                    );
                }
            }
            Refusal::Method | Refusal::Echo | Refusal::Host | Refusal::Stalled => {
                tracing::debug!(?refusal, "a request was refused")
            }
        }
    }
}
