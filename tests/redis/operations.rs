//! Runs the commands of the operations page on a real Redis.

use std::process::Stdio;
use std::time::Duration;

use test_support::Upstream;
use test_support::redis::RedisServer;
use test_support::secrets::Log;
use tokio::process::Command;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults;

/// Returns the shell block of the page that contains `words`.
fn block(words: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md"))
        .unwrap();
    let mut blocks = page
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.contains(words))
        .unwrap()
        .to_owned()
}

/// Runs `script` in bash, with a `redis-cli` that is connected to `server`. Returns the lines of
/// its output.
async fn shell(server: &RedisServer, script: &str) -> Vec<String> {
    let script = format!(
        "set -e\nredis-cli() {{ command redis-cli -p {} \"$@\"; }}\n{script}",
        server.port()
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn an_operator_can_end_a_session_by_its_grant_key() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let app = faults::instance(&server.url(), &upstream).await;
    let others = app.log_in("app").await;
    app.events();
    let token = app.log_in("app").await;
    let [issued] = &app.take_events()[..] else {
        panic!("one event")
    };
    let grant = issued.grant.unwrap().short().to_string();

    let block = block("--scan");
    let (look, end) = block.trim_end().rsplit_once('\n').unwrap();
    let look = look.replace("5f3a91c2", &grant);
    assert!(look.contains(&format!("grant={grant}")), "{look}");
    let found = shell(&server, &look).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let token = app.refresh(&token).await.token();
    let found = shell(&server, &look).await;
    assert_eq!(found.len(), 2, "the grant and its replay: {found:?}");

    for key in &found {
        assert_eq!(
            shell(&server, &end.replace("rt:{…}…", key)).await,
            ["1"],
            "{key}"
        );
    }
    app.events();
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.events(), [EventKind::Unknown]);
    app.refresh(&others).await.token();
}

#[tokio::test]
async fn the_log_states_why_the_store_fails() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let app = faults::instance(&server.url(), &upstream).await;
    let token = app.log_in("app").await;
    server
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (log, guard) = Log::capture();
    assert_eq!(
        app.refresh(&token).await.error(),
        (503, "temporarily_unavailable".into())
    );
    drop(guard);
    let text = log.text();
    let why = |line: &str| {
        line.contains("WARN") && line.contains("store_unavailable") && line.contains("OOM")
    };
    assert!(text.lines().any(why), "{text}");

    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    app.refresh(&token).await.token();
}

/// If too few replicas have the grant of a log-in, the client gets no refresh token, and the event
/// states the reason.
#[tokio::test]
async fn the_log_states_that_too_few_replicas_have_a_grant() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let builder = RedisStore::builder(&server.url()).command_timeout(faults::LIMIT);
    let store = builder
        .wait_for_replicas(1, Duration::from_millis(50))
        .connect()
        .await
        .unwrap();
    let app = faults::instance_over(store, &upstream, |builder| builder);
    let (log, guard) = Log::capture();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    let answer = app.post("/token", &form).await;
    drop(guard);
    assert!(
        !String::from_utf8_lossy(&answer.body).contains("refresh_token"),
        "{answer:?}"
    );
    let text = log.text();
    let why = |line: &str| {
        line.contains("store_unavailable") && line.contains("0 of 1 acknowledged the write in time")
    };
    assert!(text.lines().any(why), "{text}");
}
