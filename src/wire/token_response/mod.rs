//! Parses the inner service's responses to token requests, and replaces or removes single members.
//! Every other byte of a response stays as it is.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod rewrite;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

pub(crate) use self::rewrite::cut;
use crate::clock::CENTURY;
use crate::wire::json;
use crate::wire::scope::{MAX_RESOURCES, MAX_SCOPE, valid_resource};
use crate::wire::secret_str::{TextAt, any_decoding, text_at};

/// The error for a response that cannot be parsed as a token response. It must not be passed on,
/// because it may contain a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenResponseError {
    /// It is not JSON.
    NotJson,
    /// It is JSON, but not an object.
    NotObject,
    /// A member that the layer reads occurs twice.
    Repeated,
    /// The refresh token is not a string.
    WrongType,
    /// It discloses a token that must not reach the client, and the token cannot be removed.
    Undisclosable,
}

/// The members that the layer reads.
const KNOWN: [&str; 12] = [
    "access_token",
    "refresh_token",
    "error",
    "scope",
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    "authorization_expires_in",
    "issued_token_type",
    "id_token",
    "resource",
];

/// The members for the lifetime of the refresh token: that of
/// draft-ietf-oauth-refresh-token-expiration, and the two that servers used before it.
const REFRESH_LIFETIMES: [&str; 3] = [
    "refresh_token_timeout",
    "refresh_expires_in",
    "refresh_token_expires_in",
];

/// The granted scope according to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantedScope<'a> {
    /// The response has no scope: it is the requested one (RFC 6749 §5.1).
    Omitted,
    /// The response names this scope, which may be empty.
    Named(&'a str),
    /// Something other than a string, or a scope that is too long to be stored.
    Unreadable,
}

/// The position of a member in the body.
struct MemberAt {
    known: Option<&'static str>,
    /// The position of its name, including the quote.
    start: usize,
    value: Range<usize>,
    /// The decoded value, if the member is known and a string.
    text: Option<TextAt>,
}

/// The response to a token request.
pub struct TokenResponse {
    body: Bytes,
    members: Vec<MemberAt>,
}

impl TokenResponse {
    /// Parses a response.
    pub fn parse(body: Bytes) -> Result<Self, TokenResponseError> {
        let text = std::str::from_utf8(&body).map_err(|_| TokenResponseError::NotJson)?;
        let found = json::members(text).map_err(|error| {
            if error.is_data() {
                TokenResponseError::NotObject
            } else {
                TokenResponseError::NotJson
            }
        })?;
        let range = |raw: &RawValue| {
            let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
            start..start + raw.get().len()
        };
        let mut members: Vec<MemberAt> = Vec::with_capacity(found.len());
        for member in found {
            let name = json::string(member.name);
            let known = name.and_then(|name| KNOWN.into_iter().find(|known| *known == &*name));
            // If there are two ID tokens, the layer reads neither.
            if known.is_some_and(|known| known != "id_token")
                && members.iter().any(|other| other.known == known)
            {
                return Err(TokenResponseError::Repeated);
            }
            let value = range(member.value);
            let text = known.and_then(|_| string_at(member.value, &value));
            let is_null = member.value.get() == "null";
            if known == Some("refresh_token") && text.is_none() && !is_null {
                return Err(TokenResponseError::WrongType);
            }
            members.push(MemberAt {
                known,
                start: range(member.name).start,
                value,
                text,
            });
        }
        Ok(Self { body, members })
    }

    /// Returns the body, unchanged.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the error code (RFC 6749 §5.2).
    pub fn error(&self) -> Option<&str> {
        self.text("error")
    }

    /// Returns whether the response has an access token.
    pub(crate) fn has_access_token(&self) -> bool {
        let value = self.value("access_token");
        value.is_some_and(|raw| raw.starts_with('"') && raw.len() > 2)
    }

    /// Returns the access token, if it is a string. An empty string counts as absent.
    pub fn access_token(&self) -> Option<&str> {
        self.text("access_token").filter(|token| !token.is_empty())
    }

    /// Returns whether the member `access_token` has a value that the layer cannot replace: neither
    /// a valid string nor `null`.
    pub fn has_odd_access_token(&self) -> bool {
        self.access_token().is_none()
            && self
                .value("access_token")
                .is_some_and(|raw| !matches!(raw, "null" | "\"\""))
    }

    /// Returns the lifetime of the access token, if the response names one.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        seconds(self.value("expires_in")?).map(Duration::from_secs)
    }

    /// Returns the ID token (OpenID Connect Core §3.1.3.3), if there is one, and it is a string.
    pub(crate) fn id_token(&self) -> Option<&str> {
        let is_one = |member: &&MemberAt| member.known == Some("id_token");
        match self.members.iter().filter(is_one).count() {
            1 => self.text("id_token"),
            _ => None,
        }
    }

    /// Returns the refresh token. `null` and an empty string count as absent.
    pub fn refresh_token(&self) -> Option<&str> {
        self.text("refresh_token").filter(|token| !token.is_empty())
    }

    /// Returns whether the access token may be a refresh token (RFC 8693 §2.2.1).
    ///
    /// `requested` says whether the request asked for one: it decides if the server does not name
    /// the issued type, which the RFC requires. A type that is not a string counts as a refresh
    /// token.
    pub(crate) fn is_refresh_token_in_disguise(&self, requested: bool) -> bool {
        match self.value("issued_token_type") {
            None | Some("null") => requested,
            Some(_) => self
                .text("issued_token_type")
                .is_none_or(is_refresh_token_type),
        }
    }

    /// Returns the granted scope. An empty string counts as absent.
    pub fn scope(&self) -> Option<&str> {
        self.text("scope").filter(|scope| !scope.is_empty())
    }

    /// Returns the granted scope according to the response. `null` counts as absent.
    pub(crate) fn granted_scope(&self) -> GrantedScope<'_> {
        match self.value("scope") {
            None | Some("null") => GrantedScope::Omitted,
            Some(_) => self
                .text("scope")
                .filter(|scope| scope.len() <= MAX_SCOPE)
                .map_or(GrantedScope::Unreadable, GrantedScope::Named),
        }
    }

    /// Returns the resources that the access token is for, if the response names them: a string or
    /// an array of strings. `null` counts as absent. Values that are not resources (RFC 8707 §2)
    /// are ignored.
    ///
    /// No standard defines this member; servers that confirm a resource use the name of the request
    /// parameter.
    pub(crate) fn resources(&self) -> Option<Vec<String>> {
        let values = match serde_json::from_str(self.value("resource")?).ok()? {
            Value::Null => return None,
            Value::Array(values) => values,
            value => vec![value],
        };
        let resources = values.iter().filter_map(Value::as_str);
        let valid = resources.filter(|resource| valid_resource(resource));
        Some(valid.take(MAX_RESOURCES).map(str::to_owned).collect())
    }

    /// Returns the lifetime of the refresh token, if the response names one; the shortest one if it
    /// names several.
    ///
    /// Zero counts as absent: Keycloak sends it for an offline token, which does not expire.
    pub(crate) fn refresh_lifetime(&self) -> Option<Duration> {
        let lifetimes = REFRESH_LIFETIMES.into_iter();
        let named = lifetimes.filter_map(|name| seconds(self.value(name)?));
        let shortest = named.filter(|seconds| *seconds > 0).min();
        shortest.map(Duration::from_secs)
    }

    /// Returns the lifetime of the user's authorization, if the response names one. Zero counts as
    /// absent, as in [`refresh_lifetime`](Self::refresh_lifetime).
    pub(crate) fn authorization_lifetime(&self) -> Option<Duration> {
        seconds(self.value("authorization_expires_in")?)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds).min(CENTURY))
    }

    /// Returns the only member with this name, which the layer reads.
    fn member(&self, name: &str) -> Option<&MemberAt> {
        self.members
            .iter()
            .find(|member| member.known == Some(name))
    }

    fn value(&self, name: &str) -> Option<&str> {
        let member = self.member(name)?;
        Some(text_at(&self.body, member.value.clone()))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let text = self.member(name)?.text.as_ref()?;
        Some(text.as_str(&self.body))
    }
}

impl fmt::Debug for TokenResponse {
    /// Writes the names of the members that the layer knows, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.members.iter().filter_map(|member| member.known);
        f.debug_set().entries(known).finish()
    }
}

/// Returns whether this is the token type of refresh tokens (RFC 8693 §3), in any spelling.
///
/// URNs of IETF are equal without regard to case (RFC 2648 §2.2), and components after the name are
/// ignored (RFC 8141 §3.1). Percent-encoding makes a difference there; it is decoded here because a
/// client may decode it.
pub(crate) fn is_refresh_token_type(uri: &str) -> bool {
    const TYPE: &[u8] = b"urn:ietf:params:oauth:token-type:refresh_token";
    any_decoding(uri.as_bytes(), |uri| {
        let name = uri
            .split(|byte| matches!(byte, b'?' | b'#'))
            .next()
            .unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(TYPE)
    })
}

/// Returns the string at this range, which includes its quotes. Returns `None` for a value that is
/// not a string.
fn string_at(raw: &RawValue, at: &Range<usize>) -> Option<TextAt> {
    Some(TextAt::new(at.start + 1..at.end - 1, json::string(raw)?))
}

/// Parses whole seconds from a JSON number, or from a string of digits, which some servers send. A
/// negative number becomes zero.
fn seconds(raw: &str) -> Option<u64> {
    let number = match raw.strip_prefix('"') {
        Some(rest) => rest
            .strip_suffix('"')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?,
        None => raw,
    };
    // The cast rounds down and saturates.
    number
        .parse::<u64>()
        .or_else(|_| number.parse::<f64>().map(|seconds| seconds as u64))
        .ok()
}

#[cfg(test)]
mod tests;
