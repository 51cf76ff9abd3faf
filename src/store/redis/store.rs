use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::builder::RedisStoreBuilder;
use super::channel::Channel;
use super::connect::Connector;
use super::connection::{Answer, Call, Invocation, ReplicaWait};
use super::entry::{beginning, claimed, decode, encode};
use super::error::{Failure, Kind, RedisConnectError};
use super::key::{entry_key, sidecar_key};
use super::known::Known;
use super::managed::ManagedConnection;
use super::scripts::{CLAIM, Nonce, READ, SWAP};
use crate::store::remote::{bounded, not_taken};
use crate::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Key, Lease, Sidecar, SidecarName, Store,
    StoreError, Swap, Ttl, Version, decide,
};

#[doc = include_str!("redis.md")]
#[derive(Clone)]
pub struct RedisStore {
    pub(super) shared: Arc<Shared>,
    /// Set if writes wait for replicas.
    pub(super) replicated: Option<Arc<Replicated>>,
}

pub(super) struct Shared {
    pub(super) connector: Arc<Connector>,
    pub(super) key_prefix: String,
    pub(super) connection: ManagedConnection,
    pub(super) channel: Channel,
}

/// The additional connections if replicas are waited for: a `WAIT` delays all commands behind it on
/// its connection.
pub(super) struct Replicated {
    pub(super) replicas: ReplicaWait,
    /// The connection for claims, swaps and the reads that follow from them.
    pub(super) writes: ManagedConnection,
    /// The connection that confirms that a key is absent. Any client can cause such calls, as often
    /// as it likes, and must not delay clients that have a grant.
    pub(super) probes: ManagedConnection,
    pub(super) known: Known,
}

impl RedisStore {
    /// Connects with the default settings.
    ///
    /// # Errors
    ///
    /// [`RedisConnectError`], also if the server cannot be reached: `connect` does not retry.
    pub async fn connect(url: &str) -> Result<Self, RedisConnectError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder for a store. `connect` parses the URL.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url)
    }

    fn key(&self, key: &Key) -> Vec<u8> {
        entry_key(&self.shared.key_prefix, key)
    }

    fn sidecar_key(&self, key: &Key, name: &SidecarName) -> Vec<u8> {
        sidecar_key(&self.shared.key_prefix, key, name)
    }

    /// Remembers whether there is an entry under `key`.
    fn note(&self, key: &Key, exists: bool) {
        if let Some(replicated) = &self.replicated {
            replicated.known.set(key, exists);
        }
    }

    /// Returns the connection for claims, swaps and the reads that follow from them.
    fn writes(&self) -> &ManagedConnection {
        match &self.replicated {
            Some(replicated) => &replicated.writes,
            None => &self.shared.connection,
        }
    }

    /// Returns the replicas that writes wait for.
    fn replicas(&self) -> Option<ReplicaWait> {
        self.replicated
            .as_ref()
            .map(|replicated| replicated.replicas)
    }

    /// Confirms with the replicas that `key` is absent. Returns the entry if one has appeared
    /// since.
    ///
    /// This is needed because a master that has been replaced and does not know it may lack the
    /// entry. Only its replicas show that it is still the master.
    async fn probe(&self, key: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        let Some(Replicated {
            probes, replicas, ..
        }) = self.replicated.as_deref()
        else {
            return Ok(None);
        };
        // No entry begins with these bytes, so nothing is swapped. If the key is absent, the script
        // writes a value and removes it, which gives `WAIT` a write to wait for.
        let no_entry = [0; 9];
        let (keys, args): ([&[u8]; 1], [&[u8]; 3]) = ([key], [&no_entry, &no_entry, b""]);
        let call = Call::Run(Invocation {
            script: &SWAP,
            nonce: Nonce::next(),
            keys: &keys,
            args: &args,
            replicas: Some(*replicas),
        });
        let Answer { values, replicated } = probes.call(&call, deadline).await?;
        match values.into_iter().next() {
            Some(Value::Int(0)) => replicated.map(|()| None),
            Some(Value::BulkString(found)) => Ok(Some(found)),
            _ => Err(Failure::out_of_step()),
        }
    }

    /// Fails if `key` is not confirmed to be absent, after a claim has found no entry.
    async fn assert_absent(&self, key: &[u8], deadline: Instant) -> Result<(), Failure> {
        match self.probe(key, deadline).await? {
            None => Ok(()),
            Some(_) => Err(Failure::new(
                Kind::Other,
                "the Redis servers disagree on whether the entry exists: perhaps a failover is in progress",
            )),
        }
    }
}

impl Store for RedisStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let (key, deadline) = (self.key(key), self.shared.connector.deadline());
        let found = match read(&self.shared.connection, &key, deadline).await? {
            // Boxed, because it is rare.
            None if self.replicated.is_some() => Box::pin(self.probe(&key, deadline)).await?,
            found => found,
        };
        found.map(decode).transpose()
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        let (id, key) = (key, self.key(key));
        let expected = expected.map(beginning);
        let (entry, ttl) = match &change {
            Change::Put {
                entry,
                ttl: Ttl::After(ttl),
            } => (encode(entry), millis(*ttl)),
            Change::Put {
                entry,
                ttl: Ttl::Keep,
            } => (encode(entry), String::new()),
            Change::Remove => (Vec::new(), String::new()),
        };
        let sidecars: Vec<_> = sidecars
            .iter()
            .map(|Sidecar { name, value, ttl }| (self.sidecar_key(id, name), value, millis(*ttl)))
            .collect();
        let mut keys: Vec<&[u8]> = vec![&key];
        let mut args: Vec<&[u8]> = vec![
            expected.as_ref().map_or(&[], |expected| &expected[..]),
            &entry,
            ttl.as_bytes(),
        ];
        for (key, value, ttl) in &sidecars {
            keys.push(key);
            args.extend([value, ttl.as_bytes()]);
        }
        let call = Call::Run(Invocation {
            script: &SWAP,
            nonce: Nonce::next(),
            keys: &keys,
            args: &args,
            replicas: self.replicas(),
        });
        let deadline = self.shared.connector.deadline();
        let Answer { values, replicated } = self.writes().call(&call, deadline).await?;
        replicated?;
        match values.into_iter().next() {
            None => {
                self.note(id, !entry.is_empty());
                Ok(Swap::Swapped)
            }
            Some(Value::Int(0)) => Ok(Swap::Conflict(None)),
            Some(Value::BulkString(found)) => Ok(Swap::Conflict(Some(decode(found)?))),
            _ => Err(Failure::out_of_step().into()),
        }
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        // On the connection of the claim that found it: another connection may lead to a server
        // that lags behind.
        let connection = self.writes();
        let key = self.sidecar_key(key, name);
        let value = read(connection, &key, self.shared.connector.deadline()).await?;
        Ok(value.map(Bytes::from))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let (id, key) = (key, self.key(key));
        let (lease, deadline) = (millis(lease), self.shared.connector.deadline());
        let waits: &[u8] = if self.replicated.is_some() { b"1" } else { b"" };
        // In practice a `WAIT` also waits for the writes of other connections, even behind a script
        // that writes nothing, and delays the claims behind it. So a key that is not known to exist
        // is read first, and not claimed if it is absent.
        if let Some(replicated) = &self.replicated
            && !replicated.known.contains(id)
            && read(&self.shared.connection, &key, deadline)
                .await?
                .is_none()
        {
            Box::pin(self.assert_absent(&key, deadline)).await?;
            return Ok(None);
        }
        let (keys, args): ([&[u8]; 1], [&[u8]; 3]) =
            ([&key], [tag.as_bytes(), lease.as_bytes(), waits]);
        let call = Call::Run(Invocation {
            script: &CLAIM,
            nonce: Nonce::of_claim(version),
            keys: &keys,
            args: &args,
            replicas: self.replicas(),
        });
        let Answer { values, replicated } = self.writes().call(&call, deadline).await?;
        let mut values = values.into_iter();
        let (left, entry) = match (values.next(), values.next()) {
            (Some(Value::Nil), None) => {
                self.note(id, false);
                Box::pin(self.assert_absent(&key, deadline)).await?;
                return Ok(None);
            }
            (Some(Value::BulkString(entry)), Some(Value::BulkString(lease))) => {
                let (entry, taken_over) =
                    claimed(entry, version, &lease).ok_or_else(Failure::out_of_step)?;
                let claim = Claim::new(Lease::Taken, decode(entry)?).taking_over(taken_over);
                self.note(id, true);
                // If a failover lost the lease, another request could use the same upstream token.
                replicated?;
                return Ok(Some(claim));
            }
            (Some(Value::Int(left)), Some(Value::BulkString(entry))) => (left, decode(entry)?),
            _ => return Err(Failure::out_of_step().into()),
        };
        self.note(id, true);
        let lease = not_taken(left, entry.tag == *tag).ok_or_else(Failure::out_of_step)?;
        // If the lease is held, waiting and claiming again is harmless, even if it is lost.
        if matches!(lease, Lease::OtherTag(_)) {
            // A token that a failover could lose must not be replayed, nor be the reason to refuse
            // another.
            replicated?;
        }
        Ok(Some(Claim::new(lease, entry)))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        let Shared {
            connection,
            channel,
            ..
        } = &*self.shared;
        let deadline = self.shared.connector.deadline();
        for publish in channel.announce(ended) {
            let published = connection.call(&Call::Publish(publish), deadline).await;
            published.inspect_err(|failure| channel.failed(failure))?;
        }
        Ok(())
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.shared.channel.subscribe())
    }

    fn system_name(&self) -> Option<&'static str> {
        Some("redis")
    }
}

redacted_debug!(self: RedisStore {
    server: self.shared.connector.target, key_prefix: self.shared.key_prefix,
    command_timeout: self.shared.connector.limit,
    wait_for_replicas: self.replicas(),
});

async fn read(
    connection: &ManagedConnection,
    key: &[u8],
    deadline: Instant,
) -> Result<Option<Vec<u8>>, Failure> {
    let call = Call::Run(Invocation {
        script: &READ,
        nonce: Nonce::next(),
        keys: &[key],
        args: &[],
        replicas: None,
    });
    let mut values = connection.call(&call, deadline).await?.values.into_iter();
    match values.next() {
        Some(Value::Nil) => Ok(None),
        Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
        _ => Err(Failure::out_of_step()),
    }
}

fn millis(time: Duration) -> String {
    bounded(time).as_millis().to_string()
}
