//! A master and its replica, watched by three sentinels.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::RedisResult;

use super::server::{FIXTURE, HOST, LIMIT, POLL};
use super::{Builder, Certificates, RedisServer};

const SERVICE: &str = "main";

/// In milliseconds. By default a sentinel checks every few seconds, and treats a busy machine as
/// one whose clock was changed.
const PERIODS: [(&str, &str); 6] = [
    ("INFO-PERIOD", "300"),
    ("PING-PERIOD", "300"),
    ("ASK-PERIOD", "300"),
    ("PUBLISH-PERIOD", "300"),
    ("ELECTION-TIMEOUT", "2000"),
    ("TILT-TRIGGER", "60000"),
];

/// A master, a replica and three sentinels of which two must agree. They are killed when dropped.
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    master: AtomicUsize,
}

impl Sentinels {
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// Starts a deployment whose master and replica have further settings, such as
    /// `|server| server.password("x")`.
    pub async fn start_with(build: impl Fn(Builder) -> Builder) -> Self {
        Self::start_each(build, |sentinel| sentinel).await
    }

    /// Starts a deployment whose servers and sentinels serve only TLS, and require a client
    /// certificate.
    pub async fn start_over_tls(certificates: &Certificates) -> Self {
        let tls = |builder: Builder| builder.tls(certificates).config("tls-auth-clients", "yes");
        Self::start_each(tls, tls).await
    }

    async fn start_each(
        build: impl Fn(Builder) -> Builder,
        build_sentinel: impl Fn(Builder) -> Builder,
    ) -> Self {
        let master = build(RedisServer::builder()).start().await;
        let replica = build(RedisServer::builder())
            .replica_of(master.port())
            .start()
            .await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let sentinel = build_sentinel(Builder::sentinel())
                .config(
                    "sentinel",
                    &format!("monitor {SERVICE} {HOST} {} 2", master.port()),
                )
                .config("sentinel", &format!("auth-user {SERVICE} {FIXTURE}"))
                .config("sentinel", &format!("auth-pass {SERVICE} {FIXTURE}"))
                .config(
                    "sentinel",
                    &format!("down-after-milliseconds {SERVICE} 2000"),
                )
                .config("sentinel", &format!("failover-timeout {SERVICE} 5000"))
                .start()
                .await;
            for (name, period) in PERIODS {
                let set = sentinel
                    .try_command(&["SENTINEL", "DEBUG", name, period])
                    .await;
                // Redis before 7.0 has no such command, and keeps its longer periods.
                if let Err(error) = set {
                    assert!(
                        error.to_string().contains("Unknown"),
                        "{error}: {sentinel:?}"
                    );
                }
            }
            sentinels.push(sentinel);
        }
        let started = Self {
            servers: [master, replica],
            sentinels,
            master: AtomicUsize::new(0),
        };
        started.settled().await;
        started
    }

    /// `redis-sentinel://127.0.0.1:PORT,…/main`, with the ports of the sentinels, or
    /// `rediss-sentinel://…`.
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// [`url`](Self::url) with credentials, such as `user:password@`.
    pub fn url_with(&self, credentials: &str) -> String {
        let url = self.sentinels[0].url();
        let sentinels = self
            .sentinels
            .iter()
            .map(|sentinel| format!("{HOST}:{}", sentinel.port()));
        let (scheme, _) = url.split_once(':').unwrap();
        format!(
            "{scheme}-sentinel://{credentials}{}/{SERVICE}",
            sentinels.collect::<Vec<_>>().join(",")
        )
    }

    /// Returns the current master, or the last one if it was killed.
    pub fn master(&self) -> &RedisServer {
        &self.servers[self.master.load(Ordering::SeqCst)]
    }

    /// Returns the server that is not the master.
    pub fn replica(&self) -> &RedisServer {
        &self.servers[1 - self.master.load(Ordering::SeqCst)]
    }

    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Swaps master and replica, and waits until every sentinel has seen it.
    ///
    /// For a second or two both are masters, and what is written to the old one in that time is
    /// lost.
    pub async fn failover(&self) {
        self.change_places().await;
        self.settled().await;
    }

    /// Fails over like [`failover`](Self::failover), but the sentinels stop for `pause` as soon as
    /// they all know the new master. For that long the old master is not demoted, and continues to
    /// accept writes.
    ///
    /// If they stopped any sooner, a sentinel that does not know the new master yet would demote it
    /// again afterwards.
    pub async fn slow_failover(&self, pause: Duration) {
        self.change_places().await;
        self.sentinels.iter().for_each(RedisServer::freeze);
        tokio::time::sleep(pause).await;
        self.sentinels.iter().for_each(RedisServer::thaw);
        self.settled().await;
    }

    async fn change_places(&self) {
        let (sentinel, old) = (&self.sentinels[0], self.master().port());
        until("it fails over", sentinel, async || {
            let about = about_master(sentinel).await?;
            // A sentinel may give up during the failover, and is told again.
            if about.has("port", &old.to_string()) && about.has("flags", "master") {
                sentinel
                    .try_command(&["SENTINEL", "FAILOVER", SERVICE])
                    .await?;
            }
            Ok(!about.has("port", &old.to_string()))
        })
        .await;
        self.promoted().await;
    }

    /// Kills the master, and waits until its replica is promoted. When the killed server is started
    /// again, it becomes a replica.
    pub async fn kill_master_and_wait(&self) {
        self.master().kill();
        self.promoted().await;
    }

    /// Waits until the replica is promoted and every sentinel reports it, as after the master was
    /// frozen. From then on [`master`](Self::master) returns that server.
    pub async fn promoted(&self) {
        let new = self.replica();
        new.until_info("replication", "being master", |info| {
            info.get("role").is_some_and(|role| role == "master")
        })
        .await;
        for sentinel in &self.sentinels {
            until("it follows", sentinel, async || {
                Ok(about_master(sentinel)
                    .await?
                    .has("port", &new.port().to_string()))
            })
            .await;
        }
        self.master.fetch_xor(1, Ordering::SeqCst);
    }

    /// Waits until master and replica run as such, and every sentinel knows the other sentinels and
    /// both servers. If the next change came earlier, a sentinel might undo it as a mistake.
    pub async fn settled(&self) {
        let master = self.master().port().to_string();
        let replica = self.replica().port().to_string();
        for sentinel in &self.sentinels {
            until("it has settled", sentinel, async || {
                let about = about_master(sentinel).await?;
                let others = [("num-other-sentinels", "2"), ("num-slaves", "1")];
                let roles = [
                    ("port", &*master),
                    ("flags", "master"),
                    ("role-reported", "master"),
                ];
                let knows = others
                    .into_iter()
                    .chain(roles)
                    .all(|(name, value)| about.has(name, value));
                let replicas = sentinel
                    .try_command(&["SENTINEL", "REPLICAS", SERVICE])
                    .await?;
                let replicas = redis::from_redis_value::<Vec<Vec<String>>>(replicas)?;
                let link = [("master-port", &*master), ("master-link-status", "ok")];
                let roles = [
                    ("port", &*replica),
                    ("flags", "slave"),
                    ("role-reported", "slave"),
                ];
                let follows = |about: About| {
                    link.into_iter()
                        .chain(roles)
                        .all(|(name, value)| about.has(name, value))
                };
                Ok(knows && replicas.into_iter().map(About).all(follows))
            })
            .await;
        }
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the master is on port {}", self.master().port())?;
        self.servers
            .iter()
            .chain(&self.sentinels)
            .try_for_each(|server| writeln!(f, "{server:?}"))
    }
}

/// A sentinel's report about a server: names and values in turn.
struct About(Vec<String>);

impl About {
    fn has(&self, name: &str, value: &str) -> bool {
        self.0.chunks(2).any(|pair| pair == [name, value])
    }
}

async fn about_master(sentinel: &RedisServer) -> RedisResult<About> {
    redis::from_redis_value(
        sentinel
            .try_command(&["SENTINEL", "MASTER", SERVICE])
            .await?,
    )
    .map(About)
    .map_err(Into::into)
}

async fn until(what: &str, sentinel: &RedisServer, holds: impl AsyncFn() -> RedisResult<bool>) {
    let end = Instant::now() + LIMIT;
    while !holds().await.is_ok_and(|holds| holds) {
        assert!(Instant::now() < end, "not in time: {what}: {sentinel:?}");
        tokio::time::sleep(POLL).await;
    }
}
