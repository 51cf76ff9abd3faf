//! A failing store loses no session: no token is consumed before its lease is stored, and the
//! response of the upstream is stored as soon as the store is back.

mod corrupt;
mod overtaken;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::{App, Call, Plan, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Entry, Key, Lease, Store as _, Swap, Ttl, Version};

#[tokio::test(start_paused = true)]
async fn a_store_outage_only_delays_requests() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.hook(|_, _| Plan::Lose);
    for _ in 0..3 {
        let answer = app.refresh(&token).await;
        assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(app.upstream.refreshes(), 0);
    app.store.unhook();
    app.refresh(&token).await.token();
    assert_eq!(
        app.events()[1..],
        [
            [EventKind::StoreUnavailable; 3].as_slice(),
            &[EventKind::Rotated]
        ]
        .concat()
    );
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_released() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store
        .once(|call| *call == Call::Claim, Plan::LoseAnswer);
    assert_eq!(app.refresh(&token).await.status, 503);
    app.layer.drain().await;
    app.refresh(&token).await.token();
    assert_eq!(app.upstream.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_commit_is_retried_in_the_background() {
    for plan in [|| Plan::Lose, || Plan::LoseAnswer] {
        let app = App::new();
        let token = app.log_in("app").await;
        let mut failures = 3;
        app.store.hook(move |_, call| {
            if call.is_commit() && failures > 0 {
                failures -= 1;
                return plan();
            }
            Plan::Pass
        });
        let answer = app.refresh(&token).await;
        assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
        app.layer.drain().await;
        let next = app.refresh(&token).await.token();
        assert_eq!(app.upstream.refreshes(), 1, "the retry got the replay");
        app.refresh(&next).await.token();
        let expected = [
            EventKind::StoreUnavailable,
            EventKind::Rotated,
            EventKind::Replayed,
            EventKind::Rotated,
        ];
        assert_eq!(app.events()[1..], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_followed_by_later_rotations_is_not_reported_as_lost() {
    for rotations in 0..3 {
        let app = App::new();
        let token = app.log_in("app").await;
        app.store.once(Call::is_commit, Plan::LoseAnswer);
        assert_eq!(app.refresh(&token).await.status, 503);
        let other = app.another();
        let mut token = other.refresh(&token).await.token();
        for _ in 0..rotations {
            token = other.refresh(&token).await.token();
        }
        // The lease is taken and released: the same token under another version.
        app.upstream
            .then(test_support::Act::Answer(500, "text/plain", "down"));
        assert_eq!(other.refresh(&token).await.status, 500);
        app.layer.drain().await;
        let expected = [
            EventKind::Issued,
            EventKind::StoreUnavailable,
            EventKind::Rotated,
        ];
        assert_eq!(app.events(), expected, "after {rotations} more rotations");
        other.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_reply_was_lost_is_not_reported_as_lost() {
    for rotated_since in [false, true] {
        let app = App::new();
        let other = app.another();
        let token = app.log_in("app").await;
        let away = Arc::new(AtomicBool::new(true));
        let mut stored = None;
        app.store.hook({
            let away = Arc::clone(&away);
            move |_, call| match call {
                Call::Swap {
                    change: Change::Put { entry, .. },
                    ..
                } if call.is_commit() => {
                    let first = *stored.get_or_insert(entry.version);
                    match entry.version == first && away.load(Ordering::Relaxed) {
                        true => Plan::LoseAnswer,
                        false => Plan::Pass,
                    }
                }
                _ => Plan::Pass,
            }
        });
        assert_eq!(app.refresh(&token).await.status, 503);
        let next = other.refresh(&token).await.token();
        if rotated_since {
            other.refresh(&next).await.token();
        } else {
            let claimed = app.store.writes();
            let (key, _) = claimed.last().unwrap();
            let tag = app.store.get(key).await.unwrap().unwrap().tag;
            let claim = app
                .store
                .claim(key, &tag, Version::new([2; 8]), Duration::from_secs(25))
                .await;
            assert_eq!(claim.unwrap().unwrap().lease, Lease::Taken);
        }
        away.store(false, Ordering::Relaxed);
        app.layer.drain().await;
        let expected = [
            EventKind::Issued,
            EventKind::StoreUnavailable,
            EventKind::Rotated,
        ];
        assert_eq!(app.events(), expected, "rotated since: {rotated_since}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_retry_waits_for_the_background_commit() {
    let app = App::new();
    let token = app.log_in("app").await;
    let back = Arc::new(std::sync::atomic::AtomicBool::new(false));
    app.store.hook({
        let back = Arc::clone(&back);
        move |_, call| {
            if call.is_commit() && !back.load(std::sync::atomic::Ordering::SeqCst) {
                Plan::Lose
            } else {
                Plan::Pass
            }
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    let retry = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    tokio::time::sleep(test_support::SECOND).await;
    assert!(!retry.is_finished(), "the lease is not released");
    back.store(true, std::sync::atomic::Ordering::SeqCst);
    retry.await.unwrap().token();
    assert_eq!(app.upstream.refreshes(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_commit_emits_an_event() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.hook(|_, call| {
        if call.is_commit() {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.layer.drain().await;
    assert_eq!(
        app.events()[1..],
        [EventKind::StoreUnavailable, EventKind::CommitLost]
    );
}

/// Returns the key and the entry of the only grant.
fn written(app: &App) -> (Key, Entry) {
    let found = app
        .store
        .writes()
        .into_iter()
        .find_map(|(key, call)| match call {
            Call::Swap {
                change: Change::Put { entry, .. },
                ..
            } => Some((key, entry)),
            _ => None,
        });
    found.unwrap()
}

async fn overwrite(app: &App, key: &Key, expected: &Entry, entry: Entry) {
    let swap = app
        .store
        .inner
        .swap(
            key,
            Some(expected.version),
            Change::Put {
                entry,
                ttl: Ttl::Keep,
            },
            &[],
        )
        .await;
    assert_eq!(swap.unwrap(), Swap::Swapped);
}

#[tokio::test]
async fn a_lost_release_leaves_a_lease_that_expires() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.once(Call::is_swap, Plan::Lose);
    app.upstream
        .then(test_support::Act::Answer(500, "text/plain", "down"));
    assert_eq!(
        app.refresh(&token).await.status,
        500,
        "the response of the inner service is returned"
    );
    settle().await;
    app.clock.advance(Duration::from_secs(26));
    app.refresh(&token).await.token();
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_longer_than_the_lease_loses_no_session() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.hook(|_, call| {
        if call.is_commit() {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.store.hook(|_, _| Plan::Lose);
    let retry = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move {
            loop {
                let answer = app.refresh(&token).await;
                if answer.status != 503 {
                    return answer;
                }
                tokio::time::sleep(test_support::SECOND).await;
            }
        }
    });
    for _ in 0..40 {
        tokio::time::sleep(test_support::SECOND).await;
        app.clock.advance(test_support::SECOND);
    }
    app.store.unhook();
    let next = retry.await.unwrap().token();
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (1, 0));
    app.refresh(&next).await.token();
}

#[tokio::test(start_paused = true)]
async fn the_retry_window_begins_when_the_response_is_stored() {
    let app = App::with(|builder| {
        builder
            .retry_window(test_support::SECOND * 5)
            .recovery_window(Duration::ZERO)
    });
    let token = app.log_in("app").await;
    app.store.hook(|_, call| {
        if call.is_commit() {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.clock.advance(Duration::from_secs(7));
    app.store.unhook();
    app.layer.drain().await;
    app.refresh(&token).await.token();
    assert_eq!(app.events().last(), Some(&EventKind::Replayed));
}
