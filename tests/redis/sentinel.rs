//! `RedisStore` behind Sentinel finds the master and follows it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use test_support::entries::{entry, every_call, insert, put, random_key};
use test_support::redis::{Certificates, Sentinels};
use tower_oauth_refresh::store::{Key, Store, StoreError, Swap};
use tower_oauth_refresh::{RedisConnectError, RedisStore, RedisStoreBuilder};

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rights that the documentation says a user needs, with Sentinel and to wait for replicas.
const RIGHTS: &str =
    "~rt:* +get +set +setrange +unlink +time +eval +evalsha +script|load +info +role +wait";

async fn connect(url: &str, command_timeout: Duration) -> RedisStore {
    RedisStore::builder(url)
        .command_timeout(command_timeout)
        .connect()
        .await
        .unwrap()
}

/// Writes entry `number` as soon as the store accepts it.
async fn eventually_put(store: &RedisStore, key: &Key, expected: Option<u64>, number: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        match put(store, key, expected, number).await {
            Ok(swap) => return assert_eq!(swap, Swap::Swapped),
            Err(StoreError::Unavailable(error)) => {
                assert!(Instant::now() < end, "not in time: {error}")
            }
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns whether the server holds the entry.
async fn is_on(server: &test_support::redis::RedisServer) -> bool {
    !server.dump().await.is_empty()
}

/// The replicated entry is still there. Without waiting for the replica, a failover loses the
/// latest writes.
#[tokio::test]
async fn the_master_is_followed_after_a_failover() {
    let sentinels = Sentinels::start().await;
    let builder = RedisStore::builder(&sentinels.url()).command_timeout(PATIENCE);
    let store = builder
        .wait_for_replicas(1, PATIENCE / 2)
        .connect()
        .await
        .unwrap();
    let key = random_key();
    insert(&store, &key).await;
    for number in 2..4 {
        sentinels.failover().await;
        eventually_put(&store, &key, Some(number - 1), number).await;
        assert_eq!(store.get(&key).await.unwrap(), Some(entry(number)));
        assert!(
            is_on(sentinels.master()).await,
            "it is written to the master"
        );
    }
}

#[tokio::test]
async fn the_master_is_followed_after_it_was_killed() {
    let sentinels = Sentinels::start().await;
    let store = connect(&sentinels.url(), PATIENCE).await;
    let key = random_key();
    insert(&store, &key).await;
    sentinels.kill_master_and_wait().await;
    eventually_put(&store, &random_key(), None, 1).await;
    assert!(is_on(sentinels.master()).await);
}

/// A master that neither responds nor closes its connections is abandoned when another has replaced
/// it.
#[tokio::test]
async fn the_master_is_followed_after_it_was_frozen() {
    let sentinels = Sentinels::start().await;
    let store = connect(&sentinels.url(), Duration::from_secs(2)).await;
    let old = sentinels.master();
    old.freeze();
    sentinels.promoted().await;
    eventually_put(&store, &random_key(), None, 1).await;
    assert!(is_on(sentinels.master()).await);
    old.thaw();
    eventually_put(&store, &random_key(), None, 1).await;
}

/// Sentinels that are down or frozen are skipped, as long as one responds.
#[tokio::test]
async fn one_sentinel_is_enough() {
    let sentinels = Sentinels::start().await;
    let [first, second, _] = sentinels.sentinels() else {
        panic!("there are three")
    };
    first.kill();
    second.freeze();
    let store = connect(&sentinels.url(), PATIENCE / 6).await;
    let key = random_key();
    insert(&store, &key).await;
    sentinels
        .master()
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await;
    eventually_put(&store, &key, Some(1), 2).await;
}

/// The credentials in the URL are for the master, and the sentinels have others. Both users have
/// only the documented rights.
#[tokio::test]
async fn master_and_sentinels_can_have_different_passwords() {
    let sentinels =
        Sentinels::start_with(|server| server.user(&format!("app on >secret {RIGHTS}"))).await;
    for sentinel in sentinels.sentinels() {
        let rights = "+sentinel|get-master-addr-by-name";
        sentinel
            .command(&["ACL", "SETUSER", "watcher", "on", ">watch", rights])
            .await;
        sentinel
            .command(&["ACL", "SETUSER", "default", "resetpass"])
            .await;
    }
    let builder = || {
        let builder =
            RedisStore::builder(&sentinels.url_with("app:secret@")).command_timeout(PATIENCE);
        builder.wait_for_replicas(1, PATIENCE / 2)
    };
    let store = builder()
        .sentinel_credentials("watcher", "watch")
        .connect()
        .await
        .unwrap();
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    for (row, refused) in [
        ("none", builder().connect().await),
        (
            "wrong",
            builder()
                .sentinel_credentials("watcher", "other")
                .connect()
                .await,
        ),
        (
            "those of the master",
            builder()
                .sentinel_credentials("app", "secret")
                .connect()
                .await,
        ),
    ] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, RedisConnectError::Authentication(_)),
            "{row}: {error:?}"
        );
    }
}

/// The certificates of the builder are for the sentinels as well as for the master, each of which
/// may have an authority of its own.
#[tokio::test]
async fn sentinels_require_matching_tls_certificates() {
    let (certificates, others) = (Certificates::generate(), Certificates::generate());
    let sentinels = Sentinels::start_over_tls(&certificates).await;
    let url = sentinels.url();
    assert!(url.starts_with("rediss-sentinel://"), "{url}");
    let client = &certificates.client;
    let of = || RedisStore::builder(&url).command_timeout(PATIENCE);
    let known = |builder: RedisStoreBuilder| {
        builder.tls_client_certificate(client.certificate.as_str(), client.key.as_str())
    };
    let both = format!("{}{}", others.ca, certificates.ca);
    let store = known(of().tls_root_certificates(both))
        .connect()
        .await
        .unwrap();
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let rows = [
        (
            "another authority",
            known(of().tls_root_certificates(others.ca.as_str())),
        ),
        ("that of the system", known(of())),
        (
            "no client certificate",
            of().tls_root_certificates(certificates.ca.as_str()),
        ),
        (
            "TCP",
            RedisStore::builder(&url.replace("rediss-", "redis-")).command_timeout(PATIENCE),
        ),
    ];
    for (row, builder) in rows {
        let error = builder.connect().await.expect_err(row);
        assert!(
            matches!(error, RedisConnectError::Unreachable(_)),
            "{row}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_unknown_service_name_is_an_error() {
    let sentinels = Sentinels::start().await;
    let url = sentinels.url().replace("/main", "/other");
    let error = RedisStore::builder(&url)
        .command_timeout(PATIENCE)
        .connect()
        .await
        .unwrap_err();
    let RedisConnectError::Unusable(_) = &error else {
        panic!("{error:?}")
    };
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .contains("does not know the service name"),
        "{error:?}"
    );
}
