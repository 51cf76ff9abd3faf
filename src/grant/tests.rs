use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::codec::DecodeError;
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
    let rows: &[(
        &str,
        &Record,
        (&str, u32, u8),
        Standing,
        bool,
        Timestamp,
        Verdict,
    )] = &[
        (
            "another client",
            &fresh,
            ("other", 7, 7),
            Free,
            false,
            in_retry,
            Refuse(ClientMismatch),
        ),
        (
            "another client, expired",
            &fresh,
            ("other", 7, 7),
            Free,
            false,
            expired,
            Refuse(ClientMismatch),
        ),
        (
            "another client, whose id is a prefix of the right one",
            &fresh,
            ("ap", 7, 7),
            Free,
            false,
            in_retry,
            Refuse(ClientMismatch),
        ),
        (
            "another client, revocation pending",
            &pending,
            ("other", 7, 7),
            Free,
            false,
            in_retry,
            Refuse(ClientMismatch),
        ),
        (
            "expired",
            &fresh,
            ("app", 7, 7),
            Free,
            false,
            expired,
            Refuse(Expired),
        ),
        (
            "expired, although this request holds the lease",
            &fresh,
            ("app", 7, 7),
            Ours,
            false,
            expired,
            Refuse(Expired),
        ),
        (
            "expired, with an old token",
            &fresh,
            ("app", 1, 1),
            Free,
            false,
            expired,
            Refuse(Expired),
        ),
        (
            "revocation pending",
            &pending,
            ("app", 7, 7),
            Ours,
            false,
            in_retry,
            Refuse(RevocationPending),
        ),
        (
            "revocation pending, with an old token",
            &pending,
            ("app", 1, 1),
            Free,
            false,
            after_retry,
            Refuse(RevocationPending),
        ),
        (
            "revocation pending, then expired",
            &pending,
            ("app", 7, 7),
            Free,
            false,
            at(9000),
            Refuse(Expired),
        ),
        (
            "current, lease free",
            &fresh,
            ("app", 7, 7),
            Free,
            false,
            in_retry,
            Go(Rotate),
        ),
        (
            "current, lease expired",
            &fresh,
            ("app", 7, 7),
            RanOut,
            false,
            in_retry,
            Go(Rotate),
        ),
        (
            "current, this request holds the lease",
            &fresh,
            ("app", 7, 7),
            Ours,
            false,
            in_retry,
            Go(Rotate),
        ),
        (
            "current, another request holds the lease",
            &fresh,
            ("app", 7, 7),
            Held,
            false,
            in_retry,
            Go(Busy),
        ),
        (
            "current, waited",
            &fresh,
            ("app", 7, 7),
            Ours,
            true,
            in_retry,
            Go(Rotate),
        ),
        (
            "previous, in the retry window",
            &fresh,
            ("app", 6, 6),
            Free,
            false,
            in_retry,
            Go(Replay),
        ),
        (
            "previous, in the retry window, another request holds the lease",
            &fresh,
            ("app", 6, 6),
            Held,
            false,
            in_retry,
            Go(Replay),
        ),
        (
            "previous, in the retry window, its successor presented",
            &presented,
            ("app", 6, 6),
            Free,
            false,
            in_retry,
            Go(Replay),
        ),
        (
            "previous, in the retry window, a lease expired",
            &fresh,
            ("app", 6, 6),
            RanOut,
            false,
            in_retry,
            Go(Replay),
        ),
        (
            "previous, in the shared token window",
            &shared,
            ("app", 6, 6),
            Free,
            false,
            in_shared,
            Go(Converge),
        ),
        (
            "previous, in the shared token window, this request holds the lease",
            &shared,
            ("app", 6, 6),
            Ours,
            false,
            in_shared,
            Go(Converge),
        ),
        (
            "previous, in the shared token window, another request holds the lease",
            &shared,
            ("app", 6, 6),
            Held,
            false,
            in_shared,
            Go(Busy),
        ),
        (
            "previous, in the shared token window, successor presented",
            &shared_presented,
            ("app", 6, 6),
            Free,
            false,
            in_shared,
            Go(Converge),
        ),
        (
            "previous, in the shared token window, a lease expired",
            &shared,
            ("app", 6, 6),
            RanOut,
            false,
            in_shared,
            Go(Converge),
        ),
        (
            "previous, after the shared token window",
            &shared,
            ("app", 6, 6),
            Free,
            false,
            after_shared,
            Go(Recover),
        ),
        (
            "previous, after the shared token window, successor presented",
            &shared_presented,
            ("app", 6, 6),
            Free,
            false,
            after_shared,
            Refuse(Reuse),
        ),
        (
            "older, in the shared token window, without a link",
            &shared,
            ("app", 5, 5),
            Free,
            false,
            in_shared,
            Refuse(Reuse),
        ),
        (
            "previous, in the recovery window",
            &fresh,
            ("app", 6, 6),
            Free,
            false,
            after_retry,
            Go(Recover),
        ),
        (
            "previous, in the recovery window, this request holds the lease",
            &fresh,
            ("app", 6, 6),
            Ours,
            false,
            after_retry,
            Go(Recover),
        ),
        (
            "previous, in the recovery window, another request holds the lease",
            &fresh,
            ("app", 6, 6),
            Held,
            false,
            after_retry,
            Go(Busy),
        ),
        (
            "previous, in the recovery window, waited",
            &fresh,
            ("app", 6, 6),
            Free,
            true,
            after_retry,
            Go(Recover),
        ),
        (
            "previous, in the recovery window, successor presented",
            &presented,
            ("app", 6, 6),
            Free,
            false,
            after_retry,
            Refuse(Reuse),
        ),
        (
            "previous, in the recovery window, a lease expired",
            &fresh,
            ("app", 6, 6),
            RanOut,
            false,
            after_retry,
            Refuse(Reuse),
        ),
        (
            "previous, successor presented while it waited",
            &presented,
            ("app", 6, 6),
            Free,
            true,
            after_retry,
            Refuse(Late),
        ),
        (
            "previous, after the recovery window",
            &fresh,
            ("app", 6, 6),
            Free,
            false,
            after_recovery,
            Refuse(Reuse),
        ),
        (
            "previous, after the recovery window, waited",
            &fresh,
            ("app", 6, 6),
            Free,
            true,
            after_recovery,
            Refuse(Late),
        ),
        (
            "older, in the retry window",
            &fresh,
            ("app", 5, 5),
            Free,
            false,
            in_retry,
            Refuse(Late),
        ),
        (
            "older, after the retry window",
            &fresh,
            ("app", 5, 5),
            Free,
            false,
            after_retry,
            Refuse(Reuse),
        ),
        (
            "older, after the retry window, waited",
            &fresh,
            ("app", 5, 5),
            Free,
            true,
            after_retry,
            Refuse(Late),
        ),
        (
            "much older",
            &fresh,
            ("app", 0, 0),
            Free,
            false,
            after_retry,
            Refuse(Reuse),
        ),
        (
            "older, another request holds the lease",
            &fresh,
            ("app", 5, 5),
            Held,
            false,
            after_retry,
            Refuse(Reuse),
        ),
        (
            "this generation, another hash",
            &fresh,
            ("app", 7, 99),
            Free,
            false,
            after_retry,
            Refuse(Forged),
        ),
        (
            "the previous generation, another hash",
            &fresh,
            ("app", 6, 99),
            Free,
            false,
            after_retry,
            Refuse(Forged),
        ),
        (
            "newer",
            &fresh,
            ("app", 8, 8),
            Free,
            false,
            after_retry,
            Refuse(Ahead),
        ),
        (
            "newer, with the highest generation",
            &fresh,
            ("app", u32::MAX, 8),
            Free,
            false,
            after_retry,
            Refuse(Ahead),
        ),
        (
            "strict: previous",
            &strict,
            ("app", 6, 6),
            Free,
            false,
            at(1000),
            Refuse(Reuse),
        ),
        (
            "strict: previous, waited",
            &strict,
            ("app", 6, 6),
            Free,
            true,
            at(1000),
            Refuse(Late),
        ),
        (
            "strict: older",
            &strict,
            ("app", 5, 5),
            Free,
            false,
            at(1000),
            Refuse(Reuse),
        ),
    ];
    for (name, record, (client_id, generation, token), standing, waited, now, verdict) in rows {
        let presented = Presented {
            client_id,
            generation: *generation,
            hash: &hash(*token),
        };
        assert_eq!(
            decide(
                StoredGrant {
                    record,
                    current: &hash(7)
                },
                presented,
                *standing,
                *waited,
                *now
            ),
            *verdict,
            "{name}"
        );
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

/// The answer that contains the current token again is stored under the name of that token, where
/// the previous token finds it, too.
#[test]
fn the_previous_token_gets_a_later_answer_only_if_it_is_accepted_anyway() {
    let kept = |shared: u64| {
        let mut record = renewed(&record().presented(), at(2000));
        if let Some(previous) = &mut record.previous {
            previous.shared_until = at(shared);
        }
        record.converged(&hash(7), &hash(7), at(2000), WINDOWS)
    };
    let replays = |record: &Record, n: u8, now: u64| {
        let grant = StoredGrant {
            record,
            current: &hash(7),
        };
        let presented = Presented {
            client_id: "app",
            generation: n.into(),
            hash: &hash(n),
        };
        may_replay(grant, presented, at(now))
    };
    assert!(replays(&kept(1060), 7, 2001), "current");
    assert!(replays(&kept(2050), 6, 2049), "previous, in its window");
    assert!(!replays(&kept(2050), 6, 2050), "previous, after its window");
    assert!(!replays(&kept(1060), 6, 2001), "previous, long after");
    let recoverable = renewed(&record(), at(2000)).converged(&hash(5), &hash(7), at(2000), WINDOWS);
    assert!(replays(&recoverable, 6, 2001), "current never presented");
}

#[test]
fn the_age_of_a_token_counts_from_when_it_was_minted() {
    let older = RotationPolicy::WhenOlderThan(Duration::from_secs(100));
    let keeps = |record: &Record, now: u64| {
        assert!(!record.keeps(RotationPolicy::EveryUse, at(now)));
        assert!(record.keeps(RotationPolicy::Never, at(now)));
        record.keeps(older, at(now))
    };
    let first = begun();
    assert!(keeps(&first, 99) && !keeps(&first, 100));
    let first = renewed(&first, at(50)).converged(&hash(0), &hash(0), at(50), WINDOWS);
    assert_eq!(first.minted_at, None, "the grant began with the token");
    assert!(keeps(&first, 99) && !keeps(&first, 100));
    let second = rotated(&first, at(1000), 1, hash(0));
    assert_eq!(second.minted_at, None);
    assert!(keeps(&second, 1099) && !keeps(&second, 1100));
    let kept = renewed(&second, at(1050)).converged(&hash(1), &hash(1), at(1050), WINDOWS);
    let kept = renewed(&kept, at(1070)).converged(&hash(0), &hash(1), at(1070), WINDOWS);
    assert_eq!(kept.minted_at, Some(at(1000)));
    assert!(keeps(&kept, 1099) && !keeps(&kept, 1100));
    // An instance whose clock is behind.
    assert!(keeps(&kept, 0));
    let third = rotated(&kept, at(1200), 2, hash(1));
    assert_eq!(third.minted_at, None);
    assert!(keeps(&third, 1299) && !keeps(&third, 1300));
}

/// Such a token would otherwise stay current for years.
#[test]
fn a_token_minted_by_a_clock_that_was_not_set_is_as_old_as_its_record() {
    let older = RotationPolicy::WhenOlderThan(Duration::from_secs(100));
    let now = EARLIEST.saturating_add(IDLE);
    let unset = now.saturating_add(MAX_AHEAD).saturating_add(IDLE);
    let minted = rotated(&begun(), unset, 1, hash(0));
    let kept = renewed(&minted, unset).converged(&hash(1), &hash(1), unset, WINDOWS);
    for record in [minted, kept] {
        let record = record.at(now);
        let later = |seconds| now.saturating_add(Duration::from_secs(seconds));
        assert!(record.keeps(older, later(99)));
        assert!(!record.keeps(older, later(100)));
    }
}

#[test]
fn a_grant_expires_at_the_earliest_of_its_ends() {
    let absolute = Binding {
        absolute_end: Some(at(500)),
        ..binding()
    };
    let day = Duration::from_secs(24 * 3600);
    let minute = Duration::from_secs(60);
    let bound = || absolute.clone();
    let idle_end = at(0).saturating_add(IDLE);
    // The lifetimes of the upstream token and of the authorization, when the grant expires, and the
    // time that is left at 10 s until it ends even if it is rotated.
    let rows = [
        ("idle only", binding(), (None, None), idle_end, None),
        ("absolute", bound(), (None, None), at(500), Some(490)),
        ("upstream", binding(), (Some(day), None), at(86_400), None),
        (
            "upstream after absolute",
            bound(),
            (Some(day), None),
            at(500),
            Some(490),
        ),
        (
            "upstream without a limit",
            bound(),
            (Some(Duration::MAX), None),
            at(500),
            Some(490),
        ),
        (
            "authorization",
            binding(),
            (Some(day), Some(minute)),
            at(60),
            Some(50),
        ),
        (
            "authorization after upstream",
            binding(),
            (Some(minute), Some(day)),
            at(60),
            Some(86_390),
        ),
        (
            "authorization after absolute",
            bound(),
            (None, Some(day)),
            at(500),
            Some(490),
        ),
        (
            "authorization before absolute",
            bound(),
            (None, Some(minute)),
            at(60),
            Some(50),
        ),
        (
            "authorization after idle",
            binding(),
            (None, Some(2 * IDLE)),
            idle_end,
            Some(2 * IDLE.as_secs() - 10),
        ),
    ];
    for (name, binding, (upstream, authorization), end, left) in rows {
        let record = Record::begin(binding, Bytes::new(), at(0), IDLE, upstream, authorization);
        assert_eq!(record.expires_at, end, "{name}");
        assert_eq!(
            record.authorization_left(at(10)),
            left.map(Duration::from_secs),
            "{name}"
        );
    }
}

#[test]
fn the_upstream_expiry_applies_until_the_next_upstream_token() {
    let record = Record::begin(
        binding(),
        Bytes::new(),
        at(0),
        IDLE,
        Some(Duration::from_secs(100)),
        None,
    );
    let rotate = |renewed, upstream_lifetime| {
        let renewal = Renewal {
            now: at(50),
            sealed: Bytes::new(),
            idle_lifetime: IDLE,
            renewed,
            upstream_lifetime,
            authorization_lifetime: None,
        };
        record.renewed(renewal).expires_at
    };
    assert_eq!(rotate(false, None), at(100), "the same upstream token");
    assert_eq!(
        rotate(true, None),
        at(50).saturating_add(IDLE),
        "a new one without an expiry"
    );
    assert_eq!(
        rotate(true, Some(Duration::from_secs(20))),
        at(70),
        "a new one with an expiry"
    );
    assert_eq!(
        rotate(false, Some(Duration::from_secs(20))),
        at(70),
        "the same one with another expiry"
    );
}

#[test]
fn the_end_of_the_authorization_follows_the_answers_up_to_the_absolute_end() {
    let seconds = Duration::from_secs;
    let binding = Binding {
        absolute_end: Some(at(1000)),
        ..binding()
    };
    let record = Record::begin(binding, Bytes::new(), at(0), IDLE, None, Some(seconds(100)));
    let rotate = |renewed, authorization_lifetime| {
        let next = record.renewed(Renewal {
            renewed,
            authorization_lifetime,
            ..renewal(at(50))
        });
        (next.expires_at, next.authorization_left(at(50)))
    };
    for (name, renewed, lifetime, end) in [
        ("not named: as before", false, None, 100),
        (
            "not named with a new upstream token: gone",
            true,
            None,
            1000,
        ),
        ("shorter", true, Some(20), 70),
        ("extended by the user", false, Some(400), 450),
        ("extended beyond the absolute end", true, Some(9999), 1000),
    ] {
        assert_eq!(
            rotate(renewed, lifetime.map(seconds)),
            (at(end), Some(seconds(end - 50))),
            "{name}"
        );
    }
}

/// One step in the history of a grant. A token is identified by its position in the order of
/// minting.
#[derive(Clone, Debug)]
enum Step {
    /// A request presents a token, and its rotation ends with this result.
    Present(prop::sample::Index, End),
    Pass(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Committed,
    GivenBack,
    Crashed,
}

fn step() -> impl Strategy<Value = Step> {
    let end =
        prop_oneof![4 => Just(End::Committed), 1 => Just(End::GivenBack), 1 => Just(End::Crashed)];
    let seconds = prop_oneof![
        Just(1),
        Just(59),
        Just(61),
        Just(3601),
        Just(40 * 24 * 3600)
    ];
    prop_oneof![
        5 => (any::<prop::sample::Index>(), end).prop_map(|(token, end)| Step::Present(token, end)),
        1 => seconds.prop_map(Step::Pass),
    ]
}

/// A token of the model.
#[derive(Debug)]
struct Token {
    generation: u32,
    parent: Option<usize>,
    /// A client has presented it to rotate it.
    presented: bool,
    /// A request with an older token has replaced it.
    dropped: bool,
}

/// A grant, with all tokens that were ever minted for it.
struct History {
    record: Option<Record>,
    current: usize,
    tokens: Vec<Token>,
    /// A crashed rotation has left a lease behind that has expired.
    ran_out: bool,
    now: Timestamp,
}

impl History {
    fn hash(token: usize) -> ClaimTag {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(token as u64).to_be_bytes());
        ClaimTag::new(bytes)
    }

    fn verdict(&self, token: usize) -> Verdict {
        let hash = Self::hash(token);
        let current = Self::hash(self.current);
        let presented = Presented {
            client_id: "app",
            generation: self.tokens[token].generation,
            hash: &hash,
        };
        let standing = if self.ran_out {
            Standing::RanOut
        } else {
            Standing::Free
        };
        let Some(record) = &self.record else {
            return Verdict::Refuse(Refusal::Unknown);
        };
        decide(
            StoredGrant {
                record,
                current: &current,
            },
            presented,
            standing,
            false,
            self.now,
        )
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => {
                self.now = self.now.saturating_add(Duration::from_secs(*seconds))
            }
            Step::Present(token, end) => self.present(token.index(self.tokens.len()), *end),
        }
    }

    fn present(&mut self, token: usize, end: End) {
        let verdict = self.verdict(token);
        match verdict {
            Verdict::Refuse(Refusal::Reuse) => self.record = None,
            Verdict::Proceed(Proceed::Rotate) => self.rotate(token, true, end),
            Verdict::Proceed(Proceed::Converge) => self.converge(end),
            Verdict::Proceed(Proceed::Recover) => self.rotate(token, false, end),
            _ => {}
        }
    }

    fn converge(&mut self, end: End) {
        if end == End::Committed {
            self.ran_out = false;
            let mut record = renewed(self.record.as_ref().unwrap(), self.now);
            if let Some(previous) = &mut record.previous {
                previous.begin(self.now, WINDOWS);
            }
            self.record = Some(record);
        }
    }

    fn rotate(&mut self, token: usize, current: bool, end: End) {
        let Some(record) = self.record.take() else {
            return;
        };
        if current {
            self.tokens[token].presented = true;
        }
        self.record = Some(match end {
            End::Committed => {
                let generation = record.next_generation(!current);
                if !current {
                    self.tokens[self.current].dropped = true;
                }
                let next = Token {
                    generation,
                    parent: Some(token),
                    presented: false,
                    dropped: false,
                };
                self.tokens.push(next);
                self.current = self.tokens.len() - 1;
                self.ran_out = false;
                rotated(&record, self.now, generation, Self::hash(token))
            }
            End::GivenBack if !current => {
                self.ran_out = false;
                record
            }
            End::GivenBack => {
                self.ran_out = false;
                record.presented()
            }
            End::Crashed => {
                self.ran_out |= current;
                record
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn two_unrelated_tokens_are_never_usable_at_once(steps in prop::collection::vec(step(), 1..60)) {
        let first = Token { generation: 0, parent: None, presented: false, dropped: false };
        let mut history =
            History { record: Some(begun()), current: 0, tokens: vec![first], ran_out: false, now: at(0) };
        for step in &steps {
            history.step(step);
            let usable = |token: &usize| matches!(
                history.verdict(*token),
                Verdict::Proceed(Proceed::Rotate | Proceed::Replay | Proceed::Converge | Proceed::Recover)
            );
            let usable: Vec<usize> = (0..history.tokens.len()).filter(usable).collect();
            let parent = history.tokens[history.current].parent;
            for token in usable {
                let state = &history.tokens[token];
                prop_assert!(!state.dropped, "{token} was dropped");
                prop_assert!(token == history.current || Some(token) == parent, "{token} is unrelated");
                let previous = history.record.as_ref().and_then(|record| record.previous.as_ref());
                let windowed = previous.is_some_and(|previous| history.now < previous.shared_until);
                if token != history.current && !windowed {
                    prop_assert!(!history.tokens[history.current].presented, "the successor of {token} was presented");
                }
            }
            if let Some(record) = &history.record {
                prop_assert_eq!(record.generation, history.tokens[history.current].generation);
                let tag = History::hash(history.current);
                let value = record.encode(&KEY, &tag);
                prop_assert_eq!(&Record::decode(&KEY, &tag, &value).unwrap(), record);
            }
        }
    }

    #[test]
    fn a_record_survives_encoding_and_decoding(record in any_record(), tag in any::<[u8; 32]>()) {
        let tag = ClaimTag::new(tag);
        let value = record.encode(&KEY, &tag);
        prop_assert_eq!(Record::decode(&KEY, &tag, &value).unwrap(), record.clone());
        prop_assert_eq!(Binding::decode(&value).unwrap(), record.binding.clone());
        prop_assert!(Record::decode(&Key::new([8; 32]), &tag, &value).is_err(), "under another key");
    }

    #[test]
    fn a_damaged_record_is_rejected(
        record in any_record(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<bool>(),
    ) {
        let tag = hash(1);
        let value = record.encode(&KEY, &tag);
        let at = at.index(value.len());
        let mut damaged = value.to_vec();
        if cut { damaged.truncate(at) } else { damaged[at] ^= flip }
        prop_assert!(Record::decode(&KEY, &tag, &damaged.into()).is_err());
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), format in any::<bool>()) {
        if let (true, Some(first)) = (format, bytes.first_mut()) {
            *first = 1;
        }
        let _ = Binding::decode(&bytes.clone().into());
        prop_assert!(Record::decode(&KEY, &hash(1), &bytes.into()).is_err());
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let time = || (0..1_u64 << 47).prop_map(Timestamp::from_millis);
    let bytes = || prop::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from);
    let text = || "[ -~äß]{0,40}".prop_map(|text: String| Utf8::from(text.as_str()));
    let previous = (
        any::<[u8; 32]>(),
        [time(), time(), time()],
        prop::option::of(bytes()),
    )
        .prop_map(
            |(hash, [retry_until, shared_until, recover_until], link)| Previous {
                hash: ClaimTag::new(hash),
                link,
                retry_until,
                shared_until,
                recover_until,
            },
        );
    let binding = (
        text(),
        prop::option::of(text()),
        prop::collection::vec(text(), 0..3),
        prop::option::of(time()),
    )
        .prop_map(|(client_id, scope, resources, absolute_end)| Binding {
            client_id,
            scope,
            resources,
            absolute_end,
        });
    let unknown = prop::collection::vec((100..=u8::MAX, bytes()), 0..3);
    let times = (
        time(),
        prop::option::of(time()),
        prop::option::of(time()),
        prop::option::of(time()),
        time(),
    );
    (
        binding,
        times,
        any::<u32>(),
        bytes(),
        prop::option::of(previous),
        (
            any::<[bool; 3]>(),
            [prop::option::of(time()), prop::option::of(time())],
        ),
        unknown,
    )
        .prop_map(
            |(
                binding,
                (created_at, rotated_at, upstream_end, authorization_end, expires_at),
                generation,
                sealed,
                previous,
                ([presented, revocation_pending, authenticated], [repeat_until, minted_at]),
                unknown,
            )| Record {
                binding,
                created_at,
                rotated_at,
                upstream_end,
                authorization_end,
                expires_at,
                generation,
                sealed,
                previous,
                profile: None,
                listed_until: None,
                presented,
                repeat_until,
                minted_at,
                revocation_pending,
                authenticated,
                unknown,
            },
        )
}

#[test]
fn a_grant_stays_authenticated_and_pays_for_it_alone() {
    let public = record();
    assert!(!public.authenticated);
    let decoded = |record: &Record| {
        let value = record.encode(&KEY, &hash(7));
        let decoded = Record::decode(&KEY, &hash(7), &value).unwrap();
        (decoded.authenticated, value.len())
    };
    let (authenticated, len) = decoded(&public);
    assert!(!authenticated, "a record without the field");
    let confidential = public.clone().granted_with(true);
    assert_eq!(decoded(&confidential), (true, len + 2));
    // Later rotations have no credential.
    let next = rotated(&confidential, at(2000), 8, hash(7));
    let next = next.granted_with(false).presented();
    let next = rotated(&next, at(3000), 10, hash(7));
    let next = next.with_pending_revocation(at(4000)).at(at(3500));
    assert!(next.authenticated);
    assert!(!rotated(&public, at(2000), 8, hash(7)).authenticated);
}

#[test]
fn fields_of_a_later_version_survive_a_rotation() {
    let mut record = record();
    record.unknown.push((200, Bytes::from_static(b"later")));
    let next = rotated(&record, at(2000), 8, hash(7));
    let value = next.encode(&KEY, &hash(8));
    assert_eq!(
        Record::decode(&KEY, &hash(8), &value).unwrap().unknown,
        record.unknown
    );
}

#[test]
fn a_flag_with_contents_is_rejected() {
    let mut record = record();
    record.unknown.push((11, Bytes::from_static(b"later")));
    let value = record.encode(&KEY, &hash(7));
    assert_eq!(
        Record::decode(&KEY, &hash(7), &value),
        Err(DecodeError::Damaged)
    );
}

#[test]
fn a_later_format_is_reported_with_its_number() {
    let mut value = record().encode(&KEY, &hash(7)).to_vec();
    value[0] = 2;
    assert_eq!(
        Record::decode(&KEY, &hash(7), &value.into()).unwrap_err(),
        DecodeError::Format(2)
    );
}

#[test]
fn debug_output_contains_no_sealed_bytes() {
    let shown = format!("{:?} {:?}", record(), record().previous);
    assert!(
        shown.contains("app") && !shown.contains("sealed"),
        "{shown}"
    );
}

#[test]
fn a_record_takes_at_most_325_bytes() {
    let mut record = record();
    record.binding.client_id = "0123456789abcdef0123456789abcdef0123".into();
    record.binding.scope = Some("openid profile".into());
    record.sealed = Bytes::from(vec![0; 64 + crate::seal::OVERHEAD]);
    if let Some(previous) = &mut record.previous {
        previous.link = Some(Bytes::from(vec![0; crate::link::LEN]));
    }
    let len = record.encode(&KEY, &hash(7)).len();
    assert!(len <= 325, "{len} bytes");
}
