//! What can go wrong, as the embedding program and as the client see it.

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;
use crate::random::RandomUnavailable;
use crate::store::StoreError;

/// Why the layer itself answered a request with an error.
///
/// The client gets the OAuth error of RFC 6749 §5.2. The embedding program finds this in the
/// extensions of that response:
///
/// ```
/// # use tower_oauth_refresh::Error;
/// # fn look<B>(response: &http::Response<B>) {
/// if let Some(Error::Store(cause)) = response.extensions().get::<Error>() {
///     tracing::error!(%cause, "the store of the grants fails");
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 400 `invalid_request`: the request is malformed (RFC 6749 §5.2).
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// 413 `invalid_request`: the body is over the limit.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// 408 `invalid_request`: the body did not arrive within
    /// [`request_body_timeout`](crate::RefreshLayerBuilder::request_body_timeout) (RFC 9110
    /// §15.5.9).
    #[error("the request body did not arrive in time")]
    RequestTimeout,
    /// 401 `invalid_client`: the request names no client, or one whose identifier is longer than
    /// 512 bytes. With a `WWW-Authenticate: Basic` challenge if it tried that scheme (RFC 6749
    /// §5.2), and without one if it did not.
    ///
    /// RFC 9110 §15.5.2 wants a challenge in every 401. But there is no scheme for a client that
    /// authenticates itself in the body, or not at all, and a browser that is offered Basic asks
    /// its user for a password. Other authorization servers (Ory's fosite, Spring's) send none
    /// either.
    #[error("the request names no client, or one whose identifier is too long")]
    InvalidClient {
        /// Whether the request tried HTTP Basic.
        basic: bool,
    },
    /// 400 `invalid_grant`: the token is refused. Why is in the [`Event`](crate::Event) alone.
    #[error("the refresh token is invalid, expired or revoked")]
    InvalidGrant,
    /// 400 `invalid_scope`: more scope than was granted (RFC 6749 §6), or more than 4 KiB of it.
    #[error("the requested scope is malformed, too long or exceeds the scope granted")]
    InvalidScope,
    /// 400 `invalid_target`: a resource that was not granted (RFC 8707 §2.2), more than 16
    /// different resources, or more than 4 KiB of them.
    #[error(
        "the requested resource is malformed, too long or was not granted, or there are too many"
    )]
    InvalidTarget,
    /// 503 `temporarily_unavailable`: another request rotates the same grant, or this one takes too
    /// long. Nothing is lost.
    #[error("the grant is busy, try again")]
    Busy,
    /// 503 `temporarily_unavailable`: the inner service did not answer a refresh, a revocation or
    /// an introspection within twice
    /// [`rotation_timeout`](crate::RefreshLayerBuilder::rotation_timeout). A refresh has changed
    /// nothing here, but an inner service that replaces its tokens may have done so. A revocation
    /// of a token of the layer has ended the grant here; for ten minutes the same request can be
    /// sent again to reach the inner service. A revocation or an introspection of another token has
    /// changed nothing here.
    #[error("the authorization server does not answer, try again")]
    UpstreamUnavailable,
    /// 504 `temporarily_unavailable`: the inner service did not answer a token request other than a
    /// refresh within [`issue_timeout`](crate::RefreshLayerBuilder::issue_timeout). Nothing is
    /// stored. Tokens that it issues later are lost, and an authorization code that it has accepted
    /// is used up.
    #[error("the authorization server did not answer in time")]
    UpstreamTimeout,
    /// 503 `temporarily_unavailable`: no randomness to be had.
    #[error("the server is unavailable, try again")]
    Random(#[source] RandomUnavailable),
    /// 503 `temporarily_unavailable` or, if the store is corrupt, 500 `server_error`.
    #[error("the server is unavailable")]
    Store(#[source] StoreError),
    /// 502 `server_error`: the inner service gave an answer that cannot be read and may not be
    /// passed on.
    #[error("the authorization server gave an answer that cannot be read")]
    UpstreamUnreadable,
}

impl From<StoreError> for Error {
    fn from(source: StoreError) -> Self {
        Self::Store(source)
    }
}

impl From<RandomUnavailable> for Error {
    fn from(source: RandomUnavailable) -> Self {
        Self::Random(source)
    }
}

impl Error {
    /// The status that the client gets; for [`InvalidGrant`](Self::InvalidGrant) it is 401 if
    /// [`unauthorized_on_invalid_grant`](crate::RefreshLayerBuilder::unauthorized_on_invalid_grant)
    /// is set.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::InvalidRequest(_)
            | Self::InvalidGrant
            | Self::InvalidScope
            | Self::InvalidTarget => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::InvalidClient { .. } => StatusCode::UNAUTHORIZED,
            Self::Busy
            | Self::UpstreamUnavailable
            | Self::Random(_)
            | Self::Store(StoreError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(StoreError::Corrupt(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamUnreadable => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The `error` that the client gets (RFC 6749 §5.2, RFC 8707 §2).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::BodyTooLarge | Self::RequestTimeout => {
                "invalid_request"
            }
            Self::InvalidClient { .. } => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::Busy
            | Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::Random(_)
            | Self::Store(StoreError::Unavailable(_)) => "temporarily_unavailable",
            Self::Store(StoreError::Corrupt(_)) | Self::UpstreamUnreadable => "server_error",
        }
    }

    /// The whole answer, with `invalid_grant` under the status `invalid_grant`.
    pub(crate) fn into_response<B>(self, invalid_grant: StatusCode) -> Response<ResponseBody<B>> {
        // Neither a code nor a description holds anything that JSON would escape.
        let body = format!(
            r#"{{"error":"{}","error_description":"{self}"}}"#,
            self.code()
        );
        let status = if matches!(self, Self::InvalidGrant) {
            invalid_grant
        } else {
            self.status()
        };
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
        if let Self::InvalidClient { basic: true } = self {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Basic realm="oauth", charset="UTF-8""#),
            );
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A setting of [`RefreshLayerBuilder`](crate::RefreshLayerBuilder) that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A path is not one that a request could have.
    #[error("{setting}: {path:?} is not an absolute path without a query")]
    Path {
        /// Which setting.
        setting: &'static str,
        /// What it was set to.
        path: String,
    },
    /// A path looks like the pattern of a route: it has `{`, `}` or `*`, or a segment that begins
    /// with `:`. The layer compares paths literally and would guard nothing.
    #[error(
        "{setting}: {path:?} is not a route pattern: paths are compared literally, without {{parameters}} or `*`"
    )]
    PathPattern {
        /// The builder method that sets the path.
        setting: &'static str,
        /// The path that was set.
        path: String,
    },
    /// With [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths) a path
    /// must have one reading (see [`InvalidPath::Ambiguous`](crate::path::InvalidPath::Ambiguous)).
    #[error(
        "{setting}: {path:?} can be read in more than one way, which match_normalized_paths() does not allow"
    )]
    AmbiguousPath {
        /// The builder method that sets the path.
        setting: &'static str,
        /// The path that was set.
        path: String,
    },
    /// [`allow_ambiguous_paths`](crate::RefreshLayerBuilder::allow_ambiguous_paths) without
    /// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths), which alone
    /// refuses such paths.
    #[error("allow_ambiguous_paths() needs match_normalized_paths()")]
    AllowedWithoutNormalized,
    /// Two of the guarded paths are the same or, with
    /// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths), spellings of
    /// the same. Or a prefix of
    /// [`allow_ambiguous_paths`](crate::RefreshLayerBuilder::allow_ambiguous_paths) is a guarded
    /// path or below one.
    #[error("{} and {} are both {path:?} or below it", settings[0], settings[1])]
    SamePath {
        /// Which settings.
        settings: [&'static str; 2],
        /// What the first one was set to.
        path: String,
    },
    /// A prefix has a character that would have to be escaped in a form, or is longer than 32
    /// bytes.
    #[error(
        "{setting}: {prefix:?} is longer than 32 bytes or has characters other than A-Z a-z 0-9 - . _ ~"
    )]
    Prefix {
        /// The builder method that sets it.
        setting: &'static str,
        /// The prefix that was set.
        prefix: String,
    },
    /// Refresh tokens and access tokens have the same prefix: nobody could tell them apart.
    #[error("token_prefix and access_token_prefix are both {0:?}")]
    SamePrefix(String),
    /// [`keep_id_token`](crate::RefreshLayerBuilder::keep_id_token) without
    /// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens): every
    /// `id_token` is kept then.
    #[error("keep_id_token() needs reference_access_tokens()")]
    IdTokenWithoutReference,
    /// What is required as a scope is none, or is several (RFC 6749 §3.3).
    #[error("require_scope: {0:?} is not one scope token")]
    Scope(String),
    /// A resource or the address of its metadata is no absolute URI without a fragment (RFC 8707
    /// §2, RFC 9728 §3).
    #[error("{setting}: {uri:?} is not an absolute URI without a fragment")]
    Uri {
        /// The builder method that sets it.
        setting: &'static str,
        /// The URI that was set.
        uri: String,
    },
    /// The realm has a character that cannot stand in a quoted string (RFC 9110 §5.6.4), or none at
    /// all.
    #[error("realm: {0:?} is empty or has characters other than printable ASCII")]
    Realm(String),
    /// A duration is zero, or longer than a hundred years.
    #[error("{0} must be at least a millisecond and at most a hundred years")]
    Duration(&'static str),
    /// The rotation time-out is so long that a dead instance would block a grant for hours.
    #[error("rotation_timeout must be at most an hour")]
    RotationTimeout,
    /// A time-out is longer than an hour.
    #[error("{0} must be at most an hour")]
    Timeout(&'static str),
    /// The recovery window ends before the retry window does.
    #[error("recovery_window must be zero or longer than retry_window")]
    RecoveryWithinRetry,
    /// A recovery without a retry window: of two requests at once, the second would recover and so
    /// take from the first one the token that it has just been given.
    #[error("recovery_window needs a retry_window")]
    RecoveryWithoutRetry,
    /// [`strict`](crate::RefreshLayerBuilder::strict) allows neither replay nor recovery.
    #[error("strict() allows neither a retry_window nor a recovery_window")]
    StrictWithWindow,
    /// Access tokens would be remembered for longer than a day.
    #[error("cache_ttl must be at most a day")]
    CacheTtl,
    /// A limit is zero, or larger than 16 MiB.
    #[error("{0} must be at least 1 byte and at most 16 MiB")]
    Limit(&'static str),
}
