//! [`Link`]: a connection that reopens itself whenever it is lost.
//!
//! A task, the keeper, opens a new connection whenever the current one is lost or suspect, one at a
//! time. Calls share the state of the link and report failures to the keeper.
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
//! - **A reply to another call is never accepted.** The link closes a connection that is out of
//!   step at once, for all calls. The manager has no method that drops its connection.
//! - **A failover is followed, and one hung node does not take a cluster down.** The manager holds
//!   a connection to one fixed address. It does not ask sentinels, and does not work with a
//!   cluster. For a cluster, the keeper replaces the client library's connection as a whole, and
//!   keeps it while any node answers.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::connect::Connector;
use super::connection::{Answer, Call, Connection};
use super::error::{Failure, Kind, until, within};
use crate::store::remote::pauses::Pauses;

/// A connection that lasted this long resets the pauses between attempts to connect.
const STEADY: Duration = Duration::from_secs(5);

/// The minimum time limit of an attempt to connect. It is longer than that of a call, because no
/// call waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that reopens itself whenever it is lost. Between the first failed attempt to reopen
/// it and the next successful one, every call fails at once.
pub(super) struct Link {
    state: Arc<watch::Sender<State>>,
    limit: Duration,
    _keeper: AbortOnDropHandle<()>,
}

#[derive(Clone)]
enum State {
    Up(Line),
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
struct Line {
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

impl Line {
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

impl Link {
    /// Manages `connection` in a task that ends when the `Link` is dropped.
    pub(super) fn new(connection: Connection, connector: Arc<Connector>) -> Self {
        let limit = connector.limit;
        let state = Arc::new(watch::Sender::new(State::Up(Line::new(connection, 0))));
        let keeper = tokio::spawn(keep(connector, Arc::clone(&state)));
        Self {
            state,
            limit,
            _keeper: AbortOnDropHandle::new(keeper),
        }
    }

    /// Makes a call within the `command_timeout` of the store.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        self.call_until(call, self.deadline()).await
    }

    /// Returns the deadline of a call of the store that begins now.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// Makes a call with a deadline that several calls share.
    pub(super) async fn call_until(
        &self,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let line = match &*self.state.borrow() {
            State::Up(line) => Ok(line.clone()),
            State::Opening { failure, .. } => Err(failure.clone()),
            State::Down(failure) => return Err(failure.clone()),
        };
        let mut line = match line {
            Ok(line) => line,
            // Boxed: see below.
            Err(failure) => {
                return Box::pin(async move {
                    let opened = self.settled(deadline).await;
                    let mut line = opened.map_err(|down| down.unwrap_or(failure))?;
                    self.attempt(&mut line, call, deadline).await
                })
                .await;
            }
        };
        match self.attempt(&mut line, call, deadline).await {
            Err(failure) if failure.wants_another_connection() => {
                // Boxed, because it is rare and would make the future of every rotation larger.
                Box::pin(async move {
                    match self.another(&line, &failure, deadline).await {
                        Ok(mut line) => self.attempt(&mut line, call, deadline).await,
                        Err(None) => Err(failure),
                        Err(Some(failure)) => Err(failure),
                    }
                })
                .await
            }
            answer => answer,
        }
    }

    async fn attempt(
        &self,
        line: &mut Line,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let answer = match line.connection {
            Connection::Server(_) => until(deadline, line.connection.send(call)).await,
            // Boxed, so that the futures of calls to a single server stay small.
            Connection::Cluster(_) => {
                until(deadline, Box::pin(self.attempt_on_cluster(line, call))).await
            }
        };
        match &answer {
            Ok(_) => line.served.store(true, Ordering::Relaxed),
            Err(failure) => self.report(line.number, failure),
        }
        answer
    }

    /// Makes a call on a cluster, and abandons it when the connection is replaced because it is out
    /// of step: the reply may have gone to another call. (On a single server, closing the
    /// connection has this effect.)
    async fn attempt_on_cluster(
        &self,
        line: &mut Line,
        call: &Call<'_>,
    ) -> Result<Answer, Failure> {
        let (number, out_of_step) = (line.number, Arc::clone(&line.out_of_step));
        let mut seen = self.state.subscribe();
        let is_given_up = |state: &State| {
            out_of_step.load(Ordering::Relaxed)
                && !matches!(state, State::Up(line) if line.number == number)
        };
        let mut given_up = pin!(seen.wait_for(is_given_up));
        let mut sent = pin!(line.connection.send(call));
        poll_fn(|cx| match sent.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => given_up
                .as_mut()
                .poll(cx)
                .map(|_| Err(Failure::out_of_step())),
        })
        .await
    }

    /// Reports a failure on the connection `number` to the keeper task.
    fn report(&self, number: u64, failure: &Failure) {
        let lost = failure.wants_another_connection();
        if !lost && !matches!(failure.kind(), Kind::Slow | Kind::Authentication) {
            return;
        }
        self.state.send_if_modified(|state| {
            let State::Up(line) = state else { return false };
            if line.number != number {
                return false;
            }
            // On a cluster the other nodes may still work.
            if lost && let Connection::Server(server) = &line.connection {
                // The replies in flight cannot be matched to calls. The calls in flight are
                // repeated.
                server.close();
                // A replica completes reads, and the same replica will be found again at this
                // address, so it does not count as a good connection.
                let served = failure.kind() != Kind::Standby && line.served.load(Ordering::Relaxed);
                *state = State::Opening {
                    failure: failure.clone(),
                    served,
                };
                return true;
            }
            if failure.kind() == Kind::OutOfStep {
                line.out_of_step.store(true, Ordering::Relaxed);
            }
            !std::mem::replace(&mut line.suspect, true)
        });
    }

    /// Waits until `lost` is replaced, and returns its successor. `Err(None)` if there is none in
    /// time.
    async fn another(
        &self,
        lost: &Line,
        failure: &Failure,
        deadline: Instant,
    ) -> Result<Line, Option<Failure>> {
        if failure.kind() == Kind::OutOfStep {
            // The connection of a cluster stays in use until its successor is ready.
            let mut seen = self.state.subscribe();
            let replaced = seen
                .wait_for(|state| !matches!(state, State::Up(line) if line.number == lost.number));
            let _ = timeout_at(deadline, replaced).await;
        }
        self.settled(deadline).await.and_then(|line| {
            if line.number == lost.number {
                Err(None)
            } else {
                Ok(line)
            }
        })
    }

    /// Waits until no connection is being opened. Returns the current connection, or the reason why
    /// there is none; `Err(None)` at the deadline.
    async fn settled(&self, deadline: Instant) -> Result<Line, Option<Failure>> {
        let mut seen = self.state.subscribe();
        let settled = timeout_at(
            deadline,
            seen.wait_for(|state| !matches!(state, State::Opening { .. })),
        )
        .await;
        let Ok(Ok(state)) = settled else {
            return Err(None);
        };
        match &*state {
            State::Up(line) => Ok(line.clone()),
            State::Opening { .. } => Err(None),
            State::Down(failure) => Err(Some(failure.clone())),
        }
    }
}

/// Opens a new connection whenever one is needed, one at a time.
async fn keep(connector: Arc<Connector>, state: Arc<watch::Sender<State>>) {
    let mut seen = state.subscribe();
    let mut pauses = Pauses::default();
    let mut number = 0;
    loop {
        let up_since = Instant::now();
        let wanted = seen
            .wait_for(|state| !matches!(state, State::Up(Line { suspect: false, .. })))
            .await;
        let Ok((in_use, served)) = wanted.map(|state| match &*state {
            State::Up(line) => (
                true,
                line.out_of_step.load(Ordering::Relaxed) && line.served.load(Ordering::Relaxed),
            ),
            State::Opening { served, .. } => (false, *served),
            State::Down(_) => (false, false),
        }) else {
            return;
        };
        // Calls still use a suspect connection, so a frozen server must be detected fast. On a
        // cluster there is more time, because the other nodes still answer.
        let hurry = in_use && !connector.joins();
        let mut limit = if hurry {
            connector.limit
        } else {
            connector.limit.max(PATIENCE)
        };
        if served || up_since.elapsed() > STEADY {
            pauses = Pauses::default();
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
                        state.send_replace(State::Up(Line::new(connection, number)))
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
    let mut connection = match &*state.borrow() {
        State::Up(Line {
            connection: connection @ Connection::Cluster(_),
            ..
        }) => connection.clone(),
        State::Up(_) | State::Opening { .. } | State::Down(_) => return false,
    };
    if within(limit, connection.send(&Call::Ping)).await.is_err() {
        return false;
    }
    state.send_if_modified(|state| match state {
        State::Up(line) => {
            line.suspect = false;
            true
        }
        State::Opening { .. } | State::Down(_) => false,
    })
}
