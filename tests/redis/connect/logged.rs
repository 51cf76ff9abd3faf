//! What is logged about a server, and that no password is.

use std::fmt::Debug;

use test_support::entries::{every_call, random_key};
use test_support::redis::{Cluster, RedisServer, Sentinels};
use test_support::secrets::{Log, Needles};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{PATIENT, builder, in_full, refused};

/// Both settings that lose sessions are logged as warnings, and neither prevents the start of an
/// app.
#[tokio::test]
async fn settings_that_lose_sessions_are_logged() {
    let lines = ["appendonly", "maxmemory-policy"];
    let rows = [
        ("no", "noeviction", [true, false]),
        ("yes", "allkeys-lru", [false, true]),
        ("no", "volatile-ttl", [true, true]),
        ("yes", "noeviction", [false, false]),
    ];
    for (append_only, policy, expected) in rows {
        let server = RedisServer::builder()
            .config(lines[0], append_only)
            .config(lines[1], policy)
            .start()
            .await;
        let (log, guard) = Log::capture();
        builder(&server.url()).connect().await.unwrap();
        drop(guard);
        let text = log.text();
        let warnings: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
        let warned = lines.map(|name| warnings.iter().any(|line| line.contains(name)));
        assert_eq!(
            warned, expected,
            "appendonly {append_only}, {policy}: {warnings:#?}"
        );
        assert_eq!(
            warnings.len(),
            expected.into_iter().filter(|expected| *expected).count()
        );
    }
}

/// When it connects, the store warns about a master without enough replicas. The app starts
/// nevertheless, because the replicas may connect later.
#[tokio::test]
async fn too_few_replicas_are_logged() {
    let (alone, followed) = (RedisServer::start().await, RedisServer::start().await);
    let replica = RedisServer::builder()
        .replica_of(followed.port())
        .start()
        .await;
    let cluster = Cluster::start().await;
    let sentinels = Sentinels::start().await;
    let rows = [
        ("no replica", alone.url(), 1, vec!["connected=0 wanted=1"]),
        (
            "one of two",
            followed.url(),
            2,
            vec!["connected=1 wanted=2"],
        ),
        ("one of one", followed.url(), 1, vec![]),
        ("Sentinel", sentinels.url(), 9, vec!["wanted=9"]),
        (
            "each master of a cluster",
            cluster.url(),
            1,
            vec!["connected=0 wanted=1"; 3],
        ),
    ];
    for (row, url, wanted, expected) in rows {
        let (log, guard) = Log::capture();
        builder(&url)
            .wait_for_replicas(wanted, PATIENT / 2)
            .connect()
            .await
            .unwrap();
        drop(guard);
        let text = log.text();
        let warnings: Vec<_> = text
            .lines()
            .filter(|line| line.contains("fewer replicas are connected"))
            .collect();
        assert_eq!(warnings.len(), expected.len(), "{row}: {warnings:#?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(
                warning.contains("WARN") && warning.contains(expected),
                "{row}: {warning}"
            );
        }
    }
    drop(replica);
}

/// Neither the store nor its builder, nor an error, nor the log at its most verbose level contains
/// a password.
#[tokio::test]
async fn no_output_contains_a_password() {
    let password = "correct-horse-battery";
    let mut needles = Needles::default();
    needles.text(password);
    let server = RedisServer::builder()
        .user(&format!("app on >{password} ~* &* +@all"))
        .start()
        .await;
    let (log, guard) = Log::capture();
    let mut seen = Vec::new();
    let mut look = |thing: &dyn Debug| seen.push(format!("{thing:?} {thing:#?}"));

    let url = server.url_with(&format!("app:{password}@"));
    let building = builder(&url).sentinel_credentials("app", password);
    look(&building);
    let store = building.connect().await.unwrap();
    look(&store);
    for url in [
        "nothing://app:{}@h",
        "redis://app:{}",
        "redis://app:{}@h:x",
        "redis://app:{}@a,b",
        "redis://h/{}",
    ] {
        look(&in_full(&refused(&url.replace("{}", password)).await));
        look(&builder(&url.replace("{}", password)));
    }
    look(&in_full(
        &refused(&server.url_with(&format!("nobody:{password}@"))).await,
    ));
    // A server that does not know AUTH quotes its arguments.
    let quoting = server_that_quotes().await;
    look(&in_full(
        &refused(&format!("redis://app:{password}@127.0.0.1:{quoting}")).await,
    ));
    server.kill();
    for (_, outcome) in every_call(&store, &random_key()).await {
        look(&in_full(&outcome.unwrap_err()));
    }
    drop(guard);
    seen.push(log.text());
    for text in seen {
        assert_eq!(needles.find(&text), None, "{text}");
    }
}

/// Starts a server that rejects every command as unknown, as Redis does.
async fn server_that_quotes() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            while let Ok(read @ 1..) = socket.read(&mut request).await {
                let words = String::from_utf8_lossy(&request[..read]).replace("\r\n", "' '");
                let answer =
                    format!("-ERR unknown command 'AUTH', with args beginning with: '{words}'\r\n");
                if socket.write_all(answer.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    });
    port
}
