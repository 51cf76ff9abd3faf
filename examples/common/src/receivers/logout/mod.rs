//! OpenID Connect Back-Channel Logout 1.0: the provider of the users says that one has logged out.

mod replay;
#[cfg(test)]
mod tests;
mod token;

use std::time::SystemTime;

use tower_oauth_refresh::Subject;
use tower_oauth_refresh::store::BoxStore;

use self::replay::Replays;
use super::Refused;
use crate::jose::{Issuer, Keys};
use crate::sessions::Sessions;

/// The receiver of logout tokens.
#[derive(Debug)]
pub struct Logout {
    issuer: Issuer,
    /// The client IDs that the provider may name in `aud`.
    audience: Vec<String>,
    keys: Keys,
    replays: Replays,
}

impl Logout {
    /// Creates a receiver of logout tokens of `issuer` for the clients in `audience`. It remembers
    /// used tokens in `store`, so that no instance accepts one again.
    pub fn new(issuer: Issuer, audience: Vec<String>, store: BoxStore) -> std::io::Result<Self> {
        Ok(Self {
            keys: Keys::discovered(issuer.clone())?,
            replays: Replays::new(store),
            issuer,
            audience,
        })
    }

    /// Ends the sessions that the logout token in the form names: the sessions of a user, or the
    /// ones that began in one session at the provider.
    pub(super) async fn receive(&self, form: &[u8], sessions: &Sessions) -> Result<(), Refused> {
        let mut tokens = form_urlencoded::parse(form).filter(|(name, _)| name == "logout_token");
        let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
            return Err(Refused::invalid("there must be exactly one logout_token"));
        };
        let claims = token::verify(&token, &self.keys).await?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        claims.check(&self.issuer, &self.audience, now)?;
        // That of the tenant of the user, if the provider has tenants.
        let issuer = claims.iss.as_str();
        let subject = claims
            .sub
            .as_deref()
            .map(|sub| Subject::with_issuer(issuer, sub));
        let subject = subject.transpose();
        let subject = subject.map_err(|_| Refused::invalid("the claim sub is invalid"))?;
        let jti = claims.jti.as_str();
        let again = || Refused::invalid("the logout token was used before");
        if self.replays.was_used(issuer, jti).await? {
            return Err(again());
        }
        let ended = match (&subject, &claims.sid) {
            (subject, Some(sid)) => {
                let subject = subject.as_ref();
                sessions.end_provider_session(issuer, sid, subject).await?
            }
            (Some(subject), None) => sessions.end(std::slice::from_ref(subject)).await?,
            (None, None) => {
                return Err(Refused::invalid(
                    "a logout token must have a claim sub or sid",
                ));
            }
        };
        // Marked last: after an error, or a crash of this server, the provider sends the same token
        // again, and it must still end the sessions. Ending them twice does no harm.
        if !self.replays.mark(issuer, jti).await? {
            return Err(again());
        }
        tracing::info!(ended, "the identity provider logged a user out");
        Ok(())
    }
}
