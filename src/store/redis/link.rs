use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::Connector;
use super::connection::{Answer, Call, Connection};
use super::error::{Failure, Kind};
use crate::random::{OsRandom, SecureRandom as _};

/// How long an attempt to connect may take, at least. Longer than a command may: nobody waits for
/// it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that is opened again, for ever, when it is lost. When that does not succeed at
/// once, every call fails at once until it does.
pub(super) struct Link {
    state: Arc<watch::Sender<State>>,
    limit: Duration,
    keeper: AbortHandle,
}

#[derive(Clone)]
enum State {
    Up(Line),
    /// The connection is lost, and the first attempt to open another has just begun: the calls that
    /// were under way wait for it, and so do those that come. So a server that closes idle
    /// connections, or is restarted, costs no call.
    Opening {
        failure: Failure,
        /// Whether the one that is lost was good for something.
        served: bool,
    },
    Down(Failure),
}

#[derive(Clone)]
struct Line {
    connection: Connection,
    /// Which connection this is, so that nobody reports the one that has taken its place.
    number: u64,
    /// Whether there is reason to open another. This one serves until then: the calls under way may
    /// yet be answered.
    suspect: bool,
    served: Arc<AtomicBool>,
    /// Whether a call on a cluster received the reply to another call: the calls in flight must not
    /// wait for theirs.
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
    /// Keeps `connection`, in a task that ends when this is dropped.
    pub(super) fn new(connection: Connection, connector: Arc<Connector>) -> Self {
        let limit = connector.limit;
        let state = Arc::new(watch::Sender::new(State::Up(Line::new(connection, 0))));
        let keeper = tokio::spawn(keep(connector, Arc::clone(&state))).abort_handle();
        Self {
            state,
            limit,
            keeper,
        }
    }

    /// Makes a call that takes no longer than a command may, all in all.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        self.call_until(call, self.deadline()).await
    }

    /// By when a call of the store that begins now has to end.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.limit
    }

    /// Makes a call that is one of several.
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
            // In a box, as below.
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
                // In a box, for it is rare: every rotation would carry the room for it.
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
            Connection::Server(_) => timeout_at(deadline, line.connection.send(call)).await,
            // Boxed, so that the futures of calls to a single server stay small.
            Connection::Cluster(_) => {
                timeout_at(deadline, Box::pin(self.attempt_on_cluster(line, call))).await
            }
        };
        let answer = answer.unwrap_or_else(|_| Err(Failure::slow()));
        match &answer {
            Ok(_) => line.served.store(true, Ordering::Relaxed),
            Err(failure) => self.report(line.number, failure),
        }
        answer
    }

    /// Makes a call on a cluster, and abandons it when the connection is replaced because it is out
    /// of step: the reply may have gone to another call. (Closing the connection has this effect on
    /// a single server.)
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

    /// Tells the keeper what happened on the connection of this number.
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
            // Of a cluster, the other nodes may be well.
            if lost && let Connection::Server(server) = &line.connection {
                // Replies that are still to come cannot be matched to calls. The calls in flight
                // are repeated.
                server.close();
                // A replica reads well, and will be found at the same place again.
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

    /// The connection that takes the place of `lost`, if it comes in time.
    async fn another(
        &self,
        lost: &Line,
        failure: &Failure,
        deadline: Instant,
    ) -> Result<Line, Option<Failure>> {
        if failure.kind() == Kind::OutOfStep {
            // The connection of a cluster stays in use until the next one is ready.
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

    /// The connection that is there when none is being opened, or why there is none; nothing if
    /// that is not known in time.
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

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Opens another connection whenever there is reason to, one at a time.
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
        // Calls still go to a connection that is merely suspect: to find out that the server is
        // frozen must not take long. Those of a cluster can wait, since the other nodes answer
        // meanwhile.
        let hurry = in_use && !connector.joins();
        let mut limit = if hurry {
            connector.limit
        } else {
            connector.limit.max(PATIENCE)
        };
        if served || up_since.elapsed() > Pauses::STEADY {
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
                    tracing::debug!(number, "another connection to Redis");
                    if let State::Down(_) =
                        state.send_replace(State::Up(Line::new(connection, number)))
                    {
                        tracing::info!(server = ?connector.target, "Redis is back");
                    }
                    break;
                }
                Err(failure) => {
                    if keeps(&connector, &state).await {
                        tracing::debug!(%failure, "no other connection to the cluster: this one serves on");
                        break;
                    }
                    if !matches!(
                        state.send_replace(State::Down(failure.clone())),
                        State::Down(_)
                    ) {
                        tracing::warn!(server = ?connector.target, %failure, "Redis is away");
                    }
                    limit = connector.limit.max(PATIENCE);
                }
            }
        }
    }
}

/// Whether the connection in use serves on, although it is suspect and none can take its place: of
/// a cluster, as long as any node answers. The next failure has another attempt made, after a
/// pause.
async fn keeps(connector: &Connector, state: &watch::Sender<State>) -> bool {
    let mut connection = match &*state.borrow() {
        State::Up(Line {
            connection: connection @ Connection::Cluster(_),
            ..
        }) => connection.clone(),
        State::Up(_) | State::Opening { .. } | State::Down(_) => return false,
    };
    // More than once: it may be the node that hangs that is asked.
    for _ in 0..4 {
        let answer = timeout(connector.share(), connection.send(&Call::Ping)).await;
        if answer.is_ok_and(|answer| answer.is_ok()) {
            return state.send_if_modified(|state| match state {
                State::Up(line) => {
                    line.suspect = false;
                    true
                }
                State::Opening { .. } | State::Down(_) => false,
            });
        }
    }
    false
}

/// None before the first attempt, then longer and longer.
pub(super) struct Pauses {
    number: u32,
    longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self::up_to(Self::LONGEST)
    }
}

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);
    /// A connection that has served for so long was a good one.
    const STEADY: Duration = Duration::from_secs(5);

    pub(super) fn up_to(longest: Duration) -> Self {
        Self { number: 0, longest }
    }

    /// Between half and the whole of what is due, so that instances that lost the server together
    /// come back one by one.
    pub(super) fn next(&mut self) -> Duration {
        let number = self.number;
        self.number = number.saturating_add(1);
        if number == 0 {
            return Duration::ZERO;
        }
        let due = Self::FIRST
            .saturating_mul(1 << (number - 1).min(10))
            .min(self.longest);
        let mut random = [0];
        // Without randomness it is half of it.
        let _ = OsRandom.fill(&mut random);
        due / 2 + (due / 2) * u32::from(random[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(), Duration::ZERO);
        for number in 0..100 {
            let due = Duration::from_millis(50 << number.min(6)).min(Pauses::LONGEST);
            let pause = pauses.next();
            assert!(pause >= due / 2 && pause <= due, "{pause:?} for {due:?}");
        }
    }
}
