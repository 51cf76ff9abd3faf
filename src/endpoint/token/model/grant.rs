//! The entry of the grant, as small values that can be compared and hashed, and the real record of
//! each.
//!
//! Times are seconds from now, so a jump of the clock subtracts from all of them.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::endpoint::token::lease::Purpose;
use crate::grant::{Binding, Previous, Record, Windows};
use crate::store::{ClaimTag, Entry, Version};

pub(super) const LEASE: i32 = 30;
pub(super) const RETRY: i32 = 60;
pub(super) const SHARED: i32 = 300;
/// The expected difference between clocks (`grant::decide::SKEW`), for which an ended retry window
/// still matters.
pub(super) const SKEW: i32 = 30;
const LIFETIME: i32 = 100_000_000;

/// Returns the time this many seconds from now.
pub(super) fn at(seconds: i32) -> Timestamp {
    let millis = (1_800_000_000 + i64::from(seconds)) * 1000;
    Timestamp::from_millis(u64::try_from(millis).unwrap())
}

fn from_now(time: Timestamp) -> i32 {
    let seconds = i64::try_from(time.as_millis() / 1000).unwrap() - 1_800_000_000;
    i32::try_from(seconds).unwrap()
}

pub(super) fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.unsigned_abs().into())
}

pub(super) fn windows() -> Windows {
    Windows {
        retry: seconds(RETRY),
        shared: seconds(SHARED),
        recovery: seconds(LIFETIME),
    }
}

/// A refresh token. Its number distinguishes it from the others of its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Token {
    pub(super) generation: u8,
    pub(super) number: u8,
}

/// The token of the log-in.
pub(super) const FIRST: Token = Token {
    generation: 0,
    number: 0,
};

/// The token that replaces it, if the grant was rotated before.
pub(super) const SECOND: Token = Token {
    generation: 1,
    number: 0,
};

impl Token {
    pub(super) fn hash(self) -> ClaimTag {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&[self.generation, self.number]);
        ClaimTag::new(hash)
    }

    fn of(hash: &ClaimTag) -> Self {
        let [generation, number, ..] = *hash.as_bytes();
        Self { generation, number }
    }
}

/// The version of an entry. A claim stores the purpose of its lease in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WriteId {
    pub(super) number: u8,
    pub(super) recovery: bool,
}

impl WriteId {
    pub(super) fn version(self) -> Version {
        let purpose = if self.recovery {
            Purpose::Recovery
        } else {
            Purpose::Rotation
        };
        purpose.version([self.number; 8])
    }
}

/// A sealed upstream token. The number stands for the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Sealed {
    pub(super) number: u8,
    /// Whether it holds the newest upstream token, and not one that was replaced.
    pub(super) live: bool,
}

/// The parts of a [`Record`] that vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Grant {
    pub(super) generation: u8,
    pub(super) sealed: Sealed,
    pub(super) previous: Option<Old>,
    pub(super) presented: bool,
    pub(super) repeat: Option<i32>,
}

/// The previous token, the token to which its link leads, and the time left in its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Old {
    pub(super) token: Token,
    pub(super) next: Token,
    pub(super) retry: i32,
    pub(super) shared: i32,
}

impl Grant {
    pub(super) fn record(self) -> Record {
        let binding = Binding {
            client_id: "app".into(),
            scope: None,
            resources: Vec::new(),
            absolute_end: None,
        };
        let sealed = Self::seal(self.sealed);
        let begin = at(-LIFETIME);
        let record = Record::begin(binding, sealed, begin, seconds(LIFETIME), None, None);
        Record {
            expires_at: at(LIFETIME),
            generation: self.generation.into(),
            previous: self.previous.map(|old| Previous {
                hash: old.token.hash(),
                link: Some(Bytes::copy_from_slice(&old.next.hash().as_bytes()[..2])),
                retry_until: at(old.retry),
                shared_until: at(old.shared),
                recover_until: at(LIFETIME),
            }),
            presented: self.presented,
            repeat_until: self.repeat.map(at),
            ..record
        }
    }

    pub(super) fn seal(sealed: Sealed) -> Bytes {
        Bytes::copy_from_slice(&[sealed.number, sealed.live.into()])
    }

    pub(super) fn of(record: &Record) -> Self {
        Self {
            generation: u8::try_from(record.generation).unwrap(),
            sealed: Sealed {
                number: record.sealed[0],
                live: record.sealed[1] == 1,
            },
            previous: record.previous.as_ref().map(|old| {
                let link = old.link.as_ref().unwrap();
                Old {
                    token: Token::of(&old.hash),
                    next: Token {
                        generation: link[0],
                        number: link[1],
                    },
                    retry: from_now(old.retry_until),
                    shared: from_now(old.shared_until),
                }
            }),
            presented: record.presented,
            repeat: record.repeat_until.map(from_now),
        }
    }

    fn pass(&mut self, time: i32) {
        if let Some(old) = &mut self.previous {
            old.retry = (old.retry - time).max(-SKEW);
            old.shared = (old.shared - time).max(0);
        }
        self.repeat = self
            .repeat
            .map(|until| until - time)
            .filter(|until| *until > -SKEW);
    }
}

/// The entry of the grant in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stored {
    pub(super) version: WriteId,
    pub(super) current: Token,
    /// The time left of the lease; 0 if it has expired.
    pub(super) lease: Option<i32>,
    pub(super) grant: Grant,
}

impl Stored {
    pub(super) fn entry(&self) -> Entry {
        Entry::new(self.version.version(), self.current.hash(), Bytes::new())
            .with_lease(self.lease.map(at))
    }

    /// Returns what distinguishes this state of the grant from others.
    pub(super) fn revision(&self) -> (Token, u8) {
        (self.current, self.grant.sealed.number)
    }

    pub(super) fn pass(&mut self, time: i32) {
        self.lease = self.lease.map(|left| (left - time).max(0));
        self.grant.pass(time);
    }
}

/// A link in a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Link {
    pub(super) of: Token,
    pub(super) next: Token,
    pub(super) left: i32,
}
