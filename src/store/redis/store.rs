use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::builder::RedisStoreBuilder;
use super::channel::Channel;
use super::check;
use super::connect::Connector;
use super::connection::{Answer, Call, ReplicaWait};
use super::entry::{beginning, claimed, decode, encode};
use super::error::{Failure, Kind, RedisConnectError};
use super::key::{entry_key, sidecar_key};
use super::known::Known;
use super::link::Link;
use super::scripts::{CLAIM, Nonce, READ, SWAP, Script};
use crate::clock::CENTURY;
use crate::random::{OsRandom, SecureRandom as _};
use crate::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Key, Lease, Sidecar, SidecarName, Store,
    StoreError, Swap, Ttl, Version, decide,
};

#[doc = include_str!("redis.md")]
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    connector: Arc<Connector>,
    key_prefix: String,
    link: Link,
    replicated: Option<Replicated>,
    channel: Channel,
}

/// The additional connections if replicas are waited for: a `WAIT` delays all commands behind it on
/// its connection.
pub(super) struct Replicated {
    pub(super) replicas: ReplicaWait,
    /// The connection for claims, swaps and the reads that follow from them.
    pub(super) writes: Link,
    /// The connection that confirms that a key is absent. Any client can cause such calls, as often
    /// as it likes, and must not delay clients that have a grant.
    pub(super) probes: Link,
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

    pub(super) fn new(
        connector: Arc<Connector>,
        key_prefix: String,
        link: Link,
        replicated: Option<Replicated>,
    ) -> Self {
        let channel = Channel::new(Arc::clone(&connector), &key_prefix);
        Self {
            shared: Arc::new(Shared {
                connector,
                key_prefix,
                link,
                replicated,
                channel,
            }),
        }
    }

    /// Runs every command of the store once, on an entry of its own.
    pub(super) async fn rehearse(&self) -> Result<(), RedisConnectError> {
        let mut random = [0; 32];
        OsRandom
            .fill(&mut random)
            .map_err(|error| RedisConnectError::Unusable(Arc::new(error)))?;
        let key = Key::new(random);
        let sidecar = self.sidecar_key(&key, &SidecarName::new([0; 16]));
        Ok(check::rehearse(&self.shared.link, &self.key(&key), &sidecar).await?)
    }

    fn key(&self, key: &Key) -> Vec<u8> {
        entry_key(&self.shared.key_prefix, key)
    }

    fn sidecar_key(&self, key: &Key, name: &SidecarName) -> Vec<u8> {
        sidecar_key(&self.shared.key_prefix, key, name)
    }

    async fn read(
        &self,
        link: &Link,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let call = Call::Run {
            script: &READ,
            nonce: Nonce::next(),
            keys: &[key],
            args: &[],
            replicas: None,
        };
        let mut values = link.call_until(&call, deadline).await?.values.into_iter();
        match values.next() {
            Some(Value::Nil) => Ok(None),
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            _ => Err(Failure::out_of_step()),
        }
    }

    /// Runs a script that may write. The caller must pass `Answer::replicas` to
    /// `assert_replicated`, unless the result does not depend on a write.
    async fn run(
        &self,
        script: &'static Script,
        nonce: Nonce,
        keys: &[&[u8]],
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let call = Call::Run {
            script,
            nonce,
            keys,
            args,
            replicas: self.replicated().map(|replicated| replicated.replicas),
        };
        self.writes().call_until(&call, deadline).await
    }

    /// Remembers whether there is an entry under `key`.
    fn note(&self, key: &Key, exists: bool) {
        if let Some(replicated) = self.replicated() {
            replicated.known.set(key, exists);
        }
    }

    fn replicated(&self) -> Option<&Replicated> {
        self.shared.replicated.as_ref()
    }

    /// Returns the connection for claims, swaps and the reads that follow from them.
    fn writes(&self) -> &Link {
        self.replicated()
            .map_or(&self.shared.link, |replicated| &replicated.writes)
    }

    /// Confirms with the replicas that `key` is absent. Returns the entry if one has appeared
    /// since.
    ///
    /// This is needed because a master that has been replaced and does not know it may lack the
    /// entry. Only its replicas show that it is still the master.
    async fn probe(&self, key: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        let Some(Replicated {
            probes, replicas, ..
        }) = self.replicated()
        else {
            return Ok(None);
        };
        // No entry begins with these bytes, so nothing is swapped. If the key is absent, the script
        // writes a value and removes it, which gives `WAIT` a write to wait for.
        let nobody = [0; 9];
        let (keys, args): ([&[u8]; 1], [&[u8]; 3]) = ([key], [&nobody, &nobody, b""]);
        let call = Call::Run {
            script: &SWAP,
            nonce: Nonce::next(),
            keys: &keys,
            args: &args,
            replicas: Some(*replicas),
        };
        let Answer { values, replicas } = probes.call_until(&call, deadline).await?;
        match values.into_iter().next() {
            Some(Value::Int(0)) => self.assert_replicated(replicas).map(|()| None),
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

    /// Fails unless enough replicas have acknowledged the entry that was written or found.
    ///
    /// An entry that was found was written by another call. If a failover loses that write, a
    /// refusal or a token that was based on it costs the client its grant. The same is true for the
    /// reply of a master that has been replaced and does not know it: its replicas have left it.
    fn assert_replicated(&self, reached: Option<i64>) -> Result<(), Failure> {
        let count = self
            .replicated()
            .map_or(0, |replicated| replicated.replicas.count);
        let reached = reached.unwrap_or_default();
        if reached >= i64::from(count) {
            return Ok(());
        }
        let message = format!(
            "too few replicas ({reached} of {count} acknowledged the write in time): a failover could lose it"
        );
        Err(Failure::new(Kind::Other, message))
    }
}

impl Store for RedisStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let (key, deadline) = (self.key(key), self.shared.link.deadline());
        let found = match self.read(&self.shared.link, &key, deadline).await? {
            // Boxed, because it is rare.
            None if self.replicated().is_some() => Box::pin(self.probe(&key, deadline)).await?,
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
        let deadline = self.shared.link.deadline();
        let Answer { values, replicas } = self
            .run(&SWAP, Nonce::next(), &keys, &args, deadline)
            .await?;
        self.assert_replicated(replicas)?;
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
        let link = self.writes();
        let key = self.sidecar_key(key, name);
        let value = self.read(link, &key, link.deadline()).await?;
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
        let (lease, deadline) = (millis(lease), self.shared.link.deadline());
        let waits: &[u8] = self.replicated().map_or(&b""[..], |_| &b"1"[..]);
        // In practice a `WAIT` also waits for the writes of other connections, even behind a script
        // that writes nothing, and delays the claims behind it. So a key that is not known to exist
        // is read first, and not claimed if it is absent.
        if self.replicated().is_some_and(|of| !of.known.contains(id))
            && self
                .read(&self.shared.link, &key, deadline)
                .await?
                .is_none()
        {
            Box::pin(self.assert_absent(&key, deadline)).await?;
            return Ok(None);
        }
        let nonce = Nonce::of_claim(version);
        let (keys, args): ([&[u8]; 1], [&[u8]; 3]) =
            ([&key], [tag.as_bytes(), lease.as_bytes(), waits]);
        let Answer { values, replicas } = self.run(&CLAIM, nonce, &keys, &args, deadline).await?;
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
                self.assert_replicated(replicas)?;
                return Ok(Some(claim));
            }
            (Some(Value::Int(left)), Some(Value::BulkString(entry))) => (left, decode(entry)?),
            _ => return Err(Failure::out_of_step().into()),
        };
        self.note(id, true);
        let left = u64::try_from(left)
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_millis);
        let lease = match left {
            left if entry.tag != *tag => {
                // A token that a failover could lose must not be replayed, nor be the reason to
                // refuse another.
                self.assert_replicated(replicas)?;
                Lease::OtherTag(left)
            }
            // Waiting and claiming again is harmless, even if the lease is lost.
            Some(left) => Lease::Held(left),
            None => return Err(Failure::out_of_step().into()),
        };
        Ok(Some(Claim::new(lease, entry)))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        let deadline = self.shared.link.deadline();
        for publish in self.shared.channel.announce(ended) {
            let published = self
                .shared
                .link
                .call_until(&Call::Publish(publish), deadline)
                .await;
            published.inspect_err(|failure| self.shared.channel.failed(failure))?;
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
    wait_for_replicas: self.replicated().map(|replicated| replicated.replicas),
});

/// The longest time to live. It is longer than a grant can live, because an entry is kept for some
/// time after its grant has expired.
const LONGEST_TTL: Duration = CENTURY.saturating_mul(2);

/// Formats a duration for Redis: at least a millisecond, and at most [`LONGEST_TTL`], so that
/// neither its arithmetic nor the expiry of a lease in an entry overflows.
fn millis(time: Duration) -> String {
    time.clamp(Duration::from_millis(1), LONGEST_TTL)
        .as_millis()
        .to_string()
}
