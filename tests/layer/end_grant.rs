//! The application ends a grant: none of its tokens is valid any more, on this instance and on
//! every other.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

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
    let grant = app.take_events()[0].grant_key.unwrap();
    (token, grant)
}

#[tokio::test]
async fn no_token_of_an_ended_grant_is_valid() {
    let app = App::new();
    let (first, grant) = log_in(&app).await;
    let (elsewhere, _) = log_in(&app).await;
    let second = app.refresh(&first).await.token();
    app.events();
    let told = app.another();
    assert!(told.layer.end_grant(&grant).await.unwrap());
    let event = told.take_events().remove(0);
    let client = event.client_id.as_ref().map(|client| client.as_str());
    assert_eq!(
        (event.kind, client, event.grant_key),
        (EventKind::Ended, Some("app"), Some(grant))
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
            app.clock.advance_secs(61);
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
    assert_eq!(app.events(), [EventKind::Ended, EventKind::CommitLost]);
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
            Ok(_) => EventKind::Ended,
            Err(StoreError::Unavailable(_)) => EventKind::StoreUnavailable,
            Err(_) => EventKind::StoreCorrupt,
        };
        let event = app.take_events().remove(0);
        assert_eq!((event.kind, event.grant_key), (kind, Some(grant)), "{name}");
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
            .swap(&key, Some(entry.version), change, None)
            .await
            .unwrap(),
        Swap::Swapped
    );
    app.events();
    assert!(app.layer.end_grant(&grant).await.unwrap());
    let event = app.take_events().remove(0);
    assert_eq!(
        (event.kind, event.client_id, event.generation),
        (EventKind::Ended, None, None)
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
            if ends { vec![EventKind::Ended] } else { vec![] },
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

#[cfg(feature = "tiered")]
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
        let grant = app.take_events()[0].grant_key.unwrap();
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

#[cfg(all(feature = "redis", feature = "tiered"))]
mod over_redis {
    use std::time::{Duration, Instant};

    use test_support::access::Resource;
    use test_support::redis::RedisServer;
    use test_support::{ManualClock, Upstream};
    use tower_layer::Layer as _;
    use tower_oauth_refresh::store::TieredStore;
    use tower_oauth_refresh::{AccessLayer, RedisStore};

    use super::*;

    type Tier = TieredStore<RedisStore>;

    /// The time limit for an event that is certain to occur.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Returns two instances over one server, each with a cache whose entries do not expire during
    /// a test.
    async fn two(server: &RedisServer) -> [(App<Tier>, AccessLayer<Tier>); 2] {
        let (clock, upstream) = (ManualClock::new(), Upstream::new());
        let mut instances = Vec::new();
        for _ in 0..2 {
            let store = RedisStore::builder(&server.url())
                .command_timeout(PATIENCE)
                .connect()
                .await
                .unwrap();
            let store = TieredStore::new(store);
            let app = App::over(clock.clone(), store, upstream.clone(), |builder| {
                builder.reference_access_tokens()
            });
            let access = app.layer.access().cache_ttl(3600 * SECOND).build().unwrap();
            instances.push((app, access));
        }
        instances
            .try_into()
            .unwrap_or_else(|_| panic!("there are two"))
    }

    async fn status(access: &AccessLayer<Tier>, token: &str) -> u16 {
        let request = http::Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap();
        let Ok(response) =
            tower::ServiceExt::oneshot(access.layer(Resource::default()), request).await;
        response.status().as_u16()
    }

    #[tokio::test]
    async fn a_grant_and_its_access_tokens_end_on_both_instances() {
        let server = RedisServer::start().await;
        let [(one, here), (two, there)] = two(&server).await;
        let (first, access) = pair(&one.post("/token", &LOG_IN).await);
        let grant = one.take_events()[0].grant_key.unwrap();
        let (second, later) = pair(&two.refresh(&first).await);
        for token in [&access, &later] {
            assert_eq!(
                (status(&here, token).await, status(&there, token).await),
                (200, 200)
            );
        }
        assert!(one.layer.end_grant(&grant).await.unwrap());
        for app in [&one, &two] {
            assert_eq!(app.refresh(&second).await.error(), refused());
            assert!(!app.layer.end_grant(&grant).await.unwrap());
        }
        let end = Instant::now() + PATIENCE;
        for (layer, token) in [
            (&here, &access),
            (&here, &later),
            (&there, &access),
            (&there, &later),
        ] {
            while status(layer, token).await != 401 {
                assert!(Instant::now() < end, "the token never ended");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    #[tokio::test]
    async fn a_rotation_in_progress_on_the_other_instance_fails() {
        let server = RedisServer::start().await;
        let [(one, _), (two, there)] = two(&server).await;
        let token = one.log_in("app").await;
        let grant = one.take_events()[0].grant_key.unwrap();
        let gate = Arc::new(Notify::new());
        two.upstream.then(Act::Wait(Arc::clone(&gate)));
        let under_way = tokio::spawn({
            let (two, token) = (two.clone(), token.clone());
            async move { two.refresh(&token).await }
        });
        let end = Instant::now() + PATIENCE;
        while two.upstream.refreshes() == 0 {
            assert!(Instant::now() < end, "the rotation never began");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(one.layer.end_grant(&grant).await.unwrap());
        gate.notify_one();
        assert_eq!(under_way.await.unwrap().error(), refused());
        assert!(
            !one.layer.end_grant(&grant).await.unwrap(),
            "the grant is still gone"
        );
        let (_, access) = pair(&two.post("/token", &LOG_IN).await);
        assert_eq!(
            status(&there, &access).await,
            200,
            "another grant is still valid"
        );
    }
}
