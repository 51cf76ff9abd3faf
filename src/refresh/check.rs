//! Checks that requests for the guarded paths pass through the layer.
//!
//! [`RefreshLayer::check`] sends a probe to each guarded path of a stack. The layer recognizes a
//! probe by a request extension and answers it without calling the inner service.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Extensions, Method, Request, Response, StatusCode, Uri};
use tokio::time::timeout;
use tower::{Service, ServiceExt as _};

use crate::body::ResponseBody;
use crate::endpoint::Endpoint;
use crate::refresh::layer::RefreshLayer;
use crate::store::Store;

/// The time limit for the response to a probe.
const LONGEST: Duration = Duration::from_secs(10);

/// The mark of a probe, in the extensions of its request.
///
/// The type is private, so that only this crate can create one. It identifies the layer whose probe
/// it is.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    layer: usize,
    seen: Arc<OnceLock<Endpoint>>,
}

impl Probe {
    /// Records that a request has reached `endpoint` of `layer`. Returns whether it is a probe of
    /// that layer.
    pub(crate) fn note(extensions: &Extensions, layer: usize, endpoint: Endpoint) -> bool {
        match extensions.get::<Self>() {
            Some(probe) if probe.layer == layer => {
                let _ = probe.seen.set(endpoint);
                true
            }
            _ => false,
        }
    }
}

/// Returns the response of the layer to one of its own probes.
pub(crate) fn answer<B>() -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The error when requests for guarded paths do not pass through the layer: see
/// [`RefreshLayer::check`](crate::RefreshLayer::check).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not guarded by the layer: {}", listed(unguarded))]
pub struct CheckError {
    /// The paths that are not guarded. There is at least one.
    pub unguarded: Vec<UnguardedPath>,
}

/// A path that the layer does not guard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnguardedPath {
    /// The builder method that sets the path, such as `revocation_path`.
    pub setting: &'static str,
    /// The path that was requested.
    pub path: String,
    /// The result of the probe.
    pub outcome: ProbeOutcome,
}

/// The result of a probe that did not reach the right endpoint of the layer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeOutcome {
    /// A response with this status. 404 or 405: the path has no route inside the layer. 401 or 403:
    /// a middleware outside the layer rejected the probe. Other statuses come from such a
    /// middleware, or from a handler outside the layer.
    Status(StatusCode),
    /// The service returned this error.
    Failed(String),
    /// No response within ten seconds.
    TimedOut,
    /// The probe reached another endpoint of the layer, because the path was rewritten on the way.
    /// Holds the name of the builder method for that endpoint.
    Endpoint(&'static str),
}

impl fmt::Display for UnguardedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            path,
            outcome,
        } = self;
        write!(f, "{setting} {path:?} (")?;
        match outcome {
            ProbeOutcome::Status(status) => {
                let hint = match *status {
                    StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                        "add a route for this path inside the layer, even if it only returns 404"
                    }
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                        "a middleware outside the layer rejected the probe"
                    }
                    _ => "answered by a handler or a middleware outside the layer",
                };
                write!(f, "{status}: {hint}")
            }
            ProbeOutcome::Failed(error) => write!(f, "the service failed: {error}"),
            ProbeOutcome::TimedOut => f.write_str("no response"),
            ProbeOutcome::Endpoint(setting) => {
                write!(f, "the layer handled the request as one for {setting}")
            }
        }?;
        f.write_str(")")
    }
}

/// Returns the paths as a list in one line.
fn listed(unguarded: &[UnguardedPath]) -> String {
    let paths: Vec<_> = unguarded.iter().map(UnguardedPath::to_string).collect();
    paths.join(", ")
}

impl<St: Store> RefreshLayer<St> {
    /// Checks that requests for the guarded paths pass through this layer on their way through
    /// `service`, which must be the whole stack. Call it when the program starts, or in a test.
    ///
    /// A layer in the wrong place is hard to notice: a revocation that misses it may get 200 from a
    /// fallback, and the client assumes that it has logged out. The check sends a probe to the
    /// [`token_path`](crate::RefreshLayerBuilder::token_path), the
    /// [`revocation_path`](crate::RefreshLayerBuilder::revocation_path) and, if one is set, the
    /// [`introspection_path`](crate::RefreshLayerBuilder::introspection_path). `body` creates the
    /// empty request bodies.
    ///
    /// A probe is marked by a request extension, which no client can send. The layer answers it
    /// with 204 and calls neither the inner service nor the store. If the probe misses the layer,
    /// the app gets a `POST` with an empty form. Without `grant_type`, token or credentials, the
    /// app should answer with an error and change nothing. Middleware outside the layer sees the
    /// probe like any other request. If it requires more, such as a `Host` header or the address of
    /// the peer, add that with `tower::ServiceExt::map_request`. A service that builds a new
    /// request, such as an HTTP client, drops the mark.
    ///
    /// # Errors
    ///
    /// [`CheckError`] lists every path that is not guarded, and what the probe reached instead.
    ///
    /// # Example
    ///
    /// ```
    /// use axum::{Router, body::Body, http::StatusCode, routing::post};
    /// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
    ///
    /// # async fn token() -> StatusCode { StatusCode::OK }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let refresh = RefreshLayer::new(MemoryStore::new());
    /// let oauth: Router = Router::new().route("/token", post(token)).route_layer(refresh.clone());
    ///
    /// // `Router::route_layer` covers routes only, and `/revoke` has no route.
    /// let error = refresh.check(oauth.clone(), Body::empty).await.unwrap_err();
    /// assert_eq!(error.unguarded[0].path, "/revoke");
    ///
    /// let oauth: Router = Router::new()
    ///     .route("/token", post(token))
    ///     .route("/revoke", post(|| async { StatusCode::NOT_FOUND }))
    ///     .route_layer(refresh.clone());
    /// refresh.check(oauth, Body::empty).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check<S, B, ResBody>(
        &self,
        service: S,
        body: impl FnMut() -> B,
    ) -> Result<(), CheckError>
    where
        S: Service<Request<B>, Response = Response<ResBody>>,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.check_nested("", service, body).await
    }

    /// Like [`check`](Self::check), but for a layer inside a router that is nested at `prefix`.
    /// Each path is requested with the prefix, which the router strips before the request reaches
    /// the layer.
    ///
    /// # Errors
    ///
    /// [`CheckError`] lists every path that is not guarded, and what the probe reached instead.
    pub async fn check_nested<S, B, ResBody>(
        &self,
        prefix: &str,
        mut service: S,
        mut body: impl FnMut() -> B,
    ) -> Result<(), CheckError>
    where
        S: Service<Request<B>, Response = Response<ResBody>>,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut unguarded = Vec::new();
        for (endpoint, path) in self.shared.config().paths.endpoints() {
            let path = format!("{prefix}{path}");
            let layer = self.shared.address();
            if let Some(outcome) = probe(layer, endpoint, &path, &mut service, body()).await {
                unguarded.push(UnguardedPath {
                    setting: endpoint.setting(),
                    path,
                    outcome,
                });
            }
        }
        if unguarded.is_empty() {
            Ok(())
        } else {
            Err(CheckError { unguarded })
        }
    }
}

/// Sends one probe. Returns `None` if it reached `endpoint` of the layer.
async fn probe<S, B, ResBody>(
    layer: usize,
    endpoint: Endpoint,
    path: &str,
    service: &mut S,
    body: B,
) -> Option<ProbeOutcome>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let seen = Arc::new(OnceLock::new());
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    match path.parse::<PathAndQuery>() {
        Ok(path) => *request.uri_mut() = Uri::from(path),
        Err(error) => return Some(ProbeOutcome::Failed(error.to_string())),
    }
    let form = http::HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    request.extensions_mut().insert(Probe {
        layer,
        seen: Arc::clone(&seen),
    });
    let answer = timeout(LONGEST, service.oneshot(request)).await;
    match seen.get() {
        Some(reached) if *reached == endpoint => None,
        Some(reached) => Some(ProbeOutcome::Endpoint(reached.setting())),
        None => Some(match answer {
            Ok(Ok(response)) => ProbeOutcome::Status(response.status()),
            Ok(Err(error)) => ProbeOutcome::Failed(error.into().to_string()),
            Err(_) => ProbeOutcome::TimedOut,
        }),
    }
}
