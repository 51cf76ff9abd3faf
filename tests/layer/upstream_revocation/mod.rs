//! The layer has a key for upstream tokens and revokes them at the inner service when it ends a
//! grant.

mod attempts;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use test_support::upstream::Seen;
use test_support::users::next_extension;
use test_support::{Act, App, Hooked, Plan, SECOND, TestStore, Upstream, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::store::Change;
use tower_oauth_refresh::{
    ClientCredentials, EventKind, GrantKey, ManualClock, MemoryStore, RefreshLayerBuilder, Subject,
};

const KEY: [u8; 32] = [7; 32];

type Builder = RefreshLayerBuilder<TestStore>;

/// Sets the options of the layer, with `upstream` as the service.
fn revoking(builder: Builder, key: [u8; 32], upstream: &Upstream) -> Builder {
    with_credentials(builder, key, upstream, ClientCredentials::public())
}

fn with_credentials(
    builder: Builder,
    key: [u8; 32],
    upstream: &Upstream,
    credentials: ClientCredentials,
) -> Builder {
    builder
        .revocation_key(key)
        .upstream_revocation::<_, Full<Bytes>, _>(upstream.clone(), credentials)
}

/// Returns an instance with the options, and these other settings.
fn with(settings: fn(Builder) -> Builder) -> App {
    let clock = ManualClock::new();
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let upstream = Upstream::new();
    let service = upstream.clone();
    App::over(clock, store, upstream, |builder| {
        settings(revoking(builder, KEY, &service))
    })
}

fn new() -> App {
    with(|builder| builder)
}

/// Returns another instance over the same store, with this key.
fn another(app: &App, key: [u8; 32]) -> App {
    let service = app.upstream.clone();
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| revoking(builder, key, &service),
    )
}

async fn log_in(app: &App) -> (String, GrantKey) {
    app.events();
    let token = app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    (token, grant)
}

/// The revocations that the inner service has received.
fn revocations(app: &App) -> Vec<Seen> {
    let mut seen = app.upstream.seen();
    seen.retain(|seen| seen.path == "/revoke");
    seen
}

fn revoked(app: &App) -> Vec<String> {
    revocations(app)
        .iter()
        .map(|seen| seen.param("token").unwrap().to_owned())
        .collect()
}

/// Waits for the first attempts, and returns the events.
async fn drained(app: &App) -> Vec<EventKind> {
    app.layer.drain().await;
    app.events()
}

#[tokio::test]
async fn end_grant_revokes_the_newest_upstream_token() {
    let app = new();
    let (first, grant) = log_in(&app).await;
    app.refresh(&first).await.token();
    app.events();
    let instance = another(&app, KEY);
    assert!(instance.layer.end_grant(&grant).await.unwrap());
    instance.layer.drain().await;
    let events = instance.take_events();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [EventKind::EndedByApplication, EventKind::UpstreamRevoked]
    );
    let event = &events[1];
    let client = event.client_id.as_ref().map(|client| client.as_str());
    assert_eq!(
        (client, event.grant, event.generation),
        (Some("app"), Some(grant), Some(1))
    );
    let seen = revocations(&app);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, "POST");
    let parameters: Vec<_> = seen[0]
        .form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        parameters,
        [
            ("token", "upstream-0-1"),
            ("token_type_hint", "refresh_token"),
            ("client_id", "app"),
        ]
    );
    assert_eq!(app.upstream.alive(), 0);
    assert!(!instance.layer.end_grant(&grant).await.unwrap());
    assert_eq!(drained(&instance).await, [], "it is not revoked again");
}

#[tokio::test]
async fn the_newest_upstream_token_is_revoked_after_every_kind_of_refresh() {
    for name in ["kept", "converged", "recovered", "not renewed"] {
        let app = with(|builder| {
            builder.rotation_policy(|client| match client.client_id.as_str() {
                "kept" => tower_oauth_refresh::RotationPolicy::Never,
                _ => tower_oauth_refresh::RotationPolicy::EveryUse,
            })
        });
        let client = if name == "kept" { "kept" } else { "app" };
        let first = app.log_in(client).await;
        let grant = app.take_events()[0].grant.unwrap();
        let newest = match name {
            "kept" => {
                app.refresh_as("kept", &first).await.token();
                "upstream-0-1"
            }
            "converged" => {
                app.refresh(&first).await.token();
                let form = test_support::refresh_form("app", &first);
                let form = [&form[..], &[("scope", "read")]].concat();
                app.post("/token", &form).await.token();
                "upstream-0-2"
            }
            "recovered" => {
                app.refresh(&first).await.token();
                app.clock.advance(Duration::from_secs(61));
                app.refresh(&first).await.token();
                "upstream-0-2"
            }
            _ => {
                app.upstream.then(Act::KeepToken);
                app.refresh(&first).await.token();
                "upstream-0-0"
            }
        };
        assert!(app.layer.end_grant(&grant).await.unwrap());
        app.layer.drain().await;
        assert_eq!(revoked(&app), [newest], "{name}");
    }
}

#[tokio::test]
async fn end_sessions_revokes_the_upstream_token_of_each() {
    let app = new();
    let ann = Subject::new("ann").unwrap();
    for client in ["one", "two", "three"] {
        next_extension(&app, ann.clone());
        app.log_in(client).await;
    }
    app.log_in("app").await;
    assert_eq!(app.layer.end_sessions(&ann).await.unwrap(), 3);
    app.layer.drain().await;
    assert_eq!((app.upstream.alive(), revoked(&app).len()), (1, 3));
}

#[tokio::test]
async fn reuse_revokes_the_upstream_token() {
    let app = with(|builder| builder.strict(true));
    let (first, _) = log_in(&app).await;
    let second = app.refresh(&first).await.token();
    app.refresh(&second).await.token();
    app.events();
    assert_eq!(app.refresh(&first).await.error().1, "invalid_grant");
    assert_eq!(
        drained(&app).await,
        [EventKind::ReuseDetected, EventKind::UpstreamRevoked]
    );
    assert_eq!(revoked(&app), ["upstream-0-2"]);
}

#[tokio::test]
async fn a_client_that_revokes_with_a_late_token_ends_the_upstream_token_too() {
    let app = with(|builder| builder.shared_token_window(Duration::ZERO));
    let (first, _) = log_in(&app).await;
    let second = app.refresh(&first).await.token();
    app.refresh(&second).await.token();
    app.events();
    assert_eq!(app.revoke(&first).await.status, 200);
    assert_eq!(
        drained(&app).await,
        [EventKind::Revoked, EventKind::UpstreamRevoked]
    );
    assert_eq!(revoked(&app), ["upstream-0-2"]);
    // A revocation with the current token is forwarded, and not sent again.
    let (token, _) = log_in(&app).await;
    assert_eq!(app.revoke(&token).await.status, 200);
    assert_eq!(drained(&app).await, [EventKind::Revoked]);
    assert_eq!(revoked(&app), ["upstream-0-2", "upstream-1-0"]);
}

#[tokio::test]
async fn a_grant_that_was_ended_with_others_is_revoked_when_its_client_returns() {
    let app = new();
    let (token, _) = log_in(&app).await;
    app.clock.advance(SECOND);
    app.layer.end_all().await.unwrap();
    assert_eq!(drained(&app).await, [EventKind::EndedByApplication]);
    assert_eq!(app.upstream.alive(), 1);
    for expected in [
        &[EventKind::Unknown, EventKind::UpstreamRevoked][..],
        &[EventKind::Unknown],
    ] {
        assert_eq!(app.refresh(&token).await.error().1, "invalid_grant");
        let mut events = drained(&app).await;
        events.sort_by_key(|kind| kind.as_str());
        assert_eq!(events, expected);
    }
    assert_eq!(revoked(&app), ["upstream-0-0"]);
}

/// The rotation has its new upstream token only in memory.
#[tokio::test(start_paused = true)]
async fn a_rotation_whose_grant_has_ended_revokes_its_new_upstream_token() {
    for in_background in [false, true] {
        let app = new();
        let (token, grant) = log_in(&app).await;
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        let under_way = tokio::spawn({
            let (app, token) = (app.clone(), token.clone());
            async move { app.refresh(&token).await }
        });
        settle().await;
        let instance = another(&app, KEY);
        assert!(instance.layer.end_grant(&grant).await.unwrap());
        instance.layer.drain().await;
        assert_eq!(revoked(&app), ["upstream-0-0"]);
        app.events();
        if in_background {
            app.store.once(|call| call.is_commit(), Plan::Lose);
        }
        // The server grants the refresh although the other revocation has arrived.
        app.upstream.revive();
        gate.notify_one();
        let status = under_way.await.unwrap().status.as_u16();
        assert_eq!(status, if in_background { 503 } else { 400 });
        let last = if in_background {
            app.layer.drain().await;
            vec![
                EventKind::StoreUnavailable,
                EventKind::CommitLost,
                EventKind::UpstreamRevoked,
            ]
        } else {
            vec![EventKind::Unknown, EventKind::UpstreamRevoked]
        };
        let mut events = drained(&app).await;
        let sort = |kinds: &mut Vec<EventKind>| kinds.sort_by_key(|kind| kind.as_str());
        let mut last = last;
        sort(&mut events);
        sort(&mut last);
        assert_eq!(events, last);
        assert_eq!(revoked(&app), ["upstream-0-0", "upstream-0-1"]);
    }
}

/// The call has read an older record than it removes.
#[tokio::test]
async fn a_rotation_between_the_read_and_the_removal_does_not_hide_its_upstream_token() {
    let app = new();
    let (token, grant) = log_in(&app).await;
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    app.store.once(
        |call| {
            matches!(
                call,
                test_support::Call::Swap {
                    change: Change::Remove,
                    ..
                }
            )
        },
        Plan::after(async move { opened.notified().await }),
    );
    let ending = tokio::spawn(app.layer.end_grant(&grant));
    settle().await;
    app.refresh(&token).await.token();
    gate.notify_one();
    assert!(ending.await.unwrap().unwrap());
    app.layer.drain().await;
    assert_eq!(revoked(&app), ["upstream-0-1"]);
}

#[tokio::test]
async fn a_grant_that_another_instance_has_ended_is_not_revoked_again() {
    let app = new();
    let (_, grant) = log_in(&app).await;
    let other = another(&app, KEY);
    assert!(app.layer.end_grant(&grant).await.unwrap());
    assert!(!other.layer.end_grant(&grant).await.unwrap());
    app.layer.drain().await;
    other.layer.drain().await;
    assert_eq!(revoked(&app), ["upstream-0-0"]);
}

#[tokio::test]
async fn without_the_key_an_entry_has_no_byte_more() {
    let plain = App::new();
    let keyed = new();
    let mut lens = Vec::new();
    for app in [&plain, &keyed] {
        let (token, _) = log_in(app).await;
        app.refresh(&token).await.token();
        let writes = app
            .store
            .writes()
            .into_iter()
            .filter_map(|(_, call)| match call {
                test_support::Call::Swap {
                    change: Change::Put { entry, .. },
                    ..
                } => Some(entry.value.len()),
                _ => None,
            });
        lens.push(writes.collect::<Vec<_>>());
    }
    // Field, length, nonce, tag and `upstream-0-0`.
    let extra = 2 + 12 + 16 + 12;
    let expected: Vec<_> = lens[0].iter().map(|len| len + extra).collect();
    assert_eq!(lens[1], expected);
}
