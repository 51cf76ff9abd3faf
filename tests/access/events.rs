//! Routes of a resource server emit events for ended access tokens and for store failures, and for
//! nothing else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::tokens::made_up;
use test_support::{App, Plan, settle};
use tower_oauth_refresh::{Event, EventKind, GrantKey};

const HOUR: Duration = Duration::from_secs(3600);

/// Logs in, and returns the refresh token, the access token and the grant.
async fn log_in(app: &App) -> (String, String, GrantKey) {
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    let grant = app.take_events().pop().unwrap().grant.unwrap();
    (token, access, grant)
}

type Summary<'a> = (EventKind, Option<&'a str>, Option<GrantKey>, Option<u32>);

fn summary(event: &Event) -> Summary<'_> {
    (
        event.kind,
        event.client_id.as_ref().map(|client| client.as_str()),
        event.grant,
        event.generation,
    )
}

#[tokio::test(start_paused = true)]
async fn an_ended_token_emits_an_event_with_its_client_and_grant() {
    let app = referencing();
    for (name, ttl, ends) in [
        ("cached, and announced", HOUR, "grant"),
        ("not cached", Duration::ZERO, "grant"),
        (
            "revocation pending, the inner service down",
            Duration::ZERO,
            "token, unconfirmed",
        ),
    ] {
        let guarded = Guarded::with(&app, |builder| builder.cache_ttl(ttl));
        let (_, access, grant) = log_in(&app).await;
        assert_eq!(guarded.status(&access).await, 200, "{name}");
        match ends {
            "grant" => assert!(app.layer.end_grant(&grant).await.unwrap(), "{name}"),
            _ => {
                app.upstream.then(test_support::Act::Break);
                assert_eq!(app.revoke(&access).await.status, 503, "{name}");
            }
        }
        settle().await;
        app.events();
        for _ in 0..2 {
            assert_eq!(guarded.status(&access).await, 401, "{name}");
        }
        let events = app.take_events();
        let expected = (EventKind::AccessRefused, Some("app"), Some(grant), Some(0));
        assert_eq!(
            events.iter().map(summary).collect::<Vec<_>>(),
            [expected; 2],
            "{name}"
        );
        assert!(
            !EventKind::AccessRefused.is_warning(),
            "a page that is still open causes it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_overtaken_by_the_end_of_the_grant_emits_an_event() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    // A subscriber exists from here on.
    let other = access_token(&app.post("/token", &LOG_IN).await);
    assert_eq!(guarded.status(&other).await, 200);
    let (_, access, grant) = log_in(&app).await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let fits = |call: &test_support::Call| *call == test_support::Call::Get;
    app.store
        .once(fits, Plan::before(async move { opened.notified().await }));
    let slow = tokio::spawn({
        let (guarded, access) = (guarded.clone(), access.clone());
        async move { guarded.status(&access).await }
    });
    settle().await;
    assert!(app.layer.end_grant(&grant).await.unwrap());
    settle().await;
    app.events();
    gate.notify_one();
    assert_eq!(slow.await.unwrap(), 401);
    let events = app.take_events();
    assert_eq!(
        events.iter().map(summary).collect::<Vec<_>>(),
        [(EventKind::AccessRefused, Some("app"), Some(grant), Some(0))]
    );
}

#[tokio::test(start_paused = true)]
async fn every_request_that_the_store_fails_emits_one_event() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (_, access, grant) = log_in(&app).await;
    for (plan, status, kind) in [
        (
            (|| Plan::Lose) as fn() -> Plan,
            503,
            EventKind::StoreUnavailable,
        ),
        (|| Plan::Corrupt, 500, EventKind::StoreCorrupt),
    ] {
        app.store.hook(move |_, _| plan());
        assert_eq!(guarded.status(&access).await, status);
        let events = app.take_events();
        assert_eq!(
            events.iter().map(summary).collect::<Vec<_>>(),
            [(kind, None, Some(grant), Some(0))]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn client_errors_emit_no_event() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| {
        builder.cache_ttl(HOUR).require_scope("read")
    });
    let picky = Guarded::with(&app, |builder| builder.require_scope("admin"));
    let elsewhere = Guarded::with(&app, |builder| builder.resource("https://api.example"));
    let (_, access, _) = log_in(&app).await;
    let unknown = made_up("at_");
    for _ in 0..2 {
        assert_eq!(guarded.status(&access).await, 200, "and cached");
        assert_eq!(guarded.send(&[]).await.0.status, 401);
        assert_eq!(guarded.send(&["Bearer"]).await.0.status, 400);
        assert_eq!(guarded.status("of another client").await, 400);
        assert_eq!(guarded.status(&unknown).await, 401);
        assert_eq!(picky.status(&access).await, 403);
        assert_eq!(elsewhere.status(&access).await, 401);
    }
    app.clock.advance(Duration::from_secs(3600));
    assert_eq!(guarded.status(&access).await, 401, "it has expired");
    assert_eq!(app.events(), []);
}

#[tokio::test(start_paused = true)]
async fn a_layer_uses_its_own_callback_or_that_of_the_token_endpoint() {
    let app = referencing();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    let own = Guarded::with(&app, |builder| {
        builder
            .cache_ttl(Duration::ZERO)
            .on_event(move |event| sink.lock().unwrap().push(event.kind))
    });
    let (_, access, grant) = log_in(&app).await;
    assert!(app.layer.end_grant(&grant).await.unwrap());
    app.events();
    assert_eq!(own.status(&access).await, 401);
    assert_eq!(
        (app.events(), heard.lock().unwrap().as_slice()),
        (vec![], &[EventKind::AccessRefused][..])
    );
    let narrower = Guarded::of(own.layer.and_scope("read").unwrap());
    assert_eq!(narrower.status(&access).await, 401);
    assert_eq!(
        heard.lock().unwrap().len(),
        2,
        "a derived layer has the same callback"
    );
}
