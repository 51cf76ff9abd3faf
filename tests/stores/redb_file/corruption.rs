//! Files and records that are corrupt.

use std::fs;

use redb::Database;
use tower_oauth_refresh::store::{Change, SidecarName, Store, Swap, Ttl};
use tower_oauth_refresh::{RedbOpenError, RedbStore, StoreError};

use crate::redb_support::{
    GRANTS, HOUR, TAG, TestFile, entry, key, put, put_with, sidecar, version,
};

#[tokio::test]
async fn corruption_is_detected_on_open() {
    let file = TestFile::new();
    let store = file.open();
    for number in 0..200 {
        assert_eq!(
            put(&store, &key(number), None, 1, Ttl::After(HOUR)).await,
            Swap::Swapped
        );
    }
    drop(store);
    let whole = fs::read(file.path()).unwrap();
    let mut refused = 0;
    for place in (0..whole.len()).step_by(1531) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(file.path(), &damaged).unwrap();
        match RedbStore::open(file.path()) {
            Err(error) => {
                assert!(
                    matches!(error, RedbOpenError::Unreadable(_)),
                    "byte {place}: {error:?}"
                );
                refused += 1;
            }
            // Not every byte of the file is in use.
            Ok(store) => {
                for number in 0..200 {
                    assert_eq!(
                        store.get(&key(number)).await.unwrap(),
                        Some(entry(1)),
                        "byte {place}, entry {number}"
                    );
                }
            }
        }
    }
    assert!(refused > 0, "some of the bytes are in use");
}

#[tokio::test]
async fn a_corrupt_record_does_not_affect_other_entries() {
    let file = TestFile::new();
    let store = file.open();
    for number in 0..2 {
        let sidecars = [sidecar(1, HOUR)];
        assert_eq!(
            put_with(&store, &key(number), None, 1, Ttl::After(HOUR), &sidecars).await,
            Swap::Swapped
        );
    }
    drop(store);
    for damaged in [&b""[..], b"\0", &[9; 60], &[1; 50]] {
        let database = Database::open(file.path()).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(GRANTS)
            .unwrap()
            .insert(key(0).as_bytes(), damaged)
            .unwrap();
        write.commit().unwrap();
        drop(database);
        let store = file.open();
        let put = Change::Put {
            entry: entry(2),
            ttl: Ttl::After(HOUR),
        };
        let (version, name) = (Some(version(1)), SidecarName::new([1; 16]));
        let errors = [
            store.get(&key(0)).await.err(),
            store.sidecar(&key(0), &name).await.err(),
            store
                .claim(&key(0), &TAG, entry(2).version, HOUR)
                .await
                .err(),
            store.swap(&key(0), None, put.clone(), &[]).await.err(),
            store.swap(&key(0), version, put, &[]).await.err(),
            store
                .swap(&key(0), version, Change::Remove, &[])
                .await
                .err(),
        ];
        for (number, error) in errors.iter().enumerate() {
            assert!(
                matches!(error, Some(StoreError::Corrupt(_))),
                "call {number}, {damaged:?}: {error:?}"
            );
        }
        assert_eq!(
            store.get(&key(1)).await.unwrap(),
            Some(entry(1)),
            "the other entry is unaffected"
        );
    }
}
