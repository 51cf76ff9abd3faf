//! Which files `RedbStore` opens and rejects, and how it handles corruption.

mod corruption;

use std::error::Error as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use redb::{Database, TableDefinition};
use test_support::secrets::Log;
use tower_oauth_refresh::store::{Change, Store, Swap, Ttl};
use tower_oauth_refresh::{RedbOpenError, RedbStore, StoreError};

use crate::redb_support::{FORMAT, HOUR, TAG, TestFile, entry, key, put, version};

#[test]
fn a_file_can_be_opened_only_once() {
    let file = TestFile::new();
    let store = file.open();
    let error = file.open_error();
    assert!(matches!(error, RedbOpenError::InUse(_)), "{error:?}");
    let clone = store.clone();
    drop(store);
    let error = file.open_error();
    assert!(
        matches!(error, RedbOpenError::InUse(_)),
        "a clone keeps it open: {error:?}"
    );
    drop(clone);
    drop(file.open());
}

#[tokio::test]
async fn foreign_files_are_rejected_and_unchanged() {
    type Make = fn(&PathBuf);
    type Fits = fn(&RedbOpenError) -> bool;
    let rows: [(&str, Make, Fits); 6] = [
        (
            "text",
            |path| fs::write(path, "grants ".repeat(10_000)).unwrap(),
            |e| matches!(e, RedbOpenError::Unreadable(_)),
        ),
        (
            "one byte",
            |path| fs::write(path, "g").unwrap(),
            |e| matches!(e, RedbOpenError::Unreadable(_)),
        ),
        (
            "a directory",
            |path| fs::create_dir(path).unwrap(),
            |e| matches!(e, RedbOpenError::Io(_)),
        ),
        (
            "another program's",
            |path| write_table(path, TableDefinition::new("theirs"), 1),
            |e| matches!(e, RedbOpenError::Foreign),
        ),
        (
            "a newer layout",
            |path| write_table(path, FORMAT, 2),
            |e| {
                matches!(
                    e,
                    RedbOpenError::OtherLayout {
                        found: 2,
                        known: 1,
                        ..
                    }
                )
            },
        ),
        (
            "cut in half",
            |path| {
                drop(RedbStore::open(path.clone()).unwrap());
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            },
            |e| matches!(e, RedbOpenError::Unreadable(_)),
        ),
    ];
    for (row, make, fits) in rows {
        let file = TestFile::new();
        make(&file.path());
        let before = fs::read(file.path()).ok();
        let error = file.open_error();
        assert!(fits(&error), "{row}: {error:?}");
        if !row.contains("program") && !row.contains("layout") {
            assert_eq!(
                fs::read(file.path()).ok(),
                before,
                "{row}: the file is unchanged"
            );
        }
    }
    let file = TestFile::new();
    let error =
        RedbStore::open(file.path().join("grants.redb")).expect_err("there is no such directory");
    assert!(matches!(error, RedbOpenError::Io(_)), "{error:?}");
    fs::write(file.path(), "").unwrap();
    assert_eq!(
        put(&file.open(), &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped,
        "an empty file"
    );
}

#[test]
fn an_error_keeps_its_cause_and_can_be_cloned() {
    let in_use = TestFile::new();
    let held = in_use.open();
    let text = TestFile::new();
    fs::write(text.path(), "grants ".repeat(10_000)).unwrap();
    let directory = TestFile::new();
    fs::create_dir(directory.path()).unwrap();
    for (row, message, file) in [
        ("in use", "the file is in use by another store", &in_use),
        ("text", "the file is damaged or is not a database", &text),
        ("a directory", "the file cannot be opened", &directory),
    ] {
        let error = file.open_error();
        assert_eq!(error.to_string(), message, "{row}");
        let cause = error
            .source()
            .unwrap_or_else(|| panic!("{row}: no cause"))
            .to_string();
        let clone = error.clone();
        drop(error);
        assert_eq!(clone.to_string(), message, "{row}");
        assert_eq!(
            clone.source().map(ToString::to_string),
            Some(cause),
            "{row}"
        );
    }
    drop(held);
}

#[test]
fn a_zero_timeout_is_rejected_before_the_file_is_touched() {
    for timeout in [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_micros(999),
    ] {
        let file = TestFile::new();
        let error = RedbStore::builder(file.path())
            .timeout(timeout)
            .open()
            .expect_err("it was accepted");
        assert!(
            matches!(
                error,
                RedbOpenError::Setting {
                    setting: "timeout",
                    ..
                }
            ),
            "{timeout:?}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            "timeout: it must be at least a millisecond"
        );
        assert!(!file.path().exists(), "{timeout:?}");
    }
    let file = TestFile::new();
    drop(
        RedbStore::builder(file.path())
            .timeout(Duration::from_millis(1))
            .open()
            .expect("the shortest"),
    );
}

#[tokio::test]
async fn any_long_timeout_is_accepted() {
    let (file, year) = (TestFile::new(), Duration::from_secs(365 * 24 * 3600));
    let most = i64::MAX.unsigned_abs();
    let rows = [
        year * 1000,
        Duration::from_millis(u64::MAX),
        Duration::from_secs(most),
        Duration::MAX,
    ];
    for (number, timeout) in rows.into_iter().enumerate() {
        let store = RedbStore::builder(file.path())
            .timeout(timeout)
            .open()
            .unwrap();
        let key = key(u64::try_from(number).unwrap());
        assert_eq!(
            put(&store, &key, None, 1, Ttl::After(HOUR)).await,
            Swap::Swapped,
            "{timeout:?}"
        );
        assert_eq!(
            store.get(&key).await.unwrap(),
            Some(entry(1)),
            "{timeout:?}"
        );
        assert!(
            store
                .claim(&key, &TAG, version(2), timeout)
                .await
                .unwrap()
                .is_some(),
            "{timeout:?}"
        );
    }
}

fn write_table(path: &PathBuf, table: TableDefinition<'static, &str, u64>, layout: u64) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(table)
        .unwrap()
        .insert("layout", layout)
        .unwrap();
    write.commit().unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = TestFile::new();
    drop(file.open());
    assert_eq!(
        fs::metadata(file.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

/// If the next start would not find the file, both a swap and a claim fail, so that nothing is
/// written to it and no upstream token is used. When the file is back at its path, both succeed
/// again.
#[cfg(unix)]
#[tokio::test]
async fn a_removed_or_replaced_file_accepts_no_writes() {
    type Harm = fn(&PathBuf, &PathBuf);
    let log = Log::of_all_threads();
    let rows: [(&str, Harm); 4] = [
        ("removed", |path, kept| {
            fs::hard_link(path, kept).unwrap();
            fs::remove_file(path).unwrap();
        }),
        ("moved", |path, kept| fs::rename(path, kept).unwrap()),
        ("replaced by a copy", |path, kept| {
            fs::rename(path, kept).unwrap();
            fs::copy(kept, path).unwrap();
        }),
        ("its directory moved", |path, _| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
        }),
    ];
    for (row, harm) in rows {
        let root = tempfile::tempdir().unwrap();
        let (path, kept) = (
            root.path().join("data/grants.redb"),
            root.path().join("data/kept.redb"),
        );
        fs::create_dir(root.path().join("data")).unwrap();
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(
            put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
            Swap::Swapped
        );
        harm(&path, &kept);
        let change = Change::Put {
            entry: entry(2),
            ttl: Ttl::Keep,
        };
        for _ in 0..3 {
            let swap = store
                .swap(&key(1), Some(version(1)), change.clone(), &[])
                .await;
            assert!(
                matches!(swap, Err(StoreError::Unavailable(_))),
                "{row}: {swap:?}"
            );
            let claim = store.claim(&key(1), &TAG, version(3), HOUR).await;
            assert!(
                matches!(claim, Err(StoreError::Unavailable(_))),
                "{row}: {claim:?}"
            );
        }
        assert_eq!(
            store.get(&key(1)).await.unwrap(),
            Some(entry(1)),
            "{row}: it can still be read"
        );
        if row == "its directory moved" {
            let directory = path.parent().unwrap();
            fs::rename(directory.with_extension("moved"), directory).unwrap();
        } else {
            fs::rename(&kept, &path).unwrap();
        }
        let swap = store.swap(&key(1), Some(version(1)), change, &[]).await;
        assert!(
            matches!(swap, Ok(Swap::Swapped)),
            "{row}: with the file back: {swap:?}"
        );
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(
            store.get(&key(1)).await.unwrap(),
            Some(entry(2)),
            "{row}: after a restart"
        );
        let (text, root) = (log.text(), root.path().to_str().unwrap());
        let logged = text
            .lines()
            .filter(|line| line.contains("a restart loses every grant") && line.contains(root))
            .count();
        assert_eq!(logged, 1, "{row}: at a bounded rate");
    }
}
