//! `RedbStore` through `kill -9` and a full disk. The child processes are this test binary, started
//! again with a path to work on.
#![cfg(target_os = "linux")]

mod full_disk;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;
use tower_oauth_refresh::store::{Change, Entry, Lease, Sidecar, SidecarName, Store, Swap, Ttl};
use tower_oauth_refresh::{Clock, RedbOpenError, RedbStore, StoreError, SystemClock, Timestamp};

use crate::redb_support::{HOUR, TAG, TestFile, entry, key, version};

const PATH: &str = "TEST_REDB_PATH";
const PATIENCE: Duration = Duration::from_secs(60);

/// A child process that runs one of these tests with [`PATH`] set. It is killed when dropped.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Runs `shell`, which must end by running `"$0" "$@"`.
    fn start(shell: &str, test: &str, path: &Path) -> Self {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(shell)
            .arg(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PATH, path);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the next line that the child printed, without the output of the test harness; `None`
    /// if it has ended.
    fn hear(&mut self) -> Option<String> {
        loop {
            // The harness does not end its line.
            let line = self.lines.next()?.unwrap();
            if let Some((_, words)) = line.split_once("said: ") {
                return Some(words.to_owned());
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, words: &str) {
        assert_eq!(self.hear().as_deref(), Some(words));
    }

    fn kill(&mut self) {
        // The child may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Prints a line for the parent, in one write, so that a killed process never leaves a partial
/// line.
fn say(words: &str) {
    std::io::stdout()
        .write_all(format!("said: {words}\n").as_bytes())
        .unwrap();
}

fn path_to_work_on() -> Option<PathBuf> {
    std::env::var_os(PATH).map(PathBuf::from)
}

/// The number of grants that are rotated concurrently.
const GRANTS: u64 = 8;

#[test]
fn a_killed_process_loses_no_acknowledged_write() {
    if let Some(path) = path_to_work_on() {
        return runtime().block_on(rotate_for_ever(path));
    }
    let file = TestFile::new();
    let mut random: SmallRng = rand::make_rng();
    let mut stored = HashMap::new();
    let mut rotations = 0;
    for round in 0..25 {
        let mut process = Process::start("exec \"$0\" \"$@\"", test_name(), &file.path());
        process.expect("open");
        // Some children are killed early, others under full load.
        for _ in 0..random.random_range(0..200) {
            note(
                &mut stored,
                &process.hear().expect("the child runs until it is killed"),
            );
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..3_000)));
        process.kill();
        while let Some(line) = process.hear() {
            note(&mut stored, &line);
        }
        rotations += stored.len();
        runtime().block_on(check(&file.path(), &mut stored, round));
    }
    assert!(rotations > 0);
}

fn test_name() -> &'static str {
    "redb_faults::a_killed_process_loses_no_acknowledged_write"
}

/// Records the generation that the child reported for a grant.
fn note(stored: &mut HashMap<u64, u64>, line: &str) {
    let (grant, generation) = line.split_once(' ').unwrap();
    let (grant, generation) = (grant.parse().unwrap(), generation.parse().unwrap());
    let before = stored.insert(grant, generation);
    assert!(
        before.is_none_or(|before| before < generation),
        "grant {grant}: {generation} after {before:?}"
    );
}

/// Compares the stored grants with the reported ones, and records the stored generations: if the
/// process is killed in the next round before a grant is reported again, the grant may still be one
/// write ahead of its report.
async fn check(path: &Path, stored: &mut HashMap<u64, u64>, round: u32) {
    let store = RedbStore::open(path).unwrap();
    for grant in 0..GRANTS {
        let Some(entry) = store.get(&key(grant)).await.unwrap() else {
            assert!(
                !stored.contains_key(&grant),
                "round {round}, grant {grant}: nothing is stored"
            );
            continue;
        };
        let found = generation_of(&entry);
        // One more write than was reported may have been stored, even if it is the first.
        let reported = stored.insert(grant, found).unwrap_or_default();
        assert!(
            (reported..=reported + 1).contains(&found),
            "round {round}, grant {grant}: {found} instead of {reported}"
        );
        let name = SidecarName::new([u8::try_from(found % 256).unwrap(); 16]);
        let sidecar = store.sidecar(&key(grant), &name).await.unwrap();
        assert_eq!(
            sidecar,
            Some(entry.value),
            "round {round}, grant {grant}: stored with its sidecar"
        );
    }
}

fn generation_of(entry: &Entry) -> u64 {
    u64::from_be_bytes(entry.value.as_ref().try_into().unwrap())
}

/// The work of the process that is killed.
async fn rotate_for_ever(path: PathBuf) {
    let store = RedbStore::open(path).unwrap();
    say("open");
    let rotating: Vec<_> = (0..GRANTS)
        .map(|grant| tokio::spawn(rotate(store.clone(), grant)))
        .collect();
    for grant in rotating {
        grant.await.unwrap();
    }
}

async fn rotate(store: RedbStore, grant: u64) {
    let mut current = store.get(&key(grant)).await.unwrap();
    loop {
        let (expected, generation) = match current {
            None => (None, 1),
            Some(entry) => {
                let claim = store
                    .claim(&key(grant), &TAG, fresh(), HOUR)
                    .await
                    .unwrap()
                    .unwrap();
                assert_eq!(claim.lease, Lease::Taken, "a lease is forgotten by a crash");
                (Some(claim.entry.version), generation_of(&entry) + 1)
            }
        };
        let value = Bytes::copy_from_slice(&generation.to_be_bytes());
        let next = Entry::new(fresh(), TAG, value.clone());
        let also = Sidecar::new(
            SidecarName::new([u8::try_from(generation % 256).unwrap(); 16]),
            value,
            HOUR,
        );
        let change = Change::Put {
            entry: next.clone(),
            ttl: Ttl::After(HOUR),
        };
        assert_eq!(
            store
                .swap(&key(grant), expected, change, &[also])
                .await
                .unwrap(),
            Swap::Swapped
        );
        say(&format!("{grant} {generation}"));
        current = Some(next);
    }
}

fn fresh() -> tower_oauth_refresh::store::Version {
    version(rand::random())
}

/// A clock that blocks or panics, to disturb the threads of the store.
#[derive(Clone, Default)]
struct BadClock(Arc<AtomicU8>);

const GOOD: u8 = 0;
const HANGS: u8 = 1;
const PANICS: u8 = 2;

impl Clock for BadClock {
    fn now(&self) -> Timestamp {
        while self.0.load(Ordering::SeqCst) == HANGS {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_ne!(self.0.load(Ordering::SeqCst), PANICS, "the clock is broken");
        SystemClock.now()
    }
}

#[test]
fn calls_time_out_if_the_threads_of_the_store_are_blocked() {
    runtime().block_on(async {
        let (file, clock) = (TestFile::new(), BadClock::default());
        let builder = RedbStore::builder(file.path()).clock(clock.clone());
        let store = builder.timeout(Duration::from_millis(200)).open().unwrap();
        eventually("the store works", async || try_put(&store, 0).await.is_ok()).await;

        for (row, state) in [("hangs", HANGS), ("panics", PANICS)] {
            clock.0.store(state, Ordering::SeqCst);
            // More calls than the queue holds.
            let mut calls = JoinSet::new();
            for number in 1..=1_500 {
                let store = store.clone();
                calls.spawn(async move {
                    let read = store.get(&key(0)).await.map(drop);
                    [try_put(&store, number).await.map(drop), read]
                });
            }
            while let Some(ended) = calls.join_next().await {
                for result in ended.unwrap() {
                    assert!(
                        matches!(result, Err(StoreError::Unavailable(_))),
                        "{row}: {result:?}"
                    );
                }
            }
            clock.0.store(GOOD, Ordering::SeqCst);
            eventually("the store goes on", async || {
                try_put(&store, 2_000 + u64::from(state)).await.is_ok()
            })
            .await;
            eventually("the store is read", async || {
                matches!(store.get(&key(0)).await, Ok(Some(_)))
            })
            .await;
        }
    });
}

async fn try_put(store: &RedbStore, number: u64) -> Result<Swap, StoreError> {
    let change = Change::Put {
        entry: entry(1),
        ttl: Ttl::After(HOUR),
    };
    store.swap(&key(number), None, change, &[]).await
}

async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !check().await {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[tokio::test]
async fn opening_fails_if_no_thread_can_be_started() {
    const CHILD: &str = "TEST_REDB_NO_THREAD";
    if std::env::var_os(CHILD).is_some() {
        let file = TestFile::new();
        let error = file.open_error();
        assert!(matches!(error, RedbOpenError::Io(_)), "{error:?}");
        return;
    }
    let name = "redb_faults::opening_fails_if_no_thread_can_be_started";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1"])
        .env(CHILD, "1")
        // A stack larger than the address space.
        .env("RUST_MIN_STACK", (1_u64 << 60).to_string())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
