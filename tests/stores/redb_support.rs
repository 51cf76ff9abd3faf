//! A `RedbStore` in a file that is deleted after the test.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};
use tempfile::TempDir;
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, Swap, Ttl, Version,
};
use tower_oauth_refresh::{RedbOpenError, RedbStore};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const TAG: ClaimTag = ClaimTag::new([1; 32]);
pub(crate) const GRANTS: TableDefinition<'static, &[u8; 32], &[u8]> =
    TableDefinition::new("grants");
pub(crate) const SIDECARS: TableDefinition<'static, &[u8; 48], &[u8]> =
    TableDefinition::new("sidecars");
pub(crate) const ENDS: TableDefinition<'static, &[u8], ()> = TableDefinition::new("ends");
pub(crate) const FORMAT: TableDefinition<'static, &str, u64> =
    TableDefinition::new("tower_oauth_refresh");

/// A file in its own directory, which is deleted when dropped.
pub(crate) struct TestFile(TempDir);

impl TestFile {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("grants.redb")
    }

    pub(crate) fn open(&self) -> RedbStore {
        RedbStore::open(self.path()).unwrap()
    }

    pub(crate) fn open_error(&self) -> RedbOpenError {
        RedbStore::open(self.path()).expect_err("it can be opened")
    }

    /// Returns the number of rows of each table. The store must be closed.
    pub(crate) fn rows(&self) -> [u64; 3] {
        let database = Database::open(self.path()).unwrap();
        let read = database.begin_read().unwrap();
        let grants = read.open_table(GRANTS).unwrap().len().unwrap();
        let sidecars = read.open_table(SIDECARS).unwrap().len().unwrap();
        [
            grants,
            sidecars,
            read.open_table(ENDS).unwrap().len().unwrap(),
        ]
    }
}

pub(crate) fn key(number: u64) -> Key {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Key::new(bytes)
}

pub(crate) fn version(number: u64) -> Version {
    Version::new(number.to_be_bytes())
}

pub(crate) fn entry(number: u64) -> Entry {
    Entry::new(
        version(number),
        TAG,
        Bytes::from_static(b"a value of the layer"),
    )
}

pub(crate) fn sidecar(number: u8, ttl: Duration) -> Sidecar {
    Sidecar::new(
        SidecarName::new([number; 16]),
        Bytes::from(vec![number; 40]),
        ttl,
    )
}

pub(crate) async fn put(
    store: &RedbStore,
    key: &Key,
    expected: Option<u64>,
    number: u64,
    ttl: Ttl,
) -> Swap {
    put_with(store, key, expected, number, ttl, &[]).await
}

pub(crate) async fn put_with(
    store: &RedbStore,
    key: &Key,
    expected: Option<u64>,
    number: u64,
    ttl: Ttl,
    sidecars: &[Sidecar],
) -> Swap {
    store
        .swap(
            key,
            expected.map(version),
            Change::Put {
                entry: entry(number),
                ttl,
            },
            sidecars,
        )
        .await
        .unwrap()
}

pub(crate) async fn has_sidecar(store: &RedbStore, key: &Key, number: u8) -> bool {
    store
        .sidecar(key, &SidecarName::new([number; 16]))
        .await
        .unwrap()
        .is_some()
}
