//! Receives the requests of other servers to end the sessions of a user: OpenID Connect
//! Back-Channel Logout 1.0, and Global Token Revocation
//! (draft-parecki-oauth-global-token-revocation-06).
//!
//! An endpoint exists only if its flag is set. The requests come from the internet, so that
//! everything before the check of the logout token or of the bearer token is cheap and bounded.

mod logout;
mod revocation;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, Limited};
use tower_oauth_refresh::store::StoreError;

pub use self::logout::Logout;
use crate::bearer::BearerToken;
use crate::causes::causes;
use crate::listener::limit_body_time;
use crate::oauth_error::oauth_error;
use crate::sessions::Sessions;

/// The path of OpenID Connect Back-Channel Logout.
pub const LOGOUT_PATH: &str = "/backchannel-logout";

/// The path of Global Token Revocation.
pub const REVOCATION_PATH: &str = "/global-token-revocation";

/// The largest request body, in bytes.
const MOST_BYTES: usize = 16 << 10;

/// The time limit for a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The endpoints. Clones share their state.
#[derive(Clone, Debug)]
pub struct Receivers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sessions: Sessions,
    logout: Option<Logout>,
    revocation: Option<BearerToken>,
}

/// The error for the sender of a request.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    description: &'static str,
}

impl Refused {
    const fn invalid(description: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_request",
            description,
        }
    }

    /// The sender should try again.
    const fn unavailable(description: &'static str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "temporarily_unavailable",
            description,
        }
    }
}

impl From<StoreError> for Refused {
    /// The layer has emitted an event for the error.
    fn from(_: StoreError) -> Self {
        Self::unavailable("the store is unavailable")
    }
}

impl Receivers {
    /// Creates the endpoints whose settings are present.
    pub fn new(
        sessions: Sessions,
        logout: Option<Logout>,
        revocation: Option<BearerToken>,
    ) -> Self {
        Self(Arc::new(Inner {
            sessions,
            logout,
            revocation,
        }))
    }

    /// Returns the paths of the endpoints that exist.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        let logout = self.0.logout.as_ref().map(|_| LOGOUT_PATH);
        let revocation = self.0.revocation.map(|_| REVOCATION_PATH);
        logout.into_iter().chain(revocation)
    }

    /// Returns whether there is an endpoint at `path`.
    pub fn receives(&self, path: &str) -> bool {
        self.paths().any(|endpoint| endpoint == path)
    }

    /// Answers a request to one of the endpoints.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.receive(request).await.unwrap_or_else(|refused| {
            let Refused {
                status,
                code,
                description,
            } = refused;
            tracing::debug!(%status, description, "a request of another server was refused");
            let mut response = oauth_error(status, code, description);
            let headers = response.headers_mut();
            match status {
                StatusCode::METHOD_NOT_ALLOWED => {
                    headers.insert(ALLOW, HeaderValue::from_static("POST"));
                }
                StatusCode::UNAUTHORIZED => {
                    let challenge = HeaderValue::from_static("Bearer realm=\"sessions\"");
                    headers.insert(http::header::WWW_AUTHENTICATE, challenge);
                }
                _ => {}
            }
            response
        })
    }

    async fn receive<B>(&self, request: Request<B>) -> Result<Response<Full<Bytes>>, Refused>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Inner {
            sessions,
            logout,
            revocation,
        } = &*self.0;
        if *request.method() != Method::POST {
            return Err(Refused {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Refused::invalid("the method must be POST")
            });
        }
        let (head, body) = limit_body_time(request, BODY_TIMEOUT).into_parts();
        let status = match (head.uri.path(), logout, revocation) {
            (LOGOUT_PATH, Some(logout), _) => {
                need_type(&head.headers, "application/x-www-form-urlencoded")?;
                logout.receive(&read(body).await?, sessions).await?;
                StatusCode::OK
            }
            (REVOCATION_PATH, _, Some(token)) => {
                if !token.authorizes(&head.headers) {
                    return Err(Refused {
                        status: StatusCode::UNAUTHORIZED,
                        code: "invalid_token",
                        description: "the bearer token is missing or invalid",
                    });
                }
                need_type(&head.headers, "application/json")?;
                revocation::receive(&read(body).await?, sessions).await?;
                StatusCode::NO_CONTENT
            }
            _ => {
                return Err(Refused {
                    status: StatusCode::NOT_FOUND,
                    ..Refused::invalid("no such endpoint")
                });
            }
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
        Ok(response)
    }
}

/// Returns an error unless the body has this media type.
fn need_type(headers: &HeaderMap, media_type: &str) -> Result<(), Refused> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let found = value.and_then(|value| value.split(';').next());
    if found.is_some_and(|found| found.trim().eq_ignore_ascii_case(media_type)) {
        return Ok(());
    }
    Err(Refused {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ..Refused::invalid("the Content-Type is not that of the endpoint")
    })
}

async fn read<B>(body: B) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let body = Limited::new(body, MOST_BYTES).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| {
        tracing::debug!(error = causes(&*error), "a request body could not be read");
        Refused {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Refused::invalid("the request body is too large or incomplete")
        }
    })
}
