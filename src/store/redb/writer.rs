use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use redb::Database;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::super::decide;
use super::super::{Claim, ClaimTag, Key, StoreError, Swap, Version};
use super::error::Failure;
use super::leases::with_lease;
use super::removal::RemovalGate;
use super::store::Shared;
use super::tables::{PORTION, SwapArguments, Tables, is_sweep_due, read_record};
use super::worker::{Reply, Task, Worker, without_panic};
use crate::clock::Timestamp;

/// The most jobs for one commit.
const BATCH: usize = 512;

/// The interval at which an idle writer checks whether expired entries can be removed.
const IDLE: Duration = Duration::from_secs(1);

/// The minimum time between two attempts to reopen the file.
const RETRY: Duration = Duration::from_secs(1);

/// The time between two log lines about a missing file.
const WARN: Duration = Duration::from_secs(60);

/// A job of the writer.
pub(super) enum Job {
    Claim(Task),
    Swap(SwapArguments, Reply<Swap>),
}

/// The writer: the only code that changes the file and the leases. It makes a batch of swaps in one
/// transaction with one durable commit.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The earliest time of the next attempt to reopen the file, if it is not open.
    retry_at: Instant,
    /// Whether more rows may be due than the last commit removed.
    behind: bool,
    removal_gate: RemovalGate,
    /// The earliest time of the next log line about a missing file.
    warn_at: Instant,
}

impl Writer {
    /// Starts the thread of the writer. It runs until the worker is dropped and all jobs are done.
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Worker<Job>> {
        let writer = Self {
            removal_gate: RemovalGate::new(&*shared.clock),
            shared,
            retry_at: Instant::now(),
            behind: false,
            warn_at: Instant::now(),
        };
        let (failed, failure) = mpsc::channel();
        let worker = Worker::start("redb-writer", move |jobs| {
            // Built on this thread: dropping a runtime panics inside an async caller.
            match Builder::new_current_thread().enable_time().build() {
                Ok(runtime) => {
                    drop(failed);
                    writer.run(&runtime, jobs);
                }
                Err(error) => drop(failed.send(error)),
            }
        })?;
        failure.recv().map_or(Ok(worker), Err)
    }

    fn run(mut self, timer: &Runtime, mut jobs: Receiver<Job>) {
        loop {
            let patience = if self.behind { Duration::ZERO } else { IDLE };
            let mut batch = Vec::new();
            let received = timer
                .block_on(async { timeout(patience, jobs.recv_many(&mut batch, BATCH)).await });
            if received == Ok(0) {
                return;
            }
            self.round(batch);
        }
    }

    /// Handles a batch of jobs. The jobs are concurrent, so any order is correct. Claims come
    /// first: they are decided by the committed data, and need not wait for the commit of the
    /// swaps.
    fn round(&mut self, jobs: Vec<Job>) {
        if !self.shared.file.is_open() && self.retry_at <= Instant::now() {
            self.reopen();
        }
        // The jobs were taken before this check: a job that is sent after the file is back at its
        // path must not fail because of an earlier check.
        let gone = self.file_has_gone();
        let is_gone = gone.is_some();
        let mut swaps = Vec::new();
        for job in jobs {
            match job {
                Job::Claim(task) => task(match &gone {
                    Some(error) => Err(error.clone()),
                    None => Ok(&self.shared),
                }),
                // The entry may be stored nowhere else, so it is written even if the caller has
                // gone.
                Job::Swap(arguments, reply) => swaps.push((arguments, reply)),
            }
        }
        let written = match gone {
            Some(error) => Err(error),
            None => without_panic(|| self.write(&mut swaps)),
        };
        let Err(error) = written else {
            return;
        };
        for (_, reply) in swaps {
            let _ = reply.send(Err(error.clone()));
        }
        self.behind = false;
        if !is_gone && self.shared.file.is_open() {
            tracing::error!(%error, cause = %source(&error), "cannot write the store's file: reopening it");
            self.reopen();
        }
    }

    /// Returns an error if a restart would lose the writes made now. Logs it once in [`WARN`].
    fn file_has_gone(&mut self) -> Option<StoreError> {
        let missing = self.shared.file.missing()?;
        if self.warn_at <= Instant::now() {
            self.warn_at = Instant::now() + WARN;
            tracing::error!(
                path = %self.shared.file.path().display(),
                error = %missing,
                "the store's file was removed or replaced: writes fail until it is put back, and a restart loses every grant"
            );
        }
        Some(StoreError::unavailable(missing))
    }

    /// Makes the swaps, removes some expired entries, commits, and replies. On failure, the swaps
    /// without a reply stay in `swaps`.
    fn write(&mut self, swaps: &mut Vec<(SwapArguments, Reply<Swap>)>) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let horizon = self.removal_gate.horizon(&*shared.clock);
        let is_due = |now| shared.read(|read| is_sweep_due(read, now));
        if swaps.is_empty() && !horizon.map_or(Ok(false), is_due)? {
            self.behind = false;
            return Ok(());
        }
        let round = shared
            .file
            .with(|database| commit(shared, database, swaps, horizon))?;
        shared.leases.forget(&round.changed);
        self.behind = round.behind;
        for ((_, reply), answer) in swaps.drain(..).zip(round.answers) {
            let _ = reply.send(answer);
        }
        Ok(())
    }

    fn reopen(&mut self) {
        self.shared.file.reopen();
        self.retry_at = Instant::now() + RETRY;
    }
}

impl Shared {
    /// Must be called on the thread of the writer.
    pub(super) fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let Shared { leases, clock, .. } = self;
        let claimed = leases.get(key);
        let record = self.read(|read| read_record(read, key))?;
        let now = clock.now();
        let Some(record) = record.filter(|record| record.end > now) else {
            return Ok(None);
        };
        let written = record.entry.version;
        let mut entry = with_lease(record.entry, claimed);
        let before = entry.version;
        let claim = decide::claim(&mut entry, tag, version, lease, now);
        if before != claim.entry.version {
            leases.take(key, written, &entry);
        }
        Ok(Some(claim))
    }
}

/// The result of a commit.
struct Round {
    answers: Vec<Result<Swap, StoreError>>,
    /// The keys of entries that were written or removed.
    changed: Vec<Key>,
    behind: bool,
}

/// Applies the changes, and removes the entries that were due at `horizon`.
fn commit(
    shared: &Shared,
    database: &Database,
    swaps: &[(SwapArguments, Reply<Swap>)],
    horizon: Option<Timestamp>,
) -> Result<Round, Failure> {
    let write = database.begin_write()?;
    let mut tables = Tables::open(&write)?;
    let (mut answers, mut changed) = (Vec::with_capacity(swaps.len()), Vec::new());
    for (arguments, _) in swaps {
        let claimed = shared.leases.get(&arguments.key);
        let answer = match tables.swap(arguments, claimed, shared.clock.now()) {
            Ok(None) => {
                changed.push(arguments.key);
                Ok(Swap::Swapped)
            }
            Ok(Some(answer)) => Ok(answer),
            Err(failure @ Failure::Database(_)) => return Err(failure),
            Err(failure @ Failure::Record(_)) => Err(failure.into()),
        };
        answers.push(answer);
    }
    let removed = match horizon {
        Some(horizon) => tables.sweep(horizon, &mut changed)?,
        None => 0,
    };
    drop(tables);
    if changed.is_empty() && removed == 0 {
        write.abort()?;
    } else {
        write.commit()?;
    }
    Ok(Round {
        answers,
        changed,
        behind: removed == PORTION,
    })
}

/// Returns the source of an error, for the log.
fn source(error: &StoreError) -> String {
    std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default()
}
