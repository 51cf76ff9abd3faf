//! Finds out who a user is.
//!
//! At a log-in, the verified ID token names the user, or else the userinfo endpoint. At a refresh, a
//! new ID token or the userinfo endpoint is asked again if there are rules for users; otherwise the
//! user is the one of the log-in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use server_common::causes::causes;
use server_common::jose::JwtError;

use super::Provider;
use super::id_token::{self, IdTokenError};
use crate::users::User;

/// The longest claim that is passed on to the layer, in bytes.
const LONGEST_CLAIM: usize = 255;

/// What happens at the provider: the user logs in, or this server refreshes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occasion<'a> {
    /// `nonce` is that of the authorization request.
    LogIn { nonce: &'a str },
    /// `known` is the user as of the log-in or of an earlier refresh.
    Refresh { known: Option<&'a User> },
}

/// The reason why it is not known who a user is, although it must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentifyError {
    #[error("the ID token is invalid")]
    IdToken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the keys of the provider are unavailable")]
    Keys,
    #[error("the userinfo endpoint is unavailable")]
    Userinfo,
    #[error("the refresh is for another user than the log-in")]
    OtherUser,
    #[error("neither an ID token nor the userinfo endpoint names the user")]
    Unknown,
}

impl IdentifyError {
    /// Returns whether a later attempt may succeed.
    pub(crate) const fn is_temporary(&self) -> bool {
        matches!(self, Self::Keys | Self::Userinfo)
    }
}

impl From<IdTokenError> for IdentifyError {
    fn from(error: IdTokenError) -> Self {
        match error {
            IdTokenError::Jwt(JwtError::KeysUnavailable) => Self::Keys,
            error => Self::IdToken(Box::new(error)),
        }
    }
}

impl Provider {
    /// Returns the user to whom a token response belongs; `None` if the provider does not say and no
    /// rule needs it.
    ///
    /// The layer reads the user from the ID token in the response. If the userinfo endpoint has said
    /// who it is, `answer` therefore gets an ID token of this server, which no client sees.
    pub(crate) async fn identify(
        &self,
        answer: &mut Map<String, Value>,
        occasion: Occasion<'_>,
    ) -> Result<Option<User>, IdentifyError> {
        let config = self.config();
        let rules = &config.rules;
        let has_keys = self.settings().is_ok_and(|now| now.id_tokens.is_some());
        if let Occasion::Refresh { known } = occasion
            && rules.are_empty()
            && !has_keys
        {
            return Ok(known.cloned());
        }
        let mut claims = self.id_token(answer, occasion).await?;
        let read = |claims: &Map<String, Value>| {
            User::read(claims, config.claim_names(), config.groups_claim(), rules)
        };
        let mut user = claims.as_ref().and_then(read);
        let is_enough = |user: &User| {
            (user.email.is_some() || !rules.need_email())
                && (!user.groups.is_empty() || rules.groups.is_empty())
        };
        // At a refresh, only the rules need to know.
        let needs = matches!(occasion, Occasion::LogIn { .. }) || !rules.are_empty();
        if needs
            && !user.as_ref().is_some_and(is_enough)
            && let Some(more) = self.asked(answer).await?
        {
            let named = claims.get_or_insert_default();
            // OpenID Connect Core §5.3.2: the response must be for the same user.
            if let (Some(sub), Some(other)) = (named.get("sub"), more.get("sub"))
                && sub != other
            {
                return Err(IdentifyError::OtherUser);
            }
            if more.contains_key("email") {
                // An address and its verification belong together.
                named.remove("email");
                named.remove(config.claim_names().email_verified);
            }
            for (name, value) in more {
                named.entry(name).or_insert(value);
            }
            user = read(named);
            if let Some(user) = &user {
                let token = self.own_id_token(named, user);
                answer.insert("id_token".into(), token.into());
            }
        }
        match (user, occasion) {
            (Some(user), Occasion::Refresh { known: Some(known) }) if user.id != known.id => {
                Err(IdentifyError::OtherUser)
            }
            (Some(user), _) => Ok(Some(user)),
            (None, Occasion::Refresh { known: Some(known) }) => Ok(Some(known.clone())),
            (None, _) if rules.are_empty() => Ok(None),
            (None, _) => Err(IdentifyError::Unknown),
        }
    }

    /// Returns the claims of the ID token in a response, if it has one.
    async fn id_token(
        &self,
        answer: &Map<String, Value>,
        occasion: Occasion<'_>,
    ) -> Result<Option<Map<String, Value>>, IdentifyError> {
        let Some(token) = answer.get("id_token").and_then(Value::as_str) else {
            return Ok(None);
        };
        let settings = self.settings().map_err(|_| IdentifyError::Keys)?;
        let nonce = match occasion {
            Occasion::LogIn { nonce } => Some(nonce),
            Occasion::Refresh { .. } => None,
        };
        match &settings.id_tokens {
            Some(settings) => {
                let client_id = &self.config().client_id;
                let claims = id_token::verify(token, settings, client_id, nonce).await?;
                Ok(Some(claims))
            }
            // Without keys, the TLS connection to the token endpoint vouches for the token (OpenID
            // Connect Core §3.1.3.7, point 6).
            None => Ok(payload(token)),
        }
    }

    /// Returns the claims of the userinfo endpoint, if there is one.
    async fn asked(
        &self,
        answer: &Map<String, Value>,
    ) -> Result<Option<Map<String, Value>>, IdentifyError> {
        let config = self.config();
        let token = answer.get("access_token").and_then(Value::as_str);
        let Some(asked) = self.userinfo(token.unwrap_or_default()).await else {
            return Ok(None);
        };
        let failed = |why: String| {
            tracing::warn!(
                error = why,
                "the userinfo endpoint did not say who a user is"
            );
            // Without rules, a log-in does not depend on it.
            if config.rules.are_empty() {
                Ok(None)
            } else {
                Err(IdentifyError::Userinfo)
            }
        };
        match asked {
            Ok(answer) if answer.status.is_success() => {
                match serde_json::from_slice::<Map<String, Value>>(&answer.body) {
                    Ok(mut claims) if config.preset().lists_emails => {
                        let email = self.primary_email(token.unwrap_or_default()).await;
                        let is_verified = email.is_some();
                        claims.insert("email".into(), email.into());
                        claims.insert(
                            config.claim_names().email_verified.into(),
                            is_verified.into(),
                        );
                        Ok(Some(claims))
                    }
                    Ok(claims) => Ok(Some(claims)),
                    Err(_) => failed("the response is not a JSON object".into()),
                }
            }
            Ok(answer) => failed(format!("status {}", answer.status)),
            Err(error) => failed(causes(&error)),
        }
    }

    /// Returns an ID token without a signature, for the layer.
    fn own_id_token(&self, claims: &Map<String, Value>, user: &User) -> String {
        let config = self.config();
        // --subject-claim may name any claim.
        let is_short = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| text.len() <= LONGEST_CLAIM)
        };
        let claims = claims.iter().filter(|(_, value)| is_short(value));
        let mut own: Map<_, _> = claims
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(issuer) = &config.issuer {
            own.entry("iss").or_insert(issuer.as_str().into());
        }
        user.write(config.groups_claim(), &mut own);
        // The layer takes the id from this claim by default.
        let name = config.claim_names().id;
        own.insert(name.into(), user.id.as_str().into());
        let encoded = URL_SAFE_NO_PAD.encode(Value::Object(own).to_string());
        // The header is `{"alg":"none"}`.
        format!("eyJhbGciOiJub25lIn0.{encoded}.")
    }
}

fn payload(token: &str) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
