//! The application ends a grant on one instance, and every instance over the same Redis rejects its
//! tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use test_support::access::{LOG_IN, Resource, pair};
use test_support::redis::RedisServer;
use test_support::{Act, App, ManualClock, SECOND, Upstream};
use tokio::sync::Notify;
use tower::Layer as _;
use tower_oauth_refresh::store::TieredStore;
use tower_oauth_refresh::{AccessLayer, RedisStore};

type Tier = TieredStore<RedisStore>;

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

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
            builder.reference_access_tokens(true)
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
    let Ok(response) = tower::ServiceExt::oneshot(access.layer(Resource::default()), request).await;
    response.status().as_u16()
}

#[tokio::test]
async fn a_grant_and_its_access_tokens_end_on_both_instances() {
    let server = RedisServer::start().await;
    let [(one, here), (two, there)] = two(&server).await;
    let (first, access) = pair(&one.post("/token", &LOG_IN).await);
    let grant = one.take_events()[0].grant.unwrap();
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
    let grant = one.take_events()[0].grant.unwrap();
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
