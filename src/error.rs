//! The errors of the `RefreshLayer`.
//!
//! [`RefreshError`] is the reason why the layer rejected a request. It is also the OAuth error
//! response that the client gets. [`ConfigError`] is the reason why a layer could not be built.

use std::fmt;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;
use crate::random::RandomUnavailable;
use crate::store::StoreError;

/// The reason why the layer answered a request with an error of its own.
///
/// The client gets an OAuth error response (RFC 6749 §5.2). The application finds this value in the
/// extensions of that response:
///
/// ```
/// # use tower_oauth_refresh::RefreshError;
/// # fn log<B>(response: &http::Response<B>) {
/// if let Some(RefreshError::Store(cause)) = response.extensions().get::<RefreshError>() {
///     tracing::error!(%cause, "the grant store failed");
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// 400 `invalid_request`: the request is malformed (RFC 6749 §5.2).
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// 405 `invalid_request`: the method of a request to a guarded path is not POST, GET, HEAD or
    /// OPTIONS.
    #[error("the method is not allowed, use POST")]
    MethodNotAllowed,
    /// 413 `invalid_request`: the body is larger than
    /// [`max_request_body`](crate::RefreshLayerBuilder::max_request_body).
    #[error("the request body is too large")]
    BodyTooLarge,
    /// 408 `invalid_request`: the body did not arrive within
    /// [`request_body_timeout`](crate::RefreshLayerBuilder::request_body_timeout) (RFC 9110
    /// §15.5.9).
    #[error("the request body did not arrive in time")]
    RequestTimeout,
    /// 401 `invalid_client`: the request has no client identifier, or one that is longer than 512
    /// bytes, or malformed HTTP Basic credentials. The response has a `WWW-Authenticate: Basic`
    /// challenge only if the request used HTTP Basic (RFC 6749 §5.2).
    ///
    /// RFC 9110 §15.5.2 requires a challenge in every 401 response. But no scheme exists for a
    /// client that authenticates in the body, or not at all, and a browser that is offered Basic
    /// asks its user for a password. Other authorization servers (Ory's fosite, Spring's) do not
    /// send one either.
    #[error("the request does not identify its client, or the client_id is too long")]
    InvalidClient {
        /// Whether the request used HTTP Basic.
        basic: bool,
    },
    /// 400 `invalid_grant`: the refresh token was rejected. Only the [`Event`](crate::Event) says
    /// why.
    #[error("the refresh token is invalid, expired or revoked")]
    InvalidGrant,
    /// 400 `invalid_scope`: the requested scope is malformed, exceeds the granted scope (RFC 6749
    /// §6), or is longer than 4 KiB.
    #[error("the requested scope is malformed, too long or exceeds the scope granted")]
    InvalidScope,
    /// 400 `invalid_target`: a requested resource is malformed or was not granted (RFC 8707 §2.2),
    /// or there are more than 16 different resources, or more than 4 KiB of them.
    #[error(
        "the requested resource is malformed, too long or was not granted, or there are too many"
    )]
    InvalidTarget,
    /// 503 `temporarily_unavailable`: another request is rotating the same grant, or the rotation
    /// takes longer than [`rotation_timeout`](crate::RefreshLayerBuilder::rotation_timeout).
    /// Nothing is lost; the client can retry.
    #[error("the grant is busy, try again")]
    Busy,
    /// 503 `temporarily_unavailable`:
    /// [`max_in_flight`](crate::RefreshLayerBuilder::max_in_flight) requests are in progress. This
    /// one has not begun; the client can retry.
    #[error("too many requests are in progress, try again")]
    Overloaded,
    /// 503 `temporarily_unavailable`: the inner service did not answer a refresh, a revocation or
    /// an introspection within twice
    /// [`rotation_timeout`](crate::RefreshLayerBuilder::rotation_timeout). A refresh has changed
    /// nothing in the layer, but an inner service that rotates its own tokens may have done so. An
    /// introspection has changed nothing.
    ///
    /// A revocation of a token of the layer has ended that token, or its grant, in the layer. It
    /// gets this error also if the inner service failed or returned a 5xx status. For ten minutes,
    /// the client can repeat the request so that the inner service receives it. A revocation of a
    /// token of another format has changed nothing in the layer.
    #[error("the authorization server does not answer, try again")]
    UpstreamUnavailable,
    /// 504 `temporarily_unavailable`: the inner service did not answer a token request other than a
    /// refresh within [`issue_timeout`](crate::RefreshLayerBuilder::issue_timeout). Nothing is
    /// stored. Tokens that it issues later are lost, and an authorization code that it has accepted
    /// is used up.
    #[error("the authorization server did not answer in time")]
    UpstreamTimeout,
    /// 503 `temporarily_unavailable`: the system's random number generator failed.
    #[error("the server is unavailable, try again")]
    Random(#[from] RandomUnavailable),
    /// 503 `temporarily_unavailable`: the store failed. 500 `server_error`: the stored entry is
    /// corrupt.
    #[error("the server is unavailable")]
    Store(#[from] StoreError),
    /// 502 `server_error`: the inner service returned a response that cannot be read or must not be
    /// passed on.
    ///
    /// A revocation also gets this error if the inner service has no revocation endpoint, and its
    /// token endpoint does not say whether the request comes from the client of the grant. The
    /// grant then continues.
    #[error("the authorization server returned an invalid response")]
    UpstreamUnreadable,
}

impl RefreshError {
    /// Returns the HTTP status of the response. For [`InvalidGrant`](Self::InvalidGrant) the client
    /// gets 401 instead if
    /// [`unauthorized_on_invalid_grant`](crate::RefreshLayerBuilder::unauthorized_on_invalid_grant)
    /// is set.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    /// Returns the `error` code of the response (RFC 6749 §5.2, RFC 8707 §2).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "invalid_request"),
            Self::InvalidClient { .. } => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::InvalidGrant => (StatusCode::BAD_REQUEST, "invalid_grant"),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::InvalidTarget => (StatusCode::BAD_REQUEST, "invalid_target"),
            Self::Busy
            | Self::Overloaded
            | Self::UpstreamUnavailable
            | Self::Random(_)
            | Self::Store(StoreError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Self::UpstreamTimeout => (StatusCode::GATEWAY_TIMEOUT, "temporarily_unavailable"),
            Self::UpstreamUnreadable => (StatusCode::BAD_GATEWAY, "server_error"),
            Self::Store(StoreError::Corrupt(_)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error")
            }
        }
    }

    /// Returns the error response. `invalid_grant` is the status for
    /// [`InvalidGrant`](Self::InvalidGrant).
    pub(crate) fn into_response<B>(self, invalid_grant: StatusCode) -> Response<ResponseBody<B>> {
        let status = if matches!(self, Self::InvalidGrant) {
            invalid_grant
        } else {
            self.status()
        };
        let basic = HeaderValue::from_static(r#"Basic realm="oauth", charset="UTF-8""#);
        let challenge = matches!(self, Self::InvalidClient { basic: true }).then_some(basic);
        let mut response = error_response(status, self.code(), &self, challenge);
        if matches!(self, Self::MethodNotAllowed) {
            let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS, POST");
            response.headers_mut().insert(ALLOW, allowed);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns an OAuth error response (RFC 6749 §5.2, RFC 6750 §3). `code` and `description` must not
/// contain characters that JSON escapes.
pub(crate) fn error_response<B>(
    status: StatusCode,
    code: &str,
    description: &dyn fmt::Display,
    challenge: Option<HeaderValue>,
) -> Response<ResponseBody<B>> {
    let body = format!(r#"{{"error":"{code}","error_description":"{description}"}}"#);
    let length = body.len();
    let mut response = Response::new(ResponseBody::full(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(challenge) = challenge {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// An invalid setting of a [`RefreshLayerBuilder`](crate::RefreshLayerBuilder) or an
/// `AccessLayerBuilder`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A path is not an absolute path, or has a query or a fragment.
    #[error("{setting}: {path:?} is not an absolute path without a query")]
    Path {
        /// The builder method that sets the path.
        setting: &'static str,
        /// The path that was set.
        path: String,
    },
    /// A path looks like a route pattern: it has `{`, `}` or `*`, or a segment that begins with
    /// `:`. The layer compares paths literally, so it would guard nothing.
    #[error(
        "{setting}: {path:?} looks like a route pattern, but paths are compared literally, without {{parameters}} or `*`"
    )]
    PathPattern {
        /// The builder method that sets the path.
        setting: &'static str,
        /// The path that was set.
        path: String,
    },
    /// A path that must be guarded in all spellings is ambiguous (see
    /// [`InvalidPath::Ambiguous`](crate::wire::path::InvalidPath::Ambiguous)): a path of an
    /// endpoint although
    /// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths) is set, or a
    /// path of `resource_for`.
    #[error(
        "{setting}: {path:?} can be read in more than one way, so not all spellings can be guarded"
    )]
    AmbiguousPath {
        /// The builder method that sets the path.
        setting: &'static str,
        /// The path that was set.
        path: String,
    },
    /// [`allow_ambiguous_paths`](crate::RefreshLayerBuilder::allow_ambiguous_paths) is set without
    /// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths). Without the
    /// latter, no ambiguous path is rejected.
    #[error("allow_ambiguous_paths requires match_normalized_paths")]
    AllowedWithoutNormalized,
    /// Two guarded paths are equal or, with
    /// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths), spellings of
    /// the same path. Or a prefix of
    /// [`allow_ambiguous_paths`](crate::RefreshLayerBuilder::allow_ambiguous_paths) is a guarded
    /// path or below one. Or two paths of `resource_for` are spellings of the same path.
    #[error("{} and {} overlap: both are {path:?} or below it", settings[0], settings[1])]
    SamePath {
        /// The builder methods that set them.
        settings: [&'static str; 2],
        /// The path of the first setting.
        path: String,
    },
    /// A prefix is longer than 32 bytes, or has a character that must be escaped in a form.
    #[error(
        "{setting}: {prefix:?} is longer than 32 bytes or has characters other than A-Z a-z 0-9 - . _ ~"
    )]
    Prefix {
        /// The builder method that sets the prefix.
        setting: &'static str,
        /// The prefix that was set.
        prefix: String,
    },
    /// Refresh tokens and access tokens have the same prefix, so the layer could not distinguish
    /// them.
    #[error("token_prefix and access_token_prefix are both {0:?}")]
    SamePrefix(String),
    /// [`keep_id_token`](crate::RefreshLayerBuilder::keep_id_token) is set without
    /// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens). Without
    /// the latter, every `id_token` is kept anyway.
    #[error("keep_id_token requires reference_access_tokens")]
    IdTokenWithoutReference,
    /// [`access_token_lifetime`](crate::RefreshLayerBuilder::access_token_lifetime) is set without
    /// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens). Without
    /// the latter, clients get the access tokens of the inner service.
    #[error("access_token_lifetime requires reference_access_tokens")]
    AccessTokenLifetimeWithoutReference,
    /// [`upstream_refresh`](crate::AccessLayerBuilder::upstream_refresh) is set without
    /// [`access_token_lifetime`](crate::RefreshLayerBuilder::access_token_lifetime). Without the
    /// latter, an access token ends with the upstream access token, so there is nothing to renew.
    #[error("upstream_refresh requires access_token_lifetime")]
    UpstreamRefreshWithoutLifetime,
    /// [`upstream_refresh`](crate::AccessLayerBuilder::upstream_refresh) is set for an access layer
    /// over the store alone. Only one that was made
    /// [from a refresh layer](crate::RefreshLayer::access) can renew an upstream access token.
    #[error("upstream_refresh requires an access layer that was made from a refresh layer")]
    UpstreamRefreshWithoutLayer,
    /// [`upstream_refresh`](crate::AccessLayerBuilder::upstream_refresh) is set for two access
    /// layers that were made from one refresh layer.
    #[error("upstream_refresh is already set for another access layer of this refresh layer")]
    UpstreamRefreshTwice,
    /// Only one of [`revocation_key`](crate::RefreshLayerBuilder::revocation_key) and
    /// [`upstream_revocation`](crate::RefreshLayerBuilder::upstream_revocation) is set.
    #[error("revocation_key and upstream_revocation require each other")]
    UpstreamRevocation,
    /// [`hand_back`](crate::RefreshLayerBuilder::hand_back) is set together with
    /// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens).
    #[error("hand_back cannot be combined with reference_access_tokens")]
    HandBack,
    /// A required scope is not exactly one scope token (RFC 6749 §3.3).
    #[error("require_scope: {0:?} is not one scope token")]
    Scope(String),
    /// `require_any_scope` names no scope token, so that no access token would be accepted.
    #[error("require_any_scope needs at least one scope token")]
    NoScope,
    /// A path of `resource_for` is below another one whose tokens must be for another resource.
    #[error("resource_for: {inner:?} is below {outer:?}, which requires another resource")]
    NestedResource {
        /// The inner path.
        inner: String,
        /// The path around it.
        outer: String,
    },
    /// A resource or the URL of its metadata is not an absolute URI without a fragment (RFC 8707
    /// §2, RFC 9728 §3).
    #[error("{setting}: {uri:?} is not an absolute URI without a fragment")]
    Uri {
        /// The builder method that sets the URI.
        setting: &'static str,
        /// The URI that was set.
        uri: String,
    },
    /// The realm is empty, or has a character that a quoted string cannot contain (RFC 9110
    /// §5.6.4).
    #[error("realm: {0:?} is empty or has characters other than printable ASCII")]
    Realm(String),
    /// A duration is shorter than a millisecond or longer than a hundred years. The windows may
    /// also be zero.
    #[error("{0} must be at least a millisecond and at most a hundred years")]
    Duration(&'static str),
    /// The rotation time-out is longer than an hour, so that an instance that dies would block a
    /// grant for hours.
    #[error("rotation_timeout must be at most an hour")]
    RotationTimeout,
    /// A time-out is longer than an hour.
    #[error("{0} must be at most an hour")]
    Timeout(&'static str),
    /// The recovery window does not end after the retry window.
    #[error("recovery_window must be zero or longer than retry_window")]
    RecoveryWithinRetry,
    /// The shared token window is longer than a grant lives without a rotation.
    #[error("shared_token_window must be at most idle_lifetime")]
    SharedTokenWindow,
    /// A window is set together with [`strict`](crate::RefreshLayerBuilder::strict), which sets
    /// every window to zero.
    #[error(
        "strict cannot be combined with a retry_window, a shared_token_window or a recovery_window"
    )]
    StrictWithWindow,
    /// [`cache_ttl`](crate::AccessLayerBuilder::cache_ttl) is longer than a day.
    #[error("cache_ttl must be at most a day")]
    CacheTtl,
    /// A size in bytes, or a number of requests, is zero or larger than 16,777,216.
    #[error("{0} must be at least 1 and at most 16777216")]
    Limit(&'static str),
}
