//! Several instances over one PostgreSQL: one rotation and the same response for all.

use std::collections::HashSet;

use test_support::instances::{assert_nothing_lost, count, events, refresh_each};
use test_support::postgres::PostgresServer;
use test_support::{App, ManualClock, PATIENCE, Upstream};
use tower_oauth_refresh::store::TieredStore;
use tower_oauth_refresh::{EventKind, PostgresStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_refreshes_of_one_token_get_one_response() {
    let (server, upstream) = (PostgresServer::start().await, Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..4 {
        let store = PostgresStore::builder(&server.url()).command_timeout(PATIENCE);
        let store = TieredStore::new(store.connect().await.unwrap());
        let settings = |builder: tower_oauth_refresh::RefreshLayerBuilder<_>| {
            builder.rotation_timeout(PATIENCE)
        };
        instances.push(App::over(
            ManualClock::new(),
            store,
            upstream.clone(),
            settings,
        ));
    }
    let mut token = instances[0].log_in("app").await;
    for round in 1..=5 {
        let answers = refresh_each(&instances, &vec![token; 64]).join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        token = answers[0].token();
        assert_eq!(upstream.refreshes(), round);
    }
    let events = events(&instances);
    assert_eq!(
        (
            count(&events, EventKind::Rotated),
            count(&events, EventKind::Replayed)
        ),
        (5, 315),
        "{events:?}"
    );
    assert_nothing_lost("64 at once", &upstream, &[token], &events);
}
