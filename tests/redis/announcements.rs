//! Instances that share a Redis receive announcements, or learn that some may have been lost,
//! whatever happens to the connection.

use std::time::{Duration, Instant};

use test_support::PATIENCE;
use test_support::announcements::{AGAIN, heard, next};
use test_support::entries::{every_call, random_key};
use test_support::redis::{Cluster, Fault, RedisServer, Sentinels, Wire};
use test_support::secrets::Log;
use tokio::sync::Notify;
use tower_oauth_refresh::store::{Announcement, Announcements, Key, Store, StoreError};
use tower_oauth_refresh::{RedisStore, RedisStoreBuilder};

/// The time limit of a call while servers do not respond.
const LIMIT: Duration = Duration::from_secs(5);

const RIGHTS: &str = "~rt:* +get +set +setrange +unlink +time +eval +evalsha +script|load +info";

/// The documented rights that the channel needs.
const CHANNEL_RIGHTS: &str = "resetchannels &rt:ended +publish +subscribe +ping";

fn builder(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url).command_timeout(PATIENCE)
}

async fn connect(url: &str) -> RedisStore {
    builder(url).connect().await.unwrap()
}

#[tokio::test]
async fn a_broken_channel_is_detected_and_reopened() {
    let server = RedisServer::start().await;
    for name in ["frozen", "killed", "closed", "cut", "half open"] {
        let wire = Wire::in_front_of(server.port()).await;
        let store = connect(&wire.url()).await;
        let other = RedisStore::builder(&server.url()).connect().await.unwrap();
        let mut announcements = store.announcements().unwrap();
        assert_eq!(
            next(&mut announcements, name).await,
            Some(Announcement::Lost),
            "{name}: there was no subscriber before"
        );
        heard(&other, &mut announcements, name).await;
        match name {
            "frozen" => server.freeze(),
            "killed" => server.kill(),
            "closed" => drop(server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await),
            "cut" => wire.cut().await,
            _ => wire.once("PING", Fault::Hold(Notify::new().into())),
        }
        while next(&mut announcements, name).await != Some(Announcement::Lost) {}
        match name {
            "frozen" => server.thaw(),
            "killed" => server.restart().await,
            "cut" => wire.mend().await,
            _ => {}
        }
        let before = heard(&other, &mut announcements, name).await;
        assert_eq!(
            before.first(),
            Some(&Announcement::Lost),
            "{name}: {before:?}"
        );
    }
}

/// Expects that a broken channel works again: announcements of `other` arrive, after a notice that
/// some may have been lost.
async fn broken_and_back(other: &RedisStore, announcements: &mut Announcements, what: &str) {
    while next(announcements, what).await != Some(Announcement::Lost) {}
    let before = heard(other, announcements, what).await;
    assert_eq!(
        before.first(),
        Some(&Announcement::Lost),
        "{what}: {before:?}"
    );
}

#[tokio::test]
async fn the_channel_follows_the_master() {
    let sentinels = Sentinels::start().await;
    let limited = async || {
        builder(&sentinels.url())
            .command_timeout(LIMIT)
            .connect()
            .await
            .unwrap()
    };
    let (store, other) = (limited().await, limited().await);
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "an end").await;
    sentinels.failover().await;
    broken_and_back(&other, &mut announcements, "the master has changed places").await;
    sentinels.master().freeze();
    sentinels.promoted().await;
    broken_and_back(&other, &mut announcements, "the master is frozen").await;
}

/// Every node receives what is published on any other. Unreachable nodes are skipped.
#[tokio::test]
async fn the_channel_of_a_cluster_skips_unreachable_nodes() {
    let cluster = Cluster::start().await;
    for (at, node) in cluster.nodes().iter().enumerate() {
        let limited = async || {
            builder(&cluster.url())
                .command_timeout(LIMIT)
                .connect()
                .await
                .unwrap()
        };
        let (store, other) = (limited().await, limited().await);
        let mut announcements = store.announcements().unwrap();
        heard(&other, &mut announcements, "an end").await;
        node.kill();
        if at == 0 {
            broken_and_back(
                &other,
                &mut announcements,
                "the subscribed node is unreachable",
            )
            .await;
        }
        heard(&other, &mut announcements, "a node is unreachable").await;
        node.restart().await;
        cluster.ready().await;
    }
}

/// PING needs one more right, and the channel works without it.
#[tokio::test]
async fn a_server_that_denies_ping_counts_as_alive() {
    let server = RedisServer::builder()
        .user("app on >secret ~* &* +@all -ping")
        .start()
        .await;
    let store = connect(&server.url_with("app:secret@")).await;
    let other = connect(&server.url()).await;
    let mut announcements = store.announcements().unwrap();
    assert_eq!(
        next(&mut announcements, "the first notice").await,
        Some(Announcement::Lost)
    );
    let denied = async || format!("{:?}", server.command(&["ACL", "LOG"]).await).contains("ping");
    let end = Instant::now() + PATIENCE;
    while !denied().await {
        assert!(Instant::now() < end, "no PING is sent");
        tokio::time::sleep(AGAIN).await;
    }
    heard(&other, &mut announcements, "an end").await;
}

#[tokio::test]
async fn a_message_contains_only_keys() {
    let server = RedisServer::start().await;
    let store = builder(&server.url())
        .key_prefix("app:")
        .connect()
        .await
        .unwrap();
    let mut announcements = store.announcements().unwrap();
    assert_eq!(
        next(&mut announcements, "the first notice").await,
        Some(Announcement::Lost)
    );
    let [one, two] = [[1; 32], [2; 32]].map(|key| Announcement::Ended(Key::new(key)));
    let whole = [[1; 32], [2; 32]].concat();
    let rows: [(&str, Vec<u8>, &[Announcement]); 4] = [
        ("two keys", whole.clone(), &[one, two]),
        (
            "two keys and a byte",
            [&whole[..], &[3]].concat(),
            &[one, two, Announcement::Lost],
        ),
        ("no key", b"no key".to_vec(), &[Announcement::Lost]),
        ("a key", vec![1; 32], &[one]),
    ];
    for (name, message, expected) in rows {
        let end = Instant::now() + PATIENCE;
        loop {
            server
                .command(&[b"PUBLISH", &b"app:ended"[..], &message])
                .await;
            let mut received = Vec::new();
            while let Ok(Some(next)) = tokio::time::timeout(AGAIN, announcements.next()).await {
                received.push(next);
            }
            if received == expected {
                break;
            }
            // On a busy machine, the server may have been silent for long enough to be given up.
            assert!(
                received.is_empty() || received.contains(&Announcement::Lost),
                "{name}: {received:?}"
            );
            assert!(Instant::now() < end, "{name}: {received:?}");
        }
    }
}

/// One message for each call, of any length, and none for an empty call.
#[tokio::test]
async fn one_announce_call_sends_one_message() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url()).await;
    wire.commands();
    store.announce(&[]).await.unwrap();
    store
        .announce(&[[1; 32], [2; 32], [3; 32]].map(Key::new))
        .await
        .unwrap();
    let commands = wire.commands();
    let [command] = &*commands else {
        panic!("{commands:?}")
    };
    let message = [[1; 32], [2; 32], [3; 32]].concat();
    assert_eq!(command[..], [&b"PUBLISH"[..], b"rt:ended", &message]);
}

/// A process whose channel is down still learns at once what it ended itself.
#[tokio::test]
async fn own_announcements_arrive_without_a_channel() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let mut announcements = store.announcements().unwrap();
    server.kill();
    let key = random_key();
    assert!(matches!(
        store.announce(&[key]).await,
        Err(StoreError::Unavailable(_))
    ));
    while next(&mut announcements, "its own announcement").await != Some(Announcement::Ended(key)) {
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_subscription() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let mut announcements = [
        store.announcements().unwrap(),
        store.clone().announcements().unwrap(),
    ];
    let [first, second] = &mut announcements;
    assert_eq!(
        next(first, "the first notice").await,
        Some(Announcement::Lost)
    );
    assert_eq!(
        next(second, "the first notice").await,
        Some(Announcement::Lost)
    );
    let list = async || {
        format!(
            "{:?}",
            server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await
        )
    };
    let end = Instant::now() + PATIENCE;
    while list().await.matches(" name=").count() != 1 {
        assert!(
            Instant::now() < end,
            "one connection for all subscribers: {}",
            list().await
        );
        tokio::time::sleep(AGAIN).await;
    }
    drop(store);
    for announcements in &mut announcements {
        while next(announcements, "the end of the stream").await.is_some() {}
    }
    let end = Instant::now() + PATIENCE;
    while list().await.contains(" name=") {
        assert!(Instant::now() < end, "its connection stays open");
        tokio::time::sleep(AGAIN).await;
    }
}

#[test]
fn subscribing_works_outside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (_server, store, other) = runtime.block_on(async {
        let server = RedisServer::start().await;
        let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
        (server, store, other)
    });
    let mut announcements = store.announcements().unwrap();
    runtime.block_on(heard(&other, &mut announcements, "an end"));
}

/// The documented rights suffice, and without them everything else works.
#[tokio::test]
async fn only_the_channel_needs_the_channel_rights() {
    let server = RedisServer::builder()
        .user(&format!("app on >secret {RIGHTS} {CHANNEL_RIGHTS}"))
        .start()
        .await;
    let (store, other) = (
        connect(&server.url_with("app:secret@")).await,
        connect(&server.url_with("app:secret@")).await,
    );
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "an end").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        server.command(&["ACL", "LOG"]).await,
        redis::Value::Array(Vec::new()),
        "nothing was denied"
    );

    let server = RedisServer::builder()
        .user(&format!("app on >secret {RIGHTS}"))
        .start()
        .await;
    let (log, guard) = Log::capture();
    let store = connect(&server.url_with("app:secret@")).await;
    let _announcements = store.announcements().unwrap();
    let end = Instant::now() + PATIENCE;
    while !log.text().contains("cannot subscribe to the Redis channel") {
        assert!(Instant::now() < end, "no warning is logged");
        tokio::time::sleep(AGAIN).await;
    }
    for _ in 0..3 {
        let outcome = store.announce(&[random_key()]).await;
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
        for (call, outcome) in every_call(&store, &random_key()).await {
            outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
        }
    }
    drop(guard);
    for warning in [
        "cannot subscribe to the Redis channel",
        "not permitted to PUBLISH",
    ] {
        assert_eq!(
            log.text().matches(warning).count(),
            1,
            "once: {}",
            log.text()
        );
    }
}
