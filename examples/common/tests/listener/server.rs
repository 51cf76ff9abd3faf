//! A server with a service for the tests, and clients for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use server_common::listener::{Connections, Limits, Listener, RequestBody};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::service_fn;

/// The longest wait for a condition that is expected to become true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A short time-out for tests that wait until it expires.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// A time-out that does not expire early on a busy machine, but is short enough to wait for.
pub(crate) const MEDIUM: Duration = Duration::from_secs(1);

/// A time-out that is longer than any test.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// Returns limits that are never reached. A test lowers the limits that it checks.
pub(crate) fn limits() -> Limits {
    Limits {
        idle_timeout: NEVER,
        stall_timeout: NEVER,
        ping_interval: NEVER,
        ..Limits::default()
    }
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// The number of open response bodies.
    pub(crate) bodies: Arc<AtomicUsize>,
    /// Each permit lets one `/wait` request finish, or one `/events` response send an event.
    pub(crate) go: Arc<Semaphore>,
    end: oneshot::Sender<()>,
    running: JoinHandle<Connections>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (bodies, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (end, ended) = oneshot::channel::<()>();
        let (count, notify) = (Arc::clone(&bodies), Arc::clone(&go));
        let service = move |_| {
            let (count, notify) = (Arc::clone(&count), Arc::clone(&notify));
            service_fn(move |request| serve(request, Arc::clone(&count), Arc::clone(&notify)))
        };
        let running = tokio::spawn(async move {
            let end = async {
                // Dropping the sender stops the listener, too.
                let _ = ended.await;
            };
            Listener::new(listener, limits).run(service, end).await
        });
        Self {
            addr,
            bodies,
            go,
            end,
            running,
        }
    }

    /// Stops the listener. Returns the connections that are still open.
    pub(crate) async fn end(self) -> Connections {
        self.end.send(()).unwrap();
        self.running.await.unwrap()
    }

    /// Waits until `expected` response bodies are open.
    pub(crate) async fn bodies(&self, expected: usize) {
        until(&format!("{expected} response bodies are open"), || {
            self.bodies.load(Ordering::SeqCst) == expected
        })
        .await;
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Opens a connection and sends these bytes.
    pub(crate) async fn sent(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Sends a request on a connection of its own, and reads until the server closes it.
    pub(crate) async fn send(&self, request: &str) -> String {
        let (mut read, mut write) = self.connect().await.into_split();
        let request = request.to_owned();
        // The server may respond and close the connection before it has read the whole request.
        let sending = tokio::spawn(async move {
            let _ = write.write_all(request.as_bytes()).await;
            write
        });
        let answer = closed("the response", &mut read).await;
        drop(sending.await.unwrap());
        String::from_utf8(answer).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ))
        .await
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting until {what}"));
}

/// Waits until the server has closed the connection. Returns what it sent before.
pub(crate) async fn closed(what: &str, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        // A reset closes the connection, too.
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..read]);
        }
    };
    timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| panic!("the connection is not closed: {what}"));
    answer
}

async fn serve(
    request: Request<RequestBody>,
    count: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
) -> Result<Response<Frames>, Infallible> {
    let path = request.uri().path().to_owned();
    let piece = |len: usize| Frame::data(Bytes::from(vec![b'x'; len]));
    let (frames, then) = match path.as_str() {
        "/empty" => (vec![], Then::End),
        "/endless" => (vec![], Then::Endless),
        "/large" => (vec![piece(1 << 20)], Then::End),
        "/large-trailers" => (
            vec![piece(1 << 20), Frame::trailers(HeaderMap::new())],
            Then::End,
        ),
        "/large-silence" => (vec![piece(1 << 20)], Then::Silence),
        "/small-silence" => (vec![piece(100)], Then::Silence),
        "/events" => (vec![piece(1)], Then::Events(go)),
        "/event-stream" => (vec![piece(100)], Then::Silence),
        "/wait" => {
            go.acquire().await.unwrap().forget();
            (vec![piece(4)], Then::End)
        }
        // Buffers the body as the layer does.
        "/buffer" => match request.into_body().collect().await {
            Ok(body) => {
                let length = body.to_bytes().len().to_string();
                (vec![Frame::data(length.into())], Then::End)
            }
            Err(error) => (vec![Frame::data(error.to_string().into())], Then::End),
        },
        "/buffer-wait" => {
            let body = request.into_body().collect().await;
            go.acquire().await.unwrap().forget();
            (
                vec![piece(body.map_or(0, |body| body.to_bytes().len().min(4)))],
                Then::End,
            )
        }
        _ => (vec![piece(2)], Then::End),
    };
    count.fetch_add(1, Ordering::SeqCst);
    let mut response = Response::new(Frames {
        frames: frames.into(),
        then,
        paused: false,
        count,
    });
    if path == "/event-stream" {
        let value = HeaderValue::from_static("text/event-stream; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    Ok(response)
}

/// The behavior of a response body after its frames.
enum Then {
    End,
    Endless,
    Silence,
    /// Sends one byte for each permit.
    Events(Arc<Semaphore>),
}

/// A response body.
pub(crate) struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    then: Then,
    paused: bool,
    count: Arc<AtomicUsize>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let this = &mut *self;
        match &this.then {
            Then::End => Poll::Ready(None),
            Then::Endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; 8192]))))),
            Then::Silence => Poll::Pending,
            Then::Events(go) => {
                // One frame every five milliseconds, so that several bodies make progress.
                if !this.paused
                    && let Ok(permit) = go.try_acquire()
                {
                    permit.forget();
                    this.paused = true;
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))));
                }
                this.paused = false;
                let waker = cx.waker().clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    waker.wake();
                });
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && matches!(self.then, Then::End)
    }

    fn size_hint(&self) -> SizeHint {
        let lengths = self
            .frames
            .iter()
            .map(|frame| frame.data_ref().map(|data| data.len() as u64));
        match (&self.then, lengths.sum::<Option<u64>>()) {
            (Then::End, Some(length)) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}
