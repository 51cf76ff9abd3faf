//! No refresh token, upstream token, access token or client secret is in Redis, on the wire to it,
//! or in the log at its most verbose level.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use test_support::foreign::log_in_before_at;
use test_support::redis::{Fault, RedisServer, Wire};
use test_support::requests::{basic, forged, form, patched};
use test_support::secrets::{Log, Needles};
use test_support::{Answer, Upstream, refresh_form};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{RedisApp, instance_over};

const CLIENT: &str = "confidential";
const SECRET: &str = "secret of confidential";
const PASSWORD: &str = "of Redis itself: 5d0a";

/// An instance over its own Redis, and everything that was ever observed there.
struct Watched {
    app: RedisApp,
    server: RedisServer,
    wire: Wire,
    needles: Needles,
    stored: Vec<u8>,
    sent: Vec<u8>,
    kinds: HashSet<EventKind>,
}

impl Watched {
    async fn start() -> Self {
        let server = RedisServer::builder()
            .password(&format!("\"{PASSWORD}\""))
            .start()
            .await;
        let wire = Wire::in_front_of(server.port()).await;
        let password: String = form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
        let url = wire.url_with(&format!(":{}@", password.replace('+', "%20")));
        let store = RedisStore::builder(&url)
            .command_timeout(Duration::from_secs(5))
            .connect()
            .await
            .unwrap();
        let app = instance_over(store, &Upstream::new(), |builder| {
            builder.adopt_until(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32))
        });
        let mut needles = Needles::default();
        for secret in [
            SECRET,
            "wrong secret",
            &basic(format!("{CLIENT}:{SECRET}"))[6..],
        ] {
            needles.text(secret);
        }
        Self {
            app,
            server,
            wire,
            needles,
            stored: Vec::new(),
            sent: Vec::new(),
            kinds: HashSet::new(),
        }
    }

    /// Sends a request and returns the response. Records what the request left in Redis.
    async fn send(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let secret = ("client_secret", SECRET);
        let ours = form.contains(&("client_id", CLIENT))
            && !form.iter().any(|(name, _)| *name == secret.0);
        let answer = self
            .app
            .post(
                path,
                &if ours {
                    [form, &[secret]].concat()
                } else {
                    form.to_vec()
                },
            )
            .await;
        self.note(&answer).await;
        answer
    }

    async fn note(&mut self, answer: &Answer) {
        for name in ["refresh_token", "access_token"] {
            if let Some(token) = answer.get(name) {
                self.needles.token(&token);
            }
        }
        self.app.layer.drain().await;
        for (key, value) in self.server.dump().await {
            self.stored.extend([key, value].concat());
        }
        for words in self.wire.commands() {
            // The password of Redis is sent, as it must be.
            if !words[0].eq_ignore_ascii_case(b"AUTH") && !words[0].eq_ignore_ascii_case(b"HELLO") {
                self.sent.extend(words.concat());
            }
        }
        self.kinds.extend(self.app.events());
    }

    async fn log_in(&mut self, client: &str) -> String {
        let form = [
            ("grant_type", "password"),
            ("password", "of a user"),
            ("client_id", client),
        ];
        self.send("/token", &form).await.token()
    }

    async fn refresh(&mut self, client: &str, token: &str) -> Answer {
        self.send("/token", &refresh_form(client, token)).await
    }

    async fn revoke(&mut self, token: &str) -> Answer {
        self.send("/revoke", &[("token", token), ("client_id", CLIENT)])
            .await
    }
}

async fn sessions(watched: &mut Watched, client: &str) {
    let first = watched.log_in(client).await;
    let second = watched.refresh(client, &first).await.token();
    assert_eq!(
        watched.refresh(client, &first).await.token(),
        second,
        "replayed"
    );
    watched.app.clock.advance(Duration::from_secs(7200));
    let third = watched.refresh(client, &first).await.token();
    assert_ne!(third, second, "recovered");
    watched.app.clock.advance(Duration::from_secs(7200));
    watched.refresh(client, &third).await.token();
    watched.app.clock.advance(Duration::from_secs(7200));
    assert_eq!(
        watched.refresh(client, &second).await.error(),
        (400, "invalid_grant".into()),
        "reused"
    );

    let first = watched.log_in(client).await;
    let second = watched.refresh(client, &first).await.token();
    for (who, token) in [
        ("thief", &*second),
        (client, &forged(&second, 1)),
        (client, &forged(&second, 9)),
    ] {
        assert_eq!(
            watched.refresh(who, token).await.error(),
            (400, "invalid_grant".into())
        );
    }
    let third = watched.refresh(client, &second).await.token();
    assert_eq!(
        watched.refresh(client, &first).await.token(),
        third,
        "an old token leads to the current one"
    );
    watched.refresh(client, &third).await.token();
}

async fn by_basic(watched: &mut Watched) {
    let token = watched.log_in(CLIENT).await;
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    for secret in [SECRET, SECRET, "wrong secret"] {
        let request = form("/token").header("authorization", basic(format!("{CLIENT}:{secret}")));
        let answer = watched
            .app
            .send(request.body(body.clone().into()).unwrap())
            .await
            .unwrap();
        watched.note(&answer).await;
    }
}

async fn endings(watched: &mut Watched) {
    let token = watched.log_in(CLIENT).await;
    assert_eq!(watched.revoke(&token).await.status, 200);
    assert_eq!(
        watched.refresh(CLIENT, &token).await.error(),
        (400, "invalid_grant".into())
    );
    let token = watched.log_in(CLIENT).await;
    watched
        .app
        .upstream
        .then(test_support::Act::Answer(500, "text/plain", "down"));
    assert_eq!(watched.revoke(&token).await.status, 503, "kept as ended");
    let foreign = log_in_before_at(&watched.app.upstream, CLIENT).await;
    watched.needles.text(&foreign);
    let adopted = watched.refresh(CLIENT, &foreign).await.token();
    assert_eq!(watched.refresh(CLIENT, &foreign).await.token(), adopted);
    watched.refresh(CLIENT, &adopted).await.token();
}

async fn faults(watched: &mut Watched) {
    for fault in [Fault::Drop, Fault::LoseAnswer] {
        let token = watched.log_in(CLIENT).await;
        watched.wire.hook({
            let fault = fault.clone();
            move |words| {
                if words[0] == "EVALSHA" {
                    fault.clone()
                } else {
                    Fault::Pass
                }
            }
        });
        watched.refresh(CLIENT, &token).await;
        watched.log_in_in_vain().await;
        watched.wire.unhook();
        watched.refresh(CLIENT, &token).await;
    }
    // Corrupt data that must not appear in a log.
    let token = watched.log_in(CLIENT).await;
    let keys: HashSet<_> = watched
        .server
        .dump()
        .await
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    for key in keys {
        watched
            .server
            .command(&[b"SETRANGE", &key[..], b"60", b"damage"])
            .await;
    }
    assert_eq!(
        watched.refresh(CLIENT, &token).await.error(),
        (500, "server_error".into())
    );
    watched
        .refresh(CLIENT, &patched(&token, |bytes| bytes[0] ^= 1))
        .await;
}

impl Watched {
    async fn log_in_in_vain(&mut self) {
        let answer = self
            .send(
                "/token",
                &[("grant_type", "password"), ("client_id", CLIENT)],
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.get("refresh_token")),
            (200, None)
        );
    }
}

#[tokio::test]
async fn no_secret_is_in_redis_on_the_wire_or_in_the_log() {
    let (log, _guard) = Log::capture();
    let mut watched = Watched::start().await;
    sessions(&mut watched, "app").await;
    sessions(&mut watched, CLIENT).await;
    by_basic(&mut watched).await;
    endings(&mut watched).await;
    faults(&mut watched).await;

    for seen in watched.app.upstream.seen() {
        for name in ["refresh_token", "token"] {
            if let Some(token) = seen
                .param(name)
                .filter(|token| token.starts_with("upstream-"))
            {
                watched.needles.text(token);
            }
        }
    }
    use EventKind::*;
    let all = [
        Issued,
        Rotated,
        Replayed,
        Recovered,
        ReuseDetected,
        ClientMismatch,
        Unknown,
        Revoked,
        Adopted,
        StoreUnavailable,
        StoreCorrupt,
        Ahead,
        Forged,
    ];
    let missing: Vec<_> = all
        .into_iter()
        .filter(|kind| !watched.kinds.contains(kind))
        .collect();
    assert_eq!(missing, [], "a path was not covered");

    let log = log.text();
    for (place, seen) in [
        ("in Redis", &watched.stored),
        ("on the wire", &watched.sent),
    ] {
        assert!(
            seen.len() > 20_000,
            "{place}: nothing was recorded: {}",
            seen.len()
        );
        assert_eq!(watched.needles.find_in_bytes(seen), None, "{place}");
    }
    assert!(
        log.contains("TRACE") && log.contains("recovered") && log.len() > 10_000,
        "the log was not captured"
    );
    assert_eq!(watched.needles.find(&log), None, "in the log");
    let mut password = Needles::default();
    password.text(PASSWORD);
    assert_eq!(
        password.find(&log),
        None,
        "the password of Redis in the log"
    );
}

#[tokio::test]
async fn a_planted_secret_is_found() {
    // Without it, the other test might miss what this one is the first to log.
    let _log = Log::capture();
    let mut watched = Watched::start().await;
    let token = watched.log_in(CLIENT).await;
    assert_eq!(watched.needles.find_in_bytes(&watched.stored), None);
    let needles = watched.needles.clone();
    for (name, needle) in needles.iter() {
        // Each character of a needle stands for a byte.
        let planted: Vec<u8> = format!("x{needle}y")
            .chars()
            .map(|character| u8::try_from(character).unwrap())
            .collect();
        watched
            .server
            .command(&[b"SET", &b"planted"[..], &planted])
            .await;
        let dump = watched.server.dump().await;
        let value = dump
            .iter()
            .find(|(key, _)| key == b"planted")
            .map(|(_, value)| value.clone())
            .unwrap();
        assert!(needles.find_in_bytes(&value).is_some(), "{name}");
    }
    for (place, bytes) in [("a value", &token), ("a key", &format!("rt:{{{token}}}"))] {
        watched.stored.clear();
        let (key, value) = if place == "a key" {
            (bytes.as_str(), "")
        } else {
            ("planted", bytes.as_str())
        };
        watched.server.command(&["SET", key, value]).await;
        watched.refresh("thief", &token).await;
        assert!(needles.find_in_bytes(&watched.stored).is_some(), "{place}");
        watched.server.command(&["DEL", key]).await;
    }
}
