//! The application ends a grant: none of its tokens is valid any more, on this instance and on
//! every other.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use test_support::access::{LOG_IN, pair};
use test_support::{Act, App, Call, Plan, SECOND, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::store::{Change, Entry, Key, Store as _, StoreError, Swap, Ttl, Version};
use tower_oauth_refresh::{EventKind, GrantKey};

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

/// Logs in, and returns the refresh token and the grant.
async fn log_in(app: &App) -> (String, GrantKey) {
    app.events();
    let token = app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    (token, grant)
}

#[tokio::test]
async fn no_token_of_an_ended_grant_is_valid() {
    let app = App::new();
    let (first, grant) = log_in(&app).await;
    let (elsewhere, _) = log_in(&app).await;
    let second = app.refresh(&first).await.token();
    app.events();
    let other = app.another();
    assert!(other.layer.end_grant(&grant).await.unwrap());
    let event = other.take_events().remove(0);
    let client = event.client_id.as_ref().map(|client| client.as_str());
    assert_eq!(
        (event.kind, client, event.grant),
        (EventKind::EndedByApplication, Some("app"), Some(grant))
    );
    assert_eq!(event.generation, Some(1));
    assert_eq!(
        app.refresh(&second).await.error(),
        refused(),
        "the current token"
    );
    assert_eq!(
        app.refresh(&first).await.error(),
        refused(),
        "its replay is removed, too"
    );
    assert_eq!(app.revoke(&second).await.status, 200);
    assert_eq!(app.events(), [EventKind::Unknown; 3]);
    app.refresh(&elsewhere).await.token();
    assert_eq!(app.upstream.alive(), 2, "the inner service was not called");
}

#[tokio::test]
async fn ending_an_ended_or_unknown_grant_returns_false() {
    let app = App::new();
    let (token, grant) = log_in(&app).await;
    assert!(app.layer.end_grant(&grant).await.unwrap());
    let (revoked, other) = log_in(&app).await;
    app.revoke(&revoked).await;
    app.events();
    let never = GrantKey::from(Key::new([7; 32]));
    for (name, grant) in [
        ("ended before", grant),
        ("revoked", other),
        ("never there", never),
    ] {
        assert!(!app.layer.end_grant(&grant).await.unwrap(), "{name}");
    }
    assert_eq!(app.events(), [], "there was no event");
    assert_eq!(app.refresh(&token).await.error(), refused());
}

#[tokio::test]
async fn a_pending_revocation_can_still_be_retried() {
    let app = App::new();
    let (token, grant) = log_in(&app).await;
    app.upstream.then(Act::Break);
    assert_eq!(app.revoke(&token).await.status, 503);
    assert!(!app.layer.end_grant(&grant).await.unwrap(), "it has ended");
    assert_eq!(
        (
            app.revoke(&token).await.status.as_u16(),
            app.upstream.alive()
        ),
        (200, 0)
    );
}

/// The inner service has rotated, but its response is discarded.
#[tokio::test]
async fn a_rotation_in_progress_fails() {
    for name in ["rotation", "recovery"] {
        let app = App::new();
        let (token, grant) = log_in(&app).await;
        if name == "recovery" {
            app.refresh(&token).await.token();
            app.clock.advance(Duration::from_secs(61));
            app.upstream.forgive();
        }
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        let under_way = tokio::spawn({
            let (app, token) = (app.clone(), token.clone());
            async move { app.refresh(&token).await }
        });
        settle().await;
        app.events();
        let seen = app.upstream.refreshes();
        assert!(
            app.another().layer.end_grant(&grant).await.unwrap(),
            "{name}"
        );
        gate.notify_one();
        assert_eq!(under_way.await.unwrap().error(), refused(), "{name}");
        assert_eq!(app.upstream.refreshes(), seen, "{name}");
        assert_eq!(
            app.store.inner.get(&stored(&app, &grant)).await.unwrap(),
            None,
            "{name}: the grant is still gone"
        );
        assert_eq!(app.events(), [EventKind::Unknown], "{name}");
        let another = app.log_in("app").await;
        app.refresh(&another).await.token();
    }
}

/// Returns the store key of the grant, which must be the only key that was requested.
fn stored(app: &App, grant: &GrantKey) -> Key {
    let found = app
        .store
        .writes()
        .into_iter()
        .map(|(key, _)| key)
        .find(|key| GrantKey::from(*key) == *grant);
    found.expect("the store was called for the grant")
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_waits_for_the_store_fails() {
    let app = App::new();
    let (token, grant) = log_in(&app).await;
    app.store.hook(|_, call| {
        if call.is_commit() {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.events();
    assert!(app.layer.end_grant(&grant).await.unwrap());
    app.store.unhook();
    app.layer.drain().await;
    assert_eq!(
        app.events(),
        [EventKind::EndedByApplication, EventKind::CommitLost]
    );
    assert_eq!(app.refresh(&token).await.error(), refused());
}

#[tokio::test]
async fn a_concurrent_rotation_does_not_keep_the_grant_alive() {
    let app = App::new();
    let (first, grant) = log_in(&app).await;
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    app.store.once(
        |call| *call == Call::Get,
        Plan::before(async move { opened.notified().await }),
    );
    let ending = tokio::spawn(app.layer.end_grant(&grant));
    settle().await;
    let second = app.refresh(&first).await.token();
    gate.notify_one();
    assert!(ending.await.unwrap().unwrap());
    assert_eq!(
        app.refresh(&second).await.error(),
        refused(),
        "its successor"
    );
}

#[tokio::test]
async fn a_store_failure_emits_an_event_and_the_call_can_be_retried() {
    type Row = (
        &'static str,
        fn(&Call) -> bool,
        fn() -> Plan,
        Option<bool>,
        bool,
    );
    let (get, swap): (fn(&Call) -> bool, fn(&Call) -> bool) =
        (|call| *call == Call::Get, Call::is_swap);
    let rows: [Row; 5] = [
        ("it cannot be read", get, || Plan::Lose, None, true),
        ("it cannot be written", swap, || Plan::Lose, None, true),
        (
            "the answer to the write is lost",
            swap,
            || Plan::LoseAnswer,
            None,
            false,
        ),
        (
            "the announcement fails",
            |call| *call == Call::Announce,
            || Plan::Lose,
            Some(true),
            false,
        ),
        ("it is corrupt", get, || Plan::Corrupt, None, true),
    ];
    for (name, call, plan, answer, again) in rows {
        let app = App::new();
        let (token, grant) = log_in(&app).await;
        app.store.once(call, plan());
        let ended = app.layer.end_grant(&grant).await;
        assert_eq!(ended.as_ref().ok().copied(), answer, "{name}");
        let kind = match ended {
            Ok(_) => EventKind::EndedByApplication,
            Err(StoreError::Unavailable(_)) => EventKind::StoreUnavailable,
            Err(_) => EventKind::StoreCorrupt,
        };
        let event = app.take_events().remove(0);
        assert_eq!((event.kind, event.grant), (kind, Some(grant)), "{name}");
        app.store.unhook();
        app.store.calls();
        assert_eq!(app.layer.end_grant(&grant).await.unwrap(), again, "{name}");
        assert!(
            app.store.calls().contains(&Call::Announce),
            "{name}: the announcement is repeated"
        );
        assert_eq!(app.refresh(&token).await.error(), refused(), "{name}");
    }
}

#[tokio::test]
async fn a_corrupt_record_is_removed_too() {
    let app = App::new();
    let (token, grant) = log_in(&app).await;
    app.refresh(&token).await.token();
    let key = stored(&app, &grant);
    let entry = app.store.get(&key).await.unwrap().unwrap();
    let damaged = Entry::new(
        Version::new([9; 8]),
        entry.tag,
        bytes::Bytes::from_static(b"of a later format"),
    );
    let change = Change::Put {
        entry: damaged,
        ttl: Ttl::Keep,
    };
    assert_eq!(
        app.store
            .swap(&key, Some(entry.version), change, &[])
            .await
            .unwrap(),
        Swap::Swapped
    );
    app.events();
    assert!(app.layer.end_grant(&grant).await.unwrap());
    let event = app.take_events().remove(0);
    assert_eq!(
        (event.kind, event.client_id, event.generation),
        (EventKind::EndedByApplication, None, None)
    );
    assert_eq!(app.store.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn end_grant_completes_after_its_future_is_dropped() {
    let mut polls = 0;
    let mut finished = false;
    while !finished {
        let app = App::new();
        let (token, grant) = log_in(&app).await;
        app.store.hook(|_, _| Plan::Slow);
        {
            let mut ending = pin!(app.layer.end_grant(&grant));
            for _ in 0..polls {
                if let Poll::Ready(ended) = ending
                    .as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                {
                    finished = ended.unwrap();
                    break;
                }
                settle().await;
            }
        }
        app.layer.drain().await;
        app.store.unhook();
        let (events, ends) = (app.events(), polls > 0);
        assert_eq!(
            events,
            if ends {
                vec![EventKind::EndedByApplication]
            } else {
                vec![]
            },
            "after {polls} polls"
        );
        assert_eq!(
            app.store.calls().contains(&Call::Announce),
            ends,
            "after {polls} polls"
        );
        assert_eq!(
            app.refresh(&token).await.status.as_u16(),
            if ends { 400 } else { 200 },
            "after {polls} polls"
        );
        polls += 1;
    }
    assert!(polls > 5, "there were only {polls} steps");
}

#[tokio::test]
async fn any_instance_ends_the_access_tokens_on_all_instances() {
    use test_support::access::{Guarded, another, referencing};

    for name in [
        "an instance that serves access tokens",
        "an instance that does not",
    ] {
        let app = referencing();
        let instances = [app.clone(), another(&app), another(&app)];
        let guarded = instances
            .each_ref()
            .map(|app| Guarded::with(app, |builder| builder.cache_ttl(3600 * SECOND)));
        let (first, one) = pair(&app.post("/token", &LOG_IN).await);
        let grant = app.take_events()[0].grant.unwrap();
        let (_, two) = pair(&app.refresh(&first).await);
        let (_, elsewhere) = pair(&app.post("/token", &LOG_IN).await);
        for guarded in &guarded {
            for token in [&one, &two, &elsewhere] {
                assert_eq!(guarded.status(token).await, 200, "{name}");
            }
            assert_eq!(
                guarded.grant(&two).await.unwrap().grant(),
                Some(grant),
                "{name}"
            );
        }
        let ending = if name.starts_with("an instance") {
            another(&app)
        } else {
            app.another()
        };
        assert!(ending.layer.end_grant(&grant).await.unwrap(), "{name}");
        settle().await;
        app.store.calls();
        for guarded in &guarded {
            assert_eq!(
                (guarded.status(&one).await, guarded.status(&two).await),
                (401, 401),
                "{name}"
            );
            assert_eq!(
                guarded.status(&elsewhere).await,
                200,
                "{name}: another grant is still valid"
            );
        }
        assert_eq!(app.store.calls(), [], "{name}: the token is in the cache");
    }
}
