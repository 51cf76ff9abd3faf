//! A grant at generation 7 and the steps that lead to it, for the tests of this room.

mod decision;
mod encoding;
mod history;
mod lifetimes;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::store::Key;

const KEY: Key = Key::new([9; 32]);
const RETRY: Duration = Duration::from_secs(60);
const SHARED: Duration = RETRY;
const RECOVERY: Duration = Duration::from_secs(3600);
const IDLE: Duration = Duration::from_secs(30 * 24 * 3600);

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

const fn hash(n: u8) -> ClaimTag {
    ClaimTag::new([n; 32])
}

fn binding() -> Binding {
    Binding {
        client_id: "app".into(),
        scope: None,
        resources: Vec::new(),
        absolute_end: None,
    }
}

fn begun() -> Record {
    Record::begin(
        binding(),
        Bytes::from_static(b"sealed 0"),
        at(0),
        IDLE,
        None,
        None,
    )
}

const WINDOWS: Windows = Windows {
    retry: RETRY,
    shared: SHARED,
    recovery: RECOVERY,
};

fn renewal(now: Timestamp) -> Renewal {
    Renewal {
        now,
        sealed: Bytes::from_static(b"sealed"),
        revocable: None,
        idle_lifetime: IDLE,
        renewed: true,
        upstream_lifetime: None,
        authorization_lifetime: None,
    }
}

fn renewed(record: &Record, now: Timestamp) -> Record {
    record.renewed(renewal(now))
}

fn rotated(record: &Record, now: Timestamp, generation: u32, previous: ClaimTag) -> Record {
    let link = Some(Bytes::from_static(b"sealed link"));
    renewed(record, now).rotated(generation, Previous::new(previous, now, WINDOWS, link))
}

/// Generation 7, rotated at 1000 s; the current token has hash 7, the previous one hash 6.
fn record() -> Record {
    rotated(&begun(), at(1000), 7, hash(6))
}
