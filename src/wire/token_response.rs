//! Parses the inner service's answers to token requests, and replaces or removes single members.
//! Every other byte of an answer stays as it is.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::wire::disclosure::{Disclosed, Undisclosable, Withheld};
use crate::wire::json;
use crate::wire::scope::{MAX_SCOPE, valid_resource};
use crate::wire::secret_str::{TextAt, any_decoding};

/// The error for an answer that cannot be parsed as a token answer. It must not be passed on,
/// because it may contain a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerError {
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

/// The most resources that are read from an answer.
const MOST_RESOURCES: usize = 16;

/// A member that the layer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    AccessToken,
    RefreshToken,
    Error,
    Scope,
    ExpiresIn,
    RefreshExpiresIn,
    RefreshTokenExpiresIn,
    IssuedTokenType,
    TokenType,
    IdToken,
    Resource,
}

impl Name {
    const ALL: [Self; 11] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::Error,
        Self::Scope,
        Self::ExpiresIn,
        Self::RefreshExpiresIn,
        Self::RefreshTokenExpiresIn,
        Self::IssuedTokenType,
        Self::TokenType,
        Self::IdToken,
        Self::Resource,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::Error => "error",
            Self::Scope => "scope",
            Self::ExpiresIn => "expires_in",
            Self::RefreshExpiresIn => "refresh_expires_in",
            Self::RefreshTokenExpiresIn => "refresh_token_expires_in",
            Self::IssuedTokenType => "issued_token_type",
            Self::TokenType => "token_type",
            Self::IdToken => "id_token",
            Self::Resource => "resource",
        }
    }

    fn of(name: &RawValue) -> Option<Self> {
        let name = json::string(name)?;
        Self::ALL.into_iter().find(|known| known.as_str() == &*name)
    }

    /// Whether the layer reads its value. Such a member must not be repeated.
    const fn is_read(self) -> bool {
        !matches!(self, Self::TokenType | Self::IdToken)
    }

    /// Whether it is the lifetime of the refresh token. No standard defines such a member; servers
    /// use these two.
    const fn is_refresh_lifetime(self) -> bool {
        matches!(self, Self::RefreshExpiresIn | Self::RefreshTokenExpiresIn)
    }
}

/// The granted scope according to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantedScope<'a> {
    /// The answer has no scope: it is the requested one (RFC 6749 §5.1).
    Omitted,
    /// The answer names this scope, which may be empty.
    Named(&'a str),
    /// Something other than a string, or a scope that is too long to be stored.
    Unreadable,
}

/// The position of a member in the body.
struct MemberAt {
    known: Option<Name>,
    /// The position of its name, including the quote.
    start: usize,
    value: Range<usize>,
}

/// The answer to a token request.
pub(crate) struct TokenResponse {
    body: Bytes,
    members: Vec<MemberAt>,
    /// The position of the closing brace.
    brace: usize,
    error: Option<TextAt>,
    access_token: Option<TextAt>,
    has_access_token: bool,
    refresh_token: Option<TextAt>,
    scope: Option<TextAt>,
    issued_token_type: Option<TextAt>,
}

impl TokenResponse {
    /// Parses an answer.
    pub(crate) fn parse(body: Bytes) -> Result<Self, AnswerError> {
        let text = std::str::from_utf8(&body).map_err(|_| AnswerError::NotJson)?;
        let found = json::members(text).map_err(|error| {
            if error.is_data() {
                AnswerError::NotObject
            } else {
                AnswerError::NotJson
            }
        })?;
        let range = |raw: &RawValue| {
            let start = raw
                .get()
                .as_ptr()
                .addr()
                .saturating_sub(text.as_ptr().addr());
            start..start + raw.get().len()
        };
        let brace = text.rfind('}').ok_or(AnswerError::NotJson)?;
        let mut members = Vec::with_capacity(found.len());
        let (mut error, mut refresh_token, mut scope) = (None, None, None);
        let (mut access_token, mut has_access_token) = (None, false);
        let mut issued_token_type = None;
        for member in found {
            let value = range(member.value);
            let known = Name::of(member.name);
            if known.is_some_and(Name::is_read)
                && members
                    .iter()
                    .any(|member: &MemberAt| member.known == known)
            {
                return Err(AnswerError::Repeated);
            }
            match known {
                Some(Name::Error) => error = string_at(member.value, &value),
                Some(Name::AccessToken) => {
                    has_access_token = member.value.get().starts_with('"') && value.len() > 2;
                    access_token = string_at(member.value, &value);
                }
                Some(Name::Scope) => scope = string_at(member.value, &value),
                Some(Name::IssuedTokenType) => issued_token_type = string_at(member.value, &value),
                Some(Name::RefreshToken) if member.value.get() != "null" => {
                    refresh_token =
                        Some(string_at(member.value, &value).ok_or(AnswerError::WrongType)?);
                }
                _ => {}
            }
            members.push(MemberAt {
                known,
                start: range(member.name).start,
                value,
            });
        }
        Ok(Self {
            body,
            members,
            brace,
            error,
            access_token,
            has_access_token,
            refresh_token,
            scope,
            issued_token_type,
        })
    }

    /// Returns the body, unchanged.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the error code (RFC 6749 §5.2).
    pub(crate) fn error(&self) -> Option<&str> {
        self.read(self.error.as_ref())
    }

    /// Returns whether the answer has an access token.
    pub(crate) fn has_access_token(&self) -> bool {
        self.has_access_token
    }

    /// Returns the access token, if it is a string. An empty string counts as absent.
    pub(crate) fn access_token(&self) -> Option<&str> {
        self.read(self.access_token.as_ref())
            .filter(|token| !token.is_empty())
    }

    /// Returns whether the member `access_token` has a value that the layer cannot replace: neither
    /// a valid string nor `null`.
    pub(crate) fn has_odd_access_token(&self) -> bool {
        let nothing = |member: &MemberAt| matches!(self.raw(&member.value), "null" | "\"\"");
        let mut members = self
            .members
            .iter()
            .filter(|member| member.known == Some(Name::AccessToken));
        self.access_token().is_none() && members.any(|member| !nothing(member))
    }

    /// Returns the lifetime of the access token, if the answer names one.
    pub(crate) fn lifetime(&self) -> Option<Duration> {
        let member = self
            .members
            .iter()
            .find(|member| member.known == Some(Name::ExpiresIn))?;
        seconds(self.raw(&member.value)).map(Duration::from_secs)
    }

    /// Returns the refresh token. `null` and an empty string count as absent.
    pub(crate) fn refresh_token(&self) -> Option<&str> {
        self.read(self.refresh_token.as_ref())
            .filter(|token| !token.is_empty())
    }

    /// Returns whether the access token may be a refresh token (RFC 8693 §2.2.1).
    ///
    /// `requested` says whether the request asked for one: it decides if the server does not name
    /// the issued type, which the RFC requires. A type that is not a string counts as a refresh
    /// token.
    pub(crate) fn is_refresh_token_in_disguise(&self, requested: bool) -> bool {
        let mut types = self
            .members
            .iter()
            .filter(|member| member.known == Some(Name::IssuedTokenType));
        match types.next().map(|member| self.raw(&member.value)) {
            None | Some("null") => requested,
            Some(_) => self
                .read(self.issued_token_type.as_ref())
                .is_none_or(is_refresh_token_type),
        }
    }

    /// Returns the granted scope. An empty string counts as absent.
    pub(crate) fn scope(&self) -> Option<&str> {
        self.read(self.scope.as_ref())
            .filter(|scope| !scope.is_empty())
    }

    /// Returns the granted scope according to the answer. `null` counts as absent.
    pub(crate) fn granted_scope(&self) -> GrantedScope<'_> {
        match self
            .members
            .iter()
            .find(|member| member.known == Some(Name::Scope))
        {
            Some(member) if self.raw(&member.value) != "null" => {
                let scope = self
                    .read(self.scope.as_ref())
                    .filter(|scope| scope.len() <= MAX_SCOPE);
                scope.map_or(GrantedScope::Unreadable, GrantedScope::Named)
            }
            _ => GrantedScope::Omitted,
        }
    }

    /// Returns the resources that the access token is for, if the answer names them: a string or an
    /// array of strings. `null` counts as absent. Values that are not resources (RFC 8707 §2) are
    /// ignored.
    ///
    /// No standard defines this member; servers that confirm a resource use the name of the request
    /// parameter.
    pub(crate) fn resources(&self) -> Option<Vec<String>> {
        let member = self
            .members
            .iter()
            .find(|member| member.known == Some(Name::Resource))?;
        let resources = match serde_json::from_str(self.raw(&member.value)).ok()? {
            Value::Null => return None,
            Value::String(resource) => vec![resource],
            Value::Array(values) => values
                .into_iter()
                .filter_map(|value| value.as_str().map(ToOwned::to_owned))
                .collect(),
            _ => Vec::new(),
        };
        Some(
            resources
                .into_iter()
                .filter(|resource| valid_resource(resource))
                .take(MOST_RESOURCES)
                .collect(),
        )
    }

    /// Returns the lifetime of the refresh token, if the answer names one; the shorter one if it
    /// names two.
    ///
    /// Zero counts as absent: Keycloak sends it for an offline token, which does not expire.
    pub(crate) fn refresh_lifetime(&self) -> Option<Duration> {
        self.members
            .iter()
            .filter(|member| member.known.is_some_and(Name::is_refresh_lifetime))
            .filter_map(|member| seconds(self.raw(&member.value)).filter(|seconds| *seconds > 0))
            .min()
            .map(Duration::from_secs)
    }

    /// Returns the body with the refresh token and its lifetime replaced. If there is no refresh
    /// token, it is added as the last member. A lifetime is not added.
    pub(crate) fn with_refresh_token(&self, token: &str, refresh_lifetime: Duration) -> Bytes {
        let mut out = Splice::new(&self.body, token.len() + 96);
        let mut replaced = false;
        for MemberAt { known, value, .. } in &self.members {
            match known {
                Some(Name::RefreshToken) => {
                    write_string(out.replace(value.clone()), token);
                    replaced = true;
                }
                Some(known) if known.is_refresh_lifetime() => {
                    let quoted = self.raw(value).starts_with('"');
                    write_seconds(
                        out.replace(value.clone()),
                        refresh_lifetime.as_secs(),
                        quoted,
                    );
                }
                _ => {}
            }
        }
        if !replaced {
            let (end, comma) = self
                .members
                .last()
                .map_or((self.brace, ""), |last| (last.value.end, ","));
            let out = out.replace(end..end);
            out.extend_from_slice(comma.as_bytes());
            out.extend_from_slice(b"\"refresh_token\":");
            write_string(out, token);
        }
        out.finish()
    }

    /// Returns the answer with another access token.
    pub(crate) fn with_access_token(&self, token: &str) -> Result<Self, AnswerError> {
        let mut out = Splice::new(&self.body, token.len());
        for member in self
            .members
            .iter()
            .filter(|member| member.known == Some(Name::AccessToken))
        {
            write_string(out.replace(member.value.clone()), token);
        }
        Self::parse(out.finish())
    }

    /// Returns the answer without the withheld tokens, except the two that the layer replaces. Also
    /// returns every token that was found, including `used` and those two, so that headers can be
    /// searched for them.
    ///
    /// Every byte that is not part of a removed member is kept.
    pub(crate) fn disclosed(
        self,
        withheld: Withheld,
        used: Option<&str>,
    ) -> Result<(Self, Vec<Zeroizing<String>>), AnswerError> {
        let access_token = self
            .access_token()
            .filter(|_| withheld != Withheld::RefreshTokens);
        let known = [access_token, self.refresh_token(), used];
        let known = known
            .into_iter()
            .flatten()
            .map(|token| Zeroizing::new(token.to_owned()))
            .collect();
        let text = std::str::from_utf8(&self.body).map_err(|_| AnswerError::NotJson)?;
        let found = withheld
            .in_token_answer(text, known)
            .map_err(|Undisclosable| AnswerError::Undisclosable)?;
        let Disclosed { cuts, secrets } = found;
        if cuts.is_empty() {
            return Ok((self, secrets));
        }
        Ok((Self::parse(cut(&self.body, cuts))?, secrets))
    }

    /// Returns the body without the refresh token and its lifetime.
    pub(crate) fn without_refresh_token(&self) -> Bytes {
        self.without(|member| {
            member
                .known
                .is_some_and(|known| known == Name::RefreshToken || known.is_refresh_lifetime())
        })
    }

    fn without(&self, goes: impl Fn(&MemberAt) -> bool) -> Bytes {
        let mut out = Splice::new(&self.body, 0);
        // The end of the last member, once one was kept. From then on, a member is removed together
        // with the comma before it; until then, with the comma after it.
        let mut before = None;
        let mut members = self.members.iter().peekable();
        while let Some(member) = members.next() {
            let end = member.value.end;
            let goes = goes(member);
            if goes {
                out.replace(match (before, members.peek()) {
                    (Some(before), _) => before..end,
                    (None, Some(next)) => member.start..next.start,
                    (None, None) => member.start..end,
                });
            }
            if !goes || before.is_some() {
                before = Some(end);
            }
        }
        out.finish()
    }

    /// Returns the body for a replay: every lifetime is reduced by the whole seconds of `age`.
    pub(crate) fn aged(&self, age: Duration) -> Bytes {
        let age = age.as_secs();
        if age == 0 {
            return self.body.clone();
        }
        let mut out = Splice::new(&self.body, 0);
        for MemberAt { known, value, .. } in &self.members {
            if known.is_some_and(|known| known == Name::ExpiresIn || known.is_refresh_lifetime())
                && let Some(seconds) = seconds(self.raw(value)).filter(|seconds| *seconds > 0)
            {
                let quoted = self.raw(value).starts_with('"');
                write_seconds(
                    out.replace(value.clone()),
                    seconds.saturating_sub(age),
                    quoted,
                );
            }
        }
        out.finish()
    }

    fn read<'a>(&'a self, text: Option<&'a TextAt>) -> Option<&'a str> {
        text.map(|text| text.as_str(&self.body))
    }

    fn raw(&self, at: &Range<usize>) -> &str {
        self.body
            .get(at.clone())
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl fmt::Debug for TokenResponse {
    /// Writes the names of the members that the layer knows, and nothing else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(
                self.members
                    .iter()
                    .filter_map(|member| member.known)
                    .map(Name::as_str),
            )
            .finish()
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

/// Returns `body` without these ranges, which are in ascending order.
pub(crate) fn cut(body: &[u8], ranges: Vec<Range<usize>>) -> Bytes {
    let mut out = Splice::new(body, 0);
    for range in ranges {
        out.replace(range);
    }
    out.finish()
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

fn write_seconds(out: &mut Vec<u8>, seconds: u64, quoted: bool) {
    let quote = if quoted { "\"" } else { "" };
    out.extend_from_slice(format!("{quote}{seconds}{quote}").as_bytes());
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "writing to a vector does not fail");
}

/// A copy of a body in which some ranges are replaced, in ascending order.
struct Splice<'a> {
    body: &'a [u8],
    /// The end of the part that is copied already.
    done: usize,
    out: Vec<u8>,
}

impl<'a> Splice<'a> {
    /// Reserves room for the body and `more` bytes, because a buffer that grows leaves copies of a
    /// token in memory.
    fn new(body: &'a [u8], more: usize) -> Self {
        Self {
            body,
            done: 0,
            out: Vec::with_capacity(body.len() + more),
        }
    }

    /// Skips this range, and returns the buffer to which its replacement is written.
    fn replace(&mut self, range: Range<usize>) -> &mut Vec<u8> {
        self.out
            .extend_from_slice(self.body.get(self.done..range.start).unwrap_or_default());
        self.done = range.end;
        &mut self.out
    }

    fn finish(mut self) -> Bytes {
        self.replace(self.body.len()..self.body.len());
        self.out.into()
    }
}

#[cfg(test)]
mod tests;
