use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::builder::{PostgresStoreBuilder, Source};
use super::channel::Channel;
use super::error::{Failure, PostgresConnectError};
use super::pool::BoundedPool;
use super::schema::Schema;
use super::server_time::millis;
use super::statement::Argument;
use crate::clock::Timestamp;
use crate::store::remote::{bounded, not_taken};
use crate::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Key, Lease, Sidecar, SidecarName, Store,
    StoreError, Swap, Ttl, Version, decide,
};

#[doc = include_str!("postgres.md")]
#[derive(Clone)]
pub struct PostgresStore {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) pool: Arc<BoundedPool>,
    pub(super) schema: Schema,
    pub(super) channel: Channel,
    /// Deletes expired rows until it is dropped.
    pub(super) _purge: Option<AbortOnDropHandle<()>>,
    /// Follows the primary until it is dropped, if there are several servers.
    pub(super) _failover: Option<AbortOnDropHandle<()>>,
}

impl PostgresStore {
    /// Connects with the default settings, and creates the schema if it is missing. The URL may
    /// have several hosts: see [Failover](#failover).
    ///
    /// # Errors
    ///
    /// [`PostgresConnectError`], also if the server cannot be reached: `connect` does not retry.
    pub async fn connect(url: &str) -> Result<Self, PostgresConnectError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder for a store with a pool of its own. `connect` parses the URL.
    pub fn builder(url: &str) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(Source::Url(Zeroizing::new(url.to_owned())))
    }

    /// Returns a builder for a store that uses the pool of the program.
    pub fn builder_with_pool(pool: PgPool) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(Source::Pool(pool))
    }

    /// Returns the SQL that creates or updates the schema, for programs that run their own
    /// migrations.
    ///
    /// Run it once, in one transaction, with a role that may create schemas. `from` is the version
    /// of the existing schema, or 0 for a new database. Later versions of the crate only add to the
    /// schema.
    ///
    /// # Errors
    ///
    /// [`PostgresConnectError::Setting`] if the name of the schema is invalid.
    pub fn schema_sql(schema: &str, from: u16) -> Result<String, PostgresConnectError> {
        Ok(Schema::new(schema.to_owned())?.sql(from.into()))
    }
}

impl Store for PostgresStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let arguments = vec![Argument::Bytes(Some(key.as_bytes()))];
        let row = self.shared.pool.call("get_1", arguments).await?;
        Ok(entry(&row)?)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        let (new, ttl) = match &change {
            Change::Put { entry, ttl } => (Some(entry), Some(*ttl)),
            Change::Remove => (None, None),
        };
        let ttl = match ttl {
            Some(Ttl::After(ttl)) => Some(stored_millis(ttl)),
            Some(Ttl::Keep) | None => None,
        };
        let lease = new.and_then(|entry| entry.lease);
        let lease = lease.map(|end| i64::try_from(end.as_millis()).unwrap_or(i64::MAX));
        let names = sidecars.iter().map(|sidecar| &sidecar.name.as_bytes()[..]);
        let values = sidecars.iter().map(|sidecar| &*sidecar.value);
        let ttls = sidecars.iter().map(|sidecar| stored_millis(sidecar.ttl));
        let arguments = vec![
            Argument::Bytes(Some(key.as_bytes())),
            Argument::Bytes(expected.as_ref().map(|version| &version.as_bytes()[..])),
            Argument::Bytes(new.map(|entry| &entry.version.as_bytes()[..])),
            Argument::Bytes(new.map(|entry| &entry.tag.as_bytes()[..])),
            Argument::Number(lease),
            Argument::Bytes(new.map(|entry| &*entry.value)),
            Argument::Number(ttl),
            Argument::ListOfBytes(names.collect()),
            Argument::ListOfBytes(values.collect()),
            Argument::Numbers(ttls.collect()),
        ];
        let row = self.shared.pool.call("swap_1", arguments).await?;
        if row.try_get("o_swapped").map_err(Failure::from)? {
            return Ok(Swap::Swapped);
        }
        Ok(Swap::Conflict(entry(&row)?))
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        let arguments = vec![
            Argument::Bytes(Some(key.as_bytes())),
            Argument::Bytes(Some(name.as_bytes())),
        ];
        let row = self.shared.pool.call("sidecar_1", arguments).await?;
        let value: Option<Vec<u8>> = row.try_get("o_value").map_err(Failure::from)?;
        Ok(value.map(Bytes::from))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let arguments = vec![
            Argument::Bytes(Some(key.as_bytes())),
            Argument::Bytes(Some(tag.as_bytes())),
            Argument::Bytes(Some(version.as_bytes())),
            Argument::Number(Some(stored_millis(lease))),
        ];
        let row = self.shared.pool.call("claim_1", arguments).await?;
        let Some(entry) = entry(&row)? else {
            return Ok(None);
        };
        if entry.version == version {
            let taken_over = row.try_get("o_taken_over").map_err(Failure::from)?;
            return Ok(Some(
                Claim::new(Lease::Taken, entry).taking_over(taken_over),
            ));
        }
        let left: Option<i64> = row.try_get("o_left").map_err(Failure::from)?;
        let lease = not_taken(left.unwrap_or_default(), entry.tag == *tag)
            .ok_or_else(|| Failure::corrupt("the claim has no result"))?;
        Ok(Some(Claim::new(lease, entry)))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        Ok(self.shared.channel.announce(ended).await?)
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.shared.channel.subscribe())
    }

    fn now(&self) -> Timestamp {
        self.shared.pool.time.now()
    }

    fn system_name(&self) -> Option<&'static str> {
        Some("postgresql")
    }
}

redacted_debug!(self: PostgresStore {
    host: self.shared.pool.current().connect_options().get_host(),
    port: self.shared.pool.current().connect_options().get_port(),
    database: self.shared.pool.current().connect_options().get_database(),
    schema: self.shared.schema.name(), command_timeout: self.shared.pool.limit,
});

/// Reads the entry of a row; `None` if the row has none.
fn entry(row: &PgRow) -> Result<Option<Entry>, Failure> {
    let Some(version) = row.try_get::<Option<[u8; 8]>, _>("o_version")? else {
        return Ok(None);
    };
    let tag: [u8; 32] = row.try_get("o_tag")?;
    let value: Vec<u8> = row.try_get("o_value")?;
    let lease: Option<i64> = row.try_get("o_lease")?;
    let lease = lease
        .map(u64::try_from)
        .transpose()
        .map_err(|_| Failure::corrupt("a lease ends before 1970"))?;
    let entry = Entry::new(
        Version::new(version),
        ClaimTag::new(tag),
        Bytes::from(value),
    );
    Ok(Some(entry.with_lease(lease.map(Timestamp::from_millis))))
}

fn stored_millis(time: Duration) -> i64 {
    millis(bounded(time))
}
