//! When expired entries are removed.

use super::*;

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
    // The fill of the pages depends on which writes shared a commit.
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
