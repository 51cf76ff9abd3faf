//! The answers and links that a request may get.

use super::*;

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
    assert!(!replays(&kept(2050), 5, 2001), "older");
    let recoverable = renewed(&record(), at(2000)).converged(&hash(5), &hash(7), at(2000), WINDOWS);
    assert!(replays(&recoverable, 6, 2001), "current never presented");
    let recoverable = Record {
        previous: recoverable.previous.map(|previous| Previous {
            recover_until: at(2005),
            ..previous
        }),
        ..recoverable
    };
    let last = "previous, at the end of its recovery window";
    assert!(replays(&recoverable, 6, 2004), "{last}");
    assert!(!replays(&recoverable, 6, 2005), "{last}");
}

#[test]
fn only_the_client_of_a_grant_that_is_alive_has_answers_and_links() {
    let alive = Record {
        expires_at: at(1030),
        ..record().converged(&hash(7), &hash(7), at(1000), WINDOWS)
    };
    let pending = alive.clone().with_pending_revocation(at(9000));
    let rows = [
        ("alive", &alive, "app", 1029, true),
        ("another client", &alive, "other", 1029, false),
        ("expired", &alive, "app", 1030, false),
        ("revocation pending", &pending, "app", 1029, false),
    ];
    for (name, record, client_id, now, expected) in rows {
        let grant = StoredGrant {
            record,
            current: &hash(7),
        };
        for n in 5..=7 {
            let presented = Presented {
                client_id,
                generation: n.into(),
                hash: &hash(n),
            };
            let replays = may_replay(grant, presented, at(now));
            assert_eq!(replays, expected && n > 5, "{name}: token {n}");
            let has_link = may_have_link(grant, presented, at(now));
            assert_eq!(has_link, expected && n == 5, "{name}: token {n}");
        }
    }
}
