//! The record of a grant with a new upstream token.

use crate::clock::Timestamp;
use crate::endpoint::config::Config;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::upstream::Granted;
use crate::grant::{Record, Renewal};
use crate::seal::{Purpose, SealError, SealNonce, Sealer};
use crate::subject::Profile;

/// A token response of the inner service, for a grant that exists.
pub(super) struct NewUpstreamToken<'a> {
    pub(super) presented: &'a PresentedToken<'a>,
    pub(super) granted: &'a Granted,
    /// The record of the grant before.
    pub(super) record: &'a Record,
    /// The upstream token that was sent to the inner service.
    pub(super) sent: &'a str,
    /// The profile of the user before, if known.
    pub(super) profile: Option<Profile>,
    /// The sealer of the refresh token that is the current one afterwards.
    pub(super) sealer: &'a Sealer,
    pub(super) nonce: SealNonce,
    pub(super) profile_nonce: SealNonce,
}

/// The grant with the new upstream token, before its refresh tokens change.
pub(super) struct WithUpstreamToken {
    pub(super) record: Record,
    /// The profile of the user, if known.
    pub(super) profile: Option<Profile>,
    /// Whether the index of the user must list the grant again. The record says that it is listed.
    pub(super) listed: bool,
}

impl NewUpstreamToken<'_> {
    /// Returns the grant with the new upstream token, sealed for the current refresh token. Stores
    /// nothing.
    pub(super) fn apply(
        self,
        config: &Config,
        now: Timestamp,
    ) -> Result<WithUpstreamToken, SealError> {
        let Self {
            presented,
            granted,
            sealer,
            ..
        } = self;
        let brought = granted.answer.refresh_token();
        let renewed = brought.is_some_and(|token| token != self.sent);
        let token = brought.unwrap_or(self.sent).as_bytes();
        let context = presented.context(Purpose::Current);
        let sealed = sealer.seal(self.nonce, context, &[], token)?;
        let revocable = config.seal_for_revocation(self.nonce, context, &sealed, token)?;
        let record = self.record.renewed(Renewal {
            now,
            sealed: sealed.into(),
            revocable,
            idle_lifetime: config.idle_lifetime,
            renewed,
            upstream_lifetime: granted.answer.refresh_lifetime(),
            authorization_lifetime: granted.answer.authorization_lifetime(),
        });
        let profile = match (self.profile, granted.profile(config)) {
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
        let sealed_profile = profile
            .as_ref()
            .map(|profile| profile.seal(sealer, self.profile_nonce, context))
            .transpose()?;
        let record = record.with_profile(sealed_profile);
        let listed = profile.is_some()
            && !config.hand_back
            && record.must_be_listed(now, config.idle_lifetime);
        let record = match listed {
            true => record.listed(now, config.idle_lifetime),
            false => record,
        };
        Ok(WithUpstreamToken {
            record,
            profile,
            listed,
        })
    }
}
