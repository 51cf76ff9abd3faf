//! The sessions of a user: they end on every instance, and their list takes little memory.

use std::time::Duration;

use test_support::access::pair;
use test_support::redis::RedisServer;
use test_support::users::next_id_token;
use test_support::{Act, Answer, App, Upstream};
use tower_oauth_refresh::{RedisStore, SessionLabel, Store, Subject};

use crate::access_ends::{instances, listened_to};
use crate::faults::{RedisApp, instance_over};
use crate::memory::integer;

const ISSUER: &str = "https://accounts.example.com";

/// As long as a UUID, which many subjects are.
const ANN: &str = "0d1f6a52-8c3e-4b7a-9f10-2e5d7c6b8a94";

/// The most bytes of Redis for the list of a user with one session.
const MOST: i64 = 500;

/// The most bytes of Redis if the session is also listed by that at the identity provider.
const MOST_WITH_PROVIDER_SESSION: i64 = 600;

fn ann() -> Subject {
    Subject::with_issuer(ISSUER, ANN).unwrap()
}

async fn log_in<St: Store + Clone>(app: &App<St>, client: &str, user: &str) -> Answer {
    next_id_token(app, &format!(r#"{{"iss":"{ISSUER}","sub":"{user}"}}"#));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", client),
    ];
    app.post("/token", &form).await
}

/// An hour is longer than the test waits: a token ends because it was announced, not because its
/// cache entry expired.
#[tokio::test]
async fn fifty_sessions_on_three_clients_end_on_four_instances() {
    const HOUR: Duration = Duration::from_secs(3600);
    let server = RedisServer::start().await;
    let instances = instances::<4>(&server, HOUR).await;
    let clients = ["web", "phone", "desktop"];
    let mut sessions = Vec::new();
    for (number, client) in (0..50).zip(clients.iter().cycle()) {
        let app = &instances[number % instances.len()].app;
        let (refresh, access) = pair(&log_in(app, client, ANN).await);
        sessions.push((*client, refresh, access));
    }
    let (_, of_bob) = pair(&log_in(&instances[0].app, "web", "bob").await);
    for instance in &instances {
        for (_, _, access) in &sessions {
            assert_eq!(instance.status(access).await, 200);
        }
        assert_eq!(instance.status(&of_bob).await, 200);
    }
    listened_to(&server, 4).await;
    let listed = instances[2].app.layer.sessions(&ann()).await.unwrap();
    assert_eq!(listed.len(), 50);
    let ended = instances[3].app.layer.end_sessions(&ann()).await;
    assert_eq!(ended.unwrap(), 50);
    for (number, instance) in instances.iter().enumerate() {
        for (_, _, access) in &sessions {
            let what = format!("instance {number}");
            instance.refuses(access, &what).await;
        }
        assert_eq!(instance.status(&of_bob).await, 200, "another user");
    }
    for (client, refresh, _) in &sessions {
        let answer = instances[1].app.refresh_as(client, refresh).await;
        assert_eq!(answer.error(), (400, "invalid_grant".into()));
    }
    let left = instances[0].app.layer.sessions(&ann()).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_user_with_one_session_takes_at_most_500_bytes_or_600_with_provider_sessions() {
    let label = "203.0.113.7, Claude, (Macintosh; Intel Mac OS X 10_15_7)";
    for (case, label) in [
        ("without a label", String::new()),
        ("with an address and a browser", label.into()),
        ("with the longest label", "x".repeat(200)),
    ] {
        let mut extensions = http::Extensions::new();
        extensions.insert(ann());
        extensions.insert(SessionLabel::new(label));
        check_lists(case, 1, MOST, |app| {
            app.upstream.then(Act::Extended(extensions))
        })
        .await;
    }
    let claims = format!(r#"{{"iss":"{ISSUER}","sub":"{ANN}","sid":"{ANN}"}}"#);
    let most = MOST_WITH_PROVIDER_SESSION;
    check_lists("with a sid", 2, most, |app| next_id_token(app, &claims)).await;
}

/// Logs in, and checks the size of all lists with the session.
async fn check_lists(case: &str, lists: usize, most: i64, prepare: impl FnOnce(&RedisApp)) {
    let server = RedisServer::start().await;
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let app = instance_over(store, &Upstream::new(), |builder| {
        builder.provider_sessions(true)
    });
    prepare(&app);
    app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap().to_string();
    let (_, behind_braces) = grant.split_at(8);
    let mut usages = Vec::new();
    for (key, _) in server.dump().await {
        if !contains(&key, behind_braces) {
            usages.push(integer(&server, &[b"MEMORY", b"USAGE", &key]).await);
        }
    }
    println!("{case}: {usages:?} bytes");
    assert_eq!(usages.len(), lists, "{case}");
    assert!(usages.iter().sum::<i64>() <= most, "{case}: {usages:?}");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
