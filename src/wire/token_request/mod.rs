//! Parses the forms of token, revocation and introspection requests, and replaces single parameters
//! in them.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod headers;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use zeroize::{Zeroize, Zeroizing};

pub(crate) use self::headers::{has_content_coding, normalize_headers};
use crate::error::RefreshError;
use crate::wire::names::FoldedName;
use crate::wire::scope::{MAX_SCOPE, resources_fit};
use crate::wire::secret_str::{Text, TextAt, escapes_are_whole};

/// The most parameters of a form, more than any grant type has. The limit bounds the work for a
/// form from an attacker.
const MAX_PIECES: usize = 256;

/// The error for a request that is not a valid form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// The headers do not declare a form without a content coding.
    ContentType,
    /// The body is not a form.
    Malformed,
    /// The parameter with this name is repeated.
    Repeated(&'static str),
    /// A parameter whose name some servers read as that of a parameter that the layer reads.
    Lookalike,
    /// A parameter that the layer reads is in the query, or some servers read one there.
    InQuery,
    /// The query has a name that cannot be decoded, or that servers decode in different ways.
    Query,
}

impl FormError {
    /// Returns the `error_description`. It needs no escaping in a JSON string.
    pub const fn description(self) -> &'static str {
        match self {
            Self::ContentType => {
                "the request must be application/x-www-form-urlencoded in utf-8, not encoded"
            }
            Self::Malformed => "the form is malformed",
            Self::Lookalike => "a parameter has a name that servers read in different ways",
            Self::InQuery => "a parameter is in the query instead of the body",
            Self::Query => "the query has a malformed name",
            // A `str` cannot be matched in a `const fn`, its bytes can.
            Self::Repeated(name) => match name.as_bytes() {
                b"grant_type" => "the parameter grant_type is repeated",
                b"refresh_token" => "the parameter refresh_token is repeated",
                b"token" => "the parameter token is repeated",
                b"client_id" => "the parameter client_id is repeated",
                b"client_secret" => "the parameter client_secret is repeated",
                b"client_assertion" => "the parameter client_assertion is repeated",
                b"client_assertion_type" => "the parameter client_assertion_type is repeated",
                b"scope" => "the parameter scope is repeated",
                _ => "a parameter is repeated",
            },
        }
    }
}

/// A parameter that the layer reads. It must not be repeated (RFC 6749 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// The grant type of a token request.
    GrantType,
    /// The token to be refreshed.
    RefreshToken,
    /// The token to be revoked (RFC 7009 §2.1).
    Token,
    /// The identifier of the client.
    ClientId,
    /// The secret of the client.
    ClientSecret,
    /// The assertion of the client, instead of a secret (RFC 7521 §4.2).
    ClientAssertion,
    /// The format of the assertion.
    ClientAssertionType,
    /// The requested scope.
    Scope,
}

impl Param {
    const ALL: [Self; 8] = [
        Self::GrantType,
        Self::RefreshToken,
        Self::Token,
        Self::ClientId,
        Self::ClientSecret,
        Self::ClientAssertion,
        Self::ClientAssertionType,
        Self::Scope,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::GrantType => "grant_type",
            Self::RefreshToken => "refresh_token",
            Self::Token => "token",
            Self::ClientId => "client_id",
            Self::ClientSecret => "client_secret",
            Self::ClientAssertion => "client_assertion",
            Self::ClientAssertionType => "client_assertion_type",
            Self::Scope => "scope",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|param| param.name() == name)
    }
}

const REQUESTED_TOKEN_TYPE: &str = "requested_token_type";

/// The one parameter that the layer reads and that may be repeated (RFC 8707 §2.2).
const RESOURCE: &str = "resource";

/// A parameter of which only the presence counts. It may be repeated (RFC 8693 §2.1).
const AUDIENCE: &str = "audience";

/// Returns the names of all parameters that the layer reads.
fn known() -> impl Iterator<Item = &'static str> {
    let others = [RESOURCE, REQUESTED_TOKEN_TYPE, AUDIENCE];
    Param::ALL.into_iter().map(Param::name).chain(others)
}

/// The form of a token, revocation or introspection request.
pub struct TokenRequest {
    body: Bytes,
    /// Indexed by [`Param`].
    params: [Option<TextAt>; Param::ALL.len()],
    resources: Vec<TextAt>,
    /// The positions of the parameters that are not a [`Param`].
    others: Vec<Range<usize>>,
    /// Whether there is an `audience` (RFC 8693 §2.1), which some servers accept in every request.
    /// A name that only some servers read as `audience` counts, too.
    pub(crate) audience: bool,
}

impl TokenRequest {
    /// Parses a form. Rejects a form that the inner service might not be able to parse, or might
    /// read in another way.
    pub fn parse(body: Bytes) -> Result<Self, FormError> {
        if !body.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(FormError::Malformed);
        }
        let text = std::str::from_utf8(&body).map_err(|_| FormError::Malformed)?;
        let mut params = [const { None }; Param::ALL.len()];
        let (mut resources, mut others) = (Vec::new(), Vec::new());
        let mut audience = false;
        let mut start = 0;
        for (count, piece) in text.split('&').enumerate() {
            if count == MAX_PIECES {
                return Err(FormError::Malformed);
            }
            let end = start + piece.len();
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let at = end - value.len()..end;
            let (name, value) = (decode(name)?, decode(value)?);
            let param = Param::named(&name);
            let is_exact = param.is_some() || matches!(&*name, RESOURCE | REQUESTED_TOKEN_TYPE);
            // Servers that also separate parameters by `;` may find several of them in a piece.
            for piece in piece.split(';').skip(usize::from(is_exact)) {
                match read_name(piece)? {
                    Some(AUDIENCE) => audience = true,
                    Some(_) => return Err(FormError::Lookalike),
                    None => {}
                }
            }
            if let Some(param) = param {
                let value = TextAt::new(at, value);
                if params[param as usize].replace(value).is_some() {
                    return Err(FormError::Repeated(param.name()));
                }
            } else if !piece.is_empty() {
                others.push(start..end);
                let mut known = resources.iter().map(|known: &TextAt| known.as_str(&body));
                if &*name == RESOURCE && !value.is_empty() && !known.any(|known| known == &*value) {
                    resources.push(TextAt::new(at, value));
                }
            }
            start = end + 1;
        }
        Ok(Self {
            body,
            params,
            resources,
            others,
            audience,
        })
    }

    /// Checks the query of the request. A server that reads both the query and the body might use a
    /// parameter in the query (RFC 6749 §3.2 requires it in the body).
    ///
    /// # Errors
    ///
    /// [`FormError::InQuery`] and [`FormError::Query`].
    pub(crate) fn check_query(&mut self, query: &str) -> Result<(), FormError> {
        for piece in pieces(query) {
            match read_name(piece).map_err(|_| FormError::Query)? {
                Some(AUDIENCE) => self.audience = true,
                Some(_) => return Err(FormError::InQuery),
                None => {}
            }
        }
        Ok(())
    }

    /// Returns the decoded value of a parameter. A parameter without a value counts as absent (RFC
    /// 6749 §3.2).
    pub fn get(&self, param: Param) -> Option<&str> {
        self.find(param)
            .map(|value| value.as_str(&self.body))
            .filter(|value| !value.is_empty())
    }

    /// Returns the values of `resource` (RFC 8707), in order and without repetitions.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|value| value.as_str(&self.body))
    }

    /// Checks the limits on what is stored of this request.
    ///
    /// # Errors
    ///
    /// `invalid_scope` for a scope that is too long, `invalid_target` for too many resources or too
    /// long ones.
    pub(crate) fn check_limits(&self) -> Result<(), RefreshError> {
        if self
            .get(Param::Scope)
            .is_some_and(|scope| scope.len() > MAX_SCOPE)
        {
            return Err(RefreshError::InvalidScope);
        }
        if resources_fit(self.resources()) {
            Ok(())
        } else {
            Err(RefreshError::InvalidTarget)
        }
    }

    /// Returns the parameters that the layer does not read, and `resource`, unchanged.
    pub fn others(&self) -> impl Iterator<Item = &[u8]> {
        let others = self.others.iter();
        others.filter_map(|at| self.body.get(at.clone()))
    }

    /// Returns the values of `requested_token_type` (RFC 8693 §2.1), of which there should be at
    /// most one.
    pub(crate) fn requested_token_types(&self) -> impl Iterator<Item = Text<'_>> {
        self.others().filter_map(|piece| {
            let (name, value) = std::str::from_utf8(piece).ok()?.split_once('=')?;
            decode(name)
                .is_ok_and(|name| &*name == REQUESTED_TOKEN_TYPE)
                .then(|| decode(value).ok())?
        })
    }

    /// Returns the body with the value of one parameter replaced, and every other byte unchanged. A
    /// parameter that is absent is appended.
    pub fn replace(&self, param: Param, value: &str) -> Bytes {
        let found = self.find(param);
        let end = self.body.len();
        let at = found.map_or(end..end, |value| value.at.clone());
        let before = self.body.get(..at.start).unwrap_or_default();
        let after = self.body.get(at.end..).unwrap_or_default();
        // Reserve room for a value in which every byte is escaped, because a buffer that grows
        // leaves copies of a token in memory.
        let room = before.len() + param.name().len() + 2 + value.len() * 3 + after.len();
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        out.extend_from_slice(before);
        if found.is_none() {
            if !matches!(before, [] | [.., b'&']) {
                out.push(b'&');
            }
            out.extend_from_slice(param.name().as_bytes());
        }
        // The parameter may be present without `=`. A name contains no raw `=`, so one before the
        // value always separates the two.
        if found.is_none() || !before.ends_with(b"=") {
            out.push(b'=');
        }
        out.extend(form_urlencoded::byte_serialize(value.as_bytes()).flat_map(str::bytes));
        out.extend_from_slice(after);
        Bytes::from_owner(out)
    }

    fn find(&self, param: Param) -> Option<&TextAt> {
        self.params[param as usize].as_ref()
    }
}

impl fmt::Debug for TokenRequest {
    /// Writes the names of the parameters that the layer knows. Other names are not shown, because
    /// a client may have sent a token in place of a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Param::ALL
            .into_iter()
            .filter(|param| self.find(*param).is_some())
            .map(Param::name);
        f.debug_set()
            .entries(known)
            .entries(self.resources.iter().map(|_| "resource"))
            .finish()
    }
}

/// Returns whether a query has a parameter of a token request, in the reading of any server. A name
/// that cannot be decoded counts, because servers read it in different ways.
pub fn names_a_param(query: &str) -> bool {
    pieces(query).any(|piece| !matches!(read_name(piece), Ok(None)))
}

/// Splits a query. Some servers also separate parameters by `;`.
fn pieces(query: &str) -> impl Iterator<Item = &str> {
    query.split(['&', ';'])
}

/// Returns the parameter that the layer reads and as which some server reads the name of this piece
/// of a form or a query.
fn read_name(piece: &str) -> Result<Option<&'static str>, FormError> {
    let name = piece.split_once('=').map_or(piece, |(name, _)| name);
    let name = decode(name)?;
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if name.bytes().all(is_plain) {
        return Ok(known().find(|known| *name == **known));
    }
    let name = FoldedName::new(&name);
    Ok(known().find(|known| name.is_read_as(known)))
}

/// Decodes `+` and percent-encoding in the name or the value of a parameter, and rejects malformed
/// input.
///
/// Libraries accept an incomplete escape and replace bytes that are not UTF-8. The layer and the
/// inner service could then read different values.
pub(crate) fn decode(raw: &str) -> Result<Text<'_>, FormError> {
    if !raw.contains(['%', '+', '\0']) {
        return Ok(Text::Borrowed(raw));
    }
    if !escapes_are_whole(raw) {
        return Err(FormError::Malformed);
    }
    // Decoded text is never longer, so the buffer does not move and leaves no copy in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(raw.len()));
    for (count, part) in raw.split('+').enumerate() {
        if count > 0 {
            bytes.push(b' ');
        }
        bytes.extend(percent_decode_str(part));
    }
    if bytes.contains(&0) {
        return Err(FormError::Malformed);
    }
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(|text| Text::Owned(Zeroizing::new(text)))
        .map_err(|error| {
            error.into_bytes().zeroize();
            FormError::Malformed
        })
}

#[cfg(test)]
mod tests;
