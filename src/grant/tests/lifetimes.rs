//! The age of a token, and the ends of a grant.

use super::*;
use crate::clock::EARLIEST;
use crate::grant::times::MAX_AHEAD;
use crate::rotation_policy::RotationPolicy;

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
            renewed,
            upstream_lifetime,
            ..renewal(at(50))
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
