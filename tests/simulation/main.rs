//! Runs of whole worlds: instances, a store, an authorization server, clients and a thief, with
//! every fault that can occur between them, all derived from one seed.
//!
//! `SIMULATION_SEEDS=1000000` runs more seeds, and `SIMULATION_SEED=7` runs one, with its trace.
//! See `docs/simulation.md`.

mod access;
mod broken;
mod check;
mod client;
mod cluster;
mod plan;
mod program;
mod request;
mod run;
mod shelf;
mod store;
mod thief;
mod token;
mod upstream;
mod world;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use broken::Breakage;
use run::{Outcome, run};
use tower_oauth_refresh::EventKind;

/// The default number of runs.
const SEEDS: u64 = 20_000;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}")),
    )
}

/// Returns the first seed below `end` whose run breaks a promise.
fn first_failure(end: u64, breakage: Option<Breakage>) -> Option<u64> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.min(failed.load(Ordering::Relaxed)) {
                return;
            }
            if !run(seed, breakage, false).violations.is_empty() {
                failed.fetch_min(seed, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    Some(failed.into_inner()).filter(|seed| *seed != u64::MAX)
}

/// Runs the seed again and returns its trace.
fn explain(seed: u64) -> String {
    let outcome = run(seed, None, true);
    let mut text = outcome.trace.join("\n");
    for violation in outcome.violations {
        write!(text, "\nseed {seed}: {violation}").unwrap();
    }
    write!(text, "\nSIMULATION_SEED={seed} cargo test --all-features --test simulation every_run -- --nocapture")
        .unwrap();
    text
}

#[test]
fn every_run_keeps_every_promise() {
    if let Some(seed) = variable("SIMULATION_SEED") {
        let outcome = run(seed, None, true);
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        return;
    }
    let seeds = variable("SIMULATION_SEEDS").unwrap_or(SEEDS);
    if let Some(seed) = first_failure(seeds, None) {
        panic!("{}", explain(seed));
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..60 {
        let (one, other) = (run(seed, None, true), run(seed, None, true));
        assert!(one.trace.len() > 5, "seed {seed} has a trace");
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.violations, other.violations, "seed {seed}");
    }
}

/// A promise that no run tests holds trivially, so the runs must produce every possible event of a
/// grant.
#[test]
fn every_possible_event_occurs() {
    const KINDS: [EventKind; 23] = [
        EventKind::Issued,
        EventKind::Rotated,
        EventKind::Kept,
        EventKind::Replayed,
        EventKind::Recovered,
        EventKind::Converged,
        EventKind::Late,
        EventKind::ReuseDetected,
        EventKind::ReuseUnproven,
        EventKind::ClientMismatch,
        EventKind::Unknown,
        EventKind::Revoked,
        EventKind::UpstreamRejected,
        EventKind::UpstreamUnreadable,
        EventKind::CommitLost,
        EventKind::Ahead,
        EventKind::Forged,
        EventKind::Adopted,
        EventKind::AccessRefused,
        EventKind::EndedByApplication,
        EventKind::Renewed,
        EventKind::RenewalFailed,
        EventKind::HandedBack,
    ];
    let happened = |what: &str| {
        (0..3000).any(|seed| {
            run(seed, None, true)
                .trace
                .iter()
                .any(|line| line.contains(what))
        })
    };
    for kind in KINDS {
        assert!(
            happened(&format!(" emits {kind} ")),
            "{kind} never happened"
        );
    }
    for what in [
        " crashes",
        "fails over",
        " once more:",
        " is lost",
        "is answered None",
        " had hints",
        " has stopped",
        " sees 200 OK",
        " sees 401",
    ] {
        assert!(happened(what), "{what} never happened");
    }
}

/// Sessions with an excuse are not checked: most sessions must have none, although something goes
/// wrong in most runs.
#[test]
fn most_sessions_have_no_excuse() {
    let outcomes = (0..1000).map(|seed| run(seed, None, false));
    let count = |(sessions, excused), outcome: Outcome| {
        (sessions + outcome.sessions, excused + outcome.excused)
    };
    let (sessions, excused) = outcomes.fold((0, 0), count);
    assert!(
        sessions > 1000 && excused * 2 < sessions,
        "{excused} of {sessions} sessions have an excuse"
    );
    println!("{excused} of {sessions} sessions have an excuse");
}

/// Every injected bug must be found, by the check that covers it. Prints the table of seeds for
/// `docs/simulation.md`.
#[test]
fn every_injected_bug_is_found() {
    const PATIENCE: u64 = 5_000;
    let mut missed = Vec::new();
    for breakage in Breakage::ALL {
        match first_failure(PATIENCE, Some(breakage)) {
            Some(seed) => {
                let violations = run(seed, Some(breakage), false).violations;
                assert_eq!(
                    run(seed, None, false).violations,
                    [""; 0],
                    "seed {seed} also fails without {breakage:?}"
                );
                let first = violations.first().map(String::as_str).unwrap_or_default();
                println!("| {breakage:?} | {} | {first} |", seed + 1);
            }
            None => missed.push(breakage),
        }
    }
    assert!(
        missed.is_empty(),
        "not found in {PATIENCE} runs: {missed:?}"
    );
}
