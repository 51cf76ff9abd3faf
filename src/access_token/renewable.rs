//! [`Renewable`]: the part of an access token's record with which the layer itself can get another
//! upstream access token.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::codec::{DecodeError, Field, Writer, timestamp};
use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer};
use crate::store::Key;
use crate::token::{AccessToken, RefreshToken};

/// The longest time before its end at which an upstream access token is renewed. If it lives for a
/// short time only, a quarter of that time.
const LONGEST_AHEAD: Duration = Duration::from_secs(60);

/// An upstream access token that lives shorter counts as one that lives for this long, so that not
/// every request renews it.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest time that a request waits for a renewal while the upstream access token is valid.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// The life of an upstream access token that the layer renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamLife {
    /// The time from which it is renewed, if the access token is in use.
    due_at: Timestamp,
    pub(crate) ends_at: Timestamp,
}

impl UpstreamLife {
    /// Returns whether it must be renewed before the access token is used.
    pub(crate) fn is_due(self, now: Timestamp) -> bool {
        now >= self.due_at
    }

    /// Returns whether the upstream access token has expired.
    pub(crate) fn has_ended(self, now: Timestamp) -> bool {
        now >= self.ends_at
    }

    /// Returns the time for which a request waits for a renewal, at most `longest`.
    pub(crate) fn patience(self, longest: Duration, now: Timestamp) -> Duration {
        match self.has_ended(now) {
            true => longest,
            false => longest.min(SHORT_PATIENCE),
        }
    }
}

/// The time at which the upstream access token is renewed, and the refresh token for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Renewable {
    pub(crate) life: UpstreamLife,
    /// A refresh token of the grant, sealed under the access token. It is the current one, or its
    /// links lead to that.
    pub(crate) sealed: Bytes,
}

impl Renewable {
    /// Returns this for an upstream access token that lives for `lifetime` from `now`. It is
    /// renewed in the first half of the time after which its grant expires without a refresh. So a
    /// grant whose access token is used at least once in each half lives on.
    pub(crate) fn new(
        now: Timestamp,
        lifetime: Duration,
        idle_lifetime: Duration,
        sealed: Bytes,
    ) -> Self {
        let lifetime = lifetime.max(SHORTEST);
        let lives = lifetime.min(idle_lifetime / 2);
        let ahead = LONGEST_AHEAD.min(lives / 4);
        let life = UpstreamLife {
            due_at: now.saturating_add(lives.saturating_sub(ahead)),
            ends_at: now.saturating_add(lifetime),
        };
        Self { life, sealed }
    }

    /// Seals a refresh token under the access token of `sealer`.
    pub(crate) fn seal(
        sealer: &Sealer,
        nonce: SealNonce,
        context: Context<'_>,
        token: &RefreshToken,
    ) -> Result<Vec<u8>, SealError> {
        let purpose = Purpose::RefreshToken;
        let context = Context { purpose, ..context };
        sealer.seal(nonce, context, &[], token.as_bytes())
    }

    /// Opens the sealed refresh token of an access token with this key.
    pub(crate) fn open(
        &self,
        token: &AccessToken,
        key: &Key,
        client_id: &str,
    ) -> Result<RefreshToken, SealError> {
        let context = Context {
            purpose: Purpose::RefreshToken,
            key,
            client_id,
        };
        let bytes = Sealer::new(token.secret()).open(context, &[], &self.sealed)?;
        RefreshToken::from_bytes(&bytes).ok_or(SealError)
    }

    pub(crate) fn put(&self, field: u8, out: &mut Writer) {
        let (due_at, ends_at) = (timestamp(self.life.due_at), timestamp(self.life.ends_at));
        out.put_parts(field, &[&due_at, &ends_at, &self.sealed]);
    }

    pub(crate) fn read(mut field: Field<'_>) -> Result<Self, DecodeError> {
        let due_at = field.take_timestamp()?;
        let ends_at = field.take_timestamp()?;
        Ok(Self {
            life: UpstreamLife { due_at, ends_at },
            sealed: field.to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const IDLE: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_renewal_is_due_a_minute_or_a_quarter_before_the_end() {
        for (lifetime, due_after) in [(3600, 3540), (240, 180), (100, 75), (4, 3)] {
            let lifetime = Duration::from_secs(lifetime);
            let renewable = Renewable::new(NOW, lifetime, IDLE, Bytes::new());
            let after = renewable.life.due_at.saturating_since(NOW);
            assert_eq!(after, Duration::from_secs(due_after), "{lifetime:?}");
            assert_eq!(renewable.life.ends_at.saturating_since(NOW), lifetime);
        }
        let idle = Duration::from_secs(600);
        let renewable = Renewable::new(NOW, IDLE, idle, Bytes::new());
        let after = renewable.life.due_at.saturating_since(NOW);
        let half = "in the first half of the life of the grant";
        assert_eq!(after, Duration::from_secs(240), "{half}");
    }

    #[test]
    fn a_sealed_refresh_token_opens_for_its_access_token_and_client() {
        let refresh = RefreshToken::new([1; 12], 7, &[2; 32]);
        let access = AccessToken::new(refresh.access_id(), 7, &[3; 32]);
        let key = access.key();
        let context = Context {
            purpose: Purpose::Access,
            key: &key,
            client_id: "app",
        };
        let sealer = Sealer::new(access.secret());
        let sealed = Renewable::seal(&sealer, [4; 12], context, &refresh).unwrap();
        let renewable = Renewable::new(NOW, Duration::ZERO, IDLE, sealed.into());
        assert!(renewable.open(&access, &key, "app").unwrap() == refresh);
        assert!(renewable.open(&access, &key, "other").is_err());
        let other = AccessToken::new(refresh.access_id(), 7, &[9; 32]);
        assert!(renewable.open(&other, &key, "app").is_err());
    }
}
