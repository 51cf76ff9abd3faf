//! A request for another path costs nothing: no allocation, no copy, no boxing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tower::{Layer as _, Service};
use tower_oauth_refresh::{MemoryStore, RefreshLayer, RequestBody};

static BODY: &[u8] = b"grant_type=refresh_token";

/// Echoes the body of the request, without an allocation.
#[derive(Clone)]
struct Echo;

impl Service<Request<RequestBody<Full<Bytes>>>> for Echo {
    type Response = Response<RequestBody<Full<Bytes>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Full<Bytes>>>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

/// Returns a request, with content unless its method gives none a meaning.
fn request(method: Method, path: &'static str) -> Request<Full<Bytes>> {
    let body = match method {
        Method::GET | Method::HEAD | Method::OPTIONS => Full::default(),
        _ => Full::new(Bytes::from_static(BODY)),
    };
    let request = Request::builder().method(method).uri(path);
    request.body(body).unwrap()
}

const NOT_OURS: [(&str, Method, &str); 8] = [
    ("another path", Method::POST, "/orders"),
    ("a path that begins alike", Method::POST, "/token2"),
    ("a path below", Method::POST, "/token/x"),
    ("another spelling", Method::POST, "/Token"),
    ("another method", Method::GET, "/token"),
    ("a preflight", Method::OPTIONS, "/token"),
    ("HEAD", Method::HEAD, "/revoke"),
    ("with a query", Method::GET, "/?path=/token"),
];

#[test]
fn a_passed_request_is_neither_copied_nor_changed_nor_allocated_for() {
    let plain = RefreshLayer::new(MemoryStore::new());
    for (name, method, path) in NOT_OURS {
        passes(&plain, name, request(method, path));
    }
}

#[test]
fn matching_normalized_paths_does_not_allocate_either() {
    let layer = RefreshLayer::builder(MemoryStore::new())
        .match_normalized_paths(true)
        .build()
        .unwrap();
    let paths = [
        "/orders",
        "/%74oken2",
        "//orders//",
        "/a/b.c/.d;e=f",
        "/x/token",
        "//x/y/z",
        "/caf%C3%A9/%E6%97%A5%E6%9C%AC/a%20b+c?d=/../token%2f",
    ];
    for path in paths {
        passes(&layer, path, request(Method::POST, path));
    }
    passes(&layer, "another method", request(Method::GET, "/token"));
    passes(&layer, "another method", request(Method::PUT, "/x/token2"));
}

fn passes(layer: &RefreshLayer<MemoryStore>, name: &str, request: Request<Full<Bytes>>) {
    let mut service = layer.layer(Echo);
    let mut cx = Context::from_waker(Waker::noop());
    let mut answer = None;
    let is_empty = request.body().is_end_stream();
    let counted = measure(|| {
        let ready: Poll<Result<(), Infallible>> = service.poll_ready(&mut cx);
        assert!(ready.is_ready());
        let mut future = pin!(service.call(request));
        if let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) {
            answer = Some(response);
        }
    });
    assert_eq!(counted.count_total, 0, "{name}");
    let mut body = pin!(answer.unwrap().into_body());
    if is_empty {
        assert!(body.is_end_stream(), "{name}");
        return;
    }
    let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) else {
        panic!("{name}: no body")
    };
    let Ok(data) = frame.into_data() else {
        panic!("{name}: no data")
    };
    assert_eq!(
        data.as_ptr(),
        BODY.as_ptr(),
        "{name}: the same bytes in memory"
    );
}

#[test]
fn the_counter_sees_allocations_of_intercepted_requests() {
    let layer = RefreshLayer::new(MemoryStore::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let counted = measure(|| {
        let answer = runtime.block_on(tower::ServiceExt::oneshot(
            layer.layer(Echo),
            request(Method::POST, "/token"),
        ));
        assert_eq!(answer.unwrap().status(), 400);
    });
    assert!(counted.count_total > 0);
}
