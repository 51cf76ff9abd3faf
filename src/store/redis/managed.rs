//! [`ManagedConnection`]: a connection that reopens itself whenever it is lost.
//!
//! A task, the keeper, opens a new connection whenever the current one is lost or suspect, one at a
//! time. Calls share the state of the connection and report failures to the keeper.
//!
//! `redis::aio::ConnectionManager` (of redis 1.8) reconnects on its own, too. It is not used,
//! because the store would break these promises:
//!
//! - **A reconnect makes no call fail.** The manager passes the error of a lost connection on to
//!   every call in flight. Here these calls wait for the new connection and are repeated on it,
//!   within their time limit. That is safe because every [`Call`] is idempotent.
//! - **An outage makes calls fail at once, not at their time limit.** In the manager, every call
//!   waits for the future that connects, which includes all retries and the pauses between them.
//!   `response_timeout` begins only after it. Without retries, the next attempt begins only with
//!   the next call, and without a pause.
//! - **A frozen server is replaced.** A time-out does not make the manager reconnect, so all calls
//!   time out until the operating system closes the connection.
//! - **A server that is loading its data, or that rejects the credentials for a while, is used
//!   again later.** If an attempt to connect fails with anything but an I/O error, the manager
//!   returns that error for every later call.
//! - **A reply to another call is never accepted.** A connection that is out of step is closed at
//!   once, for all calls. The manager has no method that drops its connection.
//! - **A failover is followed, and one hung node does not take a cluster down.** The manager holds
//!   a connection to one fixed address. It does not ask sentinels, and does not work with a
//!   cluster. For a cluster, the keeper replaces the client library's connection as a whole, and
//!   keeps it while any node answers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use redis::Value;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::connect::Connector;
use super::connection::{Answer, Call, Connection};
use super::error::{Failure, Kind, until, within};
use crate::store::remote::pauses::Pauses;

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection that lasted this long resets the pauses between attempts to connect.
const STEADY: Duration = Duration::from_secs(5);

/// The minimum time limit of an attempt to connect. It is longer than that of a call, because no
/// call waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that reopens itself whenever it is lost. Between the first failed attempt to reopen
/// it and the next successful one, every call fails at once.
pub(super) struct ManagedConnection {
    state: Arc<watch::Sender<State>>,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum State {
    Up(Current),
    /// The connection is lost, and the first attempt to open another has just begun. Calls in
    /// flight and new calls wait for it, so a server that closes idle connections or restarts makes
    /// no call fail.
    Opening {
        failure: Failure,
        /// Whether the lost connection has completed a call.
        served: bool,
    },
    Down(Failure),
}

#[derive(Clone)]
struct Current {
    connection: Connection,
    /// The number of this connection, so that a late failure is not attributed to its successor.
    number: u64,
    /// Whether the connection should be replaced. It stays in use until then, because the calls in
    /// flight may still succeed.
    suspect: bool,
    served: Arc<AtomicBool>,
    /// Whether a call on a cluster received the reply to another call. The calls in flight must
    /// then not wait for theirs.
    out_of_step: Arc<AtomicBool>,
}

impl Current {
    fn new(connection: Connection, number: u64) -> Self {
        Self {
            connection,
            number,
            suspect: false,
            served: Arc::default(),
            out_of_step: Arc::default(),
        }
    }
}

impl ManagedConnection {
    /// Manages `connection` in a task that ends when the `ManagedConnection` is dropped.
    pub(super) fn new(connection: Connection, connector: Arc<Connector>) -> Self {
        let state = Arc::new(watch::Sender::new(State::Up(Current::new(connection, 0))));
        let keeper = tokio::spawn(keep(connector, Arc::clone(&state)));
        Self {
            state,
            _keeper: AbortOnDropHandle::new(keeper),
        }
    }

    /// Makes a call. Several calls may share a deadline.
    pub(super) async fn call(&self, call: &Call<'_>, deadline: Instant) -> Result<Answer, Failure> {
        let current = match &*self.state.borrow() {
            State::Up(current) => Ok(current.clone()),
            State::Opening { failure, .. } => Err(failure.clone()),
            State::Down(failure) => return Err(failure.clone()),
        };
        let (failure, lost) = match current {
            Ok(mut current) => match self.attempt(&mut current, call, deadline).await {
                Err(failure) if failure.wants_another_connection() => {
                    (failure, Some(current.number))
                }
                answer => return answer,
            },
            Err(failure) => (failure, None),
        };
        // Boxed, because it is rare and would make the future of every rotation larger.
        Box::pin(self.attempt_on_another(lost, failure, call, deadline)).await
    }

    /// Makes a call when no connection is being opened any more, unless the connection is still the
    /// one with the number `lost`. Returns `failure` if there is no other in time.
    async fn attempt_on_another(
        &self,
        lost: Option<u64>,
        failure: Failure,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        // The connection of a cluster that is out of step stays in use until its successor is
        // ready.
        let is_awaited = failure.kind() == Kind::OutOfStep;
        let mut seen = self.state.subscribe();
        let settled = seen.wait_for(|state| match state {
            State::Up(current) => !is_awaited || lost != Some(current.number),
            State::Opening { .. } => false,
            State::Down(_) => true,
        });
        let state = match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => return Err(failure),
        };
        match state {
            State::Up(mut current) if lost != Some(current.number) => {
                self.attempt(&mut current, call, deadline).await
            }
            State::Down(failure) => Err(failure),
            State::Up(_) | State::Opening { .. } => Err(failure),
        }
    }

    async fn attempt(
        &self,
        current: &mut Current,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let answer = match current.connection {
            Connection::Server(_) => until(deadline, current.connection.send(call)).await,
            // Boxed, so that the futures of calls to a single server stay small.
            Connection::Cluster(_) => {
                until(deadline, Box::pin(self.attempt_on_cluster(current, call))).await
            }
        };
        match &answer {
            Ok(_) => current.served.store(true, Ordering::Relaxed),
            Err(failure) => self.report(current.number, failure),
        }
        answer
    }

    /// Makes a call on a cluster, and abandons it when the connection is replaced because it is out
    /// of step: the reply may have gone to another call. (On a single server, closing the
    /// connection has this effect.)
    async fn attempt_on_cluster(
        &self,
        current: &mut Current,
        call: &Call<'_>,
    ) -> Result<Answer, Failure> {
        let Current {
            connection,
            number,
            out_of_step,
            ..
        } = current;
        let mut seen = self.state.subscribe();
        let is_abandoned = |state: &State| {
            out_of_step.load(Ordering::Relaxed)
                && !matches!(state, State::Up(current) if current.number == *number)
        };
        let abandoned = pin!(seen.wait_for(is_abandoned));
        match select(pin!(connection.send(call)), abandoned).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Failure::out_of_step()),
        }
    }

    /// Reports a failure on the connection `number` to the keeper task.
    fn report(&self, number: u64, failure: &Failure) {
        let lost = failure.wants_another_connection();
        if !lost && !matches!(failure.kind(), Kind::Slow | Kind::Authentication) {
            return;
        }
        self.state.send_if_modified(|state| {
            let State::Up(current) = state else {
                return false;
            };
            if current.number != number {
                return false;
            }
            // On a cluster the other nodes may still work.
            if lost && let Connection::Server(server) = &current.connection {
                // The replies in flight cannot be matched to calls. The calls in flight are
                // repeated.
                server.close();
                // A replica completes reads, and the same replica will be found again at this
                // address, so it does not count as a good connection.
                let served =
                    failure.kind() != Kind::Standby && current.served.load(Ordering::Relaxed);
                *state = State::Opening {
                    failure: failure.clone(),
                    served,
                };
                return true;
            }
            if failure.kind() == Kind::OutOfStep {
                current.out_of_step.store(true, Ordering::Relaxed);
            }
            !std::mem::replace(&mut current.suspect, true)
        });
    }
}

/// Opens a new connection whenever one is needed, one at a time.
async fn keep(connector: Arc<Connector>, state: Arc<watch::Sender<State>>) {
    let mut seen = state.subscribe();
    let mut pauses = Pauses::up_to(LONGEST_PAUSE);
    let mut number = 0;
    loop {
        let up_since = Instant::now();
        let wanted = seen
            .wait_for(|state| !matches!(state, State::Up(Current { suspect: false, .. })))
            .await;
        let Ok((in_use, served)) = wanted.map(|state| match &*state {
            State::Up(current) => (
                true,
                current.out_of_step.load(Ordering::Relaxed)
                    && current.served.load(Ordering::Relaxed),
            ),
            State::Opening { served, .. } => (false, *served),
            State::Down(_) => (false, false),
        }) else {
            return;
        };
        // Calls still use a suspect connection, so a frozen server must be detected fast. On a
        // cluster there is more time, because the other nodes still answer.
        let mut limit = if in_use && !connector.joins() {
            connector.limit
        } else {
            connector.limit.max(PATIENCE)
        };
        if served || up_since.elapsed() > STEADY {
            pauses = Pauses::up_to(LONGEST_PAUSE);
        }
        loop {
            let pause = pauses.next();
            if !pause.is_zero() {
                state.send_if_modified(|state| match state {
                    State::Opening { failure, .. } => {
                        *state = State::Down(failure.clone());
                        true
                    }
                    State::Up(_) | State::Down(_) => false,
                });
                sleep(pause).await;
            }
            match connector.connect(limit).await {
                Ok(connection) => {
                    number += 1;
                    tracing::debug!(number, "opened a new connection to Redis");
                    if let State::Down(_) =
                        state.send_replace(State::Up(Current::new(connection, number)))
                    {
                        tracing::info!(server = ?connector.target, "Redis is available again");
                    }
                    break;
                }
                Err(failure) => {
                    if keeps(limit, &state).await {
                        tracing::debug!(%failure, "cannot reconnect to the cluster: keeping the current connection");
                        break;
                    }
                    if !matches!(
                        state.send_replace(State::Down(failure.clone())),
                        State::Down(_)
                    ) {
                        tracing::warn!(server = ?connector.target, %failure, "Redis is unavailable: calls fail until a new connection succeeds");
                    }
                    limit = connector.limit.max(PATIENCE);
                }
            }
        }
    }
}

/// Returns whether to keep a suspect connection that could not be replaced. If so, the connection
/// is no longer suspect. A connection to a cluster is kept as long as any node answers within
/// `limit`. The next failure causes another attempt to replace it, after a pause.
async fn keeps(limit: Duration, state: &watch::Sender<State>) -> bool {
    let State::Up(Current {
        connection: Connection::Cluster(mut cluster),
        ..
    }) = state.borrow().clone()
    else {
        return false;
    };
    // Sent to all nodes, because a random one may be the one that hangs.
    let all_nodes = (
        MultipleNodeRoutingInfo::AllNodes,
        Some(ResponsePolicy::OneSucceeded),
    );
    let ping = cluster.route_command(redis::cmd("PING"), RoutingInfo::MultiNode(all_nodes));
    if !matches!(within(limit, ping).await, Ok(Value::SimpleString(pong)) if pong == "PONG") {
        return false;
    }
    state.send_if_modified(|state| match state {
        State::Up(current) => {
            current.suspect = false;
            true
        }
        State::Opening { .. } | State::Down(_) => false,
    })
}
