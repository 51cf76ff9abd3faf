use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::time::timeout;
use zeroize::Zeroizing;

use super::channel::Channel;
use super::check;
use super::connect::Connector;
use super::connection::ReplicaWait;
use super::error::{Failure, RedisConnectError};
use super::known::Known;
use super::managed::{ManagedConnection, PATIENCE};
use super::store::{RedisStore, Replicated, Shared};
use super::target::{Credentials, Target};
use super::tls::Tls;
use crate::store::remote::rehearsal::rehearse;

/// The number of keys to try on a cluster until one belongs to a node that can be reached.
const REHEARSALS: u32 = 16;

/// The settings of a [`RedisStore`].
#[must_use = "a builder does nothing until `connect` is called"]
pub struct RedisStoreBuilder {
    url: Zeroizing<String>,
    key_prefix: String,
    command_timeout: Duration,
    replicas: Option<ReplicaWait>,
    sentinel_credentials: Option<Credentials>,
    roots: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: Zeroizing::new(url.to_owned()),
            key_prefix: "rt:".to_owned(),
            command_timeout: Duration::from_secs(1),
            replicas: None,
            sentinel_credentials: None,
            roots: None,
            client: None,
        }
    }

    /// Sets the prefix of every key. Default: `rt:`. Deployments that share a database but not
    /// their grants need different prefixes. It must not contain braces, which Redis Cluster uses
    /// to choose the slot of a key.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Sets the time limit of a call of the store, including reconnects and repetitions. Default:
    /// one second. At least a millisecond, at most an hour. A call that takes longer fails with
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable), and may have taken effect.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Makes every write, including that of a lease, wait until `count` replicas have acknowledged
    /// it, for at most `timeout`. Default: writes do not wait for replicas. `count` must be at
    /// least one, and `timeout` at least a millisecond and shorter than
    /// [`command_timeout`](Self::command_timeout).
    ///
    /// Redis replicates asynchronously: when a master fails, its last writes are lost. With this
    /// setting, a write that a failover could lose fails with
    /// [`StoreError::Unavailable`](crate::StoreError::Unavailable):
    ///
    /// - A rotation does not begin before the replicas have its lease. The layer repeats the commit
    ///   of a rotation until the replicas have it, for at most a minute.
    /// - The layer does not replay a response or refuse a token because of a write that a failover
    ///   could lose, or because of the reply of a master that has been replaced and does not know
    ///   it yet.
    /// - To be sure that a key is absent, the store writes an empty value under it, waits for the
    ///   replicas, and removes it.
    ///
    /// This makes the loss of a write rare, not impossible: Redis may promote another replica. On a
    /// cluster the replicas are those of the node that holds the key. While too few replicas are
    /// connected, no token is refreshed.
    ///
    /// A call that waits for replicas delays the calls behind it on the same connection. So the
    /// store opens two more connections: one for writes, and one to confirm that a key is absent,
    /// so that clients with unknown tokens delay only each other. For the same reason, a claim of a
    /// key that this instance has not seen reads it first, which is one more round trip for that
    /// rotation.
    pub fn wait_for_replicas(mut self, count: u32, timeout: Duration) -> Self {
        self.replicas = Some(ReplicaWait { count, timeout });
        self
    }

    /// Sets the user and the password for the sentinels. Default: the store does not authenticate
    /// at the sentinels, because the user of the URL is only for the master. An empty `user` is the
    /// default user.
    pub fn sentinel_credentials(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.sentinel_credentials = Some(Credentials::new(user.into(), password.into()));
        self
    }

    /// Sets the certificate authorities to trust, as PEM: one certificate after the other. Default:
    /// those of the operating system. They apply to every server of the URL: with Sentinel, to the
    /// sentinels and to the master. [`connect`](Self::connect) returns an error if the URL does not
    /// use TLS.
    #[cfg(feature = "redis-tls")]
    pub fn tls_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Sets the client certificate for servers and sentinels that request one: the certificate
    /// chain and its key, as PEM. Default: none. [`connect`](Self::connect) returns an error if the
    /// URL does not use TLS.
    #[cfg(feature = "redis-tls")]
    pub fn tls_client_certificate(
        mut self,
        certificate: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.client = Some((certificate.into(), Zeroizing::new(key.into())));
        self
    }

    /// Connects, and checks that the server can do what the store needs: it writes, claims, reads
    /// and removes one entry.
    ///
    /// Logs a warning about settings that lose grants: a `maxmemory-policy` other than
    /// `noeviction`, or no append-only file. Also warns if fewer replicas are connected than
    /// [`wait_for_replicas`](Self::wait_for_replicas) waits for. If the user may not call `INFO`,
    /// this check is skipped.
    ///
    /// # Errors
    ///
    /// [`RedisConnectError`], also if the server cannot be reached: `connect` does not retry.
    pub async fn connect(self) -> Result<RedisStore, RedisConnectError> {
        let target = Target::parse(&self.url)?;
        self.check()?;
        let connector = Arc::new(Connector {
            tls: Tls::new(target.tls, self.roots, self.client)?,
            target,
            sentinel_credentials: self.sentinel_credentials,
            limit: self.command_timeout,
            first_sentinel: AtomicUsize::new(0),
        });
        let limit = self.command_timeout.max(PATIENCE);
        let scout = connector.reach(limit, None).await?;
        let checked = timeout(limit, check::check(&scout, &connector.target.place)).await;
        checked.map_err(|_| Failure::slow())??;
        let connection = connector.connect(limit).await?;
        // The warnings are skipped if `INFO` is too slow.
        let warnings = check::warn(&connection, self.replicas.map(|wait| wait.count));
        let _ = timeout(limit, warnings).await;
        let managed = |connection| ManagedConnection::new(connection, Arc::clone(&connector));
        let shared = Arc::new(Shared {
            channel: Channel::new(Arc::clone(&connector), &self.key_prefix),
            key_prefix: self.key_prefix,
            connection: managed(connection),
            connector: Arc::clone(&connector),
        });
        let mut store = RedisStore {
            shared,
            replicated: None,
        };
        let mut rehearsed = Ok(());
        let most = if connector.joins() { REHEARSALS } else { 1 };
        for _ in 0..most {
            rehearsed = rehearse(&store)
                .await
                .map_err(|error| match Failure::of(&error) {
                    Some(failure) => failure.into(),
                    None => RedisConnectError::Unusable(Arc::new(error)),
                });
            // One node of a cluster may be down. Another key probably belongs to another node.
            if !matches!(rehearsed, Err(RedisConnectError::Unreachable(_))) {
                break;
            }
        }
        rehearsed?;
        // The rehearsal does not wait for replicas: they may connect later.
        if let Some(replicas) = self.replicas {
            store.replicated = Some(Arc::new(Replicated {
                replicas,
                writes: managed(connector.connect(limit).await?),
                probes: managed(connector.connect(limit).await?),
                known: Known::new(),
            }));
        }
        Ok(store)
    }

    fn check(&self) -> Result<(), RedisConnectError> {
        let wrong = |setting, reason| Err(RedisConnectError::Setting { setting, reason });
        if self.key_prefix.contains(['{', '}']) {
            return wrong(
                "key_prefix",
                "braces would put all keys into one slot of a cluster",
            );
        }
        if self.command_timeout < Duration::from_millis(1) {
            return wrong("command_timeout", "it must be at least a millisecond");
        }
        if self.command_timeout > Duration::from_secs(3600) {
            return wrong("command_timeout", "it must be at most an hour");
        }
        match self.replicas {
            Some(ReplicaWait { count: 0, .. }) => wrong(
                "wait_for_replicas",
                "the number of replicas must be at least one",
            ),
            Some(ReplicaWait { timeout, .. })
                if timeout < Duration::from_millis(1) || timeout >= self.command_timeout =>
            {
                wrong(
                    "wait_for_replicas",
                    "the time must be at least a millisecond and less than command_timeout",
                )
            }
            _ => Ok(()),
        }
    }
}

redacted_debug!(self: RedisStoreBuilder {
    server: Target::parse(&self.url), key_prefix, command_timeout, wait_for_replicas: self.replicas,
    sentinel_credentials: self.sentinel_credentials.is_some(),
    tls_root_certificates: self.roots.is_some(), tls_client_certificate: self.client.is_some(),
});
