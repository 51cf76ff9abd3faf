use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;
use crate::error::ConfigError;
use crate::store::StoreError;

/// Why an [`AccessLayer`](crate::AccessLayer) refused a request.
///
/// The client gets the challenge of RFC 6750 §3 and the error as JSON. The embedding program finds
/// this in the extensions of that response.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// 401, with a challenge that tells no error: the request presents no access token.
    #[error("an access token is required")]
    TokenMissing,
    /// 400 `invalid_request`: the `Authorization` header is repeated or malformed.
    #[error("the Authorization header is repeated or malformed")]
    InvalidRequest,
    /// 401 `invalid_token`: the token is unknown, expired or revoked, or is for another resource.
    #[error("the access token is invalid, expired or revoked")]
    InvalidToken,
    /// 403 `insufficient_scope`: the scope required was not granted.
    #[error("the access token does not have the required scope")]
    InsufficientScope,
    /// 503 `temporarily_unavailable` or, if the store is corrupt, 500 `server_error`.
    #[error("the server is unavailable")]
    Store(#[source] StoreError),
}

impl AccessError {
    /// The status that the client gets.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::TokenMissing | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest => StatusCode::BAD_REQUEST,
            Self::InsufficientScope => StatusCode::FORBIDDEN,
            Self::Store(StoreError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(StoreError::Corrupt(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `error` that the client gets (RFC 6750 §3.1); `unauthorized`, in the body alone, where
    /// that section has none.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "unauthorized",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken => "invalid_token",
            Self::InsufficientScope => "insufficient_scope",
            Self::Store(StoreError::Unavailable(_)) => "temporarily_unavailable",
            Self::Store(StoreError::Corrupt(_)) => "server_error",
        }
    }

    /// The whole answer.
    pub(crate) fn into_response<B>(self, challenges: &Challenges) -> Response<ResponseBody<B>> {
        // Neither a code nor a description holds anything that JSON would escape.
        let body = format!(
            r#"{{"error":"{}","error_description":"{self}"}}"#,
            self.code()
        );
        let length = body.len();
        let mut response = Response::new(ResponseBody::full(body.into()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(challenge) = challenges.of(&self) {
            headers.insert(WWW_AUTHENTICATE, challenge.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The challenges of one layer, written once.
#[derive(Debug)]
pub(crate) struct Challenges {
    missing: HeaderValue,
    malformed: HeaderValue,
    invalid: HeaderValue,
    insufficient: HeaderValue,
}

impl Challenges {
    /// RFC 6750 §3 wants an attribute in every challenge, so there is always a realm.
    pub(crate) fn new(
        realm: &str,
        scope: Option<&str>,
        metadata: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let write = |error: Option<&AccessError>, scope: Option<&str>| {
            let mut text = String::from("Bearer realm=");
            quote(&mut text, realm);
            if let Some(error) = error {
                text.extend([", error=\"", error.code(), "\", error_description="]);
                quote(&mut text, &error.to_string());
            }
            for (name, value) in [(", scope=", scope), (", resource_metadata=", metadata)] {
                if let Some(value) = value {
                    text.push_str(name);
                    quote(&mut text, value);
                }
            }
            HeaderValue::try_from(text).map_err(|_| ConfigError::Realm(realm.to_owned()))
        };
        Ok(Self {
            missing: write(None, scope)?,
            malformed: write(Some(&AccessError::InvalidRequest), None)?,
            invalid: write(Some(&AccessError::InvalidToken), None)?,
            insufficient: write(Some(&AccessError::InsufficientScope), scope)?,
        })
    }

    const fn of(&self, error: &AccessError) -> Option<&HeaderValue> {
        match error {
            AccessError::TokenMissing => Some(&self.missing),
            AccessError::InvalidRequest => Some(&self.malformed),
            AccessError::InvalidToken => Some(&self.invalid),
            AccessError::InsufficientScope => Some(&self.insufficient),
            AccessError::Store(_) => None,
        }
    }
}

/// A quoted string (RFC 9110 §5.6.4).
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
}
