mod old;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::grant::{Binding, Previous};
use crate::store::{ClaimTag, Entry};

const CURRENT: ClaimTag = ClaimTag::new([5; 32]);
const PREVIOUS: ClaimTag = ClaimTag::new([4; 32]);
const OLD: ClaimTag = ClaimTag::new([3; 32]);
const OTHER_LEASE: Duration = Duration::from_secs(5);

/// The ends of the windows and of the grant, in seconds.
const RETRY_UNTIL: u64 = 100;
const SHARED_UNTIL: u64 = 500;
const RECOVER_UNTIL: u64 = 1000;
const EXPIRES_AT: u64 = 5000;

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn record() -> Record {
    let binding = Binding {
        client_id: "app".into(),
        scope: None,
        resources: Vec::new(),
        absolute_end: None,
    };
    let lifetime = Duration::from_secs(EXPIRES_AT);
    let record = Record::begin(binding, Bytes::new(), seconds(0), lifetime, None, None);
    Record {
        generation: 5,
        previous: Some(Previous {
            hash: PREVIOUS,
            link: Some(Bytes::from_static(b"sealed")),
            retry_until: seconds(RETRY_UNTIL),
            shared_until: seconds(0),
            recover_until: seconds(RECOVER_UNTIL),
        }),
        ..record
    }
}

/// Returns the record with a shared token window.
fn shared() -> Record {
    let record = record();
    let previous = record.previous.map(|previous| Previous {
        shared_until: seconds(SHARED_UNTIL),
        ..previous
    });
    Record { previous, ..record }
}

/// A claim that returned this lease. `expired` is the purpose of an expired lease on the entry.
fn claim(lease: Lease, expired: Option<Purpose>) -> Claim {
    let version = expired.unwrap_or(Purpose::Rotation).version([8; 8]);
    let end = expired.map(|_| seconds(1));
    let entry = Entry::new(version, CURRENT, Bytes::new()).with_lease(end);
    Claim::new(lease, entry)
}

/// A request with this token, at `now`, whose first claim returned this lease.
#[derive(Clone)]
struct Row {
    token: (ClaimTag, u32),
    now: u64,
    claim: Claim,
    adopted: bool,
    waited: bool,
    repeated: bool,
    without_answer: bool,
    way: Option<Way>,
}

impl Row {
    fn new(token: ClaimTag, now: u64, lease: Lease) -> Self {
        let generation = token.as_bytes()[0].into();
        Self {
            token: (token, generation),
            now,
            claim: claim(lease, None),
            adopted: false,
            waited: false,
            repeated: false,
            without_answer: false,
            way: None,
        }
    }

    fn expired(self, purpose: Purpose) -> Self {
        let claim = claim(self.claim.lease, Some(purpose));
        Self { claim, ..self }
    }

    fn taken_over(mut self) -> Self {
        self.claim.taken_over = true;
        self
    }

    fn waited(self) -> Self {
        Self {
            waited: true,
            ..self
        }
    }

    fn repeated(self) -> Self {
        Self {
            repeated: true,
            ..self.waited()
        }
    }

    fn without_answer(self) -> Self {
        Self {
            without_answer: true,
            ..self
        }
    }

    fn way(self, way: Way) -> Self {
        Self {
            way: Some(way),
            ..self
        }
    }

    fn step(&self, record: &Record) -> Step {
        let (hash, generation) = &self.token;
        Step::after(&Claimed {
            claim: &self.claim,
            record,
            presented: Presented {
                client_id: "app",
                generation: *generation,
                hash,
            },
            adopted: self.adopted,
            waited: self.waited,
            repeated: self.repeated,
            without_answer: self.without_answer,
            way: self.way,
            now: seconds(self.now),
        })
    }
}

#[test]
fn the_step_after_a_claim_with_the_current_token() {
    let request = |lease| Row::new(CURRENT, 1, lease);
    let rows = [
        ("free", request(Lease::Taken), Step::Rotate(Proceed::Rotate)),
        ("held", request(Lease::Held(OTHER_LEASE)), Step::Wait),
        (
            "claimed with another tag",
            request(Lease::OtherTag(None)),
            Step::Wait,
        ),
        (
            "taken over",
            request(Lease::Taken).taken_over(),
            Step::WaitForTakeover,
        ),
        (
            "taken over and repeated",
            request(Lease::Taken).taken_over().repeated(),
            Step::Rotate(Proceed::Rotate),
        ),
        (
            "lost during the pause",
            request(Lease::Held(OTHER_LEASE)).repeated(),
            Step::Wait,
        ),
        (
            "expired grant",
            Row::new(CURRENT, EXPIRES_AT, Lease::Taken),
            Step::Refuse(Refusal::Expired),
        ),
    ];
    for (name, row, step) in rows {
        assert_eq!(row.step(&record()), step, "{name}");
    }
}

/// Only a request that has the lease rotates, and a lease that replaced an expired one is used only
/// after its claim was repeated.
#[test]
fn the_lease_is_used_only_by_its_holder() {
    let leases = [
        Lease::Taken,
        Lease::Held(OTHER_LEASE),
        Lease::OtherTag(None),
        Lease::OtherTag(Some(OTHER_LEASE)),
    ];
    let times = [1, 99, 100, 129, 130, 999, 1000, 4999, 5000];
    let mut seen = Vec::new();
    let ways = [
        None,
        Some(Way::Open),
        Some(Way::Current),
        Some(Way::DeadEnd),
    ];
    let requests = [CURRENT, PREVIOUS, OLD]
        .into_iter()
        .flat_map(|token| ways.map(|way| (token, way)))
        .flat_map(|(token, way)| leases.map(|lease| (token, way, lease)));
    for record in [record(), shared()] {
        for (token, way, lease) in requests.clone() {
            for now in times {
                for bits in 0..32 {
                    let row = Row {
                        adopted: bits & 8 != 0,
                        waited: bits & 1 != 0,
                        repeated: bits & 2 != 0,
                        without_answer: bits & 4 != 0,
                        way,
                        ..Row::new(token, now, lease)
                    };
                    let row = if bits & 16 != 0 {
                        row.taken_over()
                    } else {
                        row
                    };
                    let step = row.step(&record);
                    let ours = lease == Lease::Taken;
                    let overdue = row.claim.taken_over && !row.repeated;
                    match step {
                        Step::Rotate(_) => {
                            assert!(ours && !overdue, "{lease:?} at {now}: {bits:b}")
                        }
                        Step::WaitForTakeover => assert!(ours && overdue, "{lease:?} at {now}"),
                        Step::Reclaim => assert_eq!(lease, Lease::OtherTag(None), "at {now}"),
                        Step::Wait => assert!(!ours, "{lease:?} at {now}"),
                        Step::Replay | Step::Follow | Step::Refuse(_) => {}
                    }
                    if !seen.contains(&step) {
                        seen.push(step);
                    }
                }
            }
        }
    }
    assert!(seen.len() >= 11, "{seen:?}");
}
