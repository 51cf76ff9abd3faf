//! A panic in the store is handled like a store error: no lease stays behind, and the response of
//! the inner service is stored.

use test_support::foreign::adopting;
use test_support::{App, Call, Plan};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::Change;

/// Panics before the call takes effect.
fn before() -> Plan {
    Plan::after(async { panic!("the store panics before") })
}

/// Panics after the call took effect.
fn after() -> Plan {
    Plan::before(async { panic!("the store panics after") })
}

const PANICS: [(&str, fn() -> Plan); 2] = [("before", before), ("after", after)];

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_claim_leaves_no_lease() {
    for (name, plan) in PANICS {
        let app = App::new();
        let token = app.log_in("app").await;
        app.store.once(|call| *call == Call::Claim, plan());
        assert_eq!(
            app.refresh(&token).await.error(),
            (503, "temporarily_unavailable".into()),
            "{name}"
        );
        app.layer.drain().await;
        app.refresh(&token).await.token();
        assert_eq!(app.upstream.refreshes(), 1, "{name}");
        assert_eq!(
            app.events()[1..],
            [EventKind::StoreUnavailable, EventKind::Rotated],
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_commit_loses_no_response() {
    for (name, plan) in PANICS {
        for reference in [false, true] {
            for times in [1, 5] {
                let name = format!("{name}, reference tokens {reference}, {times} times");
                let app = App::with(|builder| builder.reference_access_tokens(reference));
                let token = app.log_in("app").await;
                let mut left = times;
                app.store.hook(move |_, call| {
                    if call.is_commit() && left > 0 {
                        left -= 1;
                        return plan();
                    }
                    Plan::Pass
                });
                assert_eq!(
                    app.refresh(&token).await.error(),
                    (503, "temporarily_unavailable".into()),
                    "{name}"
                );
                app.layer.drain().await;
                let next = app.refresh(&token).await.token();
                assert_eq!(
                    app.upstream.refreshes(),
                    1,
                    "{name}: the retry got the replay"
                );
                app.refresh(&next).await.token();
                let expected = [
                    EventKind::StoreUnavailable,
                    EventKind::Rotated,
                    EventKind::Replayed,
                    EventKind::Rotated,
                ];
                assert_eq!(app.events()[1..], expected, "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_store_call_loses_no_session() {
    // The store panics at the n-th call of a rotation, a replay, an adoption, or the replay of an
    // adoption.
    for (name, plan) in PANICS {
        for at in 0..8 {
            let (app, foreign) = adopting().await;
            let mut calls = 0;
            app.store.hook(move |_, _| {
                calls += 1;
                if calls == at + 1 { plan() } else { Plan::Pass }
            });
            let name = format!("{name}, at call {at}");
            let mut token = foreign;
            for _ in 0..4 {
                let old = token.clone();
                for sends in 0..2 {
                    let mut answer = app.refresh(&old).await;
                    if answer.status == 503 {
                        app.layer.drain().await;
                        answer = app.refresh(&old).await;
                    }
                    assert_eq!(
                        answer.status, 200,
                        "{name}, sent {sends} times before: {answer:?}"
                    );
                    token = answer.token();
                }
            }
            app.store.unhook();
            assert_eq!(app.upstream.reuses(), 0, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_can_be_retried_after_a_panic() {
    for (name, plan) in PANICS {
        for at in 0..2 {
            let app = App::new();
            let token = app.log_in("app").await;
            let mut calls = 0;
            app.store.hook(move |_, call| {
                if *call == Call::Announce {
                    return Plan::Pass;
                }
                calls += 1;
                if calls == at + 1 { plan() } else { Plan::Pass }
            });
            assert_eq!(
                app.revoke(&token).await.error(),
                (503, "temporarily_unavailable".into()),
                "{name} {at}"
            );
            app.layer.drain().await;
            assert_eq!(app.revoke(&token).await.status, 200, "{name} {at}");
            assert_eq!(
                app.refresh(&token).await.error(),
                (400, "invalid_grant".into()),
                "{name} {at}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_end_grant_is_an_error() {
    let app = App::new();
    let token = app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    let removes = |call: &Call| {
        matches!(
            call,
            Call::Swap {
                change: Change::Remove,
                ..
            }
        )
    };
    app.store.once(removes, before());
    app.layer.end_grant(&grant).await.unwrap_err();
    assert!(app.layer.end_grant(&grant).await.unwrap());
    assert_eq!(app.refresh(&token).await.status, 400);
}
