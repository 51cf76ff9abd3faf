use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use redis::{Value, cmd};

use super::builder::RedisStoreBuilder;
use super::channel::Channel;
use super::connect::Connector;
use super::connection::{Answer, Call};
use super::entry::{beginning, decode, encode, with_head};
use super::error::{Failure, Kind, RedisConnectError};
use super::link::Link;
use super::scripts::{CLAIM, SWAP, Script};
use crate::random::{OsRandom, SecureRandom as _};
use crate::store::{
    Announcements, Beside, Change, Claim, Entry, Key, Lease, Name, Store, StoreError, Swap, Tag, Ttl, Version,
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
    /// The connection for claims and swaps and what follows from them, if they wait for replicas: a `WAIT` holds up all
    /// that comes behind it.
    writes: Option<(Link, (u32, Duration))>,
    channel: Channel,
}

impl RedisStore {
    /// Connects with the default settings.
    ///
    /// # Errors
    ///
    /// [`RedisConnectError`], also if the server cannot be reached: nothing is tried again before the store is there.
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
        writes: Option<(Link, (u32, Duration))>,
    ) -> Self {
        let channel = Channel::new(Arc::clone(&connector), &key_prefix);
        Self { shared: Arc::new(Shared { connector, key_prefix, link, writes, channel }) }
    }

    /// Does once all that the store ever does, with an entry of its own.
    pub(super) async fn rehearse(&self) -> Result<(), RedisConnectError> {
        let mut random = [0; 32];
        OsRandom.fill(&mut random).map_err(|error| RedisConnectError::Unusable(Arc::new(error)))?;
        let key = self.key(&Key::new(random));
        let name = beside_key(&key, &Name::new([0; 16]));
        let entry = encode(&Entry::new(Version::new([0; 8]), Tag::new([0; 32]), Bytes::new()));
        let first = beginning(Version::new([0; 8]));
        let rewritten = encode(&Entry::new(Version::new([1; 8]), Tag::new([0; 32]), Bytes::new()));
        let steps: [(&_, &[&[u8]], &[&[u8]]); 4] = [
            (&SWAP, &[&key, &name], &[b"", &entry, b"60000", b"", b"1"]),
            (&SWAP, &[&key], &[&first, &rewritten, b""]),
            (&CLAIM, &[&key], &[&[0; 32], &[2; 8], b"1", b""]),
            (&SWAP, &[&key], &[&beginning(Version::new([2; 8])), b"", b""]),
        ];
        for (script, keys, args) in steps {
            self.shared.link.call(&Call::Run { script, keys, args, replicas: None }).await?;
        }
        self.read(&self.shared.link, &key).await?;
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

    async fn read(&self, link: &Link, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let mut get = cmd("GET");
        get.arg(key);
        match link.call(&Call::Plain(get)).await?.value {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Err(unexpected()),
        }
    }

    /// Runs a script that may write. Whether its answer stands, replicas and all, is to be asked of it.
    async fn run(&self, script: &'static Script, keys: &[&[u8]], args: &[&[u8]]) -> Result<Answer, Failure> {
        let (link, replicas) = match &self.shared.writes {
            Some((link, replicas)) => (link, Some(*replicas)),
            None => (&self.shared.link, None),
        };
        link.call(&Call::Run { script, keys, args, replicas }).await
    }

    /// Fails unless as many replicas have what was written, or was found, as shall have it.
    ///
    /// What was found is another call's write. To refuse a request or to give it a token for the sake of a write that a
    /// failover loses ends a session, and so does the answer of a master that has been replaced and does not know it:
    /// its replicas have gone.
    fn assert_replicated(&self, reached: Option<i64>) -> Result<(), Failure> {
        match &self.shared.writes {
            Some((_, (count, _))) if reached.is_none_or(|reached| reached < i64::from(*count)) => {
                Err(Failure::new(Kind::Other, "too few replicas have it: a failover could lose it"))
            }
            _ => Ok(()),
        }
    }
}

impl Store for RedisStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.read(&self.shared.link, &self.key(key)).await? {
            Some(bytes) => decode(bytes).map(Some),
            // Only its replicas can tell that a server has not been replaced by one that has it. No grant has this tag, so
            // nothing is claimed.
            None if self.shared.writes.is_some() => {
                let nobody = Tag::new([0; 32]);
                // In a box, for it is rare.
                let claim = Box::pin(self.claim(key, &nobody, Version::new([0; 8]), Duration::from_millis(1)));
                Ok(claim.await?.map(|claim| claim.entry))
            }
            None => Ok(None),
        }
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
            Change::Put { entry, ttl: Ttl::After(ttl) } => (encode(entry), millis(*ttl)),
            Change::Put { entry, ttl: Ttl::Keep } => (encode(entry), String::new()),
            Change::Remove => (Vec::new(), String::new()),
        };
        let beside = also.map(|also| (beside_key(&key, &also.name), also.value, millis(also.ttl)));
        let mut keys: Vec<&[u8]> = vec![&key];
        let mut args: Vec<&[u8]> =
            vec![expected.as_ref().map_or(&[], |expected| &expected[..]), &entry, ttl.as_bytes()];
        if let Some((key, value, ttl)) = &beside {
            keys.push(key);
            args.extend([value.as_ref(), ttl.as_bytes()]);
        }
        let Answer { value, replicas } = self.run(&SWAP, &keys, &args).await?;
        self.assert_replicated(replicas)?;
        match value {
            Value::Int(1) => Ok(Swap::Swapped),
            Value::Int(0) => Ok(Swap::Conflict(None)),
            Value::BulkString(found) => Ok(Swap::Conflict(Some(decode(found)?))),
            _ => Err(unexpected().into()),
        }
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        // Where the claim has found that it is there: another connection may yet lead to a server that lags behind.
        let link = self.shared.writes.as_ref().map_or(&self.shared.link, |(link, _)| link);
        Ok(self.read(link, &beside_key(&self.key(key), name)).await?.map(Bytes::from))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let (key, lease) = (self.key(key), millis(lease));
        let waits: &[u8] = if self.shared.writes.is_some() { b"1" } else { b"" };
        let (keys, args): ([&[u8]; 1], [&[u8]; 4]) =
            ([&key], [tag.as_bytes(), version.as_bytes(), lease.as_bytes(), waits]);
        let Answer { value, replicas } = self.run(&CLAIM, &keys, &args).await?;
        let parts = match value {
            Value::Nil => {
                self.assert_replicated(replicas)?;
                return Ok(None);
            }
            Value::Array(parts) => parts,
            _ => return Err(unexpected().into()),
        };
        let mut parts = parts.into_iter();
        let (left, entry) = match (parts.next(), parts.next(), parts.next()) {
            (Some(Value::Int(left)), Some(Value::BulkString(entry)), None) => (left, entry),
            (Some(Value::Int(left)), Some(Value::BulkString(entry)), Some(Value::BulkString(head))) => {
                (left, with_head(entry, &head).ok_or_else(unexpected)?)
            }
            _ => return Err(unexpected().into()),
        };
        let entry = decode(entry)?;
        let taken_over = left < 0;
        let left = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis);
        let lease = match left {
            _ if entry.version == version => {
                // A lease that a failover loses would let another request use the same upstream token.
                self.assert_replicated(replicas)?;
                Lease::Taken
            }
            left if entry.tag != *tag => {
                // A token that a failover loses must not be handed out as a replay, nor be the reason to refuse another.
                self.assert_replicated(replicas)?;
                Lease::OtherTag(left)
            }
            // To wait and ask again does no harm.
            Some(left) => Lease::Held(left),
            None => return Err(unexpected().into()),
        };
        Ok(Some(Claim::new(lease, entry).taking_over(taken_over)))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        let published = self.shared.link.call(&Call::Anywhere(self.shared.channel.announce(ended))).await;
        published.map(drop).inspect_err(|failure| self.shared.channel.failed(failure)).map_err(StoreError::from)
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
            .field("wait_for_replicas", &self.shared.writes.as_ref().map(|(_, replicas)| replicas))
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

fn unexpected() -> Failure {
    Failure::new(Kind::Other, "Redis has answered with something else than was asked for")
}

/// A time as Redis takes it: at least a millisecond, and no longer than two thousand years, so that neither its
/// arithmetic overflows nor the end of a lease in an entry.
fn millis(time: Duration) -> String {
    const LONGEST: u128 = 1 << 46;
    time.as_millis().clamp(1, LONGEST).to_string()
}
