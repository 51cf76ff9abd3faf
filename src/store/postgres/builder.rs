use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::channel::Channel;
use super::error::{Failure, PostgresConnectError};
use super::failover;
use super::pool::BoundedPool;
use super::purge;
use super::schema::Schema;
use super::server_time::ServerTime;
use super::servers::Servers;
use super::store::{PostgresStore, Shared};
use crate::store::remote::rehearsal::rehearse;

/// The time limit for connecting, which includes waiting for another instance that migrates.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first version that is tested and still maintained.
const OLDEST: i32 = 130_000;

/// The settings of a [`PostgresStore`].
#[must_use = "a builder does nothing until `connect` is called"]
pub struct PostgresStoreBuilder {
    source: Source,
    schema: String,
    command_timeout: Duration,
    max_connections: u32,
    migrate: bool,
    prepared_statements: bool,
    listen_url: Option<Zeroizing<String>>,
    purge_every: Duration,
    keep_expired: Duration,
}

pub(super) enum Source {
    Url(Zeroizing<String>),
    Pool(PgPool),
}

impl PostgresStoreBuilder {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            schema: "oauth_refresh".to_owned(),
            command_timeout: Duration::from_secs(2),
            max_connections: 10,
            migrate: true,
            prepared_statements: true,
            listen_url: None,
            purge_every: Duration::from_secs(60),
            keep_expired: Duration::from_secs(24 * 3600),
        }
    }

    /// Sets the schema that holds the tables and functions. Default: `oauth_refresh`. Deployments
    /// that share a database but not their grants need different schemas. The name consists of up
    /// to 48 lower-case letters, digits and underscores.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the time limit of a call of the store, including the wait for a connection and
    /// repetitions. Default: two seconds. At least a millisecond, at most an hour. A call that
    /// takes longer fails with [`StoreError::Unavailable`](crate::StoreError::Unavailable), and may
    /// have taken effect.
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Sets the most connections of the pool that the store opens for its URL, without the one for
    /// `LISTEN`. Default: 10. At least one. Has no effect on the pool of a program.
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count;
        self
    }

    /// Sets whether `connect` creates the schema, or brings it up to date. Default: `true`. If the
    /// schema is up to date, the role needs no right to change it. With `false`, run the SQL of
    /// [`schema_sql`](PostgresStore::schema_sql) before the instances start.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether statements are prepared. Default: `true`, which is faster. With `false`, each
    /// call is one message of the simple query protocol, for poolers in transaction mode that do
    /// not track prepared statements: PgBouncer before 1.21, or with `max_prepared_statements = 0`.
    /// (An empty statement cache of sqlx is not enough there, because sqlx still sends two
    /// messages.) The text of a statement then contains the sealed values, so a server that logs
    /// statements writes these values to its log.
    pub fn prepared_statements(mut self, prepared: bool) -> Self {
        self.prepared_statements = prepared;
        self
    }

    /// Sets the URL for the connection that receives announcements. By default it is opened like
    /// those of the pool. Behind a pooler in transaction mode, which does not support `LISTEN`, it
    /// must lead to the server itself. It may have several hosts, as the URL of the pool may.
    pub fn listen_url(mut self, url: &str) -> Self {
        self.listen_url = Some(Zeroizing::new(url.to_owned()));
        self
    }

    /// Sets the interval at which this instance deletes expired rows. Default: a minute. With zero
    /// it deletes none. Then another instance must do it, because the tables would grow without
    /// limit.
    pub fn purge_every(mut self, interval: Duration) -> Self {
        self.purge_every = interval;
        self
    }

    /// Sets how long an expired row is kept. Default: a day. No call finds such a row. But if the
    /// clock of the server was ahead and is set back, the grant exists again.
    pub fn keep_expired(mut self, time: Duration) -> Self {
        self.keep_expired = time;
        self
    }

    /// Connects, creates the schema if it is missing, and checks that the role can do what the
    /// store needs: it writes, claims, reads and removes one entry.
    ///
    /// Logs a warning about settings that lose grants: `fsync` or `synchronous_commit` is off.
    ///
    /// Must be called in the tokio runtime in which the store will be used.
    ///
    /// # Errors
    ///
    /// [`PostgresConnectError`], also if the server cannot be reached: `connect` does not retry.
    pub async fn connect(self) -> Result<PostgresStore, PostgresConnectError> {
        let limit = self.command_timeout.max(PATIENCE);
        timeout(limit, self.connect_within(limit))
            .await
            .unwrap_or_else(|_| Err(Failure::slow().into()))
    }

    async fn connect_within(self, limit: Duration) -> Result<PostgresStore, PostgresConnectError> {
        let schema = Schema::new(self.schema)?;
        check_limits(self.command_timeout, self.max_connections)?;
        let listen = self
            .listen_url
            .map(|url| Servers::parse(&url))
            .transpose()?;
        let (servers, pool) = match self.source {
            Source::Pool(pool) => (Servers::of_pool(&pool), Some(pool)),
            Source::Url(url) => (Servers::parse(&url)?, None),
        };
        let primary = servers.primary(limit).await?;
        if primary.version < OLDEST {
            return Err(PostgresConnectError::TooOld {
                found: primary.version,
            });
        }
        if !primary.is_durable {
            tracing::warn!(
                "PostgreSQL loses the grants of the last moments when it crashes: set fsync and synchronous_commit to on"
            );
        }
        let time = ServerTime::new();
        time.observe(primary.now());
        let pool = pool.unwrap_or_else(|| {
            PgPoolOptions::new()
                .max_connections(self.max_connections)
                .acquire_timeout(self.command_timeout)
                // It would cost every call a round trip. A call on a closed connection is repeated.
                .test_before_acquire(false)
                .connect_lazy_with(primary.options)
        });
        schema.prepare(&pool, self.migrate).await?;
        let pool = Arc::new(BoundedPool::new(
            pool,
            &schema,
            self.command_timeout,
            self.prepared_statements,
            time,
        ));
        let failover = servers
            .are_several()
            .then(|| failover::start(Arc::clone(&pool), servers, primary.index));
        let purge = (!self.purge_every.is_zero())
            .then(|| purge::start(Arc::clone(&pool), self.purge_every, self.keep_expired));
        let shared = Arc::new(Shared {
            channel: Channel::new(&schema, Arc::clone(&pool), listen),
            pool,
            schema,
            _purge: purge,
            _failover: failover,
        });
        let store = PostgresStore { shared };
        rehearse(&store)
            .await
            .map_err(|error| match Failure::of(&error) {
                Some(failure) => failure.into(),
                None => PostgresConnectError::Unusable(Arc::new(error)),
            })?;
        Ok(store)
    }
}

redacted_debug!(self: PostgresStoreBuilder {
    schema, command_timeout, max_connections, migrate, prepared_statements,
    listen_url: self.listen_url.is_some(), purge_every, keep_expired,
});

fn check_limits(timeout: Duration, connections: u32) -> Result<(), PostgresConnectError> {
    let wrong = |setting, reason| Err(PostgresConnectError::Setting { setting, reason });
    if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(3600) {
        return wrong(
            "command_timeout",
            "it must be at least a millisecond and at most an hour",
        );
    }
    if connections == 0 {
        return wrong("max_connections", "it must be at least one");
    }
    Ok(())
}
