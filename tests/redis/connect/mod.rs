//! Connecting a `RedisStore`: a clear error if it cannot work, a warning about settings that lose
//! sessions, and never a password in either.

mod logged;

use std::error::Error;
use std::time::Duration;

use test_support::entries::{NAME, TAG, every_call, put, random_key};
use test_support::redis::{Certificates, RedisServer};
use test_support::secrets::Log;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower_oauth_refresh::store::{Store, Swap};
use tower_oauth_refresh::{RedisConnectError, RedisStore, RedisStoreBuilder, RedisUrlError};

const PATIENT: Duration = Duration::from_secs(60);

/// The rights that the documentation says a user needs.
const RIGHTS: &str = "~rt:* +get +set +setrange +unlink +time +eval +evalsha +script|load +info";

fn builder(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url).command_timeout(PATIENT)
}

async fn refused(url: &str) -> RedisConnectError {
    builder(url).connect().await.expect_err(url)
}

/// Returns the error and all of its sources, in `Display` and `Debug`.
fn in_full(error: &dyn Error) -> String {
    let mut text = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        text += &format!(": {error}");
        next = error.source();
    }
    text
}

#[tokio::test]
async fn an_invalid_url_is_an_error() {
    let rows = [
        ("localhost", RedisUrlError::Scheme),
        ("redis://", RedisUrlError::NoHost),
        ("redis://a b", RedisUrlError::Host),
        ("redis://h:port", RedisUrlError::Port),
        ("redis://a,b", RedisUrlError::SeveralHosts),
        ("redis://user@h", RedisUrlError::Credentials),
        ("redis://h/name", RedisUrlError::Database),
        ("redis-cluster://h/1", RedisUrlError::ClusterDatabase),
        ("redis-sentinel://h", RedisUrlError::NoService),
        ("redis+unix://h/s", RedisUrlError::SocketPath),
        ("redis://h?x=y", RedisUrlError::Trailer),
    ];
    for (url, expected) in rows {
        let RedisConnectError::Url(error) = refused(url).await else {
            panic!("{url}: not a URL error")
        };
        assert_eq!(error, expected, "{url}");
    }
}

#[tokio::test]
async fn an_invalid_setting_is_an_error() {
    let second = Duration::from_secs(1);
    let of = || RedisStore::builder("redis://127.0.0.1:1");
    let rows = [
        ("key_prefix", of().key_prefix("a{b")),
        ("key_prefix", of().key_prefix("}")),
        ("command_timeout", of().command_timeout(Duration::ZERO)),
        ("command_timeout", of().command_timeout(Duration::MAX)),
        (
            "command_timeout",
            of().command_timeout(Duration::from_secs(3601)),
        ),
        ("wait_for_replicas", of().wait_for_replicas(0, second / 2)),
        (
            "wait_for_replicas",
            of().wait_for_replicas(1, Duration::ZERO),
        ),
        ("wait_for_replicas", of().wait_for_replicas(1, second)),
        ("tls", of().tls_root_certificates("")),
    ];
    for (name, builder) in rows {
        let row = format!("{builder:?}");
        let error = builder.connect().await.unwrap_err();
        assert!(
            matches!(error, RedisConnectError::Setting { setting, .. } if setting == name),
            "{row}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_server_is_unreachable() {
    let server = RedisServer::start().await;
    server.kill();
    let error = refused(&server.url()).await;
    assert!(
        matches!(error, RedisConnectError::Unreachable(_)),
        "{error:?}"
    );
}

/// A server that accepts connections and never responds does not block the start of an app forever.
#[tokio::test]
async fn an_unresponsive_server_is_unreachable() {
    let server = RedisServer::start().await;
    server.freeze();
    let store = RedisStore::builder(&server.url()).command_timeout(Duration::from_millis(100));
    let error = tokio::time::timeout(PATIENT, store.connect())
        .await
        .expect("within the time limit")
        .unwrap_err();
    assert!(
        matches!(error, RedisConnectError::Unreachable(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_credentials_are_rejected() {
    let server = RedisServer::builder()
        .password("right")
        .user("alice on >hers ~* &* +@all")
        .start()
        .await;
    for credentials in ["", ":wrong@", "alice:right@", "bob:right@"] {
        let error = refused(&server.url_with(credentials)).await;
        assert!(
            matches!(error, RedisConnectError::Authentication(_)),
            "{credentials}: {error:?}"
        );
    }
    for credentials in [":right@", "default:right@", "alice:hers@"] {
        builder(&server.url_with(credentials))
            .connect()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_password_may_have_any_character() {
    let server = RedisServer::builder()
        .user("al:ice on >p@/?#%:é ~* &* +@all")
        .start()
        .await;
    builder(&server.url_with("al%3Aice:p%40%2F%3F%23%25%3A%C3%A9@"))
        .connect()
        .await
        .unwrap();
}

/// The documented rights suffice for every call, and each of them is needed.
#[tokio::test]
async fn a_user_needs_exactly_the_documented_rights() {
    let server = RedisServer::builder()
        .user(&format!("app on >secret {RIGHTS}"))
        .start()
        .await;
    let log = Log::capture();
    let store = builder(&server.url_with("app:secret@"))
        .connect()
        .await
        .unwrap();
    let key = random_key();
    for _ in 0..2 {
        for (call, outcome) in every_call(&store, &key).await {
            outcome.unwrap_or_else(|error| panic!("{call}: {}", in_full(&error)));
        }
        server.command(&["SCRIPT", "FLUSH"]).await;
    }
    assert_eq!(
        server.command(&["ACL", "LOG"]).await,
        redis::Value::Array(Vec::new()),
        "nothing was denied"
    );
    drop(log);

    for right in RIGHTS
        .split(' ')
        .filter(|right| !["+info", "+script|load", "+eval"].contains(right))
    {
        let rules = ["ACL", "SETUSER", "less", "reset", "on", ">secret"];
        let rights = RIGHTS.split(' ').filter(|kept| *kept != right);
        server
            .command(&rules.into_iter().chain(rights).collect::<Vec<_>>())
            .await;
        let error = refused(&server.url_with("less:secret@")).await;
        assert!(
            matches!(error, RedisConnectError::Permission(_)),
            "without {right}: {}",
            in_full(&error)
        );
    }
}

/// A user without the right to INFO can still start.
#[tokio::test]
async fn a_server_that_denies_info_is_accepted() {
    let rights = RIGHTS.replace(" +info", "").replace(" +script|load", "");
    let server = RedisServer::builder()
        .user(&format!("app on >secret {rights}"))
        .start()
        .await;
    let (log, guard) = Log::capture();
    builder(&server.url_with("app:secret@"))
        .connect()
        .await
        .unwrap();
    drop(guard);
    assert!(!log.text().contains("WARN"), "{}", log.text());
}

#[tokio::test]
async fn a_server_of_the_wrong_kind_is_an_error() {
    let alone = RedisServer::start().await;
    let error = refused(&alone.url().replace("redis://", "redis-cluster://")).await;
    assert!(matches!(error, RedisConnectError::NotACluster), "{error:?}");

    let clustered = RedisServer::builder()
        .config("cluster-enabled", "yes")
        .start()
        .await;
    let error = refused(&clustered.url()).await;
    assert!(
        matches!(error, RedisConnectError::PartOfACluster),
        "{error:?}"
    );

    let replica = RedisServer::builder()
        .replica_of(alone.port())
        .start()
        .await;
    let error = refused(&replica.url()).await;
    assert!(matches!(error, RedisConnectError::Unusable(_)), "{error:?}");

    let error = refused(&format!("{}/99", alone.url())).await;
    assert!(matches!(error, RedisConnectError::Unusable(_)), "{error:?}");
}

/// Replies to every command as a server of this version would.
async fn server_of_version(version: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let info =
                    format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n");
                let answer = format!("${}\r\n{info}\r\n", info.len());
                let mut request = [0; 1024];
                while socket.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if socket.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_is_too_old_is_an_error() {
    for version in ["5.0.14", "2.8.0", "4.9"] {
        let error = refused(&format!(
            "redis://127.0.0.1:{}",
            server_of_version(version).await
        ))
        .await;
        assert!(
            matches!(&error, RedisConnectError::TooOld { found } if found == version),
            "{version}: {error:?}"
        );
        assert!(error.to_string().contains("6.0"), "{error}");
    }
}

#[tokio::test]
async fn tls_requires_matching_certificates() {
    let (certificates, others) = (Certificates::generate(), Certificates::generate());
    let server = RedisServer::builder()
        .tls(&certificates)
        .config("tls-auth-clients", "yes")
        .start()
        .await;
    let (ca, client) = (certificates.ca.as_str(), certificates.client.clone());
    let of = || builder(&server.url());
    let trusting = || of().tls_root_certificates(ca);
    let rows = [
        ("an unknown authority", of(), "Unreachable"),
        (
            "another authority",
            of().tls_root_certificates(others.ca.as_str()),
            "Unreachable",
        ),
        ("no client certificate", trusting(), "Unreachable"),
        (
            "no PEM",
            of().tls_root_certificates("no certificate"),
            "Certificate",
        ),
        (
            "no key",
            trusting().tls_client_certificate(client.certificate.as_str(), "no key"),
            "Certificate",
        ),
        (
            "no certificate chain",
            trusting().tls_client_certificate("", client.key.as_str()),
            "Certificate",
        ),
        (
            "TCP",
            builder(&server.url().replace("rediss", "redis")),
            "Unreachable",
        ),
    ];
    for (row, builder, expected) in rows {
        let error = builder.connect().await.expect_err(row);
        let kind = format!("{error:?}");
        assert!(kind.starts_with(expected), "{row}: {}", in_full(&error));
    }
    let store = trusting().tls_client_certificate(client.certificate.as_str(), client.key.as_str());
    let store = store.connect().await.unwrap();
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    assert!(
        store
            .claim(&key, &TAG, test_support::entries::version(2), PATIENT)
            .await
            .unwrap()
            .is_some()
    );
    assert!(store.sidecar(&key, &NAME).await.unwrap().is_none());
}

#[tokio::test]
async fn a_unix_socket_works_like_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("redis.sock").display().to_string();
    let server = RedisServer::builder()
        .config("unixsocket", &path)
        .password("secret")
        .start()
        .await;
    let store = builder(&format!("redis+unix://:secret@{path}?db=2"))
        .connect()
        .await
        .unwrap();
    assert_eq!(
        put(&store, &random_key(), None, 1).await.unwrap(),
        Swap::Swapped
    );
    assert!(server.info("keyspace").await.contains_key("db2"));
}
