//! The user that a grant belongs to, and the claims about that user.
//!
//! A [`Profile`] is personal data. The store has it only sealed under the tokens of its grant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer};
use crate::wire::jwt;

/// The longest issuer and the longest id, in bytes.
const LONGEST: usize = 1024;

/// The largest size of the claims of one user, in bytes of JSON.
const LARGEST_CLAIMS: usize = 2048;

/// The longest `sid`, in bytes.
const LONGEST_SID: usize = 255;

/// The longest label of a session, in bytes.
const LONGEST_LABEL: usize = 128;

/// The user that a grant belongs to: the `sub` of OpenID Connect, with its `iss` if that is known.
///
/// A user of one issuer and a user with the same id of another one are different subjects, and so
/// is a subject without an issuer.
///
/// The layer learns the subject of a grant when it begins: from a `Subject` in the extensions of
/// the response of the inner service, otherwise from the `id_token` in that response, with its
/// `iss` ([`subject_claim`](crate::RefreshLayerBuilder::subject_claim) names another claim than
/// `sub`). It never changes. A grant whose subject was unknown, such as an adopted one, learns it
/// with the first rotation that names one.
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use tower_oauth_refresh::{InvalidSubject, Subject};
///
/// /// The end of a token endpoint.
/// fn answer(user: u64, tokens: String) -> Result<Response, InvalidSubject> {
///     let mut response = tokens.into_response();
///     response.extensions_mut().insert(Subject::new(user.to_string())?);
///     Ok(response)
/// }
/// ```
///
/// It is personal data, so `Debug` omits it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    issuer: Option<Box<str>>,
    id: Box<str>,
}

impl Subject {
    /// Returns the user with this id, of no particular issuer.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`] if the id is empty, longer than 1,024 bytes, or contains a control
    /// character.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidSubject> {
        Ok(Self {
            issuer: None,
            id: valid(id.into())?,
        })
    }

    /// Returns the user with this id at an issuer: the claims `sub` and `iss` of an ID token.
    ///
    /// # Errors
    ///
    /// Like [`new`](Self::new), and for the issuer, too.
    pub fn with_issuer(
        issuer: impl Into<String>,
        id: impl Into<String>,
    ) -> Result<Self, InvalidSubject> {
        Ok(Self {
            issuer: Some(valid(issuer.into())?),
            id: valid(id.into())?,
        })
    }

    /// Returns the issuer, if it is known.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns the id of the user, unique within the issuer.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

redacted_debug!(self: Subject {});

fn valid(text: String) -> Result<Box<str>, InvalidSubject> {
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(InvalidSubject);
    }
    Ok(text.into())
}

/// The error for an id or an issuer that is empty, longer than 1,024 bytes, or contains a control
/// character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid subject: expected 1 to 1,024 bytes without control characters")]
pub struct InvalidSubject;

/// A label of a session, which the inner service puts into the extensions of its response when a
/// user logs in, for example the device and the address. [`Session::label`](crate::Session::label)
/// returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionLabel(Box<str>);

impl SessionLabel {
    /// Returns a label with this text. Only its first 128 bytes are kept, and no control
    /// characters.
    pub fn new(text: impl AsRef<str>) -> Self {
        let mut label = String::new();
        for char in text.as_ref().chars().filter(|char| !char.is_control()) {
            if label.len() + char.len_utf8() > LONGEST_LABEL {
                break;
            }
            label.push(char);
        }
        Self(label.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

redacted_debug!(self: SessionLabel {});

/// The session at the identity provider in which a user logged in: the `sid` of an ID token (OpenID
/// Connect Back-Channel Logout 1.0 §2.1). It is in the extensions of the response with that token.
#[derive(Clone)]
pub(crate) struct ProviderSession {
    issuer: Option<Box<str>>,
    sid: Box<str>,
}

impl ProviderSession {
    /// Returns the `sid`, unless the issuer of this user is another one.
    pub(crate) fn sid_of(&self, subject: &Subject) -> Option<&str> {
        (self.issuer.as_deref() == subject.issuer()).then_some(&*self.sid)
    }
}

/// The secret of [`subject_key`](crate::RefreshLayerBuilder::subject_key).
#[derive(Clone)]
pub(crate) struct SubjectKey(Zeroizing<[u8; 32]>);

impl SubjectKey {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }
}

redacted_debug!(self: SubjectKey);

/// The profile of the user of a grant: the subject, and claims of the ID token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) subject: Subject,
    /// The configured claims, a JSON object, if the ID token has any of them.
    pub(crate) claims: Option<Box<str>>,
}

impl Profile {
    /// Returns the profile of a user whose subject is known.
    pub(crate) fn new(subject: Subject, id_token: Option<&IdToken>, names: &[String]) -> Self {
        let claims = id_token
            .map(|token| token.claims(names))
            .unwrap_or_default();
        Self::with_claims(subject, claims)
    }

    pub(crate) fn with_claims(subject: Subject, claims: Map<String, Value>) -> Self {
        let claims = (!claims.is_empty()).then(|| Value::Object(claims).to_string().into());
        Self { subject, claims }
    }

    /// Returns the claim with this name.
    #[cfg(feature = "access")]
    pub(crate) fn claim(&self, name: &str) -> Option<Value> {
        let mut claims: Map<String, Value> = serde_json::from_str(self.claims.as_ref()?).ok()?;
        claims.remove(name)
    }

    /// Seals the profile under a token of the user. The purpose in `context` does not matter.
    pub(crate) fn seal(
        &self,
        sealer: &Sealer,
        nonce: SealNonce,
        context: Context<'_>,
    ) -> Result<Bytes, SealError> {
        let mut members = Map::new();
        if let Some(issuer) = self.subject.issuer() {
            members.insert("iss".into(), issuer.into());
        }
        members.insert("sub".into(), self.subject.id().into());
        if let Some(claims) = &self.claims {
            members.insert("claims".into(), (&**claims).into());
        }
        let text = Zeroizing::new(Value::Object(members).to_string());
        let purpose = Purpose::Profile;
        let context = Context { purpose, ..context };
        sealer
            .seal(nonce, context, &[], text.as_bytes())
            .map(Bytes::from)
    }

    pub(crate) fn open(
        sealer: &Sealer,
        context: Context<'_>,
        sealed: &[u8],
    ) -> Result<Self, SealError> {
        let text = sealer.open(context, &[], sealed)?;
        let mut members: Map<String, Value> =
            serde_json::from_slice(&text).map_err(|_| SealError)?;
        let mut string = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text.into_boxed_str()),
            _ => None,
        };
        let subject = Subject {
            issuer: string("iss"),
            id: string("sub").ok_or(SealError)?,
        };
        let claims = string("claims");
        Ok(Self { subject, claims })
    }

    /// Returns the size in bytes.
    #[cfg(feature = "access")]
    pub(crate) fn size(&self) -> usize {
        let issuer = self.subject.issuer().map_or(0, str::len);
        let claims = self.claims.as_ref().map_or(0, |claims| claims.len());
        size_of::<Self>() + issuer + self.subject.id.len() + claims
    }
}

redacted_debug!(self: Profile {});

/// The claims of an ID token, as its issuer signed them.
///
/// The signature is not verified: the layer receives the token from its issuer itself, in the
/// answer of the token endpoint (OpenID Connect Core §3.1.3.7, point 6).
pub(crate) struct IdToken(Map<String, Value>);

redacted_debug!(self: IdToken);

impl IdToken {
    /// Reads a signed JWT in its compact form. Returns `None` for anything else, such as an
    /// encrypted one.
    pub(crate) fn read(token: &str) -> Option<Self> {
        let payload = URL_SAFE_NO_PAD.decode(jwt::payload(token)?).ok()?;
        let payload = Zeroizing::new(payload);
        serde_json::from_slice(&payload).ok().map(Self)
    }

    /// Returns the user whose id is in the claim `id`. `Ok(None)` if it names none.
    pub(crate) fn subject(&self, id: &str) -> Result<Option<Subject>, InvalidSubject> {
        let string = |name| self.0.get(name).and_then(Value::as_str);
        match (string("iss"), string(id)) {
            (Some(issuer), Some(id)) => Subject::with_issuer(issuer, id).map(Some),
            (None, Some(id)) => Subject::new(id).map(Some),
            (_, None) => Ok(None),
        }
    }

    /// Returns the session at the provider, unless its `sid` is empty or longer than 255 bytes.
    pub(crate) fn provider_session(&self) -> Option<ProviderSession> {
        let string = |name| self.0.get(name).and_then(Value::as_str);
        let sid = string("sid").filter(|sid| (1..=LONGEST_SID).contains(&sid.len()))?;
        Some(ProviderSession {
            issuer: string("iss").map(Box::from),
            sid: sid.into(),
        })
    }

    /// Returns the claims with these names. Stops before the first one with which they would exceed
    /// 2 KiB.
    fn claims(&self, names: &[String]) -> Map<String, Value> {
        let mut left = LARGEST_CLAIMS;
        let mut claims = Map::new();
        for name in names {
            let Some(value) = self.0.get(name) else {
                continue;
            };
            // Quotes, colon and comma of the member, and the escapes of its name.
            let size = Value::from(name.as_str()).to_string().len() + value.to_string().len() + 2;
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => break,
            }
            claims.insert(name.clone(), value.clone());
        }
        claims
    }
}
