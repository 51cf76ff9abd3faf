//! The inner service: forwards requests to the upstream.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;

use crate::connect::Connector;
use crate::forwarded::{self, Edge};
use crate::front_channel::{BodyCheck, Refusal, check_path, check_query};
use crate::headers;
use crate::listener::Held;
use crate::metrics::Metrics;
use crate::upload::Upload;
use crate::upstream::{PathError, Upstream};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The time after which an idle connection to the upstream is closed. It is shorter than the idle
/// time-out of common servers (the shortest in wide use is 5 s), so that requests are rarely sent
/// on a connection that the upstream is closing.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// The service for the requests of one client connection, or for those of this server itself.
pub struct Forward<B> {
    shared: Arc<Shared<B>>,
    client: Option<Arc<forwarded::Client>>,
}

/// The state that the services of all connections share.
struct Shared<B> {
    pooled: Client<Connector, Upload<B>>,
    /// A client without a pool, which opens a new connection for each request.
    fresh: Client<Connector, Upload<B>>,
    settings: Settings,
    edge: Arc<Edge>,
}

/// Headers that the server itself adds to a request for the upstream, in the extensions of the
/// request. They replace headers of the client, in every spelling.
#[derive(Clone, Debug)]
pub struct AddedHeaders(pub HeaderMap);

/// Settings for forwarding requests.
#[derive(Clone, Debug)]
pub struct Settings {
    pub upstream: Upstream,
    /// Whether the upstream receives the `Host` of the client instead of its own.
    pub preserve_host: bool,
    pub edge: Edge,
    /// The time limit for the head of a response, counted from the end or the last progress of the
    /// request body.
    pub timeout: Duration,
    /// Paths at which `timeout` does not apply to POST requests, because the layer has its own
    /// limit.
    pub unlimited: Vec<String>,
    /// Whether authorization requests that return tokens on the front channel are refused.
    pub refuse_front_channel: bool,
    pub metrics: Metrics,
}

/// The reason why a request got no response from the upstream.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the upstream cannot be reached")]
    Unreachable(#[source] legacy::Error),
    #[error("the upstream sent no valid response")]
    NoAnswer(#[source] legacy::Error),
    #[error("the request body could not be read")]
    Upload(#[source] legacy::Error),
    #[error("the upstream did not respond in time")]
    TimedOut,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the upstream switched protocols without being asked")]
    Switched,
}

impl ForwardError {
    /// Returns the status for the client.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Path(PathError::TooLong) => StatusCode::URI_TOO_LONG,
            Self::Path(PathError::Escapes | PathError::NotAPath | PathError::Invalid(_))
            | Self::Upload(_)
            | Self::Refused(_) => StatusCode::BAD_REQUEST,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Unreachable(_) | Self::NoAnswer(_) | Self::Switched => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns the OAuth error code for the client.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Path(_) | Self::Upload(_) => "invalid_request",
            Self::Unreachable(_) | Self::NoAnswer(_) | Self::TimedOut | Self::Switched => {
                "server_error"
            }
        }
    }
}

impl<B> Forward<B>
where
    B: Body<Data = Bytes> + Default + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub fn new(settings: Settings) -> io::Result<Self> {
        let connector = Connector::new(settings.upstream.is_https())?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .set_host(false);
        let pooled = builder
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        let edge = Arc::new(settings.edge.clone());
        let this_server = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Some(Arc::new(forwarded::Client::new(
            Arc::clone(&edge),
            this_server,
        )));
        Ok(Self {
            shared: Arc::new(Shared {
                pooled,
                fresh,
                settings,
                edge,
            }),
            client,
        })
    }

    /// Returns the service for a connection from `address`.
    pub fn for_client(&self, address: SocketAddr) -> Self {
        let client = forwarded::Client::new(Arc::clone(&self.shared.edge), address);
        Self {
            shared: Arc::clone(&self.shared),
            client: Some(Arc::new(client)),
        }
    }

    /// Returns the service for requests of this server itself. They name no client address, because
    /// no client has sent them.
    pub fn without_client(self) -> Self {
        Self {
            client: None,
            ..self
        }
    }

    /// Converts a client's request to a request to the upstream. Returns it and its time limit.
    fn prepare(
        &self,
        mut request: Request<B>,
    ) -> Result<(Request<Upload<B>>, Option<Duration>), ForwardError> {
        let Settings {
            upstream,
            preserve_host,
            timeout,
            unlimited,
            refuse_front_channel,
            ..
        } = &self.shared.settings;
        let is_limited = *request.method() != Method::POST
            || unlimited.iter().all(|path| path != request.uri().path());
        let mut check = None;
        if *refuse_front_channel {
            check_path(request.uri().path())?;
            check_query(request.uri().query().unwrap_or_default())?;
            if is_limited && !request.body().is_end_stream() {
                check = BodyCheck::new(request.headers())?;
            }
        }
        // The layer buffers the bodies of requests without this limit, and they count until the
        // response.
        let held = if is_limited {
            request.extensions_mut().remove::<Arc<Held>>()
        } else {
            None
        };
        let host = forwarded::requested_host(request.uri(), request.headers());
        let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
        *request.uri_mut() = upstream.uri(request.uri())?;
        let headers = request.headers_mut();
        let trusted = self
            .client
            .as_ref()
            .is_some_and(|client| client.is_trusted());
        headers::remove_hop_by_hop(headers, trusted);
        headers::join_cookies(headers);
        let host = match &self.client {
            Some(client) => {
                client.announce(headers, host.as_ref(), version);
                host
            }
            None => self.shared.edge.announce(headers),
        };
        let added = request.extensions_mut().remove::<AddedHeaders>();
        let headers = request.headers_mut();
        if let Some(AddedHeaders(added)) = added {
            let names: Vec<_> = added.keys().map(HeaderName::as_str).collect();
            headers::remove_all(headers, &names);
            headers.extend(added);
        }
        let host = host.filter(|_| *preserve_host);
        headers.insert(HOST, host.unwrap_or_else(|| upstream.host().clone()));
        Ok((
            request.map(|body| Upload::new(body, check, held)),
            is_limited.then_some(*timeout),
        ))
    }
}

impl<B> Clone for Forward<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            client: self.client.clone(),
        }
    }
}

impl<B> Service<Request<B>> for Forward<B>
where
    B: Body<Data = Bytes> + Default + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = ForwardError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ForwardError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ForwardError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (request, limit) = match self.prepare(request) {
            Ok(prepared) => prepared,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let metrics = &shared.settings.metrics;
            let response = metrics.upstream_call(shared.respond(request, limit), |response| {
                !response.status().is_server_error()
            });
            let mut response = response.await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(ForwardError::Switched);
            }
            *response.version_mut() = Version::HTTP_11;
            headers::remove_hop_by_hop(response.headers_mut(), false);
            // A reason phrase is free text, in which the layer does not look for tokens. Clients
            // ignore it (RFC 9112 §4).
            response.extensions_mut().remove::<ReasonPhrase>();
            Ok(response)
        })
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + Default + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn respond(
        &self,
        request: Request<Upload<B>>,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, ForwardError> {
        let Some(limit) = limit else {
            return self.send(request).await;
        };
        let progress = request.body().progress();
        tokio::select! {
            biased;
            response = self.send(request) => response,
            () = progress.stalled(limit) => Err(ForwardError::TimedOut),
        }
    }

    async fn send(&self, request: Request<Upload<B>>) -> Result<Response<Incoming>, ForwardError> {
        let again = repeatable(&request);
        // If nothing of the request was sent, the pool has already retried on another connection.
        let error = match self.pooled.request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        match again {
            Some(again) if connection_lost(&error) => {
                self.fresh.request(again).await.map_err(ForwardError::from)
            }
            _ => Err(error.into()),
        }
    }
}

impl From<legacy::Error> for ForwardError {
    fn from(error: legacy::Error) -> Self {
        if error.is_connect() {
            Self::Unreachable(error)
        } else if let Some(refusal) = cause::<Refusal>(&error) {
            Self::Refused(*refusal)
        } else if cause(&error).is_some_and(hyper::Error::is_user) {
            Self::Upload(error)
        } else {
            Self::NoAnswer(error)
        }
    }
}

/// Returns a copy of the request if it is idempotent (RFC 9110 §9.2.2) and has no body.
fn repeatable<B: Body + Default>(request: &Request<B>) -> Option<Request<B>> {
    if !request.method().is_idempotent() || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(B::default());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// Returns whether the upstream closed the connection without a response.
fn connection_lost(error: &legacy::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let broken = |error: &io::Error| {
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof
        )
    };
    !error.is_connect()
        && (cause(error).is_some_and(hyper::Error::is_incomplete_message)
            || cause(error).is_some_and(broken))
}

#[cfg(test)]
mod tests;

/// Returns the first error of this type among the causes of `error`.
fn cause<T: StdError + 'static>(error: &legacy::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
