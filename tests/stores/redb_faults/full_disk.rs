//! A disk without room.

use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use tower_oauth_refresh::store::{Change, Entry, Lease, Store, Swap, Ttl};
use tower_oauth_refresh::{RedbStore, StoreError};

use super::{Process, eventually, path_to_work_on, runtime, say};
use crate::redb_support::{HOUR, TAG, TestFile, entry, key, put, sidecar, version};

#[test]
fn a_full_disk_is_unavailable_until_there_is_room() {
    const TEST: &str = "redb_faults::full_disk::a_full_disk_is_unavailable_until_there_is_room";
    if let Some(path) = path_to_work_on() {
        return runtime().block_on(fill(path));
    }
    let file = TestFile::new();
    // No file of this process may grow beyond this many blocks of 512 bytes, and the signal XFSZ
    // must not end the process.
    let shell = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\"";
    let mut process = Process::start(shell, TEST, &file.path());
    process.expect("full");
    let id = process.child.id().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &id, "--fsize=unlimited"])
        .status()
        .unwrap();
    assert!(status.success(), "the limit cannot be lifted");
    process.expect("goes on");
    assert!(process.child.wait().unwrap().success());
    runtime().block_on(async {
        let store = file.open();
        assert_eq!(
            store.get(&key(0)).await.unwrap(),
            Some(entry(2)),
            "and stored entries are readable"
        );
    });
}

/// The work of the process whose file may not grow.
async fn fill(path: PathBuf) {
    let store = RedbStore::open(path).unwrap();
    assert_eq!(
        put(&store, &key(0), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    let lease = async |number| store.claim(&key(0), &TAG, version(number), HOUR).await;
    assert_eq!(lease(7).await.unwrap().unwrap().lease, Lease::Taken);
    let large = Bytes::from(vec![7; 16 * 1024]);
    let put_large = async |number: u64| {
        let entry = Entry::new(version(number), TAG, large.clone());
        store
            .swap(
                &key(number),
                None,
                Change::Put {
                    entry,
                    ttl: Ttl::After(HOUR),
                },
                &[],
            )
            .await
    };
    let mut number = 0;
    let error = loop {
        number += 1;
        assert!(number < 1_000, "the disk is never full");
        match put_large(number).await {
            Ok(swap) => assert_eq!(swap, Swap::Swapped),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    eventually("stored entries are readable on a full disk", async || {
        let entry = store.get(&key(number - 1)).await;
        assert!(!matches!(entry, Ok(None)), "a stored entry is never absent");
        entry.is_ok()
    })
    .await;
    assert!(
        matches!(lease(8).await.unwrap().unwrap().lease, Lease::Held(_)),
        "a lease stays with its holder"
    );
    say("full");
    eventually("the store goes on", async || {
        matches!(put_large(number).await, Ok(Swap::Swapped))
    })
    .await;
    let change = Change::Put {
        entry: entry(2),
        ttl: Ttl::Keep,
    };
    assert_eq!(
        store
            .swap(&key(0), Some(version(7)), change, &[sidecar(1, HOUR)])
            .await
            .unwrap(),
        Swap::Swapped
    );
    say("goes on");
}
