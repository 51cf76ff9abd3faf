//! `RedbStore` keeps the contract of `Store` and its own further promises.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;
use test_support::ManualClock;
use test_support::session::{infallible, log_in, refresh};
use tokio::task::JoinSet;
use tower::Layer as _;
use tower_oauth_refresh::store::{Change, Claim, Lease, Store, Swap, Ttl};
use tower_oauth_refresh::{Clock as _, RedbStore, RefreshLayer, Timestamp};

use crate::redb_support::{
    ENDS, HOUR, TAG, TestFile, entry, has_sidecar, key, put, put_with, sidecar, version,
};

tower_oauth_refresh::store_conformance!({
    let file = TestFile::new();
    let store = file.open();
    // The directory is removed with the last handle of the test.
    let kept = Arc::new((store, file));
    async move || Arc::clone(&kept).0.clone()
});

/// The time for which an entry stays in the file after its expiry.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

async fn claim(store: &RedbStore, number: u64, lease: Duration) -> Option<Lease> {
    let claim = store
        .claim(&key(1), &TAG, version(number), lease)
        .await
        .unwrap();
    claim.map(|Claim { lease, .. }| lease)
}

#[tokio::test]
async fn acknowledged_writes_survive_close_and_open() {
    let file = TestFile::new();
    let store = file.open();
    for number in 0..100 {
        let sidecars = [sidecar(7, HOUR)];
        assert_eq!(
            put_with(&store, &key(number), None, 1, Ttl::After(HOUR), &sidecars).await,
            Swap::Swapped
        );
    }
    for number in 0..50 {
        assert_eq!(
            put(&store, &key(number), Some(1), 2, Ttl::Keep).await,
            Swap::Swapped
        );
    }
    for number in 50..60 {
        let removed = store
            .swap(&key(number), Some(version(1)), Change::Remove, &[])
            .await
            .unwrap();
        assert_eq!(removed, Swap::Swapped);
    }
    drop(store);
    let store = file.open();
    for number in 0..100 {
        let expected = match number {
            0..50 => Some(entry(2)),
            50..60 => None,
            _ => Some(entry(1)),
        };
        assert_eq!(
            store.get(&key(number)).await.unwrap(),
            expected,
            "entry {number}"
        );
        assert_eq!(
            has_sidecar(&store, &key(number), 7).await,
            expected.is_some(),
            "the sidecar of entry {number}"
        );
    }
    drop(store);
    assert_eq!(file.rows(), [90, 90, 180], "a removal leaves no rows");
}

#[tokio::test]
async fn a_lease_does_not_outlive_its_process() {
    let file = TestFile::new();
    let store = file.open();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, HOUR).await, Some(Lease::Taken));
    assert!(matches!(claim(&store, 3, HOUR).await, Some(Lease::Held(_))));
    drop(store);
    let store = file.open();
    assert_eq!(store.get(&key(1)).await.unwrap(), Some(entry(1)));
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Taken));
}

#[tokio::test]
async fn expiry_uses_the_clock_of_the_store() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let store = RedbStore::builder(file.path())
        .clock(clock.clone())
        .open()
        .unwrap();
    let sidecars = [sidecar(2, HOUR / 2)];
    assert_eq!(
        put_with(&store, &key(1), None, 1, Ttl::After(HOUR), &sidecars).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, HOUR / 4).await, Some(Lease::Taken));
    let millisecond = Duration::from_millis(1);
    clock.advance(HOUR / 4 - millisecond);
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Held(millisecond)));
    clock.advance(millisecond);
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Taken));

    clock.advance(HOUR / 4 - millisecond);
    assert!(has_sidecar(&store, &key(1), 2).await);
    clock.advance(millisecond);
    assert!(!has_sidecar(&store, &key(1), 2).await);
    assert_eq!(
        put(&store, &key(1), Some(3), 4, Ttl::Keep).await,
        Swap::Swapped
    );
    clock.advance(HOUR / 2 - millisecond);
    assert_eq!(store.get(&key(1)).await.unwrap(), Some(entry(4)));
    clock.advance(millisecond);
    assert_eq!(store.get(&key(1)).await.unwrap(), None);
    assert_eq!(claim(&store, 5, HOUR).await, None);
    assert_eq!(
        put(&store, &key(1), Some(4), 5, Ttl::Keep).await,
        Swap::Conflict(None)
    );
}

#[tokio::test]
async fn an_entry_that_replaces_an_expired_one_has_no_sidecars() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let store = RedbStore::builder(file.path())
        .clock(clock.clone())
        .open()
        .unwrap();
    for number in 1..=3 {
        // Both immediately after the expiry and after the writer has had time to sweep.
        let sidecars = [sidecar(2, HOUR * 9)];
        assert_eq!(
            put_with(&store, &key(number), None, 1, Ttl::After(HOUR), &sidecars).await,
            Swap::Swapped
        );
        clock.advance(if number == 1 {
            HOUR
        } else {
            GRACE * number as u32
        });
        tokio::time::sleep(Duration::from_millis(number * 300)).await;
        assert!(
            !has_sidecar(&store, &key(number), 2).await,
            "the sidecar is removed with its entry"
        );
        assert_eq!(
            put(&store, &key(number), None, 2, Ttl::After(HOUR)).await,
            Swap::Swapped
        );
        assert!(!has_sidecar(&store, &key(number), 2).await);
    }
}

#[tokio::test]
async fn more_than_128_sidecars_replace_the_oldest() {
    let file = TestFile::new();
    let store = file.open();
    // Names in descending order, so that the order of the table differs from that of time.
    for number in 1..=32 {
        let expected = (number > 1).then(|| number - 1);
        let first = 200 - 4 * u8::try_from(number).unwrap();
        let sidecars = [3, 2, 1, 0].map(|name| sidecar(first + name, HOUR));
        let ttl = Ttl::After(HOUR);
        assert_eq!(
            put_with(&store, &key(1), expected, number, ttl, &sidecars).await,
            Swap::Swapped
        );
    }
    // The oldest sidecars are written again, and are the youngest from then on.
    let again = [196, 197, 198, 199].map(|name| sidecar(name, HOUR));
    assert_eq!(
        put_with(&store, &key(1), Some(32), 33, Ttl::Keep, &again).await,
        Swap::Swapped
    );
    let new = [1, 2, 3, 4].map(|name| sidecar(name, HOUR));
    assert_eq!(
        put_with(&store, &key(1), Some(33), 34, Ttl::Keep, &new).await,
        Swap::Swapped
    );
    for (names, there) in [
        (196..=199, true),
        (192..=195, false),
        (72..=191, true),
        (1..=4, true),
    ] {
        for name in names {
            assert_eq!(
                has_sidecar(&store, &key(1), name).await,
                there,
                "sidecar {name}"
            );
        }
    }
    drop(store);
    assert_eq!(file.rows(), [1, 128, 129]);
}

#[tokio::test]
async fn the_space_of_expired_entries_is_reclaimed() {
    const ENTRIES: u64 = 2_000;
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let mut sizes = Vec::new();
    for round in 0..5 {
        let store = RedbStore::builder(file.path())
            .clock(clock.clone())
            .open()
            .unwrap();
        let mut writes = JoinSet::new();
        for number in 0..ENTRIES {
            let store = store.clone();
            // In every second round the sidecars expire with the entry, otherwise before it.
            let sidecars = [sidecar(1, HOUR / 2 * (1 + round % 2))];
            let key = key(u64::from(round) * ENTRIES + number);
            writes.spawn(async move {
                put_with(&store, &key, None, 1, Ttl::After(HOUR), &sidecars).await
            });
            if writes.len() == 500 {
                assert_eq!(writes.join_next().await.unwrap().unwrap(), Swap::Swapped);
            }
        }
        while let Some(swap) = writes.join_next().await {
            assert_eq!(swap.unwrap(), Swap::Swapped);
        }
        drop(store);
        let started = Instant::now();
        clock.advance(HOUR + GRACE);
        while file.rows() != [0; 3] {
            assert!(
                started.elapsed() < PATIENCE,
                "round {round}: never reclaimed: {:?}",
                file.rows()
            );
            // There are no calls: the writer removes expired rows by itself.
            let store = RedbStore::builder(file.path())
                .clock(clock.clone())
                .open()
                .unwrap();
            // Nothing is removed in the first hour.
            clock.advance(HOUR);
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            drop(store);
        }
        sizes.push(fs::metadata(file.path()).unwrap().len());
    }
    // How full the pages are depends on which writes shared a commit.
    assert!(
        sizes[4] < 2 * sizes[0].max(sizes[1]),
        "the file grows: {sizes:?}"
    );
}

/// Sidecars are removed when they expire, and the entry a week after its expiry.
#[tokio::test]
async fn an_entry_stays_in_the_file_for_a_week_after_expiry() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let store = RedbStore::builder(file.path())
        .clock(clock.clone())
        .open()
        .unwrap();
    let mut other = 1;
    // Returns the rows after a commit, with which the writer removes due rows.
    let mut rows = async |store: RedbStore| {
        for _ in 0..3 {
            other += 1;
            assert_eq!(
                put(&store, &key(other), None, 1, Ttl::After(GRACE * 9)).await,
                Swap::Swapped
            );
        }
        drop(store);
        let [grants, sidecars, ends] = file.rows();
        let store = RedbStore::builder(file.path())
            .clock(clock.clone())
            .open()
            .unwrap();
        clock.advance(HOUR * 2);
        (store, [grants - (other - 1), sidecars, ends - (other - 1)])
    };
    let sidecars = [sidecar(1, HOUR / 2)];
    assert_eq!(
        put_with(&store, &key(1), None, 1, Ttl::After(HOUR), &sidecars).await,
        Swap::Swapped
    );
    let (store, left) = rows(store).await;
    assert_eq!(left, [1, 1, 2]);
    let (store, left) = rows(store).await;
    assert_eq!(left, [1, 0, 1], "two hours later");
    assert_eq!(
        store.get(&key(1)).await.unwrap(),
        None,
        "absent for callers"
    );
    clock.advance(GRACE - HOUR * 5);
    let (store, left) = rows(store).await;
    assert_eq!(left, [1, 0, 1], "within the week");
    clock.advance(HOUR * 2);
    let (_, left) = rows(store).await;
    assert_eq!(left, [0; 3], "a week later");
}

/// In a file from before the grace period, the row of an entry is due at its expiry.
#[tokio::test]
async fn an_entry_of_an_older_file_also_stays_for_a_week() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let open = || {
        RedbStore::builder(file.path())
            .clock(clock.clone())
            .open()
            .unwrap()
    };
    let (store, end) = (open(), clock.now().saturating_add(HOUR));
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    drop(store);
    let database = Database::open(file.path()).unwrap();
    let write = database.begin_write().unwrap();
    let row = |end: Timestamp| [&end.as_millis().to_be_bytes()[..], key(1).as_bytes()].concat();
    let mut ends = write.open_table(ENDS).unwrap();
    assert!(
        ends.remove(row(end.saturating_add(GRACE)).as_slice())
            .unwrap()
            .is_some()
    );
    ends.insert(row(end).as_slice(), ()).unwrap();
    drop(ends);
    write.commit().unwrap();
    drop(database);
    for (number, left) in [(2, [2, 0, 2]), (3, [2, 0, 2])] {
        let store = open();
        clock.advance(if number == 2 { HOUR * 3 } else { GRACE });
        // A commit removes due rows.
        assert_eq!(
            put(&store, &key(number), None, 1, Ttl::After(GRACE * 9)).await,
            Swap::Swapped
        );
        drop(store);
        assert_eq!(file.rows(), left, "entry {number}");
    }
}

/// A wall clock that is wrong for a moment loses no entry, however wrong it is and whatever is
/// written and swept in that time.
#[tokio::test]
async fn a_clock_that_jumps_ahead_and_back_loses_no_entry() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let mut store = RedbStore::builder(file.path())
        .clock(clock.clone())
        .open()
        .unwrap();
    clock.advance(HOUR * 2);
    for number in 0..300 {
        assert_eq!(
            put(&store, &key(number), None, 1, Ttl::After(HOUR * 24 * 30)).await,
            Swap::Swapped
        );
    }
    let right = clock.now();
    for (round, days) in [31, 365, 365 * 80, 31].into_iter().enumerate() {
        clock.set(right.saturating_add(HOUR * 24 * days));
        assert_eq!(store.get(&key(0)).await.unwrap(), None, "{days} days ahead");
        for number in 0..3 {
            // A commit removes due rows.
            let key = key(1_000 * (round as u64 + 1) + number);
            assert_eq!(
                put(&store, &key, None, 1, Ttl::After(HOUR)).await,
                Swap::Swapped
            );
        }
        clock.advance(Duration::from_millis(2500));
        if round == 3 {
            // A machine that boots with a wrong clock.
            drop(store);
            store = RedbStore::builder(file.path())
                .clock(clock.clone())
                .open()
                .unwrap();
            assert_eq!(
                put(&store, &key(9_999), None, 1, Ttl::After(HOUR)).await,
                Swap::Swapped
            );
        }
        clock.set(right);
        for number in 0..300 {
            assert!(
                store.get(&key(number)).await.unwrap().is_some(),
                "{days} days ahead and back: {number}"
            );
        }
    }
    clock.set(right);
    assert_eq!(
        put(&store, &key(0), Some(1), 2, Ttl::Keep).await,
        Swap::Swapped,
        "and they are usable"
    );
}

#[test]
fn pending_calls_complete_after_the_last_handle_is_dropped() {
    let file = TestFile::new();
    for round in 0..20 {
        let store = file.open();
        // The runtime is dropped while its tasks are in the middle of a call.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for number in 0..20 {
                let store = store.clone();
                tokio::spawn(async move {
                    put(&store, &key(round * 20 + number), None, 1, Ttl::After(HOUR)).await
                });
            }
            tokio::task::yield_now().await;
        });
        drop(runtime);
        drop(store);
        assert_eq!(file.rows()[0], (round + 1) * 20);
    }
}

#[tokio::test]
async fn calls_beyond_the_queue_size_wait() {
    let file = TestFile::new();
    let store = RedbStore::builder(file.path())
        .timeout(HOUR)
        .open()
        .unwrap();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    let mut calls = JoinSet::new();
    for number in 0..5_000 {
        let store = store.clone();
        calls.spawn(async move {
            match number % 2 {
                0 => assert!(store.get(&key(1)).await.unwrap().is_some()),
                _ => assert!(
                    store
                        .claim(&key(1), &TAG, version(2), HOUR)
                        .await
                        .unwrap()
                        .is_some()
                ),
            }
        });
    }
    assert_eq!(calls.join_all().await.len(), 5_000);
}

#[tokio::test]
async fn debug_shows_no_value() {
    let file = TestFile::new();
    let store = file.open();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(
        format!("{store:?}"),
        format!("RedbStore {{ path: {:?}, .. }}", file.path())
    );
    let builder = format!("{:?}", RedbStore::builder(file.path()));
    assert!(
        builder.starts_with("RedbStoreBuilder { path: "),
        "{builder}"
    );
}

#[tokio::test]
async fn a_session_survives_a_restart() {
    let (file, upstream) = (TestFile::new(), test_support::Upstream::new());
    let serve = || {
        let layer = RefreshLayer::builder(file.open()).build().unwrap();
        layer.layer(infallible(&upstream))
    };
    let first = {
        let service = serve();
        log_in(&service).await
    };
    let second = {
        let service = serve();
        refresh(&service, &first).await.token()
    };
    let service = serve();
    assert_eq!(
        refresh(&service, &first).await.token(),
        second,
        "the replay is stored as well"
    );
    let third = refresh(&service, &second).await.token();
    drop(service);
    assert_ne!(refresh(&serve(), &third).await.token(), third);
    assert_eq!(
        (upstream.refreshes(), upstream.reuses(), upstream.alive()),
        (3, 0, 1)
    );
}
