//! The memory that a grant takes in Redis, and when it is freed.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use redis::Value;
use test_support::redis::RedisServer;
use test_support::session::send;
use test_support::{Answer, Upstream, post, refresh_form};
use tower::{BoxError, Layer as _, service_fn, util::BoxCloneService};
use tower_oauth_refresh::store::{RedisStore, TieredStore};
use tower_oauth_refresh::{Refresh, RefreshLayer, RefreshLayerBuilder, RequestBody};

use crate::faults::{LIMIT, RedisApp, instance_over};

/// As long as a UUID, which many client ids are.
const CLIENT: &str = "6f1c9b4e-0d2f-4a3b-9c5d-7e8f90a1b2c3";
const UPSTREAM_TOKEN: &str = "an-upstream-token-of-sixty-four-characters-0123456789abcdefghijk";

const MOST: i64 = 512;
const MOST_REAL: usize = 560;
const MOST_REAL_OF_LINK: usize = 256;

type Settings = RefreshLayerBuilder<TieredStore<RedisStore>>;

type Inner = BoxCloneService<Request<RequestBody<Full<Bytes>>>, Response<Full<Bytes>>, BoxError>;

/// The layer, with the clock of this machine, over a service that responds with an upstream token
/// of 64 bytes.
struct Subject {
    service: Refresh<Inner, TieredStore<RedisStore>>,
    /// The status of the service's responses.
    status: Arc<AtomicU16>,
}

impl Subject {
    async fn over(server: &RedisServer, settings: impl FnOnce(Settings) -> Settings) -> Self {
        let store = RedisStore::builder(&server.url())
            .command_timeout(LIMIT)
            .connect()
            .await
            .unwrap();
        let layer = settings(RefreshLayer::builder(TieredStore::new(store)))
            .build()
            .unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let answered = Arc::clone(&status);
        let inner = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
            let status = answered.load(Ordering::SeqCst);
            let token = format!(
                r#"{{"access_token":"at","token_type":"Bearer","refresh_token":"{UPSTREAM_TOKEN}"}}"#
            );
            let answer = if status == 200 {
                token
            } else {
                r#"{"error":"server_error"}"#.into()
            };
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            ready(response.body(Full::from(answer)).map_err(BoxError::from))
        });
        Self {
            service: layer.layer(BoxCloneService::new(inner)),
            status,
        }
    }

    async fn log_in(&self) -> String {
        send(
            &self.service,
            post(
                "/token",
                &[("grant_type", "password"), ("client_id", CLIENT)],
            ),
        )
        .await
        .token()
    }

    async fn refresh(&self, client: &str, token: &str) -> Answer {
        send(&self.service, post("/token", &refresh_form(client, token))).await
    }
}

pub(crate) async fn integer(server: &RedisServer, words: &[&[u8]]) -> i64 {
    match server.command(words).await {
        Value::Int(number) => number,
        other => panic!("no number: {other:?}"),
    }
}

/// Returns the time at which a key expires. (`PEXPIRETIME` needs Redis 7.0.)
async fn expiry(server: &RedisServer, key: &[u8]) -> i64 {
    let script = b"local function now()
            local time = redis.call('TIME')
            return time[1] * 1000 + math.floor(time[2] / 1000)
        end
        local before, left
        repeat before = now(); left = redis.call('PTTL', KEYS[1]) until now() == before
        return before + left";
    integer(server, &[b"EVAL", script, b"1", key]).await
}

async fn used_memory(server: &RedisServer) -> usize {
    server.info("memory").await["used_memory"]
        .trim()
        .parse()
        .unwrap()
}

/// Returns the `MEMORY USAGE` of every key.
async fn usages(server: &RedisServer) -> Vec<i64> {
    let mut usages = Vec::new();
    for (key, _) in server.dump().await {
        usages.push(integer(server, &[b"MEMORY", b"USAGE", &key]).await);
    }
    usages
}

#[tokio::test]
async fn a_grant_is_one_key_of_at_most_512_bytes() {
    const GRANTS: usize = 50;
    assert_eq!((CLIENT.len(), UPSTREAM_TOKEN.len()), (36, 64));
    let server = RedisServer::start().await;
    let subject = Subject::over(&server, |builder| {
        builder.retry_window(Duration::from_millis(300))
    })
    .await;
    let mut tokens = Vec::new();
    for _ in 0..GRANTS {
        tokens.push(subject.log_in().await);
    }
    check(&server, GRANTS, "just issued").await;
    for token in &mut tokens {
        *token = subject.refresh(CLIENT, token).await.token();
    }
    check(&server, GRANTS, "with the previous token").await;
    for token in &mut tokens {
        *token = subject.refresh(CLIENT, token).await.token();
    }
    check(&server, GRANTS, "rotated twice").await;
    // The previous token is dropped as soon as the current one is presented, even if that request
    // fails.
    subject.status.store(500, Ordering::SeqCst);
    for token in &tokens {
        assert_eq!(subject.refresh(CLIENT, token).await.status, 500);
    }
    check(&server, GRANTS, "without the previous token").await;
}

/// Later requests add marks to the record: that the client has a credential, and until when an
/// answer with the current token is repeated.
#[tokio::test]
async fn a_grant_with_every_mark_is_one_key_of_at_most_512_bytes() {
    const GRANTS: usize = 50;
    let server = RedisServer::start().await;
    let subject = Subject::over(&server, |builder| {
        builder
            .retry_window(Duration::from_millis(300))
            .shared_token_window(Duration::from_secs(3600))
    })
    .await;
    for _ in 0..GRANTS {
        let first = subject.log_in().await;
        let refresh = async |secret| {
            let form = [
                &refresh_form(CLIENT, &first)[..],
                &[("client_secret", secret)],
            ]
            .concat();
            let answer = send(&subject.service, post("/token", &form)).await;
            answer.token()
        };
        let second = refresh("a secret").await;
        assert_eq!(refresh("another").await, second, "it converges");
    }
    check(&server, GRANTS, "with every mark").await;
}

/// Waits until the replays have expired.
async fn check(server: &RedisServer, grants: usize, case: &str) {
    let end = Instant::now() + LIMIT;
    while server.dump().await.len() > grants {
        assert!(Instant::now() < end, "{case}: more than one key per grant");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usages = usages(server).await;
    assert_eq!(usages.len(), grants, "{case}");
    let most = usages.iter().max().unwrap();
    println!("{case}: {most} bytes");
    assert!(*most <= MOST, "{case}: {usages:?}");
}

#[tokio::test]
async fn fifty_thousand_grants_take_at_most_560_bytes_each() {
    let server = RedisServer::start().await;
    let subject = Subject::over(&server, |builder| builder).await;
    // With the previous token, the records have their maximum size.
    let token = subject.log_in().await;
    subject.refresh(CLIENT, &token).await.token();
    let real = server.dump().await;
    let grant = real.iter().find(|(key, _)| !is_sidecar(key)).unwrap();
    assert_real_memory(&server, grant, 50_000, MOST_REAL).await;
}

/// However many there are: with a few keys more than 65,536, Redis has just doubled its hash
/// tables, and the share of a key in them is as large as it can be.
#[tokio::test]
async fn a_link_takes_at_most_256_bytes_with_its_share_of_the_hash_tables() {
    let server = RedisServer::start().await;
    let subject = Subject::over(&server, |builder| {
        builder.shared_token_window(Duration::from_secs(3600))
    })
    .await;
    let first = subject.log_in().await;
    let second = subject.refresh(CLIENT, &first).await.token();
    subject.refresh(CLIENT, &second).await.token();
    let real = server.dump().await;
    // The other sidecar is the stored answer.
    let sidecars = real.iter().filter(|(key, _)| is_sidecar(key));
    let link = sidecars.min_by_key(|(_, value)| value.len()).unwrap();
    assert_eq!(
        real.len(),
        4,
        "a grant, a link, and the answers of two rotations"
    );
    assert_real_memory(&server, link, 1 << 16, MOST_REAL_OF_LINK).await;
}

fn is_sidecar(key: &[u8]) -> bool {
    key.windows(2).any(|pair| pair == b"}:")
}

/// Stores an entry under this many more keys of the same length. Checks the real memory of each,
/// with its share of the hash tables, once Redis has moved its keys to tables of their final size.
async fn assert_real_memory(
    server: &RedisServer,
    entry: &(Vec<u8>, Vec<u8>),
    copies: usize,
    most: usize,
) {
    let before = used_memory(server).await;
    copy(server, entry, copies).await;
    let end = Instant::now() + LIMIT;
    loop {
        let each = (used_memory(server).await - before).div_ceil(copies);
        if each <= most {
            println!("{each} bytes of real memory for each of {copies}");
            return;
        }
        assert!(Instant::now() < end, "{each} bytes of real memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn copy(server: &RedisServer, (key, value): &(Vec<u8>, Vec<u8>), copies: usize) {
    const BATCH: usize = 1000;
    let ttl = integer(server, &[b"PTTL", key]).await;
    let keys = integer(server, &[b"DBSIZE"]).await;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
    let mut connection = redis::Client::open(server.url())
        .unwrap()
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    for start in (0..copies).step_by(BATCH) {
        let mut pipeline = redis::pipe();
        for number in start..copies.min(start + BATCH) {
            let mut key = key.clone();
            let (at, digits) = (key.len() - 10, format!("{number:08}"));
            key[at..at + 8].copy_from_slice(digits.as_bytes());
            pipeline
                .cmd("SET")
                .arg(key)
                .arg(value)
                .arg("PX")
                .arg(ttl)
                .ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.unwrap();
    }
    assert_eq!(
        integer(server, &[b"DBSIZE"]).await - keys,
        i64::try_from(copies).unwrap()
    );
}

/// Returns the `expires_at` of a record, read from where the store keeps it: after 47 bytes of its
/// own, a format byte and a checksum.
fn expires_at(entry: &[u8]) -> u64 {
    let mut fields = &entry[47 + 5..];
    while let [field, rest @ ..] = fields {
        let bytes = rest.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length = rest[..=bytes]
            .iter()
            .rev()
            .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let (value, rest) = rest[bytes + 1..].split_at(length);
        if *field == 7 {
            return value
                .iter()
                .fold(0, |time, byte| time << 8 | u64::from(*byte));
        }
        fields = rest;
    }
    panic!("no expiry in {entry:?}");
}

#[tokio::test]
async fn every_key_expires_some_time_after_its_grant() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const HOUR: i64 = 3_600_000;
    let settings: [(&str, i64, fn(Settings) -> Settings); 4] = [
        ("thirty days", HOUR, |builder| builder),
        ("an hour", HOUR / 2, |builder| {
            builder.idle_lifetime(Duration::from_secs(3600))
        }),
        ("an absolute end", HOUR, |builder| {
            builder.absolute_lifetime(5 * DAY)
        }),
        ("a hundred years", HOUR, |builder| {
            builder.idle_lifetime(36500 * DAY)
        }),
    ];
    for (case, kept, settings) in settings {
        let server = RedisServer::start().await;
        let subject = Subject::over(&server, settings).await;
        let mut token = subject.log_in().await;
        for round in 0..4 {
            let began = Instant::now();
            token = if round == 0 {
                token
            } else {
                subject.refresh(CLIENT, &token).await.token()
            };
            // A claim without a commit extends neither expiry.
            assert_eq!(
                subject.refresh("thief", &token).await.error(),
                (400, "invalid_grant".into())
            );
            let took = i64::try_from(began.elapsed().as_millis()).unwrap() + 5000;
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap();
            let now = i64::try_from(now.as_millis()).unwrap();
            for (key, value) in server.dump().await {
                let end = expiry(&server, &key).await;
                if is_sidecar(&key) {
                    assert!(
                        end > now && end <= now + 120_000,
                        "{case}: a replay expires at {end}, now is {now}"
                    );
                } else {
                    let said = i64::try_from(expires_at(&value)).unwrap();
                    let late = end - said - kept;
                    assert!(
                        late.abs() <= took,
                        "{case}: the key expires at {end}, the record at {said}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_lease_does_not_extend_the_expiry() {
    let server = RedisServer::start().await;
    let store = RedisStore::builder(&server.url())
        .command_timeout(LIMIT)
        .connect()
        .await
        .unwrap();
    let app: RedisApp = instance_over(store, &Upstream::new(), |builder| builder);
    let token = app.log_in("app").await;
    let [(key, before)] = &server.dump().await[..] else {
        panic!("more than a grant")
    };
    let end = expiry(&server, key).await;
    app.upstream
        .then(test_support::Act::Answer(500, "text/plain", "down"));
    assert_eq!(app.refresh(&token).await.status, 500);
    app.layer.drain().await;
    let [(_, after)] = &server.dump().await[..] else {
        panic!("more than a grant")
    };
    assert_ne!(before, after, "a lease was taken and released");
    assert_eq!(expires_at(before), expires_at(after));
    assert_eq!(expiry(&server, key).await, end);
}
