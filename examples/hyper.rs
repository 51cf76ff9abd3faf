//! The layer without axum: in front of a function, served by hyper over HTTP/1 and HTTP/2.
//!
//! ```text
//! cargo run --example hyper
//! ```
//!
//! A session. It begins with the password grant because that is one request. The second request
//! uses HTTP/2:
//!
//! ```text
//! curl -s http://127.0.0.1:3000/token -d grant_type=password -d client_id=app \
//!   -d username=demo -d password=demo
//! curl -s --http2-prior-knowledge http://127.0.0.1:3000/token -d grant_type=refresh_token \
//!   -d client_id=app -d refresh_token=REFRESH_TOKEN
//! curl -si http://127.0.0.1:3000/revoke -d client_id=app -d token=REFRESH_TOKEN
//! ```
//!
//! To see the graceful shutdown: refresh with `-d pause=10`, stop curl with Ctrl-C, and then stop
//! the server with Ctrl-C. The server waits until the rotation of the disconnected client is
//! stored.

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_oauth_refresh::{MemoryStore, RefreshLayer};
use tracing::Level;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{filter::Targets, fmt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listen = match std::env::args().nth(1) {
        Some(address) => address.parse()?,
        None => SocketAddr::from(([127, 0, 0, 1], 3000)),
    };
    let targets = [
        ("tower_oauth_refresh", Level::DEBUG),
        (module_path!(), Level::DEBUG),
    ];
    let targets = Targets::new()
        .with_default(Level::INFO)
        .with_targets(targets);
    tracing_subscriber::registry()
        .with(targets)
        .with(fmt::layer().with_writer(std::io::stderr))
        .init();

    let refresh = RefreshLayer::builder(MemoryStore::new()).build()?;
    let sessions = Sessions::default();
    let service = ServiceBuilder::new()
        .layer(refresh.clone())
        .service_fn(move |request| token_endpoint(sessions.clone(), request));
    let service = TowerToHyperService::new(service);

    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new());
    let connections = GracefulShutdown::new();
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let mut stopped = std::pin::pin!(stopped()?);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The error concerns one connection, or too many files are open. Both pass.
                tracing::warn!(%error, "cannot accept a connection: retrying");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = server
            .serve_connection(TokioIo::new(stream), service.clone())
            .into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let error = connection.await.err();
            tracing::debug!(error, "connection ended");
        });
    }

    // Closes the connections first, and then waits for rotations whose clients have disconnected.
    drop(listener);
    if timeout(Duration::from_secs(30), connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not close in time");
    }
    refresh.drain().await;
    println!("drained");
    Ok(())
}

/// Returns a future that completes at Ctrl-C or SIGTERM.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// The unused refresh tokens of the token endpoint.
type Sessions = Arc<Mutex<HashSet<String>>>;

/// A token endpoint with one user and one-time refresh tokens. It receives only its own tokens. The
/// app has no revocation endpoint, because the layer answers `/revoke` itself.
async fn token_endpoint<B>(
    sessions: Sessions,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if request.uri().path() != "/token" {
        return Ok(answer(
            StatusCode::NOT_FOUND,
            &json!({ "error": "not_found" }),
        ));
    }
    if request.method() != Method::POST {
        return Ok(answer(
            StatusCode::METHOD_NOT_ALLOWED,
            &json!({ "error": "invalid_request" }),
        ));
    }
    let Ok(body) = Limited::new(request.into_body(), 16 << 10).collect().await else {
        return Ok(answer(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "invalid_request" }),
        ));
    };
    let form = Form(body.to_bytes());
    match token_response(&sessions, &form) {
        Ok(tokens) => {
            // The old token is used up and the client has no response yet. Without the layer, a
            // client that disconnects now loses its session.
            if let Some(pause) = form
                .get("pause")
                .and_then(|pause| Duration::try_from_secs_f64(pause.parse().ok()?).ok())
            {
                tracing::info!(?pause, "delaying the response");
                tokio::time::sleep(pause).await;
            }
            Ok(answer(StatusCode::OK, &tokens))
        }
        Err(Refusal { status, error }) => Ok(answer(status, &json!({ "error": error }))),
    }
}

struct Refusal {
    status: StatusCode,
    error: &'static str,
}

fn token_response(sessions: &Sessions, form: &Form) -> Result<Value, Refusal> {
    let refuse = |error| Refusal {
        status: StatusCode::BAD_REQUEST,
        error,
    };
    let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
    let granted = match form
        .get("grant_type")
        .ok_or(refuse("invalid_request"))?
        .as_str()
    {
        "password" => {
            form.get("username").as_deref() == Some("demo")
                && form.get("password").as_deref() == Some("demo")
        }
        "refresh_token" => {
            sessions.remove(&form.get("refresh_token").ok_or(refuse("invalid_request"))?)
        }
        _ => return Err(refuse("unsupported_grant_type")),
    };
    if !granted {
        return Err(refuse("invalid_grant"));
    }
    let (access_token, refresh_token) = (random()?, random()?);
    sessions.insert(refresh_token.clone());
    Ok(json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": 300,
        "refresh_token": refresh_token,
    }))
}

struct Form(Bytes);

impl Form {
    fn get(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(&self.0)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

fn random() -> Result<String, Refusal> {
    match getrandom::u64() {
        Ok(number) => Ok(format!("{number:016x}")),
        Err(_) => Err(Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: "server_error",
        }),
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
