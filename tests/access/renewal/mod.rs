//! Renewals of upstream access tokens: refreshes by the layer itself.

mod client;
mod faults;
mod races;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use test_support::access::{Guarded, access_token, pair};
use test_support::{Act, Answer, App, TestStore};
use tower_oauth_refresh::{ClientCredentials, EventKind, RefreshLayerBuilder};

use test_support::access::LOG_IN;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Sets an access token lifetime of 20 days.
fn long_lived(builder: RefreshLayerBuilder<TestStore>) -> RefreshLayerBuilder<TestStore> {
    builder
        .reference_access_tokens(true)
        .access_token_lifetime(20 * DAY)
}

/// Lets an instance renew at its inner service, with these credentials.
fn renewing(app: App, credentials: ClientCredentials) -> App {
    let access = app.layer.access();
    let access = access.upstream_refresh::<_, Full<Bytes>, _>(app.upstream.clone(), credentials);
    drop(access.build().unwrap());
    app
}

/// Returns an instance that renews the upstream access tokens of public clients.
fn app() -> App {
    with(|builder| builder)
}

/// Like [`app`], with more settings.
fn with(
    settings: impl FnOnce(RefreshLayerBuilder<TestStore>) -> RefreshLayerBuilder<TestStore>,
) -> App {
    let App {
        clock,
        store,
        upstream,
        ..
    } = App::new();
    let app = App::over(clock, store, upstream, |builder| {
        settings(long_lived(builder))
    });
    renewing(app, ClientCredentials::public())
}

/// Returns another instance over the same store, in front of the same server.
fn another(app: &App) -> App {
    over(app, ClientCredentials::public())
}

fn over(app: &App, credentials: ClientCredentials) -> App {
    let (clock, store) = (app.clock.clone(), app.store.clone());
    let other = App::over(clock, store, app.upstream.clone(), long_lived);
    renewing(other, credentials)
}

/// Logs in and waits until the upstream access token has ended.
async fn log_in_and_wait(app: &App) -> (String, String) {
    let tokens = pair(&app.post("/token", &LOG_IN).await);
    app.clock.advance(HOUR);
    tokens
}

fn refresh_request(app: &App) -> test_support::upstream::Seen {
    let seen = app.upstream.seen();
    seen.into_iter()
        .rfind(|seen| seen.param("grant_type") == Some("refresh_token"))
        .unwrap()
}

fn lifetime(answer: &Answer) -> u64 {
    answer.json()["expires_in"].as_u64().unwrap()
}

#[tokio::test]
async fn an_access_token_outlives_its_upstream_access_token() {
    let app = app();
    let guarded = Guarded::new(&app);
    let answer = app.post("/token", &LOG_IN).await;
    let (refresh, access) = pair(&answer);
    assert_eq!(lifetime(&answer), 20 * 24 * 3600);
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-0");
    for hour in 1..5 {
        app.clock.advance(HOUR);
        let expected = format!("at-0-{hour}");
        for _ in 0..3 {
            assert_eq!(Guarded::swapped(&guarded.get(&access).await), expected);
        }
        assert_eq!(app.upstream.refreshes(), hour);
    }
    // The client has noticed nothing: its refresh token is the current one.
    let (next, newer) = pair(&app.refresh(&refresh).await);
    assert_eq!(Guarded::swapped(&guarded.get(&newer).await), "at-0-5");
    assert_eq!(app.refresh(&next).await.status, 200);
    assert_eq!((app.upstream.reuses(), app.upstream.alive()), (0, 1));
    let renewed = EventKind::Renewed;
    let events = app.events();
    assert_eq!(events.iter().filter(|kind| **kind == renewed).count(), 4);
    assert!(!events.contains(&EventKind::Recovered), "{events:?}");
}

#[tokio::test]
async fn a_token_is_renewed_within_a_minute_of_its_end() {
    let app = app();
    let guarded = Guarded::new(&app);
    let access = access_token(&app.post("/token", &LOG_IN).await);
    app.clock.advance(HOUR - Duration::from_secs(61));
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-0");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
}

#[tokio::test]
async fn an_unused_token_is_not_renewed_and_ends_with_its_grant() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    app.clock.advance(10 * DAY);
    assert_eq!(guarded.status(&access).await, 200, "used within 30 days");
    app.clock.advance(10 * DAY - HOUR);
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(guarded.status(&access).await, 200);
    app.clock.advance(HOUR);
    assert_eq!(guarded.status(&access).await, 401, "20 days old");
    assert_eq!(app.upstream.refreshes(), 2);

    // The grant would expire before the upstream access token does. Used once in each half of its
    // idle lifetime, it lives.
    for pause in [HOUR / 4, HOUR / 2 - Duration::from_secs(50)] {
        let busy = with(|builder| builder.idle_lifetime(HOUR / 2));
        let (_, of_busy) = pair(&busy.post("/token", &LOG_IN).await);
        for _ in 0..20 {
            busy.clock.advance(pause);
            assert_eq!(Guarded::new(&busy).status(&of_busy).await, 200, "{pause:?}");
        }
    }

    let idle = with(|builder| builder.idle_lifetime(DAY));
    let (_, of_idle) = pair(&idle.post("/token", &LOG_IN).await);
    for _ in 0..3 {
        idle.clock.advance(DAY - HOUR);
        assert_eq!(Guarded::new(&idle).status(&of_idle).await, 200);
    }
    idle.clock.advance(DAY);
    assert_eq!(Guarded::new(&idle).status(&of_idle).await, 401);
}

#[tokio::test]
async fn the_absolute_lifetime_ends_a_renewed_token() {
    let app = with(|builder| builder.absolute_lifetime(3 * HOUR));
    let guarded = Guarded::new(&app);
    let (_, access) = log_in_and_wait(&app).await;
    assert_eq!(guarded.status(&access).await, 200);
    app.clock.advance(2 * HOUR);
    assert_eq!(guarded.status(&access).await, 401);
}

#[tokio::test]
async fn every_access_token_of_a_grant_is_renewed_by_itself() {
    let app = with(|builder| builder.shared_token_window(2 * HOUR));
    let guarded = Guarded::new(&app);
    let (refresh, first) = pair(&app.post("/token", &LOG_IN).await);
    let (_, second) = pair(&app.refresh(&refresh).await);
    app.clock.advance(HOUR);
    // The refresh token that came with the first one leads to the current one.
    assert_eq!(Guarded::swapped(&guarded.get(&first).await), "at-0-2");
    assert_eq!(Guarded::swapped(&guarded.get(&second).await), "at-0-3");
    assert_eq!(Guarded::swapped(&guarded.get(&first).await), "at-0-2");
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_token_without_a_link_to_the_current_one_ends_with_its_upstream_token() {
    let app = with(|builder| builder.strict(true));
    let guarded = Guarded::new(&app);
    let (refresh, first) = pair(&app.post("/token", &LOG_IN).await);
    let (current, second) = pair(&app.refresh(&refresh).await);
    app.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(Guarded::swapped(&guarded.get(&first).await), "at-0-0");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(guarded.status(&first).await, 401);
    // That it is old is no reuse.
    assert_eq!(Guarded::swapped(&guarded.get(&second).await), "at-0-2");
    assert_eq!(app.refresh(&current).await.status, 200);
}

#[tokio::test]
async fn an_introspected_token_is_renewed() {
    let app = with(|builder| builder.introspection_path("/introspect"));
    let (_, access) = log_in_and_wait(&app).await;
    let answer = app.post("/introspect", &[("token", &access)]).await;
    assert_eq!(answer.json()["active"], true, "{answer:?}");
    assert_eq!(
        app.upstream.seen().last().unwrap().param("token"),
        Some("at-0-1")
    );
    app.clock.advance(HOUR);
    app.upstream.then(Act::Break);
    let answer = app.post("/introspect", &[("token", &access)]).await;
    assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
}

#[tokio::test]
async fn a_layer_over_the_store_alone_renews_nothing() {
    let app = app();
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    let layer = tower_oauth_refresh::AccessLayer::builder(app.store.clone())
        .clock(app.clock.clone())
        .build();
    let guarded = Guarded::of(layer.unwrap());
    app.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-0");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(guarded.status(&access).await, 401);
    // Another instance renews it, and then it is valid here.
    assert_eq!(Guarded::new(&app).status(&access).await, 200);
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
}
