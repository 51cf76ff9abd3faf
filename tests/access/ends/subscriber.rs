//! The subscriber to announcements, and the cache when it fails.

use super::*;

/// A store whose announcements a test can cut off.
#[derive(Clone)]
struct Cut {
    inner: MemoryStore,
    announcer: Announcer,
    has_channel: bool,
}

impl Store for Cut {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        self.inner.swap(key, expected, change, sidecars).await
    }

    async fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> Result<Option<bytes::Bytes>, StoreError> {
        self.inner.sidecar(key, name).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.inner.claim(key, tag, version, lease).await
    }

    fn announcements(&self) -> Option<Announcements> {
        self.has_channel.then(|| self.announcer.subscribe())
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

/// Returns an instance over a memory store, that store with separate announcements, and a function
/// that builds layers over it.
fn cut(has_channel: bool) -> (App, Cut, impl Fn() -> AccessLayer<Cut>) {
    let app = referencing();
    let store = Cut {
        inner: app.store.inner.clone(),
        announcer: Announcer::new(),
        has_channel,
    };
    let (clock, shared) = (app.clock.clone(), store.clone());
    let layer = move || {
        AccessLayer::builder(shared.clone())
            .clock(clock.clone())
            .cache_ttl(HOUR)
            .build()
            .unwrap()
    };
    (app, store, layer)
}

async fn status<St: Store>(layer: &AccessLayer<St>, token: &str) -> u16 {
    use tower::{Layer as _, ServiceExt as _};
    let request = http::Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let service = layer.layer(test_support::access::Resource::default());
    let Ok(response) = service.oneshot(request).await;
    response.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_lost_subscription_empties_the_cache() {
    let (app, store, layer) = cut(true);
    let layer = layer();
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(status(&layer, &access).await, 200);
    app.revoke(&token).await;
    settle().await;
    assert_eq!(
        status(&layer, &access).await,
        200,
        "no announcement arrived"
    );
    store.announcer.lost();
    settle().await;
    assert_eq!(
        status(&layer, &access).await,
        401,
        "the token is read again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_falls_behind_empties_the_cache() {
    let (app, store, layer) = cut(true);
    let layer = layer();
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(status(&layer, &access).await, 200);
    app.revoke(&token).await;
    for n in 0..5_000_u32 {
        let mut key = [1; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        store.announcer.ended(Key::new(key));
    }
    settle().await;
    assert_eq!(status(&layer, &access).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_store_without_announcements_is_cached_too() {
    let (app, _, layer) = cut(false);
    let layer = layer();
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    assert_eq!(status(&layer, &access).await, 200);
    app.revoke(&token).await;
    assert_eq!(
        status(&layer, &access).await,
        200,
        "cached for an hour, as configured"
    );
}

#[test]
fn a_subscriber_whose_runtime_is_gone_restarts_and_empties_the_cache() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (token, access, kept) = runtime().block_on(async {
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        let (_, kept) = pair(&app.post("/token", &LOG_IN).await);
        assert_eq!(
            (guarded.status(&access).await, guarded.status(&kept).await),
            (200, 200)
        );
        (token, access, kept)
    });
    runtime().block_on(async {
        app.revoke(&token).await;
        settle().await;
        assert_eq!(
            guarded.status(&access).await,
            401,
            "without a subscriber, the cache is not trusted"
        );
        assert_eq!(guarded.status(&kept).await, 200);
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        assert_eq!(guarded.status(&access).await, 200);
        app.revoke(&token).await;
        settle().await;
        assert_eq!(
            guarded.status(&access).await,
            401,
            "there is a subscriber again"
        );
    });
}

#[tokio::test(start_paused = true)]
async fn the_subscriber_stops_when_its_layers_are_dropped() {
    let (app, store, layer) = cut(true);
    let layer = layer();
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let clone = layer.clone();
    for _ in 0..3 {
        assert_eq!(
            (status(&layer, &access).await, status(&clone, &access).await),
            (200, 200)
        );
    }
    assert_eq!(tasks(), before + 1, "one subscriber for all clones");
    drop(layer);
    store.announcer.lost();
    settle().await;
    assert_eq!(tasks(), before + 1);
    drop(clone);
    settle().await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_a_lost_subscription_is_not_cached() {
    let app = referencing();
    let announcer = Announcer::new();
    let inner = Cut {
        inner: app.store.inner.clone(),
        announcer: announcer.clone(),
        has_channel: true,
    };
    let store = Hooked::new(inner);
    let layer = AccessLayer::builder(store.clone())
        .clock(app.clock.clone())
        .cache_ttl(HOUR)
        .build()
        .unwrap();
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    store.once(
        |call| *call == Call::Get,
        Plan::before(async move { opened.notified().await }),
    );
    let slow = tokio::spawn({
        let (layer, access) = (layer.clone(), access.clone());
        async move { status(&layer, &access).await }
    });
    settle().await;
    app.revoke(&token).await;
    announcer.lost();
    settle().await;
    gate.notify_one();
    assert_eq!(slow.await.unwrap(), 200, "it was valid when it was read");
    assert_eq!(status(&layer, &access).await, 401, "and that is not cached");
}
