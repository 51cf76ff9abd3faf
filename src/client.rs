//! Who the client is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
// Clients leave out the padding that they should send, and send the one that they should leave out.
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_NO_PAD_INDIFFERENT};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::form::{self, Param, TokenForm};
use crate::json;
use crate::text::Text;

/// The most bytes of a client identifier. It is limited because every stored entry contains it.
const LONGEST: usize = 512;

/// The identifier of an OAuth client (RFC 6749 §2.2), to which a grant is bound. At most 512 bytes.
///
/// Put one into the extensions of a request, in a layer outside of this one, where the program
/// knows the client by other means (mutual TLS, a gateway). A request that names another client as
/// well is refused with `invalid_request`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The identifier as it was registered.
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

/// Who sends a request, as far as the request says. Whether it is true is for the inner service to
/// find out.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    /// The client, if any is named.
    pub(crate) id: Option<ClientId>,
    /// What it authenticates itself with.
    pub(crate) credential: Credential<'a>,
}

/// How a client authenticates itself.
#[derive(Debug)]
pub(crate) enum Credential<'a> {
    /// Not at all, or by means that the layer does not see, such as mutual TLS.
    None,
    /// With the client secret, by whichever method it came.
    Secret(Text<'a>),
    /// With a `client_assertion` (RFC 7521 §4.2): another one each time.
    Assertion,
    /// By means that the layer knows no secret of: an outer layer has named it, or another scheme
    /// of `Authorization`.
    Outside(Option<HeaderValue>),
}

/// Why it cannot be said who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientError {
    /// Two clients or two secrets are named, or there are two `Authorization` headers.
    Disagree,
    /// Basic was tried and cannot be read.
    Basic,
    /// What is named is no valid [`ClientId`].
    Malformed,
    /// The request names a client and has a `client_assertion` that cannot be read: it may name
    /// another client.
    Assertion,
    /// The identifier has more bytes than a [`ClientId`] may have.
    TooLong {
        /// Whether it came with HTTP Basic.
        basic: bool,
    },
}

impl ClientError {
    /// A sentence for `error_description`, fit to stand in a JSON string as it is.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Disagree => "the request names two clients or two credentials",
            Self::Basic => "the Basic credentials cannot be read",
            Self::Malformed => "the client identifier is not valid",
            Self::Assertion => {
                "the client_assertion cannot be read, and the request names a client"
            }
            Self::TooLong { .. } => "the client identifier is too long",
        }
    }
}

/// Finds out who the client is. Every place that can name it is looked at, and all must agree: the
/// inner service may go by another one than the layer.
pub(crate) fn identify<'a>(
    extension: Option<&ClientId>,
    headers: &HeaderMap,
    form: &'a TokenForm,
) -> Result<Client<'a>, ClientError> {
    let mut id = extension.cloned();
    let mut secret = None;
    if let Some(basic) = Basic::read(headers)? {
        agree(&mut id, basic.user.as_str())?;
        secret = basic.password;
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
            Some(subject) => agree(&mut id, &subject)?,
            // The inner service may be able to read it, and may use the name in it instead of this
            // one.
            None if id.is_some() => return Err(ClientError::Assertion),
            None => {}
        }
    }
    let credential = match (assertion, secret) {
        (Some(_), _) => Credential::Assertion,
        (None, Some(secret)) => Credential::Secret(secret),
        (None, None) => match headers.get(AUTHORIZATION) {
            Some(other) if basic_credentials(other).is_none() => {
                Credential::Outside(Some(hidden(other)))
            }
            _ if extension.is_some() => Credential::Outside(None),
            _ => Credential::None,
        },
    };
    Ok(Client { id, credential })
}

/// The same value, of which `Debug` shows nothing.
fn hidden(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

fn agree(id: &mut Option<ClientId>, named: &str) -> Result<(), ClientError> {
    match id {
        Some(id) if id.as_str() == named => Ok(()),
        Some(_) => Err(ClientError::Disagree),
        None => {
            *id =
                Some(
                    named
                        .try_into()
                        .map_err(|InvalidClientId| match named.len() > LONGEST {
                            true => ClientError::TooLong { basic: false },
                            false => ClientError::Malformed,
                        })?,
                );
            Ok(())
        }
    }
}

/// Returns the `sub` of an assertion that is a JWT (RFC 7523 §3). The inner service checks its
/// signature.
///
/// Returns `None` for an assertion that two parsers could read differently, or that only the inner
/// service can read: SAML, an encrypted JWT, another base64 alphabet, a byte order mark, a repeated
/// `sub`.
fn subject(assertion: &str) -> Option<Text<'static>> {
    let mut parts = assertion.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD_INDIFFERENT.decode(payload).ok()?;
    let claims = json::members(std::str::from_utf8(&payload).ok()?).ok()?;
    let is_subject =
        |claim: &&json::Member<'_>| json::string(claim.name).is_some_and(|name| &*name == "sub");
    let mut subjects = claims.iter().filter(is_subject);
    let subject = json::string(subjects.next()?.value)?.into_owned();
    subjects.next().is_none().then_some(subject)
}

/// What an `Authorization: Basic` header says.
struct Basic {
    user: ClientId,
    password: Option<Text<'static>>,
}

impl Basic {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, ClientError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(ClientError::Disagree);
        }
        match first.and_then(basic_credentials) {
            Some(credentials) => Self::decode(credentials).map(Some),
            None => Ok(None),
        }
    }

    /// Decodes Basic credentials: user and password are each form-encoded before they are joined
    /// (RFC 6749 §2.3.1).
    ///
    /// A user that cannot be decoded is refused: without decoding it would be the name of another
    /// client. Many clients do not encode their secret; a secret that cannot be decoded is used as
    /// it is, because it is only compared.
    fn decode(credentials: &[u8]) -> Result<Self, ClientError> {
        let joined = STANDARD_PAD_INDIFFERENT
            .decode(credentials)
            .map_err(|_| ClientError::Basic)?;
        let joined = Zeroizing::new(joined);
        let joined = std::str::from_utf8(&joined).map_err(|_| ClientError::Basic)?;
        let (user, password) = joined.split_once(':').ok_or(ClientError::Basic)?;
        let user = form::decode(user).map_err(|_| ClientError::Basic)?;
        if user.len() > LONGEST {
            return Err(ClientError::TooLong { basic: true });
        }
        let user = ClientId::try_from(&*user).map_err(|InvalidClientId| ClientError::Basic)?;
        let password = form::decode(password).unwrap_or(Text::Borrowed(password));
        Ok(Self {
            user,
            password: (!password.is_empty()).then(|| password.into_owned()),
        })
    }
}

/// What follows the scheme, if it is Basic.
fn basic_credentials(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes().trim_ascii();
    let (scheme, credentials) = value.split_at_checked("basic".len())?;
    (scheme.eq_ignore_ascii_case(b"basic") && matches!(credentials, [] | [b' ' | b'\t', ..]))
        .then(|| credentials.trim_ascii_start())
}

#[cfg(test)]
mod tests;
