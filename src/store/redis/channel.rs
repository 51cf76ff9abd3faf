//! How the instances hear from each other what has ended: Redis pub/sub, on a connection of its
//! own.
//!
//! A message consists of up to [`MOST_KEYS`] keys that have ended, 32 bytes each. Redis delivers it
//! at most once, to the subscribers of that moment. So every broken connection may lose messages,
//! and the connection is probed because a break may go unnoticed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::{AsyncPushSender, SendError};
use redis::{Cmd, PushInfo, PushKind, Value, cmd};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::connect::Connector;
use super::connection::Server;
use super::error::{Failure, Kind};
use super::link::{PATIENCE, Pauses};
use crate::store::{Announcements, Announcer, Key};

/// How often the server is asked whether it is still there, and how long it may take to say so.
const BEAT: Duration = Duration::from_secs(1);

/// The most keys of one message: 32 KiB. A longer message does not come from a store of this crate.
const MOST_KEYS: usize = 1024;

/// The longest pause between two attempts to subscribe.
const PAUSE: Duration = Duration::from_secs(1);

/// The same if the server refuses it, which takes an administrator to change.
const REFUSED: Duration = Duration::from_secs(30);

/// What the instances tell each other over one server or cluster under one key prefix.
pub(super) struct Channel {
    name: String,
    connector: Arc<Connector>,
    announcer: Announcer,
    /// Where the store was connected: who subscribes may be outside.
    runtime: Handle,
    listening: OnceLock<AbortHandle>,
    refused: AtomicBool,
}

impl Channel {
    /// Nobody listens before somebody subscribes. To be called inside a runtime.
    pub(super) fn new(connector: Arc<Connector>, key_prefix: &str) -> Self {
        Self {
            name: format!("{key_prefix}ended"),
            connector,
            announcer: Announcer::new(),
            runtime: Handle::current(),
            listening: OnceLock::new(),
            refused: AtomicBool::new(false),
        }
    }

    /// One more subscriber. The first one has the channel listened to, until this is dropped.
    pub(super) fn subscribe(&self) -> Announcements {
        let announcements = self.announcer.subscribe();
        self.listening.get_or_init(|| {
            let (connector, name) = (Arc::clone(&self.connector), self.name.clone());
            self.runtime
                .spawn(listen(connector, name, self.announcer.clone()))
                .abort_handle()
        });
        announcements
    }

    /// Tells the subscribers of this process, who need no server for it, and says what tells the
    /// others.
    pub(super) fn announce(&self, ended: &[Key]) -> impl Iterator<Item = Cmd> {
        ended.iter().for_each(|key| self.announcer.ended(*key));
        ended.chunks(MOST_KEYS).map(|ended| {
            let mut publish = cmd("PUBLISH");
            publish.arg(&self.name).arg(
                ended
                    .iter()
                    .flat_map(Key::as_bytes)
                    .copied()
                    .collect::<Vec<_>>(),
            );
            publish
        })
    }

    /// Warns, once, that the user may not publish.
    pub(super) fn failed(&self, failure: &Failure) {
        if failure.kind() == Kind::Permission && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                channel = self.name,
                %failure,
                "Redis lets nobody be told what ends: other instances remember it for their time to live"
            );
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get() {
            task.abort();
        }
    }
}

/// Listens for ever, over one connection after the other.
async fn listen(connector: Arc<Connector>, name: String, announcer: Announcer) {
    let mut pauses = Pauses::up_to(PAUSE);
    let mut away = false;
    loop {
        sleep(pauses.next()).await;
        match Subscription::open(&connector, &name, &announcer).await {
            Ok(subscription) => {
                if std::mem::take(&mut away) {
                    tracing::info!(server = ?connector.target, channel = name, "Redis tells again what ends");
                }
                let (failure, steady) = subscription.broken().await;
                announcer.lost();
                tracing::debug!(server = ?connector.target, channel = name, %failure, "a subscription is lost");
                if steady {
                    pauses = Pauses::up_to(PAUSE);
                }
            }
            Err(failure) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(
                        server = ?connector.target,
                        channel = name,
                        %failure,
                        "Redis does not tell what ends: it is remembered for its time to live"
                    );
                }
                if matches!(failure.kind(), Kind::Permission | Kind::Other) {
                    sleep(REFUSED).await;
                }
            }
        }
    }
}

struct Subscription {
    connection: Server,
    /// Notified when the connection is closed.
    closed: Arc<Notify>,
}

impl Subscription {
    async fn open(
        connector: &Connector,
        name: &str,
        announcer: &Announcer,
    ) -> Result<Self, Failure> {
        let limit = connector.limit.max(PATIENCE);
        let closed = Arc::new(Notify::new());
        let ear = ear(name.to_owned(), announcer.clone(), Arc::clone(&closed));
        let connection = connector.listener(limit, ear).await?;
        timeout(limit, connection.subscribe(name))
            .await
            .map_err(|_| Failure::slow())??;
        Ok(Self { connection, closed })
    }

    /// Waits until it is lost: why, and whether the server has been there at all.
    async fn broken(self) -> (Failure, bool) {
        let mut steady = false;
        let mut beat = 0_u64;
        loop {
            beat = beat.wrapping_add(1);
            if timeout(BEAT, self.closed.notified()).await.is_ok() {
                return (
                    Failure::new(Kind::Gone, "the connection was closed, or is out of step"),
                    steady,
                );
            }
            let echo = beat.to_string();
            let mut ping = cmd("PING");
            ping.arg(&echo);
            let answer = timeout(BEAT, self.connection.query(&ping)).await;
            // A server that refuses to answer is there.
            match answer.map_or_else(
                |_| Err(Failure::slow()),
                |answer| answer.map_err(Failure::from),
            ) {
                Ok(Value::BulkString(pong)) if pong == echo.as_bytes() => steady = true,
                Ok(_) => return (Failure::out_of_step(), false),
                Err(failure) if matches!(failure.kind(), Kind::Gone | Kind::Slow) => {
                    return (failure, steady);
                }
                Err(_) => steady = true,
            }
        }
    }
}

/// Returns a receiver for the messages of one connection, in their order. It first reports that
/// earlier messages may have been missed.
fn ear(name: String, announcer: Announcer, closed: Arc<Notify>) -> Arc<dyn AsyncPushSender> {
    Arc::new(move |PushInfo { kind, data }| {
        match kind {
            PushKind::Subscribe => announcer.lost(),
            PushKind::Message => match data.as_slice() {
                [Value::BulkString(channel), Value::BulkString(message)]
                    if channel == name.as_bytes() =>
                {
                    receive(&announcer, message);
                }
                // The store subscribed to nothing else, so the connection is replaced.
                _ => {
                    announcer.lost();
                    closed.notify_one();
                }
            },
            PushKind::Disconnection => closed.notify_one(),
            _ => {}
        }
        Ok::<_, SendError>(())
    })
}

/// Passes a message on. Ignores the keys of a message that is longer than the store's own.
fn receive(announcer: &Announcer, message: &[u8]) {
    let (keys, rest) = message.as_chunks();
    if keys.len() > MOST_KEYS {
        return announcer.lost();
    }
    keys.iter().for_each(|key| announcer.ended(Key::new(*key)));
    if !rest.is_empty() {
        announcer.lost();
    }
}
