//! The channel on which instances announce ended keys: `NOTIFY`, and `LISTEN` on a connection of
//! its own.
//!
//! A message consists of up to [`MOST_KEYS`] keys that have ended, 43 characters of base64url each.
//! PostgreSQL delivers it to the sessions that listen at that moment, so every broken connection
//! may lose messages. The connection is probed, because a break may go unnoticed.

use std::pin::pin;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::{Either, select};
use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Failure, Kind};
use super::pool::BoundedPool;
use super::schema::Schema;
use super::servers::Servers;
use super::statement::Argument;
use crate::random::{OsRandom, SecureRandom as _};
use crate::store::remote::listener::{Listener, PAUSE, REFUSED};
use crate::store::remote::pauses::Pauses;
use crate::store::{Announcements, Announcer, Key};

/// The interval between two probes of the connection.
const BEAT: Duration = Duration::from_secs(1);

/// The characters of a key in a message.
const KEY: usize = 43;

/// The most keys of one message, which PostgreSQL limits to 7,999 bytes.
const MOST_KEYS: usize = 180;

/// The first character of a message that a subscriber sends to itself.
const PROBE: char = '?';

/// The channel of the instances that share a database and a schema.
pub(super) struct Channel {
    topic: Arc<Topic>,
    listener: Listener,
}

/// The part of a channel that its task needs.
struct Topic {
    name: String,
    /// The pool over which messages are published.
    pool: Arc<BoundedPool>,
    /// The servers of a URL for `LISTEN`. Without one, the server of the pool is used.
    servers: Option<Servers>,
}

impl Topic {
    async fn publish(&self, messages: &[String]) -> Result<(), Failure> {
        let arguments = vec![Argument::Text(&self.name), Argument::Texts(messages)];
        self.pool.call("announce_1", arguments).await.map(drop)
    }
}

impl Channel {
    /// Creates the channel. It connects at the first subscription. Must be called inside a runtime.
    pub(super) fn new(schema: &Schema, pool: Arc<BoundedPool>, servers: Option<Servers>) -> Self {
        Self {
            topic: Arc::new(Topic {
                name: schema.channel(),
                pool,
                servers,
            }),
            listener: Listener::new(),
        }
    }

    /// Adds a subscriber. The first one starts the task that receives messages; it runs until
    /// `self` is dropped.
    pub(super) fn subscribe(&self) -> Announcements {
        self.listener
            .subscribe(|announcer| listen(Arc::clone(&self.topic), announcer))
    }

    /// Notifies the subscribers of this process, for which no server is needed, and then the other
    /// instances.
    pub(super) async fn announce(&self, ended: &[Key]) -> Result<(), Failure> {
        self.listener.ended(ended);
        let encode = |key: &Key| URL_SAFE_NO_PAD.encode(key.as_bytes());
        let message = |keys: &[Key]| keys.iter().map(encode).collect::<String>();
        let messages: Vec<_> = ended.chunks(MOST_KEYS).map(message).collect();
        if messages.is_empty() {
            return Ok(());
        }
        self.topic.publish(&messages).await
    }
}

/// Receives messages until the task is aborted. Reconnects when a connection breaks, or when the
/// store moves to another server.
async fn listen(topic: Arc<Topic>, announcer: Announcer) {
    let Topic { name, pool, .. } = &*topic;
    let mut moves = pool.moves();
    let mut pauses = Pauses::up_to(PAUSE);
    let mut away = false;
    loop {
        sleep(pauses.next()).await;
        moves.mark_unchanged();
        match Subscription::open(&topic, &announcer).await {
            Ok(subscription) => {
                if std::mem::take(&mut away) {
                    tracing::info!(channel = name, "subscribed to the PostgreSQL channel again");
                }
                let broken = pin!(subscription.broken(pool.limit, &announcer));
                let (failure, steady) = match select(broken, pin!(moves.changed())).await {
                    Either::Left((broken, _)) => broken,
                    Either::Right(_) => (Failure::moved(), true),
                };
                announcer.lost();
                pool.failed.notify_one();
                tracing::debug!(channel = name, %failure, "lost the subscription to the PostgreSQL channel");
                if steady {
                    pauses = Pauses::up_to(PAUSE);
                }
            }
            Err(failure) => {
                pool.failed.notify_one();
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(
                        channel = name,
                        %failure,
                        "cannot subscribe to the PostgreSQL channel: access tokens that other instances have ended are accepted until their cache entries expire"
                    );
                }
                if matches!(failure.kind(), Kind::Authentication | Kind::Other) {
                    let _ = timeout(REFUSED, moves.changed()).await;
                }
            }
        }
    }
}

struct Subscription(PgListener);

impl Subscription {
    /// Subscribes, and waits for a message of this instance: behind a pooler, `LISTEN` succeeds,
    /// and no message ever arrives.
    async fn open(topic: &Topic, announcer: &Announcer) -> Result<Self, Failure> {
        let limit = topic.pool.limit;
        let options = match &topic.servers {
            Some(servers) => servers.primary(limit).await?.options,
            None => PgConnectOptions::clone(&topic.pool.current().connect_options()),
        };
        let opening = async {
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(limit)
                .connect_lazy_with(options);
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.ignore_pool_close_event(true);
            listener.listen(&topic.name).await?;
            Ok::<_, Failure>(listener)
        };
        let mut listener = timeout(limit, opening)
            .await
            .map_err(|_| Failure::slow())??;
        // Messages may have been missed before this moment.
        announcer.lost();
        let mut random = [0; 12];
        // If the random number generator fails, the probe of another instance looks the same.
        let _ = OsRandom.fill(&mut random);
        let probe = format!("{PROBE}{}", URL_SAFE_NO_PAD.encode(random));
        // Over another connection: a pooler would deliver a notification that arrives during a
        // statement of this one.
        let published = topic.publish(slice::from_ref(&probe)).await;
        published.map_err(|failure| match failure.kind() {
            // The message arrived in the session that sent it.
            Kind::OutOfStep => not_received(),
            _ => failure,
        })?;
        let probing = async {
            while let Some(message) = listener.try_recv().await? {
                if message.payload() == probe {
                    return Ok(());
                }
                receive(announcer, message.payload());
            }
            Err(closed())
        };
        timeout(limit, probing)
            .await
            .unwrap_or_else(|_| Err(not_received()))?;
        Ok(Self(listener))
    }

    /// Receives messages until the connection is lost. Returns the reason, and whether the server
    /// has answered at least one probe.
    async fn broken(mut self, limit: Duration, announcer: &Announcer) -> (Failure, bool) {
        let mut steady = false;
        let mut beat = Instant::now() + BEAT;
        loop {
            match timeout_at(beat, self.0.try_recv()).await {
                Ok(Ok(Some(message))) => {
                    receive(announcer, message.payload());
                    continue;
                }
                Ok(Ok(None)) => return (closed(), steady),
                Ok(Err(error)) => return (error.into(), steady),
                Err(_) => beat = Instant::now() + BEAT,
            }
            match timeout(limit, self.0.execute("SELECT 1")).await {
                Ok(Ok(_)) => steady = true,
                Ok(Err(error)) => return (error.into(), steady),
                Err(_) => return (Failure::slow(), steady),
            }
        }
    }
}

fn not_received() -> Failure {
    let message = "a message from this instance did not arrive: behind PgBouncer in transaction mode, set a URL for LISTEN that leads to the server";
    Failure::new(Kind::Other, message)
}

fn closed() -> Failure {
    Failure::new(Kind::Gone, "the connection was closed")
}

/// Delivers the keys of a message.
fn receive(announcer: &Announcer, message: &str) {
    if message.starts_with(PROBE) {
        return;
    }
    let (keys, rest) = message.as_bytes().as_chunks::<KEY>();
    for key in keys {
        let mut bytes = [0; 32];
        match URL_SAFE_NO_PAD.decode_slice(key, &mut bytes) {
            Ok(32) => announcer.ended(Key::new(bytes)),
            _ => announcer.lost(),
        }
    }
    if !rest.is_empty() {
        announcer.lost();
    }
}
