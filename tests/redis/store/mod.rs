//! `RedisStore` keeps the contract of `Store` over real servers, and its promises about what it
//! writes.

mod calls;

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Value;
use test_support::entries::{
    HOUR, LEASE, NAME, TAG, entry, every_call, insert, put, random_key, remove, version,
};
use test_support::redis::RedisServer;
use tokio::sync::OnceCell;
use tower_oauth_refresh::store::{Change, Entry, Lease, Sidecar, Store, StoreError, Swap, Ttl};
use tower_oauth_refresh::{GrantKey, RedisConnectError, RedisStore};

/// A time limit for a command on a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(60);

async fn connect(url: &str) -> RedisStore {
    RedisStore::builder(url)
        .command_timeout(PATIENT)
        .connect()
        .await
        .unwrap()
}

mod standalone {
    use super::*;

    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();

    tower_oauth_refresh::store_conformance!(async || connect(
        &SERVER.get_or_init(RedisServer::start).await.url()
    )
    .await);
}

mod tls {
    use super::*;
    use test_support::redis::Certificates;

    static SERVER: OnceCell<(RedisServer, Certificates)> = OnceCell::const_new();

    async fn start() -> (RedisServer, Certificates) {
        let certificates = Certificates::generate();
        let builder = RedisServer::builder()
            .tls(&certificates)
            .config("tls-auth-clients", "yes");
        (builder.start().await, certificates)
    }

    tower_oauth_refresh::store_conformance!(async || {
        let (server, Certificates { ca, client, .. }) = SERVER.get_or_init(start).await;
        RedisStore::builder(&server.url())
            .command_timeout(PATIENT)
            .tls_root_certificates(ca.as_str())
            .tls_client_certificate(client.certificate.as_str(), client.key.as_str())
            .connect()
            .await
            .unwrap()
    });
}

mod cluster {
    use super::*;
    use test_support::redis::Cluster;

    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

    tower_oauth_refresh::store_conformance!(async || connect(
        &CLUSTER.get_or_init(Cluster::start).await.url()
    )
    .await);
}

mod sentinel {
    use super::*;
    use test_support::redis::Sentinels;

    static SENTINELS: OnceCell<Sentinels> = OnceCell::const_new();

    tower_oauth_refresh::store_conformance!(async || connect(
        &SENTINELS.get_or_init(Sentinels::start).await.url()
    )
    .await);
}

fn text(key: &[u8]) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

/// Returns the keys of entries, then those of sidecars.
async fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<_> = server
        .dump()
        .await
        .into_iter()
        .map(|(key, _)| text(&key))
        .collect();
    keys.sort_by_key(|key| (key.contains("}:"), key.clone()));
    keys
}

async fn number(server: &RedisServer, command: &[&str]) -> i64 {
    let Value::Int(number) = server.command(command).await else {
        panic!("{command:?} gives no number")
    };
    number
}

/// One key for each grant and one for each sidecar, in the same slot of a cluster, each with its
/// own expiry. Connecting writes nothing else.
#[tokio::test]
async fn every_key_has_the_prefix_and_an_expiry() {
    let server = RedisServer::start().await;
    let store = RedisStore::builder(&server.url())
        .key_prefix("app:")
        .command_timeout(PATIENT)
        .connect()
        .await
        .unwrap();
    // The sidecar that connecting writes expires after a millisecond.
    let end = Instant::now() + PATIENT;
    while keys(&server).await != Vec::<String>::new() {
        assert!(
            Instant::now() < end,
            "connecting leaves something behind: {:?}",
            keys(&server).await
        );
    }
    let key = random_key();
    insert(&store, &key).await;
    let keys = keys(&server).await;
    let [entry, sidecar] = &*keys else {
        panic!("{keys:?}")
    };
    let text = GrantKey::from(key).to_string();
    let (tag, rest) = text.split_at(8);
    assert_eq!(*entry, format!("app:{{{tag}}}{rest}"));
    assert!(sidecar.starts_with(&format!("app:{{{tag}}}:")), "{sidecar}");
    for key in [entry, sidecar] {
        let left = number(&server, &["PTTL", key]).await;
        assert!((1..=3_600_000).contains(&left), "{key} has {left} ms left");
    }
}

/// Stores with different prefixes, or in different databases, are independent.
#[tokio::test]
async fn prefixes_and_databases_separate_stores() {
    let server = RedisServer::start().await;
    let one = connect(&server.url()).await;
    let other = RedisStore::builder(&server.url())
        .key_prefix("")
        .command_timeout(PATIENT)
        .connect()
        .await
        .unwrap();
    let third = connect(&format!("{}/3", server.url())).await;
    let key = random_key();
    for (number, store) in [&one, &other, &third].into_iter().enumerate() {
        let number = u64::try_from(number).unwrap();
        assert_eq!(put(store, &key, None, number).await.unwrap(), Swap::Swapped);
        assert_eq!(store.get(&key).await.unwrap(), Some(entry(number)));
    }
}

/// A time to live beyond what Redis can represent becomes the longest possible one.
#[tokio::test]
async fn any_long_time_to_live_is_accepted() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let key = random_key();
    let change = Change::Put {
        entry: entry(1),
        ttl: Ttl::After(Duration::MAX),
    };
    let also = Sidecar::new(NAME, Bytes::from_static(b"sidecar"), Duration::MAX);
    assert_eq!(
        store.swap(&key, None, change, &[also]).await.unwrap(),
        Swap::Swapped
    );
    let claim = store
        .claim(&key, &TAG, version(2), Duration::MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim.lease, Lease::Taken);
    assert_eq!(store.get(&key).await.unwrap(), Some(claim.entry));
    let held = store
        .claim(&key, &TAG, version(3), LEASE)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(held.lease, Lease::Held(left) if left > Duration::from_secs(3600)),
        "{held:?}"
    );
}

/// The record of a grant with a 64-byte upstream token and a 36-byte client id has about 330 bytes.
#[tokio::test]
async fn an_entry_takes_at_most_512_bytes_of_redis() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let key = random_key();
    let entry = Entry::new(version(1), TAG, Bytes::from(vec![7; 330]));
    let swap = store
        .swap(&key, None, Change::Put { entry, ttl: HOUR }, &[])
        .await;
    assert_eq!(swap.unwrap(), Swap::Swapped);
    let name = keys(&server).await.remove(0);
    let written = number(&server, &["MEMORY", "USAGE", &name]).await;
    assert!(written <= 512, "{written} bytes");
    store.claim(&key, &TAG, version(2), LEASE).await.unwrap();
    let claimed = number(&server, &["MEMORY", "USAGE", &name]).await;
    assert!(claimed <= 512, "{claimed} bytes once it is claimed");
}

/// A malformed value is an error, never "absent", and is not changed.
#[tokio::test]
async fn a_malformed_value_is_corrupt() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let key = random_key();
    insert(&store, &key).await;
    let names = keys(&server).await;
    let (name, sidecar) = (names[0].as_bytes(), names[1].as_bytes());
    let Value::BulkString(whole) = server.command(&[b"GET", name]).await else {
        panic!("no entry")
    };
    let mut newer = whole.clone();
    newer[0] = 2;
    let rows: [(&str, Vec<&[u8]>); 6] = [
        ("empty", vec![b"SET", name, b""]),
        ("one byte", vec![b"SET", name, b"\x01"]),
        ("a byte too short", vec![b"SET", name, &whole[..46]]),
        ("of a newer format", vec![b"SET", name, &newer]),
        ("a list", vec![b"RPUSH", name, &whole]),
        ("a hash", vec![b"HSET", name, b"field", &whole]),
    ];
    for (row, command) in rows {
        server.command(&[b"DEL", name]).await;
        server.command(&command).await;
        let before = server.dump().await;
        for (call, outcome) in every_call(&store, &key).await {
            match call {
                "sidecar" => outcome.unwrap(),
                _ => assert!(
                    matches!(outcome, Err(StoreError::Corrupt(_))),
                    "{row}: {call} gives {outcome:?}"
                ),
            }
        }
        assert_eq!(server.dump().await, before, "{row}: it is unchanged");
    }
    server.command(&[b"DEL", sidecar]).await;
    server.command(&[b"RPUSH", sidecar, b"value"]).await;
    let outcome = store.sidecar(&key, &NAME).await;
    assert!(
        matches!(outcome, Err(StoreError::Corrupt(_))),
        "a list as a sidecar gives {outcome:?}"
    );
}

/// A write that Redis rejects because its memory is full can be retried later.
#[tokio::test]
async fn a_full_server_is_unavailable() {
    let server = RedisServer::builder()
        .config("maxmemory-policy", "noeviction")
        .start()
        .await;
    let store = connect(&server.url()).await;
    let key = random_key();
    insert(&store, &key).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = put(&store, &key, Some(1), 2).await;
    assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
    assert_eq!(
        remove(&store, &key, 1).await.unwrap(),
        Swap::Swapped,
        "calls that free memory succeed"
    );
    let error = RedisStore::connect(&server.url()).await.unwrap_err();
    assert!(matches!(error, RedisConnectError::Unusable(_)), "{error:?}");
}
