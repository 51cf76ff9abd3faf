use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::oneshot;

use super::super::decide;
use super::super::{Claim, ClaimTag, Key, Lease, StoreError, Swap, Version};
use super::error::{Failure, store_error};
use super::removal::RemovalGate;
use super::store::Shared;
use super::tables::{Asked, Swept, Tables, is_sweep_due, read_record, with_lease};
use super::threads::{Jobs, without_panic};
use crate::clock::Timestamp;

/// The most jobs for one commit.
const BATCH: usize = 512;

/// The interval at which an idle writer checks whether expired entries can be removed.
const IDLE: Duration = Duration::from_secs(1);

/// The minimum time between two attempts to reopen the file.
const RETRY: Duration = Duration::from_secs(1);

/// The time between two log lines about a missing file.
const WARN: Duration = Duration::from_secs(60);

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A job of the writer, and the channel for its reply.
pub(super) enum Job {
    Swap(Asked, Reply<Swap>),
    Claim(AskedClaim, Reply<Option<Claim>>),
}

/// The arguments of a `claim`.
pub(super) struct AskedClaim {
    pub(super) key: Key,
    pub(super) tag: ClaimTag,
    pub(super) version: Version,
    pub(super) lease: Duration,
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
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let removal_gate = RemovalGate::new(&*shared.clock);
        Self {
            shared,
            retry_at: Instant::now(),
            behind: false,
            removal_gate,
            warn_at: Instant::now(),
        }
    }

    /// Runs until the worker is dropped and all jobs are done.
    pub(super) fn run(mut self, jobs: &Jobs<Job>) {
        loop {
            let patience = if self.behind { Duration::ZERO } else { IDLE };
            let first = match jobs.recv_timeout(patience) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.round(first.into_iter().chain(jobs.waiting()).take(BATCH));
        }
    }

    /// Handles a batch of jobs. The jobs are concurrent, so any order is correct. Claims come
    /// first: they are decided by the committed data, and need not wait for the commit of the
    /// swaps.
    fn round(&mut self, jobs: impl Iterator<Item = Job>) {
        if !self.shared.file.is_open() && self.retry_at <= Instant::now() {
            self.reopen();
        }
        // Take all jobs before checking the file. A job that is sent after the file is back at its
        // path must not fail because of an earlier check.
        let jobs: Vec<_> = jobs.collect();
        if let Some(error) = self.file_has_gone() {
            for job in jobs {
                match job {
                    Job::Claim(_, reply) => drop(reply.send(Err(error.clone()))),
                    Job::Swap(_, reply) => drop(reply.send(Err(error.clone()))),
                }
            }
            self.behind = false;
            return;
        }
        let mut swaps = Vec::new();
        for job in jobs {
            match job {
                // If the caller has gone, the lease would not be released.
                Job::Claim(asked, reply) if !reply.is_closed() => {
                    let claim = without_panic(|| self.claim(&asked));
                    let _ = reply.send(claim);
                }
                Job::Claim(..) => {}
                // The entry may be stored nowhere else, so it is written even if the caller has
                // gone.
                Job::Swap(asked, reply) => swaps.push((asked, reply)),
            }
        }
        let Err(error) = without_panic(|| self.write(&mut swaps)) else {
            return;
        };
        for (_, reply) in swaps {
            let _ = reply.send(Err(error.clone()));
        }
        self.behind = false;
        if self.shared.file.is_open() {
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

    fn claim(&self, asked: &AskedClaim) -> Result<Option<Claim>, StoreError> {
        let AskedClaim {
            key,
            tag,
            version,
            lease,
        } = asked;
        let Shared { leases, clock, .. } = &*self.shared;
        let claimed = leases.get(key);
        let record = self.shared.read(|read| Ok(read_record(read, key)?))?;
        let now = clock.now();
        let Some(record) = record.filter(|record| record.end > now) else {
            return Ok(None);
        };
        let written = record.entry.version;
        let mut entry = with_lease(record.entry, claimed);
        let before = entry.version;
        let claim = decide::claim(&mut entry, tag, *version, *lease, now);
        if claim.lease == Lease::Taken && before != claim.entry.version {
            leases.take(key, written, &claim.entry);
        }
        Ok(Some(claim))
    }

    /// Makes the swaps, removes some expired entries, commits, and replies. On failure, the swaps
    /// without a reply stay in `swaps`.
    fn write(&mut self, swaps: &mut Vec<(Asked, Reply<Swap>)>) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let horizon = self.removal_gate.horizon(&*shared.clock);
        let is_due = |now| shared.read(|read| is_sweep_due(read, now).map_err(store_error));
        if swaps.is_empty() && !horizon.map_or(Ok(false), is_due)? {
            self.behind = false;
            return Ok(());
        }
        let round = shared
            .file
            .with(|database| commit(&shared, database, swaps, horizon).map_err(store_error))?;
        shared.leases.forget(&round.written);
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

/// The result of a commit.
struct Round {
    answers: Vec<Result<Swap, StoreError>>,
    /// The keys of entries that were written or removed.
    written: Vec<Key>,
    behind: bool,
}

/// Applies the changes, and removes the entries that were due at `horizon`.
fn commit(
    shared: &Shared,
    database: &Database,
    swaps: &[(Asked, Reply<Swap>)],
    horizon: Option<Timestamp>,
) -> Result<Round, redb::Error> {
    let write = database.begin_write()?;
    let mut round = Round {
        answers: Vec::with_capacity(swaps.len()),
        written: Vec::new(),
        behind: false,
    };
    let mut tables = Tables::open(&write)?;
    for (asked, _) in swaps {
        let answer = match tables.swap(asked, shared.leases.get(&asked.key), shared.clock.now()) {
            Ok((changed, swap)) => {
                if changed {
                    round.written.push(asked.key);
                }
                Ok(swap)
            }
            Err(Failure::Database(error)) => return Err(error),
            Err(failure @ Failure::Record(_)) => Err(failure.into()),
        };
        round.answers.push(answer);
    }
    let Swept {
        gone,
        changed,
        behind,
    } = horizon.map_or(Ok(Swept::default()), |horizon| tables.sweep(horizon))?;
    drop(tables);
    round.behind = behind;
    if round.written.is_empty() && !changed {
        write.abort()?;
        return Ok(round);
    }
    round.written.extend(gone);
    write.commit()?;
    Ok(round)
}

/// Returns the source of an error, for the log.
fn source(error: &StoreError) -> String {
    std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default()
}
