//! The layer among those of tower-http, in the order that works.
//!
//! ```text
//! cargo run --example stack
//! ```
//!
//! A session, begun with the password grant because that fits on one line; the answers come
//! compressed, with the headers of CORS and a request id:
//!
//! ```text
//! curl -si --compressed http://127.0.0.1:3000/token -H 'Origin: https://app.example' \
//!   -d grant_type=password -d client_id=app -d username=demo -d password=demo
//! curl -si --compressed http://127.0.0.1:3000/token -H 'Origin: https://app.example' \
//!   -d grant_type=refresh_token -d client_id=app -d refresh_token=REFRESH_TOKEN
//! ```
//!
//! `-d pause=SECONDS` makes the token endpoint slow. Over five seconds the inner time-out ends the
//! call; the refresh token stays good. With `--timeout-inside 30 --timeout-outside 2` the outer one
//! ends it: the rotation goes on all the same, and the same request sent again is given its answer.

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
use clap::Parser;
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

#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(env = "LISTEN", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The web app that may call from a browser.
    #[arg(long, default_value = "https://app.example")]
    origin: HeaderValue,
    /// Seconds that a client waits for any answer.
    #[arg(long, default_value = "15", value_parser = seconds)]
    timeout_outside: Duration,
    /// Seconds that the token endpoint may take.
    #[arg(long, default_value = "5", value_parser = seconds)]
    timeout_inside: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
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

    // The first one is the outermost: a request goes down the list, its answer up.
    let stack = ServiceBuilder::new()
        // Before anything that logs headers. Client secrets come in this one.
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
        // Before the trace, whose span carries it; the answer gets it inside of the trace, which
        // then sees it too.
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(PropagateRequestIdLayer::x_request_id())
        // Outside of whatever may answer by itself: a script can read only those errors that have
        // the CORS headers, and a preflight is answered here without a look at the rest.
        .layer(
            CorsLayer::new()
                .allow_origin(args.origin)
                .allow_methods([Method::POST])
                .allow_headers([AUTHORIZATION, CONTENT_TYPE])
                .expose_headers([HeaderName::from_static("x-request-id"), RETRY_AFTER]),
        )
        // Outside of the layer, which has to read what the token endpoint answers and asks it for
        // no encoding.
        .layer(CompressionLayer::new())
        // Outside: how long the client waits. The layer's future is dropped then; what has begun
        // goes on in a task of its own. Longer than `rotation_timeout` it is only a safety net, for
        // the layer has answered by then.
        .map_response(say_why)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            args.timeout_outside,
        ))
        .layer(refresh.clone())
        // Inside: how long the token endpoint may take. This one *ends* the call; what the endpoint
        // has changed by then is its own affair. Where it cannot be undone, have none here: the
        // layer bounds the call at twice `rotation_timeout`.
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

/// The path alone: a query may hold what belongs in no log.
fn span(request: &Request<Body>) -> tracing::Span {
    let id = request
        .extensions()
        .get::<RequestId>()
        .and_then(|id| id.header_value().to_str().ok());
    tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
}

/// A time-out of tower-http has no body; a client of a token endpoint expects an error that it can
/// read.
fn say_why(response: impl IntoResponse) -> Response<Body> {
    let response = response.into_response();
    if response.status() != StatusCode::SERVICE_UNAVAILABLE
        || response.headers().contains_key(CONTENT_TYPE)
    {
        return response;
    }
    let headers = [(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "1")];
    let body = json!({ "error": "temporarily_unavailable", "error_description": "that took too long, try again" });
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The refresh tokens of the token endpoint that have not been used.
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

/// A token endpoint with one user and refresh tokens for one use. It sees its own tokens only.
async fn token(
    State(sessions): State<Sessions>,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Result<impl IntoResponse, (StatusCode, Json<serde_json::Value>)> {
    let refuse = |error| (StatusCode::BAD_REQUEST, Json(json!({ "error": error })));
    let Ok(Form(form)) = form else {
        return Err(refuse("invalid_request"));
    };
    // A database that takes its time, before anything has changed.
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
