//! Access tokens that end on one instance end on every other: soon if Redis Pub/Sub works, and
//! otherwise within the time to live of the cache.

use std::sync::Arc;
use std::time::{Duration, Instant};

use test_support::access::{LOG_IN, pair, refused, status};
use test_support::redis::{Fault, RedisServer, Wire};
use test_support::{Act, App, ManualClock, PATIENCE, SECOND, Upstream, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::store::{Announcement, Announcements, Key, Store as _, TieredStore};
use tower_oauth_refresh::{AccessLayer, RedisStore};

const POLL: Duration = Duration::from_millis(20);

const HOUR: Duration = Duration::from_secs(3600);

const OTHER_LOG_IN: [(&str, &str); 3] = [
    ("grant_type", "authorization_code"),
    ("code", "c"),
    ("client_id", "other"),
];

type Tier = TieredStore<RedisStore>;

/// An instance, the wire between it and Redis, and its resource server.
pub(crate) struct Instance {
    pub(crate) app: App<Tier>,
    wire: Wire,
    access: AccessLayer<Tier>,
}

impl Instance {
    pub(crate) async fn status(&self, token: &str) -> u16 {
        status(&self.access, token).await
    }

    /// Waits until the token is rejected.
    pub(crate) async fn refuses(&self, token: &str, what: &str) {
        refused(&self.access, token, what).await;
    }
}

/// Returns instances that cache access tokens for this long.
pub(crate) async fn instances<const N: usize>(
    server: &RedisServer,
    cache_ttl: Duration,
) -> [Instance; N] {
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..N {
        let wire = Wire::in_front_of(server.port()).await;
        let store = TieredStore::new(
            RedisStore::builder(&wire.url())
                .command_timeout(PATIENCE)
                .connect()
                .await
                .unwrap(),
        );
        let app = App::over(clock.clone(), store, upstream.clone(), |builder| {
            builder.reference_access_tokens(true)
        });
        let access = app.layer.access().cache_ttl(cache_ttl).build().unwrap();
        instances.push(Instance { app, wire, access });
    }
    instances
        .try_into()
        .unwrap_or_else(|_| panic!("there are {N}"))
}

/// Waits until this many instances have subscribed.
pub(crate) async fn listened_to(server: &RedisServer, by: i64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let count = server.command(&["PUBSUB", "NUMSUB", "rt:ended"]).await;
        if matches!(&count, redis::Value::Array(parts) if parts.get(1) == Some(&redis::Value::Int(by)))
        {
            break;
        }
        assert!(Instant::now() < end, "never {by} subscribers: {count:?}");
        tokio::time::sleep(POLL).await;
    }
    // They have handled the subscription by then.
    tokio::time::sleep(POLL).await;
    settle().await;
}

/// Returns the next key that is announced as ended.
async fn ended(announcements: &mut Announcements, what: &str) -> Key {
    let heard = async {
        loop {
            match announcements.next().await {
                Some(Announcement::Ended(key)) => return key,
                Some(_) => {}
                None => panic!("{what}: the channel is closed"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard)
        .await
        .unwrap_or_else(|_| panic!("{what}: no announcement arrived"))
}

/// An hour is longer than the test waits: a token ends because it was announced, not because its
/// cache entry expired.
#[tokio::test]
async fn every_kind_of_end_reaches_every_instance() {
    let server = RedisServer::start().await;
    let instances = instances::<3>(&server, HOUR).await;
    let mut ears = instances
        .each_ref()
        .map(|instance| instance.app.store.announcements().unwrap());
    let app = &instances[1].app;
    for name in [
        "revoked",
        "revoked alone",
        "reused",
        "ended by the application",
        "all of its client ended",
        "all ended",
        "dead upstream",
    ] {
        // An epoch ends what began at the same time, too.
        app.clock.advance(SECOND);
        app.events();
        let (first, one) = pair(&app.post("/token", &LOG_IN).await);
        let (second, two) = pair(&app.refresh(&first).await);
        let (_, elsewhere) = pair(&app.post("/token", &LOG_IN).await);
        let (_, of_other) = pair(&app.post("/token", &OTHER_LOG_IN).await);
        let tokens = [&one, &two, &elsewhere, &of_other];
        for instance in &instances {
            for token in tokens {
                assert_eq!(instance.status(token).await, 200, "{name}");
            }
        }
        listened_to(&server, 3).await;
        for instance in &instances {
            for token in tokens {
                assert_eq!(instance.status(token).await, 200, "{name}, remembered");
            }
        }
        let mut over = vec![&one, &two];
        instances[1].wire.commands();
        match name {
            "revoked" => assert_eq!(app.revoke(&second).await.status, 200),
            "revoked alone" => {
                assert_eq!(app.revoke(&two).await.status, 200);
                over = vec![&two];
            }
            "reused" => {
                let third = app.refresh(&second).await.token();
                app.clock.advance(Duration::from_secs(61));
                assert_eq!(app.refresh(&first).await.status, 400);
                assert_eq!(
                    app.refresh(&third).await.status,
                    400,
                    "{name}: the grant has ended"
                );
            }
            "ended by the application" => {
                let grant = app.take_events()[0].grant.unwrap();
                assert!(app.layer.end_grant(&grant).await.unwrap());
            }
            "all of its client ended" => {
                app.layer.end_client(&"app".parse().unwrap()).await.unwrap();
                over = vec![&one, &two, &elsewhere];
            }
            "all ended" => {
                app.layer.end_all().await.unwrap();
                over = tokens.into();
            }
            _ => {
                app.upstream.then(Act::Answer(
                    400,
                    "application/json",
                    r#"{"error":"invalid_grant"}"#,
                ));
                assert_eq!(app.refresh(&second).await.status, 400);
            }
        }
        let sent = instances[1].wire.commands();
        assert!(
            sent.iter().any(|words| words[0] == "PUBLISH"),
            "{name}: announced before the client gets its response"
        );
        let [here, ears @ ..] = ears.each_mut();
        let key = ended(here, name).await;
        for ear in ears {
            while ended(ear, name).await != key {}
        }
        for instance in &instances {
            for token in &over {
                instance.refuses(token, name).await;
            }
            for token in tokens.iter().filter(|token| !over.contains(token)) {
                assert_eq!(instance.status(token).await, 200, "{name}: it lives");
            }
        }
    }
}

#[tokio::test]
async fn without_announcements_access_tokens_end_within_the_cache_ttl() {
    let server = RedisServer::start().await;
    for (ttl, ends) in [(Duration::from_millis(500), true), (HOUR, false)] {
        let instances = instances::<3>(&server, ttl).await;
        for instance in &instances {
            instance.wire.hook(|words| {
                if words[0] == "SUBSCRIBE" {
                    Fault::Drop
                } else {
                    Fault::Pass
                }
            });
        }
        let app = &instances[0].app;
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        for instance in &instances {
            assert_eq!(instance.status(&access).await, 200);
        }
        assert_eq!(app.revoke(&token).await.status, 200);
        instances[0]
            .refuses(&access, "the instance that has ended it")
            .await;
        for instance in &instances[1..] {
            match ends {
                true => instance.refuses(&access, "another instance").await,
                false => assert_eq!(
                    instance.status(&access).await,
                    200,
                    "no announcement arrived, and the hour is not over"
                ),
            }
        }
    }
}

#[tokio::test]
async fn a_reconnecting_subscriber_empties_its_cache() {
    let server = RedisServer::start().await;
    let instances = instances::<3>(&server, HOUR).await;
    let [ending, other, _] = &instances;
    let (token, access) = pair(&ending.app.post("/token", &LOG_IN).await);
    assert_eq!(other.status(&access).await, 200);
    listened_to(&server, 1).await;
    other.wire.commands();
    other.wire.hook(|words| {
        if words[0] == "SUBSCRIBE" {
            Fault::Drop
        } else {
            Fault::Pass
        }
    });
    server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let end = Instant::now() + PATIENCE;
    while !other
        .wire
        .commands()
        .iter()
        .any(|words| words[0] == "SUBSCRIBE")
    {
        assert!(Instant::now() < end, "it never tries again");
        tokio::time::sleep(POLL).await;
    }
    settle().await;
    assert_eq!(
        other.status(&access).await,
        200,
        "it is read again, and cached"
    );
    assert_eq!(ending.app.revoke(&token).await.status, 200);
    assert_eq!(other.status(&access).await, 200, "no announcement arrived");
    other.wire.unhook();
    other
        .refuses(&access, "a subscriber that has reconnected")
        .await;
}

/// It receives no announcements, and its cache entries are valid for an hour.
#[tokio::test]
async fn an_instance_without_a_channel_does_not_trust_its_cache() {
    let server = RedisServer::start().await;
    for name in ["closed", "silent"] {
        let [ending, other, _] = instances::<3>(&server, HOUR).await;
        let (token, access) = pair(&ending.app.post("/token", &LOG_IN).await);
        assert_eq!(other.status(&access).await, 200, "{name}");
        listened_to(&server, 1).await;
        assert_eq!(other.status(&access).await, 200, "{name}, remembered");
        let never = Arc::new(Notify::new());
        other.wire.hook(move |words| match &*words[0] {
            b"SUBSCRIBE" => Fault::Drop,
            b"PING" => Fault::Hold(Arc::clone(&never)),
            _ => Fault::Pass,
        });
        ending.wire.hook(|words| {
            if words[0] == "PUBLISH" {
                Fault::Drop
            } else {
                Fault::Pass
            }
        });
        assert_eq!(ending.app.revoke(&token).await.status, 200, "{name}");
        if name == "closed" {
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
        other.refuses(&access, name).await;
    }
}

/// Tokens that end while a server is unreachable for some or all instances are rejected everywhere
/// when it is back.
#[tokio::test]
async fn ends_reach_every_instance_after_an_outage() {
    let server = RedisServer::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "always")
        .start()
        .await;
    let instances = instances::<3>(&server, HOUR).await;
    let app = &instances[2].app;
    for name in ["killed", "frozen"] {
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        for instance in &instances {
            assert_eq!(instance.status(&access).await, 200, "{name}");
        }
        listened_to(&server, 3).await;
        match name {
            "killed" => {
                server.kill();
                server.restart().await;
            }
            _ => {
                server.freeze();
                tokio::time::sleep(Duration::from_secs(3)).await;
                server.thaw();
            }
        }
        let end = Instant::now() + PATIENCE;
        while app.revoke(&token).await.status != 200 {
            assert!(Instant::now() < end, "{name}: it never reconnected");
            tokio::time::sleep(POLL).await;
        }
        for instance in &instances {
            instance.refuses(&access, name).await;
        }
    }
}
