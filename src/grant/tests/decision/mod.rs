//! The decision table, row by row.

mod answers;

use super::*;

/// A request with a token of a grant whose current token has hash 7.
struct Case {
    record: Record,
    client_id: &'static str,
    generation: u32,
    hash: ClaimTag,
    standing: Standing,
    waited: bool,
    now: Timestamp,
}

/// A request of the client `app` with the token of generation `n`, which has hash `n`. The lease is
/// free.
fn token(record: &Record, n: u8, now: Timestamp) -> Case {
    Case {
        record: record.clone(),
        client_id: "app",
        generation: n.into(),
        hash: hash(n),
        standing: Standing::Free,
        waited: false,
        now,
    }
}

impl Case {
    fn client(self, client_id: &'static str) -> Self {
        Self { client_id, ..self }
    }

    fn generation(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    fn lease(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// The request waited while another one held the lease.
    fn waited(self) -> Self {
        Self {
            waited: true,
            ..self
        }
    }

    fn verdict(&self) -> Verdict {
        let stored = StoredGrant {
            record: &self.record,
            current: &hash(7),
        };
        let presented = Presented {
            client_id: self.client_id,
            generation: self.generation,
            hash: &self.hash,
        };
        decide(stored, presented, self.standing, self.waited, self.now)
    }
}

#[test]
fn decide_follows_the_decision_table() {
    use Proceed::{Busy, Converge, Recover, Replay, Rotate};
    use Refusal::{Ahead, ClientMismatch, Expired, Forged, Late, Reuse, RevocationPending};
    use Standing::{Free, Held, Ours, RanOut};
    use Verdict::{Proceed as Go, Refuse};
    let in_retry = at(1059);
    let after_retry = at(1060);
    let after_recovery = at(1000 + 3600);
    let expired = at(1000 + 30 * 24 * 3600);
    let fresh = record();
    let presented = record().presented();
    let pending = record().with_pending_revocation(at(9000));
    let strict = rotated(&begun(), at(1000), 7, hash(6));
    let strict = Record {
        previous: strict.previous.map(|previous| Previous {
            retry_until: at(1000),
            shared_until: at(1000),
            recover_until: at(1000),
            link: None,
            ..previous
        }),
        ..strict
    };
    let shared = |record: Record| Record {
        previous: record.previous.map(|previous| Previous {
            shared_until: at(1600),
            ..previous
        }),
        ..record
    };
    let in_shared = at(1599);
    let after_shared = at(1600);
    let shared_presented = shared(record().presented());
    let shared = shared(record());
    let rows = [
        (
            "another client",
            token(&fresh, 7, in_retry).client("other"),
            Refuse(ClientMismatch),
        ),
        (
            "another client, expired",
            token(&fresh, 7, expired).client("other"),
            Refuse(ClientMismatch),
        ),
        (
            "another client, whose id is a prefix of the right one",
            token(&fresh, 7, in_retry).client("ap"),
            Refuse(ClientMismatch),
        ),
        (
            "another client, revocation pending",
            token(&pending, 7, in_retry).client("other"),
            Refuse(ClientMismatch),
        ),
        ("expired", token(&fresh, 7, expired), Refuse(Expired)),
        (
            "expired, although this request holds the lease",
            token(&fresh, 7, expired).lease(Ours),
            Refuse(Expired),
        ),
        (
            "expired, with an old token",
            token(&fresh, 1, expired),
            Refuse(Expired),
        ),
        (
            "revocation pending",
            token(&pending, 7, in_retry).lease(Ours),
            Refuse(RevocationPending),
        ),
        (
            "revocation pending, with an old token",
            token(&pending, 1, after_retry),
            Refuse(RevocationPending),
        ),
        (
            "revocation pending, then expired",
            token(&pending, 7, at(9000)),
            Refuse(Expired),
        ),
        (
            "current, lease free",
            token(&fresh, 7, in_retry),
            Go(Rotate),
        ),
        (
            "current, lease expired",
            token(&fresh, 7, in_retry).lease(RanOut),
            Go(Rotate),
        ),
        (
            "current, this request holds the lease",
            token(&fresh, 7, in_retry).lease(Ours),
            Go(Rotate),
        ),
        (
            "current, another request holds the lease",
            token(&fresh, 7, in_retry).lease(Held),
            Go(Busy),
        ),
        (
            "current, waited",
            token(&fresh, 7, in_retry).lease(Ours).waited(),
            Go(Rotate),
        ),
        (
            "previous, in the retry window",
            token(&fresh, 6, in_retry),
            Go(Replay),
        ),
        (
            "previous, in the retry window, another request holds the lease",
            token(&fresh, 6, in_retry).lease(Held),
            Go(Replay),
        ),
        (
            "previous, in the retry window, its successor presented",
            token(&presented, 6, in_retry),
            Go(Replay),
        ),
        (
            "previous, in the retry window, a lease expired",
            token(&fresh, 6, in_retry).lease(RanOut),
            Go(Replay),
        ),
        (
            "previous, in the shared token window",
            token(&shared, 6, in_shared),
            Go(Converge),
        ),
        (
            "previous, in the shared token window, this request holds the lease",
            token(&shared, 6, in_shared).lease(Ours),
            Go(Converge),
        ),
        (
            "previous, in the shared token window, another request holds the lease",
            token(&shared, 6, in_shared).lease(Held),
            Go(Busy),
        ),
        (
            "previous, in the shared token window, successor presented",
            token(&shared_presented, 6, in_shared),
            Go(Converge),
        ),
        (
            "previous, in the shared token window, a lease expired",
            token(&shared, 6, in_shared).lease(RanOut),
            Go(Converge),
        ),
        (
            "previous, after the shared token window",
            token(&shared, 6, after_shared),
            Go(Recover),
        ),
        (
            "previous, after the shared token window, successor presented",
            token(&shared_presented, 6, after_shared),
            Refuse(Reuse),
        ),
        (
            "older, in the shared token window, without a link",
            token(&shared, 5, in_shared),
            Refuse(Reuse),
        ),
        (
            "previous, in the recovery window",
            token(&fresh, 6, after_retry),
            Go(Recover),
        ),
        (
            "previous, in the recovery window, this request holds the lease",
            token(&fresh, 6, after_retry).lease(Ours),
            Go(Recover),
        ),
        (
            "previous, in the recovery window, another request holds the lease",
            token(&fresh, 6, after_retry).lease(Held),
            Go(Busy),
        ),
        (
            "previous, in the recovery window, waited",
            token(&fresh, 6, after_retry).waited(),
            Go(Recover),
        ),
        (
            "previous, in the recovery window, successor presented",
            token(&presented, 6, after_retry),
            Refuse(Reuse),
        ),
        (
            "previous, in the recovery window, a lease expired",
            token(&fresh, 6, after_retry).lease(RanOut),
            Refuse(Reuse),
        ),
        (
            "previous, successor presented while it waited",
            token(&presented, 6, after_retry).waited(),
            Refuse(Late),
        ),
        (
            "previous, after the recovery window",
            token(&fresh, 6, after_recovery),
            Refuse(Reuse),
        ),
        (
            "previous, after the recovery window, waited",
            token(&fresh, 6, after_recovery).waited(),
            Refuse(Late),
        ),
        (
            "older, in the retry window",
            token(&fresh, 5, in_retry),
            Refuse(Late),
        ),
        (
            "older, after the retry window",
            token(&fresh, 5, after_retry),
            Refuse(Reuse),
        ),
        (
            "older, after the retry window, waited",
            token(&fresh, 5, after_retry).waited(),
            Refuse(Late),
        ),
        ("much older", token(&fresh, 0, after_retry), Refuse(Reuse)),
        (
            "older, another request holds the lease",
            token(&fresh, 5, after_retry).lease(Held),
            Refuse(Reuse),
        ),
        (
            "this generation, another hash",
            token(&fresh, 99, after_retry).generation(7),
            Refuse(Forged),
        ),
        (
            "the previous generation, another hash",
            token(&fresh, 99, after_retry).generation(6),
            Refuse(Forged),
        ),
        ("newer", token(&fresh, 8, after_retry), Refuse(Ahead)),
        (
            "newer, with the highest generation",
            token(&fresh, 8, after_retry).generation(u32::MAX),
            Refuse(Ahead),
        ),
        (
            "strict: previous",
            token(&strict, 6, at(1000)),
            Refuse(Reuse),
        ),
        (
            "strict: previous, waited",
            token(&strict, 6, at(1000)).waited(),
            Refuse(Late),
        ),
        ("strict: older", token(&strict, 5, at(1000)), Refuse(Reuse)),
    ];
    for (name, case, verdict) in rows {
        assert_eq!(case.verdict(), verdict, "{name}");
    }
    let first = StoredGrant {
        record: &begun(),
        current: &hash(0),
    };
    let forged = Presented {
        client_id: "app",
        generation: 0,
        hash: &hash(99),
    };
    assert_eq!(
        decide(first, forged, Free, false, at(1)),
        Refuse(Forged),
        "never rotated, another hash"
    );
}
