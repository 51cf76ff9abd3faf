//! The channel on which instances announce ended keys: Redis pub/sub, on a connection of its own.
//!
//! A message consists of up to [`MOST_KEYS`] keys that have ended, 32 bytes each. Redis delivers it
//! at most once, to the subscribers of that moment. So every broken connection may lose messages.
//! The connection is probed with `PING`, because a break may go unnoticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, SendError};
use redis::{Cmd, PushInfo, PushKind, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::connect::Connector;
use super::connection::Server;
use super::error::{Failure, Kind, within};
use super::managed::PATIENCE;
use crate::store::remote::listener::{Listener, PAUSE, REFUSED};
use crate::store::remote::pauses::Pauses;
use crate::store::{Announcements, Announcer, Key};

/// The interval between two probes of the connection, and the time limit of a probe.
const BEAT: Duration = Duration::from_secs(1);

/// The most keys of one message: 32 KiB. A longer message does not come from a store of this crate.
const MOST_KEYS: usize = 1024;

/// The channel of the instances that share a server or cluster and a key prefix.
pub(super) struct Channel {
    name: String,
    connector: Arc<Connector>,
    listener: Listener,
    refused: AtomicBool,
}

impl Channel {
    /// Creates the channel. It connects at the first subscription. Must be called inside a runtime.
    pub(super) fn new(connector: Arc<Connector>, key_prefix: &str) -> Self {
        Self {
            name: format!("{key_prefix}ended"),
            connector,
            listener: Listener::new(),
            refused: AtomicBool::new(false),
        }
    }

    /// Adds a subscriber. The first one starts the task that receives messages; it runs until
    /// `self` is dropped.
    pub(super) fn subscribe(&self) -> Announcements {
        self.listener.subscribe(|announcer| {
            let connector = Arc::clone(&self.connector);
            listen(connector, self.name.clone(), announcer)
        })
    }

    /// Notifies the subscribers of this process, for which no server is needed. Returns the
    /// commands that notify the other instances.
    pub(super) fn announce(&self, ended: &[Key]) -> impl Iterator<Item = Cmd> {
        self.listener.ended(ended);
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

    /// Warns once if the user may not publish.
    pub(super) fn failed(&self, failure: &Failure) {
        if failure.kind() == Kind::Permission && !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                channel = self.name,
                %failure,
                "not permitted to PUBLISH: other instances accept ended access tokens until their cache entries expire"
            );
        }
    }
}

/// Receives messages until the task is aborted, and reconnects when a connection breaks.
async fn listen(connector: Arc<Connector>, name: String, announcer: Announcer) {
    let mut pauses = Pauses::up_to(PAUSE);
    let mut away = false;
    loop {
        sleep(pauses.next()).await;
        match Subscription::open(&connector, &name, &announcer).await {
            Ok(subscription) => {
                if std::mem::take(&mut away) {
                    tracing::info!(server = ?connector.target, channel = name, "subscribed to the Redis channel again");
                }
                let (failure, steady) = subscription.broken().await;
                announcer.lost();
                tracing::debug!(server = ?connector.target, channel = name, %failure, "lost the subscription to the Redis channel");
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
                        "cannot subscribe to the Redis channel: access tokens that other instances have ended are accepted until their cache entries expire"
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
        let push = push_sender(name.to_owned(), announcer.clone(), Arc::clone(&closed));
        let connection = connector.reach(limit, Some(&push)).await?;
        within(limit, connection.subscribe(name)).await?;
        Ok(Self { connection, closed })
    }

    /// Waits until the subscription is lost. Returns the reason, and whether the server has
    /// answered at least one probe.
    async fn broken(self) -> (Failure, bool) {
        let mut steady = false;
        let mut beat = 0_u64;
        loop {
            beat = beat.wrapping_add(1);
            if timeout(BEAT, self.closed.notified()).await.is_ok() {
                let message = "the connection was closed or received an unexpected message";
                return (Failure::new(Kind::Gone, message), steady);
            }
            let echo = beat.to_string();
            let mut ping = cmd("PING");
            ping.arg(&echo);
            // A server that replies with an error is alive.
            match within(BEAT, self.connection.query(&ping)).await {
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
fn push_sender(
    name: String,
    announcer: Announcer,
    closed: Arc<Notify>,
) -> Arc<dyn AsyncPushSender> {
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

/// Delivers the keys of a message. Ignores the keys of a message that is longer than the store
/// writes.
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
