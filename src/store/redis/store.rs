use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::builder::RedisStoreBuilder;
use super::channel::Channel;
use super::connect::Connector;
use super::connection::{Answer, Call};
use super::entry::{beginning, decode, encode, with_head};
use super::error::{Failure, Kind, RedisConnectError};
use super::link::Link;
use super::scripts::{CLAIM, READ, SWAP, Script};
use crate::random::{OsRandom, SecureRandom as _};
use crate::store::{
    Announcements, Beside, Change, Claim, Entry, Key, Lease, Name, Store, StoreError, Swap, Tag,
    Ttl, Version,
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

/// What there is besides if replicas are waited for: a `WAIT` holds up all that comes behind it on
/// its connection.
pub(super) struct Replicated {
    /// How many replicas, and how long.
    pub(super) replicas: (u32, Duration),
    /// The connection for claims and swaps and what follows from them.
    pub(super) writes: Link,
    /// The connection to make sure that there is nothing: anybody can ask for that, as often as
    /// they like, and shall hold up nobody who has a grant.
    pub(super) probes: Link,
}

impl RedisStore {
    /// Connects with the default settings.
    ///
    /// # Errors
    ///
    /// [`RedisConnectError`], also if the server cannot be reached: nothing is tried again before
    /// the store is there.
    pub async fn connect(url: &str) -> Result<Self, RedisConnectError> {
        Self::builder(url).connect().await
    }

    /// Sets up a connection; the URL is read when it is made.
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

    /// Does once all that the store ever does, with an entry of its own.
    pub(super) async fn rehearse(&self) -> Result<(), RedisConnectError> {
        let mut random = [0; 32];
        OsRandom
            .fill(&mut random)
            .map_err(|error| RedisConnectError::Unusable(Arc::new(error)))?;
        let key = self.key(&Key::new(random));
        let name = beside_key(&key, &Name::new([0; 16]));
        let entry = encode(&Entry::new(
            Version::new([0; 8]),
            Tag::new([0; 32]),
            Bytes::new(),
        ));
        let first = beginning(Version::new([0; 8]));
        let rewritten = encode(&Entry::new(
            Version::new([1; 8]),
            Tag::new([0; 32]),
            Bytes::new(),
        ));
        let steps: [(&_, &[&[u8]], &[&[u8]]); 4] = [
            (&SWAP, &[&key, &name], &[b"", &entry, b"60000", b"", b"1"]),
            (&SWAP, &[&key], &[&first, &rewritten, b""]),
            (&CLAIM, &[&key], &[&[0; 32], &[2; 8], b"1", b""]),
            (
                &SWAP,
                &[&key],
                &[&beginning(Version::new([2; 8])), b"", b""],
            ),
        ];
        for (script, keys, args) in steps {
            self.shared
                .link
                .call(&Call::Run {
                    script,
                    keys,
                    args,
                    replicas: None,
                })
                .await?;
        }
        self.read(&self.shared.link, &key, self.shared.link.deadline())
            .await?;
        Ok(())
    }

    fn key(&self, key: &Key) -> Vec<u8> {
        let mut text = String::with_capacity(self.shared.key_prefix.len() + 68);
        text.push_str(&self.shared.key_prefix);
        text.push('{');
        URL_SAFE_NO_PAD.encode_string(key.as_bytes(), &mut text);
        text.push('}');
        text.into_bytes()
    }

    async fn read(
        &self,
        link: &Link,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let call = Call::Run {
            script: &READ,
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

    /// Runs a script that may write. Whether its answer stands, replicas and all, is to be asked of
    /// it.
    async fn run(
        &self,
        script: &'static Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let (link, replicas) = match &self.shared.replicated {
            Some(Replicated {
                writes, replicas, ..
            }) => (writes, Some(*replicas)),
            None => (&self.shared.link, None),
        };
        link.call_until(
            &Call::Run {
                script,
                keys,
                args,
                replicas,
            },
            deadline,
        )
        .await
    }

    /// What is under a key where nothing was found: nothing, and its replicas say so too, or what
    /// has come to be there.
    ///
    /// Only its replicas can tell that a server has not been replaced by one that has a grant
    /// there.
    async fn probe(&self, key: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        let Some(Replicated {
            probes, replicas, ..
        }) = &self.shared.replicated
        else {
            return Ok(None);
        };
        // No entry begins like this: nothing is swapped, and where nothing is, something is written
        // and removed.
        let nobody = [0; 9];
        let (keys, args): ([&[u8]; 1], [&[u8]; 3]) = ([key], [&nobody, &nobody, b""]);
        let call = Call::Run {
            script: &SWAP,
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

    /// Makes sure that there is nothing under a key, where somebody wanted to claim what is there.
    async fn assert_absent(&self, key: &[u8], deadline: Instant) -> Result<(), Failure> {
        match self.probe(key, deadline).await? {
            None => Ok(()),
            Some(_) => Err(Failure::new(
                Kind::Other,
                "the servers disagree about whether it is there",
            )),
        }
    }

    /// Fails unless as many replicas have what was written, or was found, as shall have it.
    ///
    /// What was found is another call's write. To refuse a request or to give it a token for the
    /// sake of a write that a failover loses ends a session, and so does the answer of a master
    /// that has been replaced and does not know it: its replicas have gone.
    fn assert_replicated(&self, reached: Option<i64>) -> Result<(), Failure> {
        match &self.shared.replicated {
            Some(Replicated {
                replicas: (count, _),
                ..
            }) if reached.is_none_or(|reached| reached < i64::from(*count)) => {
                let reached = reached.unwrap_or_default();
                let message = format!(
                    "too few replicas have it ({reached} of {count} acknowledged the write in time): a failover could \
                     lose it"
                );
                Err(Failure::new(Kind::Other, message))
            }
            _ => Ok(()),
        }
    }
}

impl Store for RedisStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let (key, deadline) = (self.key(key), self.shared.link.deadline());
        let found = match self.read(&self.shared.link, &key, deadline).await? {
            // In a box, for it is rare.
            None if self.shared.replicated.is_some() => {
                Box::pin(self.probe(&key, deadline)).await?
            }
            found => found,
        };
        found.map(decode).transpose()
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        let key = self.key(key);
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
        let beside = also.map(|also| (beside_key(&key, &also.name), also.value, millis(also.ttl)));
        let mut keys: Vec<&[u8]> = vec![&key];
        let mut args: Vec<&[u8]> = vec![
            expected.as_ref().map_or(&[], |expected| &expected[..]),
            &entry,
            ttl.as_bytes(),
        ];
        if let Some((key, value, ttl)) = &beside {
            keys.push(key);
            args.extend([value.as_ref(), ttl.as_bytes()]);
        }
        let Answer { values, replicas } = self
            .run(&SWAP, &keys, &args, self.shared.link.deadline())
            .await?;
        self.assert_replicated(replicas)?;
        match values.into_iter().next() {
            Some(Value::Int(1)) => Ok(Swap::Swapped),
            Some(Value::Int(0)) => Ok(Swap::Conflict(None)),
            Some(Value::BulkString(found)) => Ok(Swap::Conflict(Some(decode(found)?))),
            _ => Err(Failure::out_of_step().into()),
        }
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        // Where the claim has found that it is there: another connection may yet lead to a server
        // that lags behind.
        let link = self
            .shared
            .replicated
            .as_ref()
            .map_or(&self.shared.link, |replicated| &replicated.writes);
        Ok(self
            .read(link, &beside_key(&self.key(key), name), link.deadline())
            .await?
            .map(Bytes::from))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let (key, lease, deadline) = (self.key(key), millis(lease), self.shared.link.deadline());
        let waits: &[u8] = if self.shared.replicated.is_some() {
            b"1"
        } else {
            b""
        };
        // Even behind a script that writes nothing, a WAIT waits for what others have written. So
        // what is not there is not claimed: it would hold up the claims behind it.
        if self.shared.replicated.is_some()
            && self
                .read(&self.shared.link, &key, deadline)
                .await?
                .is_none()
        {
            Box::pin(self.assert_absent(&key, deadline)).await?;
            return Ok(None);
        }
        let (keys, args): ([&[u8]; 1], [&[u8]; 4]) = (
            [&key],
            [tag.as_bytes(), version.as_bytes(), lease.as_bytes(), waits],
        );
        let Answer { values, replicas } = self.run(&CLAIM, &keys, &args, deadline).await?;
        let mut values = values.into_iter();
        let (left, entry) = match (values.next(), values.next(), values.next()) {
            (Some(Value::Nil), None, None) => {
                Box::pin(self.assert_absent(&key, deadline)).await?;
                return Ok(None);
            }
            (Some(Value::Int(left)), Some(Value::BulkString(entry)), None) => (left, entry),
            (
                Some(Value::Int(left)),
                Some(Value::BulkString(entry)),
                Some(Value::BulkString(head)),
            ) => (
                left,
                with_head(entry, &head).ok_or_else(Failure::out_of_step)?,
            ),
            _ => return Err(Failure::out_of_step().into()),
        };
        let entry = decode(entry)?;
        let taken_over = left < 0;
        let left = u64::try_from(left)
            .ok()
            .filter(|left| *left > 0)
            .map(Duration::from_millis);
        let lease = match left {
            _ if entry.version == version => {
                // A lease that a failover loses would let another request use the same upstream
                // token.
                self.assert_replicated(replicas)?;
                Lease::Taken
            }
            left if entry.tag != *tag => {
                // A token that a failover loses must not be handed out as a replay, nor be the
                // reason to refuse another.
                self.assert_replicated(replicas)?;
                Lease::OtherTag(left)
            }
            // To wait and ask again does no harm.
            Some(left) => Lease::Held(left),
            None => return Err(Failure::out_of_step().into()),
        };
        Ok(Some(Claim::new(lease, entry).taking_over(taken_over)))
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
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &self.shared.connector.target)
            .field("key_prefix", &self.shared.key_prefix)
            .field("command_timeout", &self.shared.connector.limit)
            .field(
                "wait_for_replicas",
                &self
                    .shared
                    .replicated
                    .as_ref()
                    .map(|replicated| replicated.replicas),
            )
            .finish_non_exhaustive()
    }
}

/// In the same slot of a cluster as `key`: the braces say so.
fn beside_key(key: &[u8], name: &Name) -> Vec<u8> {
    let mut bytes = key.to_vec();
    bytes.push(b':');
    bytes.extend_from_slice(URL_SAFE_NO_PAD.encode(name.as_bytes()).as_bytes());
    bytes
}

/// A time as Redis takes it: at least a millisecond, and no longer than two thousand years, so that
/// neither its arithmetic overflows nor the end of a lease in an entry.
fn millis(time: Duration) -> String {
    const LONGEST: u128 = 1 << 46;
    time.as_millis().clamp(1, LONGEST).to_string()
}
