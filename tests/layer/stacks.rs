//! The layer works together with common layers and services of tower, tower-http and axum.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use test_support::oauth::basic;
use test_support::session::{infallible, layer, log_in, refresh, send, session_over, try_send};
use test_support::{Act, Upstream, post, refresh_form};
use tokio::sync::Notify;
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, Layer as _, Service, ServiceBuilder};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::DecompressionLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

const SECOND: Duration = Duration::from_secs(1);

type Form = Request<Full<Bytes>>;

fn router(upstream: &Upstream) -> Router {
    Router::new()
        .route_service("/token", infallible::<Body>(upstream))
        .route_service("/revoke", infallible::<Body>(upstream))
        .route("/elsewhere", axum::routing::get(|| async { "elsewhere" }))
}

#[tokio::test]
async fn an_axum_router_with_the_layer_keeps_its_other_routes() {
    let upstream = Upstream::new();
    let app = router(&upstream).layer(layer());
    session_over(&app, &upstream).await;
    let get = |path: &str| Request::get(path).body(Full::default()).unwrap();
    assert_eq!(send(&app, get("/elsewhere")).await.body, "elsewhere");
    assert_eq!(
        send(&app, get("/nowhere")).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        send(&app, post("/elsewhere", &[])).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn a_nested_axum_router_works_with_the_layer_inside_or_outside() {
    let upstream = Upstream::new();
    let prefixed = |mut request: Form| {
        *request.uri_mut() = format!("/oauth{}", request.uri().path()).parse().unwrap();
        request
    };
    let inside = Router::new().nest("/oauth", router(&upstream).layer(layer()));
    session_over(
        &ServiceBuilder::new().map_request(prefixed).service(inside),
        &upstream,
    )
    .await;

    let layer = tower_oauth_refresh::RefreshLayer::builder(tower_oauth_refresh::MemoryStore::new());
    let layer = layer
        .token_path("/oauth/token")
        .revocation_path("/oauth/revoke")
        .build()
        .unwrap();
    let outside = Router::new().nest("/oauth", router(&upstream)).layer(layer);
    session_over(
        &ServiceBuilder::new().map_request(prefixed).service(outside),
        &upstream,
    )
    .await;
}

#[tokio::test]
async fn tower_http_layers_work_outside_and_inside_of_the_layer() {
    let upstream = Upstream::new();
    let statuses = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&statuses);
    let service = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(TraceLayer::new_for_http().on_response(
            move |response: &Response<_>, _, _: &tracing::Span| {
                seen.lock().unwrap().push(response.status().as_u16());
            },
        ))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(CorsLayer::new().allow_origin(HeaderValue::from_static("https://app.example")))
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            30 * SECOND,
        ))
        .layer(layer())
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            10 * SECOND,
        ))
        .service(upstream.clone());
    session_over(&service, &upstream).await;
    assert_eq!(
        *statuses.lock().unwrap(),
        [200, 200, 200, 400, 200, 200, 400]
    );

    let token = log_in(&service).await;
    let mut request = post("/token", &refresh_form("confidential", &token));
    request
        .headers_mut()
        .insert("accept-encoding", HeaderValue::from_static("gzip"));
    let refused = send(&service, request).await;
    assert_eq!(
        refused.headers["content-encoding"], "gzip",
        "responses of the layer itself are compressed, too"
    );

    let mut request = post(
        "/token",
        &[("grant_type", "authorization_code"), ("code", "c")],
    );
    let credentials = basic("confidential", "secret of confidential")
        .parse()
        .unwrap();
    request.headers_mut().insert(AUTHORIZATION, credentials);
    request
        .headers_mut()
        .insert("origin", HeaderValue::from_static("https://app.example"));
    request
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_static("seven"));
    let answer = send(&service, request).await;
    assert!(answer.token().starts_with("rt_"));
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(answer.headers["x-request-id"], "seven");
    let last = upstream.seen().pop().unwrap();
    assert!(
        last.headers[AUTHORIZATION].is_sensitive(),
        "the header stays marked as sensitive"
    );
    assert_eq!(last.headers["x-request-id"], "seven");
}

#[tokio::test]
async fn a_compressed_response_is_read_behind_a_decompression_layer() {
    let upstream = Upstream::new();
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(DecompressionLayer::new())
        .layer(CompressionLayer::new())
        .service(upstream.clone());
    session_over(&service, &upstream).await;
}

#[tokio::test(start_paused = true)]
async fn an_outer_time_out_does_not_end_the_rotation_and_a_retry_gets_its_response() {
    let upstream = Upstream::new();
    let layer = layer();
    let below = layer.layer(upstream.clone());
    let tower_http = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            SECOND,
        ))
        .service(below.clone());
    let tower = ServiceBuilder::new().timeout(SECOND).service(below);

    let (token, gate) = (log_in(&tower_http).await, Arc::new(Notify::new()));
    upstream.then(Act::Wait(Arc::clone(&gate)));
    assert_eq!(
        refresh(&tower_http, &token).await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    gate.notify_one();
    layer.drain().await;
    let token = refresh(&tower_http, &token).await.token();

    upstream.then(Act::Wait(Arc::clone(&gate)));
    let error = try_send(&tower, post("/token", &refresh_form("app", &token)))
        .await
        .unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    gate.notify_one();
    layer.drain().await;
    let token = refresh(&tower, &token).await.token();

    refresh(&tower, &token).await.token();
    assert_eq!((upstream.refreshes(), upstream.reuses()), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_inner_time_out_is_passed_on_and_the_token_stays_valid() {
    let upstream = Upstream::new();
    let never = || Act::Wait(Arc::new(Notify::new()));
    let layer = layer();

    let tower_http =
        TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, SECOND).layer(upstream.clone());
    let tower_http = layer.layer(tower_http);
    let token = log_in(&tower_http).await;
    upstream.then(never());
    assert_eq!(
        refresh(&tower_http, &token).await.status,
        StatusCode::GATEWAY_TIMEOUT
    );
    let token = refresh(&tower_http, &token).await.token();

    let tower = ServiceBuilder::new()
        .layer(layer)
        .timeout(SECOND)
        .service(upstream.clone());
    upstream.then(never());
    let error = try_send(&tower, post("/token", &refresh_form("app", &token)))
        .await
        .unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    refresh(&tower, &token).await.token();
    assert_eq!(upstream.reuses(), 0);
}

#[tokio::test]
async fn a_buffer_works_inside_outside_or_both() {
    let upstream = Upstream::new();
    let inside = ServiceBuilder::new()
        .layer(layer())
        .buffer(1)
        .service(upstream.clone());
    session_over(&inside, &upstream).await;
    let outside = ServiceBuilder::new()
        .buffer(1)
        .layer(layer())
        .service(upstream.clone());
    session_over(&outside, &upstream).await;
    let both = ServiceBuilder::new()
        .buffer(8)
        .layer(layer())
        .buffer(8)
        .service(upstream.clone());
    session_over(&both, &upstream).await;
}

#[tokio::test]
async fn boxed_services_work_inside_and_outside() {
    let upstream = Upstream::new();
    let below: BoxCloneService<_, _, BoxError> = BoxCloneService::new(upstream.clone());
    session_over(&layer().layer(below), &upstream).await;
    let with: BoxCloneService<Form, _, BoxError> =
        BoxCloneService::new(layer().layer(upstream.clone()));
    session_over(&with, &upstream).await;
    let both = BoxCloneSyncService::new(layer().layer(BoxCloneSyncService::new(upstream.clone())));
    session_over::<BoxCloneSyncService<Form, _, BoxError>, _>(&both, &upstream).await;
}

#[tokio::test]
async fn the_error_of_the_inner_service_is_the_error_of_the_layer() {
    let upstream = Upstream::new();
    let boxed = layer().layer(upstream.clone());
    let token = log_in(&boxed).await;
    upstream.then(Act::Break);
    let error: BoxError = try_send(&boxed, post("/token", &refresh_form("app", &token)))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the connection broke");
    refresh(&boxed, &token).await.token();

    fn never_fails<S: Service<Form, Error = Infallible>>(service: S) -> S {
        service
    }
    session_over(
        &never_fails(layer().layer(infallible(&upstream))),
        &upstream,
    )
    .await;

    #[derive(Debug)]
    struct Own(String);
    let own = ServiceBuilder::new()
        .layer(layer())
        .map_err(|error: BoxError| Own(error.to_string()))
        .service(upstream.clone());
    session_over(&own, &upstream).await;
    upstream.then(Act::Break);
    let error = try_send(&own, post("/token", &refresh_form("app", "rt_"))).await;
    assert!(error.is_ok(), "refused without a call of the inner service");
    let Own(error) = try_send(
        &own,
        post("/token", &[("grant_type", "x"), ("client_id", "app")]),
    )
    .await
    .unwrap_err();
    assert_eq!(error, "the connection broke");
}

/// Returns a body that arrives byte by byte, with trailers.
fn pieces(body: Full<Bytes>) -> StreamBody<BodyStream<Channel<Bytes, BoxError>>> {
    let (mut sender, channel) = Channel::new(1);
    tokio::spawn(async move {
        for byte in body.collect().await.unwrap().to_bytes() {
            sender.send_data(Bytes::copy_from_slice(&[byte])).await?;
        }
        sender.send_trailers(HeaderMap::new()).await
    });
    StreamBody::new(BodyStream::new(channel))
}

fn boxed(body: Full<Bytes>) -> UnsyncBoxBody<Bytes, BoxError> {
    body.map_err(Into::into).boxed_unsync()
}

#[tokio::test]
async fn requests_and_responses_may_have_any_body_type() {
    let upstream = Upstream::new();
    let with_pieces = ServiceBuilder::new()
        .map_request(|request: Form| request.map(pieces))
        .layer(layer())
        .map_response(|response: Response<Full<Bytes>>| response.map(pieces))
        .service(upstream.clone());
    session_over(&with_pieces, &upstream).await;
    let with_axum = ServiceBuilder::new()
        .map_request(|request: Form| request.map(Body::new))
        .layer(layer())
        .map_response(|response: Response<Full<Bytes>>| response.map(Body::new))
        .service(upstream.clone());
    session_over(&with_axum, &upstream).await;
    let with_boxed = ServiceBuilder::new()
        .map_request(|request: Form| request.map(boxed))
        .layer(layer())
        .map_response(|response: Response<Full<Bytes>>| response.map(boxed))
        .service(upstream.clone());
    session_over(&with_boxed, &upstream).await;
    let mixed = ServiceBuilder::new()
        .map_request(|request: Form| request.map(boxed))
        .layer(layer())
        .map_response(|response: Response<Full<Bytes>>| response.map(pieces))
        .service(infallible(&upstream));
    session_over(&mixed, &upstream).await;
}
