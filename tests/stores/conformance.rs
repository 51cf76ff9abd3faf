//! How the conformance suite reports a broken promise.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tower_oauth_refresh::store::conformance::{run, swap};
use tower_oauth_refresh::store::{
    Change, Entry, Key, Sidecar, SidecarName, Store, StoreError, Swap, Version,
};

/// A store that keeps nothing.
struct Forgetful;

impl Store for Forgetful {
    async fn get(&self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    async fn swap(
        &self,
        _: &Key,
        _: Option<Version>,
        _: Change,
        _: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        Ok(Swap::Swapped)
    }

    async fn sidecar(&self, _: &Key, _: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
}

#[test]
fn the_report_of_a_failure_begins_with_the_promise() {
    let broken = catch_unwind(AssertUnwindSafe(|| {
        run(
            "entries_round_trip",
            swap::entries_round_trip(async || Forgetful),
        );
    }));
    let message = *broken.unwrap_err().downcast::<String>().unwrap();
    let promise = "the store breaks the promise `entries round trip`: panicked at ";
    assert!(message.starts_with(promise), "{message}");
    assert!(message.contains("conformance/swap.rs"), "{message}");

    run(
        "an_unwritten_key_is_absent",
        swap::an_unwritten_key_is_absent(async || Forgetful),
    );
}
