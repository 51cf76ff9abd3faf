//! `RedbStore` keeps the contract of `Store`.

use tower_oauth_refresh::store::RedbStore;

tower_oauth_refresh::store_tests!({
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path().join("grants.redb")).unwrap();
    // The directory goes with the last handle of the test.
    let kept = std::sync::Arc::new((store, directory));
    async move || std::sync::Arc::clone(&kept).0.clone()
});
