//! Identifies the client that sends a request.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod proof;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
// Some clients omit the padding that they should send, or send the padding that they should omit.
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_NO_PAD_INDIFFERENT};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

pub(crate) use self::proof::Proofs;
pub use self::proof::SenderConstrained;
use crate::wire::json;
use crate::wire::jwt;
use crate::wire::names::is_read_as;
use crate::wire::secret_str::Text;
use crate::wire::token_request::{self, Param, TokenRequest};

/// The most bytes of a client identifier. It is limited because every stored entry contains it.
const LONGEST: usize = 512;

/// The identifier of an OAuth client (RFC 6749 §2.2), to which a grant is bound. At most 512 bytes.
///
/// If the application knows the client by other means, such as mutual TLS or a gateway, an outer
/// layer can put this type into the extensions of the request. A request that also names another
/// client is rejected with `invalid_request`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Returns the identifier as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ClientId {
    type Error = InvalidClientId;

    fn try_from(id: &str) -> Result<Self, InvalidClientId> {
        if id.is_empty() || id.len() > LONGEST || id.chars().any(char::is_control) {
            return Err(InvalidClientId);
        }
        Ok(Self(id.into()))
    }
}

impl TryFrom<String> for ClientId {
    type Error = InvalidClientId;

    fn try_from(id: String) -> Result<Self, InvalidClientId> {
        id.as_str().try_into()
    }
}

impl FromStr for ClientId {
    type Err = InvalidClientId;

    fn from_str(id: &str) -> Result<Self, InvalidClientId> {
        id.try_into()
    }
}

impl AsRef<str> for ClientId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for a client identifier that is empty, longer than 512 bytes, or has control
/// characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client identifier must have 1 to 512 bytes and no control characters")]
pub struct InvalidClientId;

/// The client that a request names. The inner service authenticates it.
#[derive(Debug)]
pub struct Client<'a> {
    /// The client, if the request names one.
    pub id: Option<ClientId>,
    /// The credential with which it authenticates itself.
    pub credential: Credential<'a>,
}

/// The credential with which a client authenticates itself.
#[derive(Debug)]
pub enum Credential<'a> {
    /// The request has no credential that the layer can see. The client may use mutual TLS, for
    /// example.
    None,
    /// The client secret, from the header or from the form.
    Secret(Text<'a>),
    /// A `client_assertion` (RFC 7521 §4.2), which differs from request to request.
    Assertion,
    /// A credential without a secret that the layer could read: an outer layer has named the
    /// client, or `Authorization` has another scheme.
    Outside(Option<HeaderValue>),
}

impl Credential<'_> {
    /// Returns whether the request itself has a credential, which the inner service checks. An
    /// attestation among its `proofs` is one. A client that only an outer layer has named has none.
    pub(crate) const fn is_presented(&self, proofs: Proofs) -> bool {
        match self {
            Self::Secret(_) | Self::Assertion | Self::Outside(Some(_)) => true,
            Self::None | Self::Outside(None) => proofs.attestation,
        }
    }
}

/// The error if the client cannot be identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// The request names two clients or two secrets, or has two `Authorization` headers.
    Disagree,
    /// The HTTP Basic credentials are malformed.
    Basic,
    /// The `Authorization` header has a character other than printable ASCII. Or the request names
    /// a client, and some servers read the scheme of the header as Basic although it is not.
    Authorization,
    /// The identifier is not a valid [`ClientId`].
    Malformed,
    /// The request names a client, and has a `client_assertion` that the layer cannot read and that
    /// may name another client.
    Assertion,
    /// The request names a client, and has a `client_assertion` whose issuer is not its subject.
    Issuer,
    /// The identifier has more bytes than a [`ClientId`] may have.
    TooLong {
        /// Whether it came with HTTP Basic.
        basic: bool,
    },
}

impl ClientError {
    /// Returns the `error_description`. It needs no escaping in a JSON string.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Disagree => "the request names two clients or two credentials",
            Self::Basic => "the HTTP Basic credentials are malformed",
            Self::Authorization => "the Authorization header is malformed",
            Self::Malformed => "the client identifier is not valid",
            Self::Assertion => {
                "the client_assertion is not a readable JWT and may name another client"
            }
            Self::Issuer => "the issuer of the client_assertion is not its subject",
            Self::TooLong { .. } => "the client identifier is too long",
        }
    }
}

/// Identifies the client. Reads every place that can name it, and requires that all of them agree:
/// otherwise the inner service might use another one than the layer.
pub fn identify<'a>(
    extension: Option<&ClientId>,
    headers: &HeaderMap,
    form: &'a TokenRequest,
) -> Result<Client<'a>, ClientError> {
    let mut id = extension.cloned();
    let mut secret = None;
    let mut other_scheme = None;
    match Basic::read(headers)? {
        Some(basic) => {
            agree(&mut id, basic.user.as_str())?;
            secret = basic.password;
        }
        None => other_scheme = headers.get(AUTHORIZATION),
    }
    if let Some(named) = form.get(Param::ClientId) {
        agree(&mut id, named)?;
    }
    if let Some(posted) = form.get(Param::ClientSecret) {
        if secret.as_ref().is_some_and(|secret| **secret != *posted) {
            return Err(ClientError::Disagree);
        }
        secret = Some(Text::Borrowed(posted));
    }
    let assertion = form.get(Param::ClientAssertion);
    if let Some(assertion) = assertion {
        match subject(assertion) {
            Ok(subject) => agree(&mut id, &subject)?,
            // The inner service may be able to read the assertion, and may use the client in it
            // instead of this one.
            Err(error) if id.is_some() => return Err(error),
            Err(_) => {}
        }
    }
    // Some servers compare only the first letters of the scheme, and find a client in this header.
    if other_scheme.and_then(after_basic).is_some() && id.is_some() {
        return Err(ClientError::Authorization);
    }
    let credential = match (assertion, secret, other_scheme) {
        (Some(_), _, _) => Credential::Assertion,
        (None, Some(secret), _) => Credential::Secret(secret),
        (None, None, Some(other)) => {
            let mut other = other.clone();
            // So that `Debug` does not show it.
            other.set_sensitive(true);
            Credential::Outside(Some(other))
        }
        (None, None, None) if extension.is_some() => Credential::Outside(None),
        (None, None, None) => Credential::None,
    };
    Ok(Client { id, credential })
}

/// Returns this identifier, or `invalid` if it is not valid. `basic` says whether it came with HTTP
/// Basic.
fn client_id(id: &str, invalid: ClientError, basic: bool) -> Result<ClientId, ClientError> {
    if id.len() > LONGEST {
        return Err(ClientError::TooLong { basic });
    }
    id.try_into().map_err(|InvalidClientId| invalid)
}

fn agree(id: &mut Option<ClientId>, named: &str) -> Result<(), ClientError> {
    match id {
        Some(id) if id.as_str() == named => Ok(()),
        Some(_) => Err(ClientError::Disagree),
        None => {
            *id = Some(client_id(named, ClientError::Malformed, false)?);
            Ok(())
        }
    }
}

/// Returns the `sub` of an assertion that is a JWT (RFC 7523 §3). The inner service checks its
/// signature.
///
/// Returns [`ClientError::Assertion`] for an assertion that two parsers could read differently, or
/// that only the inner service can read: SAML, an encrypted JWT, another base64 alphabet, a byte
/// order mark, a `sub` or `iss` that is repeated or in another spelling. Returns
/// [`ClientError::Issuer`] if the issuer is not the subject, because some servers identify the
/// client by `iss`.
fn subject(assertion: &str) -> Result<Text<'static>, ClientError> {
    let payload = jwt::payload(assertion).ok_or(ClientError::Assertion)?;
    let claims = URL_SAFE_NO_PAD_INDIFFERENT.decode(payload);
    let claims = claims.map_err(|_| ClientError::Assertion)?;
    let claims = std::str::from_utf8(&claims)
        .ok()
        .and_then(|text| json::members(text).ok())
        .ok_or(ClientError::Assertion)?;
    let issuer = claim(&claims, "iss")?;
    let subject = claim(&claims, "sub")?.ok_or(ClientError::Assertion)?;
    if issuer.is_some_and(|issuer| *issuer != *subject) {
        return Err(ClientError::Issuer);
    }
    Ok(subject.into_owned())
}

/// Returns the claim with this name, if there is one. Returns an error if two parsers could find
/// different values: some ignore case, or replace half a surrogate pair.
fn claim<'a>(claims: &[json::Member<'a>], name: &str) -> Result<Option<Text<'a>>, ClientError> {
    let mut found = None;
    for claim in claims {
        let spelling = json::string(claim.name).ok_or(ClientError::Assertion)?;
        if !is_read_as(&spelling, name) {
            continue;
        }
        let value = json::string(claim.value).ok_or(ClientError::Assertion)?;
        if *spelling != *name || found.replace(value).is_some() {
            return Err(ClientError::Assertion);
        }
    }
    Ok(found)
}

/// The credentials of an `Authorization: Basic` header.
struct Basic {
    user: ClientId,
    password: Option<Text<'static>>,
}

impl Basic {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, ClientError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(first) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(ClientError::Disagree);
        }
        // Some servers also separate the scheme by a blank that is not ASCII.
        let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
        if !first.as_bytes().iter().all(is_printable) {
            return Err(ClientError::Authorization);
        }
        match after_basic(first) {
            Some(rest @ ([] | [b' ', ..])) => Self::decode(rest.trim_ascii_start()).map(Some),
            _ => Ok(None),
        }
    }

    /// Decodes Basic credentials: user and password are each form-encoded before they are joined
    /// (RFC 6749 §2.3.1).
    ///
    /// Rejects a user that cannot be decoded, because its raw text could be the identifier of
    /// another client. Many clients do not encode their secret, so a secret that cannot be decoded
    /// is used as it is. That is safe because secrets are only compared.
    fn decode(credentials: &[u8]) -> Result<Self, ClientError> {
        let joined = STANDARD_PAD_INDIFFERENT
            .decode(credentials)
            .map_err(|_| ClientError::Basic)?;
        let joined = Zeroizing::new(joined);
        let joined = std::str::from_utf8(&joined).map_err(|_| ClientError::Basic)?;
        let (user, password) = joined.split_once(':').ok_or(ClientError::Basic)?;
        let user = token_request::decode(user).map_err(|_| ClientError::Basic)?;
        let user = client_id(&user, ClientError::Basic, true)?;
        let password = token_request::decode(password).unwrap_or(Text::Borrowed(password));
        Ok(Self {
            user,
            password: (!password.is_empty()).then(|| password.into_owned()),
        })
    }
}

/// Returns what follows the first letters, if they are those of the scheme Basic.
fn after_basic(value: &HeaderValue) -> Option<&[u8]> {
    const BASIC: &[u8] = b"basic";
    let value = value.as_bytes().trim_ascii();
    let (scheme, rest) = value.split_at_checked(BASIC.len())?;
    scheme.eq_ignore_ascii_case(BASIC).then_some(rest)
}

#[cfg(test)]
mod tests;
