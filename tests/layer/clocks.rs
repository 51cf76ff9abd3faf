//! Wrong clocks: instances whose clocks differ by seconds, and machines whose clock was never set.

use std::time::Duration;

use test_support::{Act, App, ManualClock, SECOND, TestStore};
use tower_oauth_refresh::{Clock, EventKind, RefreshLayerBuilder, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The tolerated difference between clocks, from `docs/operations.md`.
const TOLERATED: Duration = Duration::from_secs(30);

/// A clock with a constant difference to another clock.
struct Off {
    right: ManualClock,
    off: Wrong,
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Behind(Duration),
    Ahead(Duration),
    /// The clock starts at this time.
    Since(u64),
}

impl Clock for Off {
    fn now(&self) -> Timestamp {
        let now = self.right.now();
        match self.off {
            Wrong::Behind(by) => Timestamp::from_millis(now.as_millis() - by.as_millis() as u64),
            Wrong::Ahead(by) => now.saturating_add(by),
            Wrong::Since(begin) => Timestamp::from_millis(
                begin + now.as_millis() - ManualClock::new().now().as_millis(),
            ),
        }
    }
}

const YEAR_2100: u64 = 4_102_444_800_000;

type Builder = RefreshLayerBuilder<TestStore>;

/// Returns an instance whose clock is right, like that of the store, and an instance whose clock is
/// wrong.
fn two(off: Wrong, settings: impl Fn(Builder) -> Builder) -> (App, App) {
    let right = App::with(&settings);
    let clock = Off {
        right: right.clock.clone(),
        off,
    };
    let wrong = App::over(
        right.clock.clone(),
        right.store.clone(),
        right.upstream.clone(),
        |builder| settings(builder).clock(clock),
    );
    (right, wrong)
}

#[tokio::test]
async fn a_slow_clock_or_a_boot_in_1970_ends_no_session() {
    for off in [
        Wrong::Behind(40 * MINUTE),
        Wrong::Behind(20 * HOUR),
        Wrong::Behind(400 * DAY),
        Wrong::Since(0),
    ] {
        for reference in [false, true] {
            let (right, wrong) = two(off, |builder| {
                let builder = builder
                    .idle_lifetime(30 * MINUTE)
                    .introspection_path("/introspect");
                builder.reference_access_tokens(reference)
            });
            let mut token = right.log_in("app").await;
            for round in 0..5 {
                let name = format!("{off:?}, round {round}");
                right
                    .upstream
                    .then(Act::With(r#"{"refresh_expires_in":1000000}"#));
                let answer = wrong.refresh(&token).await;
                assert_eq!(answer.json()["refresh_expires_in"], 1800, "{name}");
                token = answer.token();
                let now = right.clock.now().as_millis() / 1000;
                let introspection = right.post("/introspect", &[("token", &token)]).await.json();
                assert_eq!(introspection["exp"], now + 1800, "{name}: {introspection}");
                if reference {
                    let access = answer.get("access_token").unwrap();
                    let introspection = right
                        .post("/introspect", &[("token", &access)])
                        .await
                        .json();
                    assert_eq!(introspection["active"], true, "{name}: {introspection}");
                }
                right.clock.advance(20 * MINUTE);
                token = right.refresh(&token).await.token();
            }
            assert!(!right.events().contains(&EventKind::Expired), "{off:?}");
            right.clock.advance(30 * MINUTE);
            assert_eq!(right.refresh(&token).await.status, 400, "{off:?}");
            assert_eq!(right.events(), [EventKind::Expired], "{off:?}");
        }
    }
}

#[tokio::test]
async fn a_clock_years_behind_ends_no_session() {
    for days in [370, 500, 1000] {
        let (right, wrong) = two(Wrong::Behind(days * DAY), |builder| {
            builder.idle_lifetime(30 * MINUTE)
        });
        right.clock.advance(4 * 365 * DAY);
        let mut token = right.log_in("app").await;
        for _ in 0..5 {
            token = wrong.refresh(&token).await.token();
            right.clock.advance(20 * MINUTE);
            token = right.refresh(&token).await.token();
        }
        assert!(!right.events().contains(&EventKind::Expired), "{days} days");
    }
}

#[tokio::test]
async fn a_grant_issued_with_an_unset_clock_behaves_like_any_other() {
    for off in [
        Wrong::Since(0),
        Wrong::Since(1_000_000_000_000),
        Wrong::Since(YEAR_2100),
    ] {
        let (right, wrong) = two(off, |builder| {
            builder.idle_lifetime(10 * DAY).absolute_lifetime(25 * DAY)
        });
        let mut token = wrong.log_in("app").await;
        for _ in 0..24 {
            token = right.refresh(&token).await.token();
            right.clock.advance(DAY);
        }
        assert_eq!(right.events(), [EventKind::Rotated; 24], "{off:?}");
        right.clock.advance(DAY + MINUTE);
        assert_eq!(
            right.refresh(&token).await.status,
            400,
            "{off:?}: its absolute end"
        );
    }
}

#[tokio::test]
async fn a_clock_far_ahead_ends_no_session_of_other_instances() {
    for off in [
        Wrong::Since(YEAR_2100),
        Wrong::Ahead(40 * DAY),
        Wrong::Ahead(10 * DAY),
    ] {
        let (right, wrong) = two(off, |builder| builder.absolute_lifetime(90 * DAY));
        let mut token = right.log_in("app").await;
        // It may reject a token that looks expired to it, or rotate it. Neither ends the session on
        // other instances.
        let answer = wrong.refresh(&token).await;
        if answer.status == 200 {
            token = answer.token();
        }
        assert!(
            answer.json()["refresh_expires_in"]
                .as_u64()
                .unwrap_or_default()
                <= 30 * 24 * 3600,
            "{off:?}"
        );
        let old = token.clone();
        let lost = right.refresh(&token).await.token();
        right.clock.advance(Duration::from_secs(61));
        token = right.refresh(&old).await.token();
        let event = right.events().pop().unwrap();
        assert!(
            matches!(event, EventKind::Converged | EventKind::Recovered),
            "{off:?}: {event}"
        );
        assert_eq!(right.refresh(&lost).await.token(), token, "{off:?}");
        let mut days = 0;
        loop {
            right.clock.advance(DAY);
            let answer = right.refresh(&token).await;
            if answer.status != 200 {
                break;
            }
            days += 1;
            token = answer.token();
        }
        assert!(
            (85..=90).contains(&days),
            "{off:?}: the grant was valid for {days} days"
        );
    }
}

#[tokio::test]
async fn reuse_is_detected_once_clocks_pass_the_one_that_was_ahead() {
    let (right, wrong) = two(Wrong::Ahead(10 * DAY), |builder| builder);
    let first = right.log_in("app").await;
    let second = wrong.refresh(&first).await.token();
    let third = right.refresh(&second).await.token();
    right.refresh(&third).await.token();
    // Until then the record keeps the time of the fast clock, and an old token is late.
    right.clock.advance(10 * DAY + 61 * SECOND);
    assert_eq!(right.refresh(&first).await.status, 400);
    assert_eq!(right.events().last(), Some(&EventKind::ReuseDetected));
}

#[tokio::test]
async fn two_tabs_get_the_same_response_at_the_tolerated_skew() {
    for retry in [10, 60] {
        for seconds in [0, 25, 30] {
            for off in [
                Wrong::Ahead(SECOND * seconds),
                Wrong::Behind(SECOND * seconds),
            ] {
                let (right, wrong) = two(off, |builder| builder.retry_window(SECOND * retry));
                let name = format!("{off:?}, retry window {retry} s");
                assert!(SECOND * seconds <= TOLERATED);
                let mut token = right.log_in("app").await;
                for (one, other) in [(&right, &wrong), (&wrong, &right)] {
                    for passed in [0, retry - 1] {
                        let next = one.refresh(&token).await.token();
                        right.clock.advance(Duration::from_secs(passed.into()));
                        assert_eq!(
                            other.refresh(&token).await.token(),
                            next,
                            "{name}, {passed} s later"
                        );
                        token = next;
                    }
                    // The stored response has expired: the client that lost it gets another token.
                    for passed in [retry, retry + 1, retry + 29, 3600] {
                        // No stored response is left.
                        right.clock.advance(SECOND * retry + TOLERATED);
                        one.refresh(&token).await.token();
                        right.clock.advance(Duration::from_secs(passed.into()));
                        token = other.refresh(&token).await.token();
                    }
                }
                let events = [right.events(), wrong.events()].concat();
                let of = |kind| events.iter().filter(|event| **event == kind).count();
                // The clock of an instance decides whether the shared token window is over.
                let again = of(EventKind::Recovered) + of(EventKind::Converged);
                assert_eq!(
                    (of(EventKind::Replayed), again),
                    (4, 8),
                    "{name}: {events:?}"
                );
                for kind in [
                    EventKind::Late,
                    EventKind::ReuseDetected,
                    EventKind::Expired,
                ] {
                    assert_eq!(of(kind), 0, "{name}: {events:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_replay_that_expires_during_the_lookup_loses_no_session() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(59));
    let clock = app.clock.clone();
    app.store.hook(move |_, call| {
        if *call == test_support::Call::Sidecar {
            clock.advance(Duration::from_secs(2));
        }
        test_support::Plan::Pass
    });
    app.refresh(&token).await.token();
    assert_eq!(
        app.events(),
        [EventKind::Issued, EventKind::Rotated, EventKind::Recovered]
    );
}

#[tokio::test]
async fn an_expired_grant_becomes_unknown_later() {
    for (lifetime, kept) in [
        (30 * DAY, HOUR),
        (2 * HOUR, HOUR),
        (2 * MINUTE, 2 * MINUTE),
        (SECOND, 2 * MINUTE),
    ] {
        for absolute in [false, true] {
            let app = App::with(|builder| {
                if absolute {
                    builder.absolute_lifetime(lifetime)
                } else {
                    builder.idle_lifetime(lifetime)
                }
            });
            let token = app.log_in("app").await;
            app.clock.advance(lifetime);
            let rows = [
                (Duration::ZERO, EventKind::Expired),
                (kept - Duration::from_millis(1), EventKind::Expired),
                (Duration::from_millis(1), EventKind::Unknown),
            ];
            drop(app.events());
            for (passed, kind) in rows {
                app.clock.advance(passed);
                assert_eq!(
                    app.refresh(&token).await.error(),
                    (400, "invalid_grant".into())
                );
                assert_eq!(app.events(), [kind], "{lifetime:?}, {passed:?} later");
            }
        }
    }
}

#[tokio::test]
async fn an_expired_grant_is_rejected_while_its_entry_is_kept() {
    let app = App::with(|builder| {
        builder
            .idle_lifetime(MINUTE)
            .reference_access_tokens(true)
            .introspection_path("/introspect")
    });
    let log_in = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    let answer = app.post("/token", &log_in).await;
    let grant = app.take_events()[0].grant.unwrap();
    let access = answer.get("access_token").unwrap();
    app.clock.advance(MINUTE);
    for token in [&answer.token(), &access] {
        let introspection = app.post("/introspect", &[("token", token)]).await;
        assert_eq!(introspection.json(), serde_json::json!({ "active": false }));
    }
    assert_eq!(app.revoke(&answer.token()).await.status, 200);
    assert_eq!(app.events(), [EventKind::Expired]);
    assert!(!app.layer.end_grant(&grant).await.unwrap(), "it has ended");
    assert_eq!(app.upstream.alive(), 1, "the inner service was not called");
}
