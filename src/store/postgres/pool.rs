//! Calls over the pool, in bounded time.
//!
//! Every call is one statement in a transaction of its own, and needs nothing from the session. Its
//! last argument is a deadline by the clock of the server: the moment at which the client gives up.
//! The server rejects a call that arrives later, for example because the server was frozen. So no
//! copy of an insert takes effect after another copy was answered: see [`Store`].
//!
//! A call is repeated if its connection was closed, because the pool may hold connections that the
//! server has closed long ago; and if its transaction was undone because of another one.
//!
//! Each server has a pool of its own. When the store moves to another server, the previous pool and
//! its connections are dropped, so no later call reaches the previous server, even if that server
//! still accepts writes.
//!
//! [`Store`]: crate::store::Store#delayed-copies-of-a-call

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Postgres, Row as _};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Failure, Kind};
use super::schema::Schema;
use super::server_time::ServerTime;
use super::servers::Primary;
use super::statement::{Argument, Statements};

/// The pause before a call is repeated once more, after it has found as many closed connections as
/// the pool can hold.
const PAUSE: Duration = Duration::from_millis(20);

/// The pool of the server in use, and what its calls need.
pub(super) struct BoundedPool {
    pool: watch::Sender<PgPool>,
    statements: Statements,
    /// The time limit of a call.
    pub(super) limit: Duration,
    pub(super) time: ServerTime,
    /// Notified when the server may have been replaced.
    pub(super) failed: Notify,
}

impl BoundedPool {
    pub(super) fn new(
        pool: PgPool,
        schema: &Schema,
        limit: Duration,
        prepared: bool,
        time: ServerTime,
    ) -> Self {
        Self {
            pool: watch::Sender::new(pool),
            statements: Statements::new(schema, prepared),
            limit,
            time,
            failed: Notify::new(),
        }
    }

    /// Returns the pool of the server in use.
    pub(super) fn current(&self) -> PgPool {
        self.pool.borrow().clone()
    }

    /// Returns a receiver that changes when the store moves to another server.
    pub(super) fn moves(&self) -> watch::Receiver<PgPool> {
        self.pool.subscribe()
    }

    /// Uses this server from now on. Calls that wait for a connection to the previous one are
    /// repeated here.
    pub(super) fn move_to(&self, primary: Primary) {
        self.time.observe(primary.now());
        let options = self.current().options().clone();
        self.pool
            .send_replace(options.connect_lazy_with(primary.options));
    }

    /// Calls a function of the schema, whose last argument is the deadline. Returns its row.
    pub(super) async fn call(
        &self,
        function: &'static str,
        mut arguments: Vec<Argument<'_>>,
    ) -> Result<PgRow, Failure> {
        let deadline = Instant::now() + self.limit;
        let mut repeats = 0;
        loop {
            arguments.push(Argument::Number(Some(self.time.at(deadline))));
            let called = self.attempt(function, &arguments, deadline).await;
            if let Err(failure) = &called
                && failure.may_be_a_failover()
            {
                self.failed.notify_one();
            }
            match called {
                Err(failure) if failure.may_be_repeated() && Instant::now() < deadline => {
                    tracing::debug!(%failure, "repeating a call to PostgreSQL");
                }
                called => return called,
            }
            arguments.pop();
            repeats += 1;
            if repeats > self.current().options().get_max_connections() {
                sleep(PAUSE).await;
            }
        }
    }

    async fn attempt(
        &self,
        function: &'static str,
        arguments: &[Argument<'_>],
        deadline: Instant,
    ) -> Result<PgRow, Failure> {
        let mut lent = self.borrow(deadline).await?;
        let called = self.statements.call(lent.get(), function, arguments);
        let called = match timeout_at(deadline, called).await {
            Ok(called) => called.map_err(Failure::from),
            Err(_) => Err(Failure::slow()),
        };
        match &called {
            Ok(row) => self.time.observe(row.try_get("o_now")?),
            Err(failure) if failure.kind() == Kind::Late => {
                // The clock of the server may have been set.
                let read = timeout_at(deadline, read_time(lent.get())).await;
                if let Ok(Ok(now)) = read {
                    self.time.observe(now);
                } else {
                    lent.discard();
                }
            }
            Err(failure) if !failure.keeps_connection() => {
                lent.discard();
            }
            Err(_) => {}
        }
        called
    }

    /// Takes a connection from the pool.
    async fn borrow(&self, deadline: Instant) -> Result<Lent, Failure> {
        let mut moves = self.moves();
        let acquired = moves.borrow_and_update().acquire();
        let acquired = pin!(timeout_at(deadline, acquired));
        let moved = pin!(moves.changed());
        let Either::Left((connection, _)) = select(acquired, moved).await else {
            return Err(Failure::moved());
        };
        Ok(Lent {
            connection: Some(connection.map_err(|_| Failure::slow())??),
            limit: self.limit,
        })
    }
}

/// Returns the time of the server.
pub(super) async fn read_time(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let now = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    sqlx::raw_sql(now).fetch_one(connection).await?.try_get(0)
}

/// A connection that is taken from the pool, and returned to it when dropped.
///
/// The pool tests each returned connection: it waits for the reply to a cancelled call, and for the
/// reply to a message of its own, without a time limit. If the server hangs, the connection would
/// count as in use permanently. So the connection is closed if the test takes longer than the time
/// limit of a call.
pub(super) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    limit: Duration,
}

impl Lent {
    pub(super) fn get(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken at the end")
    }

    /// Closes the connection at once.
    pub(super) fn discard(mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            drop(connection.detach());
            return;
        };
        // The destructor of `PoolConnection` does the same without a time limit. `return_to_pool`
        // is public, but hidden in the documentation of sqlx. Dropping its future closes the
        // connection.
        runtime.spawn(timeout(self.limit, connection.return_to_pool()));
    }
}
