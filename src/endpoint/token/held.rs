//! A grant whose lease this request holds.

use zeroize::Zeroizing;

use super::entropy::Entropy;
use super::lease::LeaseGuard;
use crate::clock::Timestamp;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::sessions::NewSession;
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::grant::{Record, Renewal};
use crate::seal::{Purpose, SealError, Sealer};
use crate::store::{ClaimTag, Store};
use crate::subject::Profile;
use crate::token::RefreshToken;

/// The right to call the inner service for a grant.
pub(crate) struct Held<'a, St: Store> {
    pub(crate) lease: LeaseGuard<St>,
    pub(crate) grant: OpenGrant<'a, St>,
    /// The randomness for the next token.
    pub(crate) entropy: Entropy,
}

/// A grant as it was claimed, opened with its current token.
pub(crate) struct OpenGrant<'a, St> {
    pub(crate) presented: &'a PresentedToken<'a, St>,
    pub(crate) record: Record,
    /// The current token: the presented one, or the one to which its links lead.
    pub(crate) current: RefreshToken,
    /// The hash of the current token, as named by the claim.
    pub(crate) claimed: ClaimTag,
    /// The sealer of the current token.
    pub(crate) sealer: Sealer,
    /// The upstream token that is sent to the inner service.
    pub(crate) upstream_token: Zeroizing<String>,
    /// The profile of the user, if known.
    pub(crate) profile: Option<Profile>,
}

impl<'a, St: Store> OpenGrant<'a, St> {
    /// Opens a grant. If its record is damaged, emits the event and returns the error for the
    /// client.
    pub(crate) fn new(
        presented: &'a PresentedToken<'a, St>,
        record: Record,
        current: RefreshToken,
        claimed: ClaimTag,
    ) -> Result<Self, RefreshError> {
        let sealer = Sealer::new(current.secret());
        let unsealed = presented.unseal(&sealer, &record);
        let upstream_token = unsealed.ok_or_else(|| presented.damaged())?;
        let profile = presented.open_profile(&sealer, &record);
        Ok(Self {
            presented,
            record,
            current,
            claimed,
            sealer,
            upstream_token,
            profile,
        })
    }

    /// Returns the record with the upstream token of an answer, sealed for the next refresh token,
    /// or for the current one if that stays. Also returns the session, if the index of its user
    /// must list it again. Stores nothing, but keeps the profile in the answer.
    pub(crate) fn renew(
        &mut self,
        now: Timestamp,
        granted: &Granted,
        next: Option<&Sealer>,
        entropy: &Entropy,
    ) -> Result<(Record, Option<NewSession>), SealError> {
        let config = self.presented.context.shared.config();
        let sealer = next.unwrap_or(&self.sealer);
        let sent = self.upstream_token.as_str();
        let brought = granted.response.refresh_token();
        let token = brought.unwrap_or(sent).as_bytes();
        let context = self.presented.sealed_for(Purpose::Current);
        let sealed = sealer.seal(entropy.nonce, context, &[], token)?;
        let revocable = config.seal_for_revocation(entropy.nonce, context, &sealed, token)?;
        let mut record = self.record.renewed(Renewal {
            now,
            sealed: sealed.into(),
            revocable,
            idle_lifetime: config.idle_lifetime,
            renewed: brought.is_some_and(|token| token != sent),
            upstream_lifetime: granted.response.refresh_lifetime(),
            authorization_lifetime: granted.response.authorization_lifetime(),
        });
        self.profile = match (self.profile.take(), granted.profile(config)) {
            (None, Ok(named)) => named,
            // The claims of the user may have changed.
            (Some(known), Ok(Some(named)))
                if known.subject == named.subject && granted.id_token.is_some() =>
            {
                Some(named)
            }
            // The subject of a grant never changes. A response with another or an invalid subject
            // must not end the session.
            (known, _) => known,
        };
        record.profile = None;
        let mut session = None;
        if let Some(profile) = &self.profile {
            record.profile = Some(profile.seal(sealer, entropy.profile_nonce, context)?);
            if !config.hand_back && record.must_be_listed(now, config.idle_lifetime) {
                record = record.listed(now, config.idle_lifetime);
                let subject = profile.subject.clone();
                let response = &granted.head.extensions;
                session = Some(NewSession::new(
                    subject,
                    self.presented.key,
                    &record,
                    response,
                ));
            }
        }
        Ok((record, session))
    }
}
