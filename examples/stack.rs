//! The layer together with the layers of tower-http, in an order that works.
//!
//! ```text
//! cargo run --example stack
//! ```
//!
//! A session. It begins with the password grant because that fits on one line. The responses are
//! compressed and have CORS headers and a request ID:
//!
//! ```text
//! curl -si --compressed http://127.0.0.1:3000/token -H 'Origin: https://app.example' \
//!   -d grant_type=password -d client_id=app -d username=demo -d password=demo
//! curl -si --compressed http://127.0.0.1:3000/token -H 'Origin: https://app.example' \
//!   -d grant_type=refresh_token -d client_id=app -d refresh_token=REFRESH_TOKEN
//! ```
//!
//! `-d pause=SECONDS` makes the token endpoint slow. After five seconds the inner time-out ends the
//! call; the refresh token stays valid. With `--timeout-inside 30 --timeout-outside 2`, the outer
//! time-out ends the request, but the rotation continues, and a retry gets its response.

use std::collections::HashSet;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_oauth_refresh::{MemoryStore, RefreshLayer};
use tracing::Level;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{filter::Targets, fmt};

/// `[ADDRESS] [--origin ORIGIN] [--timeout-outside SECONDS] [--timeout-inside SECONDS]`
struct Args {
    /// Address to listen on.
    listen: SocketAddr,
    /// Origin of the origin of the web app that may send requests from a browser.
    origin: HeaderValue,
    /// Time after which every request times out.
    timeout_outside: Duration,
    /// Time that the token endpoint may take.
    timeout_inside: Duration,
}

impl Args {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut args = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            origin: HeaderValue::from_static("https://app.example"),
            timeout_outside: Duration::from_secs(15),
            timeout_inside: Duration::from_secs(5),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--origin" => args.origin = value()?.parse()?,
                "--timeout-outside" => args.timeout_outside = seconds(&value()?)?,
                "--timeout-inside" => args.timeout_inside = seconds(&value()?)?,
                address => args.listen = address.parse()?,
            }
        }
        Ok(args)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse()?;
    let targets = [
        ("tower_oauth_refresh", Level::DEBUG),
        ("tower_http", Level::DEBUG),
    ];
    let targets = Targets::new()
        .with_default(Level::INFO)
        .with_targets(targets);
    tracing_subscriber::registry()
        .with(targets)
        .with(fmt::layer().with_writer(std::io::stderr))
        .init();

    let refresh = RefreshLayer::builder(MemoryStore::new()).build()?;

    // The first layer is the outermost: a request passes the layers from top to bottom, and its
    // response from bottom to top.
    let stack = ServiceBuilder::new()
        // Outside of every layer that logs headers: this header contains client secrets.
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
        // The ID is set outside of the trace layer, whose span contains it, and is copied to the
        // response inside of the trace layer, which can then log it.
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(PropagateRequestIdLayer::x_request_id())
        // Outside of every layer that may respond itself, because a script can read only responses
        // with CORS headers. Preflight requests are answered here.
        .layer(
            CorsLayer::new()
                .allow_origin(args.origin)
                .allow_methods([Method::POST])
                .allow_headers([AUTHORIZATION, CONTENT_TYPE])
                .expose_headers([HeaderName::from_static("x-request-id"), RETRY_AFTER]),
        )
        // Outside of the refresh layer, which must read the token responses of the endpoint and
        // therefore requests them uncompressed.
        .layer(CompressionLayer::new())
        // Outside: the time that the client waits. After it the layer's future is dropped, and a
        // rotation that has begun continues in a task of its own. If it is longer than
        // `rotation_timeout`, it is only a safety net, because the layer responds before.
        .map_response(say_why)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            args.timeout_outside,
        ))
        .layer(refresh.clone())
        // Inside: the time that the token endpoint may take. It *cancels* the call, and the
        // endpoint may have changed its state by then. If such a change cannot be undone, omit this
        // layer: the refresh layer limits the call to twice `rotation_timeout`.
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            args.timeout_inside,
        ));

    let app = Router::new()
        .route("/token", post(token))
        .with_state(Sessions::default())
        .layer(stack);
    let listener = TcpListener::bind(args.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    refresh.drain().await;
    Ok(())
}

/// Returns a span with the path but not the query, which may contain secrets.
fn span(request: &Request<Body>) -> tracing::Span {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok());
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
}

/// Adds an OAuth error as the body of a time-out response, which has no body in tower-http.
fn say_why(response: impl IntoResponse) -> Response<Body> {
    let response = response.into_response();
    if response.status() != StatusCode::SERVICE_UNAVAILABLE
        || response.headers().contains_key(CONTENT_TYPE)
    {
        return response;
    }
    let headers = [(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "1")];
    let body = json!({ "error": "temporarily_unavailable", "error_description": "the request timed out, try again" });
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The unused refresh tokens of the token endpoint.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashSet<String>>>);

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    refresh_token: String,
    #[serde(default)]
    pause: f64,
}

/// A token endpoint with one user and one-time refresh tokens. It receives only its own tokens.
async fn token(
    State(sessions): State<Sessions>,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Result<impl IntoResponse, (StatusCode, Json<serde_json::Value>)> {
    let refuse = |error| (StatusCode::BAD_REQUEST, Json(json!({ "error": error })));
    let Ok(Form(form)) = form else {
        return Err(refuse("invalid_request"));
    };
    // Simulates a slow database. Nothing has changed yet.
    let pause = Duration::try_from_secs_f64(form.pause).map_err(|_| refuse("invalid_request"))?;
    tokio::time::sleep(pause).await;

    let mut sessions = sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
    let granted = match form.grant_type.as_str() {
        "password" => (form.username.as_str(), form.password.as_str()) == ("demo", "demo"),
        "refresh_token" => sessions.remove(&form.refresh_token),
        _ => return Err(refuse("unsupported_grant_type")),
    };
    if !granted {
        return Err(refuse("invalid_grant"));
    }
    let (access_token, refresh_token) = (random()?, random()?);
    sessions.insert(refresh_token.clone());
    let answer = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": 300,
        "refresh_token": refresh_token,
    });
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)))
}

fn random() -> Result<String, (StatusCode, Json<serde_json::Value>)> {
    match getrandom::u64() {
        Ok(number) => Ok(format!("{number:016x}")),
        Err(_) => Err((
            StatusCode::INTERNAL_SERVER_ERROR,
            Json(json!({ "error": "server_error" })),
        )),
    }
}
