//! The windows in which old tokens are accepted, and a layer without any.

use std::time::Duration;

use test_support::{Act, App};
use tower_oauth_refresh::store::Store as _;
use tower_oauth_refresh::{ConfigError, EventKind, RefreshLayer};

use super::{HOUR, LINK, links, refused, rotate, shared};

#[tokio::test]
async fn by_default_a_second_generation_is_still_accepted_in_the_retry_window() {
    let app = App::new();
    let first = app.log_in("app").await;
    let tokens = rotate(&app, &first, 2).await;
    app.clock.advance(Duration::from_secs(59));
    app.refresh(&tokens[0]).await.token();
    assert_eq!(app.upstream.alive(), 1);
}

#[tokio::test]
async fn after_the_window_an_old_token_is_reuse() {
    for age in [1, 2] {
        let app = shared();
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, 2).await;
        // The newest token is presented, so that nothing can be recovered.
        app.upstream.then(Act::Answer(503, "text/plain", "down"));
        assert_eq!(app.refresh(&tokens[2]).await.status, 503);
        app.clock.advance(HOUR);
        assert_eq!(app.refresh(&tokens[2 - age]).await.error(), refused());
        assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
        assert_eq!(app.refresh(&tokens[2]).await.error(), refused(), "ended");
    }
}

/// Returns an app with all windows set to zero, and a strict one.
fn without_windows() -> [App; 2] {
    let zero = Duration::ZERO;
    let all_zero = App::with(|builder| {
        builder
            .retry_window(zero)
            .shared_token_window(zero)
            .recovery_window(zero)
    });
    [all_zero, App::with(|builder| builder.strict(true))]
}

#[tokio::test]
async fn without_windows_the_layer_is_strict() {
    for app in without_windows() {
        let first = app.log_in("app").await;
        app.refresh(&first).await.token();
        assert_eq!(app.refresh(&first).await.error(), refused());
        assert_eq!(
            app.events(),
            [
                EventKind::Issued,
                EventKind::Rotated,
                EventKind::ReuseDetected
            ]
        );
    }
}

#[tokio::test]
async fn without_windows_no_link_is_stored() {
    // The second rotation moves the link of the first token to a sidecar, if there is one.
    let stored = async |app: &App| {
        let first = app.log_in("app").await;
        rotate(app, &first, 2).await;
        let (grant, links) = links(app);
        let entry = app.store.get(&grant).await.unwrap().unwrap();
        (links.len(), entry.value.len())
    };
    let (links, with_link) = stored(&App::new()).await;
    assert_eq!(links, 1, "by default");
    for app in without_windows() {
        let (links, without_link) = stored(&app).await;
        assert_eq!(links, 0);
        assert_eq!(without_link + LINK, with_link, "no link in the record");
    }
}

#[tokio::test]
async fn the_window_is_at_most_the_idle_lifetime() {
    let build = |window, idle| {
        RefreshLayer::builder(tower_oauth_refresh::store::MemoryStore::new())
            .idle_lifetime(idle)
            .shared_token_window(window)
            .build()
            .err()
    };
    assert_eq!(build(HOUR, HOUR), None);
    let longer = HOUR + Duration::from_millis(1);
    assert_eq!(build(longer, HOUR), Some(ConfigError::SharedTokenWindow));
    // The default does not contradict a short lifetime.
    let _layer = RefreshLayer::builder(tower_oauth_refresh::store::MemoryStore::new())
        .idle_lifetime(Duration::from_secs(1))
        .build()
        .unwrap();
    let strict = RefreshLayer::builder(tower_oauth_refresh::store::MemoryStore::new())
        .strict(true)
        .shared_token_window(HOUR)
        .build();
    assert_eq!(strict.err(), Some(ConfigError::StrictWithWindow));
}
