//! How a revocation is sent: with which key and credentials, how often, and what a shutdown waits
//! for.

use std::sync::Arc;
use std::time::Duration;

use test_support::{Act, App, Hooked, SECOND, Upstream, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::{ClientCredentials, EventKind, ManualClock, MemoryStore};

use super::{KEY, another, drained, log_in, new, revocations, revoked, with_credentials};

#[tokio::test]
async fn a_token_that_the_key_does_not_open_is_reported() {
    let app = new();
    let plain = app.another();
    for name in ["another key", "began without", "rotated without"] {
        let began = if name == "began without" {
            &plain
        } else {
            &app
        };
        let (token, grant) = log_in(began).await;
        if name == "rotated without" {
            plain.refresh(&token).await.token();
        }
        let instance = another(&app, if name == "another key" { [8; 32] } else { KEY });
        assert!(instance.layer.end_grant(&grant).await.unwrap(), "{name}");
        assert_eq!(
            drained(&instance).await,
            [
                EventKind::EndedByApplication,
                EventKind::UpstreamRevocationFailed
            ],
            "{name}"
        );
    }
    assert_eq!(revoked(&app), [] as [&str; 0]);
    // A grant that began without the key has it after a refresh.
    let (token, grant) = log_in(&plain).await;
    app.refresh(&token).await.token();
    app.layer.end_grant(&grant).await.unwrap();
    app.layer.drain().await;
    assert_eq!(revoked(&app), ["upstream-3-1"]);
}

#[tokio::test]
async fn the_credentials_are_sent_for_their_own_client_only() {
    let clock = ManualClock::new();
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let upstream = Upstream::new();
    let service = upstream.clone();
    let id = "confidential".parse().unwrap();
    let credentials = ClientCredentials::basic(id, "secret of confidential");
    let app = App::over(clock, store, upstream, |builder| {
        with_credentials(builder, KEY, &service, credentials)
    });
    for (client, outcome) in [
        ("confidential", EventKind::UpstreamRevoked),
        ("app", EventKind::UpstreamRevoked),
        ("confidential-2", EventKind::UpstreamRevocationFailed),
    ] {
        app.events();
        app.log_in(client).await;
        let grant = app.take_events()[0].grant.unwrap();
        app.layer.end_grant(&grant).await.unwrap();
        assert_eq!(drained(&app).await[1..], [outcome], "{client}");
    }
    let sent: Vec<_> = revocations(&app)
        .iter()
        .map(|seen| {
            let client_id = seen.param("client_id").map(str::to_owned);
            (seen.headers.contains_key("authorization"), client_id)
        })
        .collect();
    assert_eq!(sent, [(true, None), (false, Some("app".to_owned()))]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_tried_again_until_the_inner_service_is_available() {
    for outage in [
        Act::Break,
        Act::Hang,
        Act::Answer(408, "text/plain", ""),
        Act::Answer(425, "text/plain", ""),
        Act::Answer(429, "text/plain", ""),
        Act::Answer(500, "text/plain", ""),
        Act::Answer(503, "application/json", "{}"),
    ] {
        let app = new();
        let (_, grant) = log_in(&app).await;
        app.upstream.then(outage.clone());
        app.upstream.then(outage.clone());
        assert!(app.layer.end_grant(&grant).await.unwrap(), "{outage:?}");
        while revocations(&app).len() < 3 {
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(
            drained(&app).await,
            [EventKind::EndedByApplication, EventKind::UpstreamRevoked],
            "{outage:?}"
        );
        assert_eq!(app.upstream.alive(), 0, "{outage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_given_up_if_the_inner_service_refuses_or_stays_away() {
    for (status, attempts) in [
        (302, 1),
        (400, 1),
        (401, 1),
        (403, 1),
        (404, 1),
        (405, 1),
        // Pauses of 1, 2, 4, 8, 16, 32 and 60 seconds, for less than ten minutes.
        (503, 15),
    ] {
        let app = new();
        let (_, grant) = log_in(&app).await;
        for _ in 0..attempts {
            app.upstream.then(Act::Answer(
                status,
                "application/json",
                r#"{"error":"unsupported_token_type"}"#,
            ));
        }
        app.layer.end_grant(&grant).await.unwrap();
        let mut events = app.events();
        while events.len() < 2 {
            tokio::time::sleep(SECOND).await;
            events.extend(app.events());
        }
        assert_eq!(events[1], EventKind::UpstreamRevocationFailed, "{status}");
        assert_eq!(revocations(&app).len(), attempts, "{status}");
        assert_eq!(app.upstream.alive(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_an_attempt_but_not_for_the_next_one() {
    let app = new();
    let (_, grant) = log_in(&app).await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    app.layer.end_grant(&grant).await.unwrap();
    let mut drain = Box::pin(app.layer.drain());
    let waited = tokio::time::timeout(SECOND, &mut drain).await;
    assert!(waited.is_err(), "the first attempt is under way");
    gate.notify_one();
    drain.await;
    assert_eq!(app.upstream.alive(), 0);

    let (_, grant) = log_in(&app).await;
    for _ in 0..100 {
        app.upstream.then(Act::Break);
    }
    app.layer.end_grant(&grant).await.unwrap();
    app.layer.drain().await;
    assert_eq!(app.events(), [EventKind::EndedByApplication]);
    assert_eq!(revocations(&app).len(), 2, "it will be tried again");
}

/// The inner service never gets all of them at once.
#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_one_time_limit_however_many_revocations_hang() {
    let app = new();
    let mut grants = Vec::new();
    for _ in 0..100 {
        grants.push(log_in(&app).await.1);
    }
    for _ in 0..1000 {
        app.upstream.then(Act::Hang);
    }
    for grant in grants {
        app.layer.end_grant(&grant).await.unwrap();
    }
    settle().await;
    assert_eq!(revocations(&app).len(), 32);
    let started = tokio::time::Instant::now();
    app.layer.drain().await;
    assert!(started.elapsed() <= Duration::from_secs(20));
}
