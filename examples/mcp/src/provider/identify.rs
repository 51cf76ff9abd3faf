//! Finds out who a user is.
//!
//! At a log-in, the verified ID token names the user, or else the userinfo endpoint. At a refresh,
//! a new ID token or the userinfo endpoint is asked again if there are rules for users, or if the
//! MCP server learns who they are; otherwise the user is the one of the log-in.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use server_common::causes::causes;
use server_common::jose::JwtError;

use super::id_token::{self, Expected, IdTokenError};
use super::{Provider, ProviderAnswer, ProviderError};
use crate::users::User;

/// The longest claim that is passed on to the layer, in bytes. The layer has the same limit for the
/// claim of `--subject-claim`.
const LONGEST_CLAIM: usize = 1024;

/// The most that the clocks of the provider and of this server may differ.
const SKEW: Duration = Duration::from_secs(60);

/// The reason to identify a user: the user logs in, or this server refreshes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Occasion<'a> {
    LogIn {
        /// The nonce of the authorization request, if it had one.
        nonce: Option<&'a str>,
        /// The time of the authorization request, since 1970.
        began: Duration,
    },
    /// `known` is the user as of the log-in or of an earlier refresh.
    Refresh { known: Option<&'a User> },
}

/// The reason why the user of a log-in or a refresh could not be identified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentifyError {
    #[error("the ID token is invalid")]
    IdToken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("max_age is requested, and there is no ID token with an auth_time")]
    NoAuthTime,
    #[error("the log-in at the provider is older than max_age allows, or in the future")]
    AuthTime,
    #[error("the keys of the provider are unavailable")]
    Keys,
    #[error("the userinfo endpoint is unavailable")]
    Userinfo,
    #[error("the userinfo endpoint does not name the user")]
    NotSaid,
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
            // A cache in front of the keys of the provider may not have a new one yet.
            IdTokenError::Jwt(JwtError::KeysUnavailable | JwtError::UnknownKey) => Self::Keys,
            error => Self::IdToken(Box::new(error)),
        }
    }
}

/// The properties of a user that must be known.
#[derive(Clone, Copy)]
struct Needs {
    /// Whether it is an error if the userinfo endpoint is unavailable.
    answer: bool,
    email: bool,
    groups: bool,
}

impl Provider {
    fn needs(&self, occasion: Occasion<'_>) -> Needs {
        let config = self.config();
        let (rules, forwards_users) = (&config.rules, config.forwards_users);
        let is_refresh = matches!(occasion, Occasion::Refresh { .. });
        Needs {
            // A log-in does not depend on it without rules. A refresh can keep what is known.
            answer: !rules.are_empty() || (forwards_users && is_refresh),
            email: rules.need_email() || forwards_users,
            groups: !rules.groups.is_empty() || forwards_users,
        }
    }

    /// Returns the user to whom a token response belongs; `None` if the provider does not say and
    /// no rule needs it.
    ///
    /// The layer reads the user from the ID token in the response. `answer` therefore gets an ID
    /// token of this server, which no client sees, so that the layer knows the same user as the
    /// rules.
    pub(crate) async fn identify(
        &self,
        answer: &mut Map<String, Value>,
        occasion: Occasion<'_>,
    ) -> Result<Option<User>, IdentifyError> {
        let config = self.config();
        let needs = self.needs(occasion);
        let mut claims = self.id_token(answer, occasion).await?;
        if let (Some(max_age), Occasion::LogIn { began, .. }) = (config.max_age(), occasion) {
            let claim = claims.as_ref().and_then(|claims| claims.get("auth_time"));
            let auth_time = claim.and_then(Value::as_f64);
            let auth_time = auth_time.ok_or(IdentifyError::NoAuthTime)?;
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            if !is_recent(auth_time, max_age, began, now) {
                return Err(IdentifyError::AuthTime);
            }
        }
        let read = |claims: &Map<String, Value>| {
            let (names, groups) = (config.claim_names(), config.groups_claim());
            User::read(claims, names, groups, &config.rules)
        };
        let mut user = claims.as_ref().and_then(read);
        let is_enough = |user: &User| {
            (user.email.is_some() || !needs.email) && (!user.groups.is_empty() || !needs.groups)
        };
        let asks = needs.answer || matches!(occasion, Occasion::LogIn { .. });
        let sub = claims.as_ref().and_then(|claims| claims.get("sub"));
        if asks
            && !user.as_ref().is_some_and(is_enough)
            && let Some(more) = self.asked(answer, sub, needs).await?
        {
            let named = claims.get_or_insert_default();
            if more.contains_key("email") {
                // An address and its verification belong together.
                named.remove("email");
                named.remove(config.claim_names().email_verified);
            }
            for (name, value) in more {
                named.entry(name).or_insert(value);
            }
            user = read(named);
        }
        answer.remove("id_token");
        if let (Some(claims), Some(user)) = (&claims, &user) {
            let token = self.own_id_token(claims, user);
            answer.insert("id_token".into(), token.into());
        }
        match (user, occasion) {
            (Some(user), Occasion::Refresh { known: Some(known) }) if user.id != known.id => {
                Err(IdentifyError::OtherUser)
            }
            (Some(user), _) => Ok(Some(user)),
            (None, Occasion::Refresh { known: Some(known) }) => Ok(Some(known.clone())),
            (None, _) if config.rules.are_empty() => Ok(None),
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
            Occasion::LogIn { nonce, .. } => nonce,
            Occasion::Refresh { .. } => None,
        };
        let expected = Expected {
            client_id: &self.config().client_id,
            nonce,
            access_token: access_token(answer),
        };
        Ok(id_token::verify(token, &settings.id_tokens, expected).await?)
    }

    /// Returns the claims of the userinfo endpoint, if there is one. `sub` is the user whom the ID
    /// token names.
    async fn asked(
        &self,
        answer: &Map<String, Value>,
        sub: Option<&Value>,
        needs: Needs,
    ) -> Result<Option<Map<String, Value>>, IdentifyError> {
        let config = self.config();
        let token = access_token(answer);
        let Some(asked) = self.userinfo(token).await else {
            return Ok(None);
        };
        let mut claims = match read_userinfo(asked, sub) {
            Ok(claims) => claims,
            Err(error) => {
                let is_fatal = match error {
                    IdentifyError::OtherUser => true,
                    // A refresh keeps what is known.
                    IdentifyError::Userinfo => needs.answer,
                    _ => !config.rules.are_empty(),
                };
                return if is_fatal { Err(error) } else { Ok(None) };
            }
        };
        if config.preset().lists_emails {
            let email = match self.primary_email(token).await {
                Ok(email) => email,
                Err(error) => {
                    tracing::warn!(error = causes(&error), "cannot read the address of a user");
                    if needs.answer && needs.email {
                        return Err(IdentifyError::Userinfo);
                    }
                    None
                }
            };
            let verified = config.claim_names().email_verified;
            claims.insert(verified.into(), email.is_some().into());
            claims.insert("email".into(), email.into());
        }
        Ok(Some(claims))
    }

    /// Returns an ID token without a signature, for the layer.
    pub(crate) fn own_id_token(&self, claims: &Map<String, Value>, user: &User) -> String {
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

/// Returns whether a user who logged in at `auth_time` did so recently enough for a request that
/// `began` at that time (OpenID Connect Core §3.1.2.1, and §3.1.3.7, point 13). All times are since
/// 1970.
///
/// The age counts at the request, because the provider decides by it, and the user may take minutes
/// to answer further questions there.
fn is_recent(auth_time: f64, max_age: Duration, began: Duration, now: Duration) -> bool {
    let earliest = began.saturating_sub(max_age).saturating_sub(SKEW);
    (earliest.as_secs_f64()..=(now + SKEW).as_secs_f64()).contains(&auth_time)
}

fn access_token(answer: &Map<String, Value>) -> &str {
    let token = answer.get("access_token").and_then(Value::as_str);
    token.unwrap_or_default()
}

/// Returns the claims in a response of the userinfo endpoint. Logs the error otherwise.
fn read_userinfo(
    asked: Result<ProviderAnswer, ProviderError>,
    sub: Option<&Value>,
) -> Result<Map<String, Value>, IdentifyError> {
    let (error, why) = match asked {
        Ok(answer) if answer.status.is_success() => {
            match serde_json::from_slice::<Map<String, Value>>(&answer.body) {
                // OpenID Connect Core §5.3.2: the response must be for the same user.
                Ok(claims) => match (sub, claims.get("sub")) {
                    (None, _) => return Ok(claims),
                    (Some(sub), Some(other)) if sub == other => return Ok(claims),
                    (Some(_), Some(_)) => return Err(IdentifyError::OtherUser),
                    (Some(_), None) => (IdentifyError::NotSaid, "the response has no sub".into()),
                },
                Err(_) => {
                    let why = "the response is not a JSON object";
                    (IdentifyError::NotSaid, why.into())
                }
            }
        }
        Ok(ProviderAnswer { status, .. }) => {
            let is_temporary = status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT;
            let error = if is_temporary {
                IdentifyError::Userinfo
            } else {
                // The token is not valid any more, or does not allow the request: later attempts
                // fail, too.
                IdentifyError::NotSaid
            };
            (error, format!("status {status}"))
        }
        Err(error @ ProviderError::TooLarge) => (IdentifyError::NotSaid, causes(&error)),
        Err(error) => (IdentifyError::Userinfo, causes(&error)),
    };
    tracing::warn!(error = why, "the userinfo endpoint did not name the user");
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_log_in_counts_at_the_request_with_a_leeway() {
        const BEGAN: u64 = 1_800_000_000;
        let (began, now) = (Duration::from_secs(BEGAN), Duration::from_secs(BEGAN + 300));
        for (max_age, auth_time, expected) in [
            (600, BEGAN - 600, true),
            (600, BEGAN - 660, true),
            (600, BEGAN - 661, false),
            (0, BEGAN, true),
            (0, BEGAN - 61, false),
            (0, BEGAN + 300, true),
            (0, BEGAN + 360, true),
            (0, BEGAN + 361, false),
            (600, 0, false),
            (600, 1000 * BEGAN, false),
            (u64::MAX, 0, true),
        ] {
            let recent = is_recent(auth_time as f64, Duration::from_secs(max_age), began, now);
            assert_eq!(recent, expected, "{max_age} {auth_time}");
        }
    }
}
