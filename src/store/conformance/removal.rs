//! Tests of removals: [`swap`](Store::swap) with [`Change::Remove`](crate::store::Change::Remove).

use super::{LONG, LONG_LEASE, entry, get, inserted, key, put, random, remove, take};
use crate::store::{Store, Swap, Ttl, Version};

/// A removed entry is absent, and its key can be inserted again.
pub async fn a_removed_entry_is_absent<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    assert_eq!(
        remove(&store, &key, Some(first.version)).await,
        Swap::Swapped
    );
    assert_eq!(get(&store, &key).await, None);
    assert_eq!(get(&other, &key).await, None);
    assert_eq!(take(&store, &key, &first.tag, LONG_LEASE).await, None);
    assert_eq!(
        put(&store, &key, Some(first.version), &entry(), Ttl::Keep).await,
        Swap::Conflict(None)
    );

    let second = entry();
    assert_eq!(put(&other, &key, None, &second, LONG).await, Swap::Swapped);
    assert_eq!(get(&store, &key).await, Some(second));
}

/// A removal that expects another version is a conflict, and the entry stays.
pub async fn a_removal_that_expects_another_version_is_a_conflict<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let store = make().await;
    let there = entry();
    let key = inserted(&store, &there, LONG).await;
    for expected in [None, Some(Version::new(random()))] {
        assert_eq!(
            remove(&store, &key, expected).await,
            Swap::Conflict(Some(there.clone())),
            "{expected:?}"
        );
    }
    assert_eq!(get(&store, &key).await, Some(there));
}

/// The removal of an absent entry succeeds, so that it can be sent twice.
pub async fn a_removal_is_idempotent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    for expected in [None, Some(Version::new(random()))] {
        assert_eq!(
            remove(&store, &key(), expected).await,
            Swap::Swapped,
            "never inserted, {expected:?}"
        );
    }
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    for time in 1..=2 {
        assert_eq!(
            remove(&store, &key, Some(first.version)).await,
            Swap::Swapped,
            "time {time}"
        );
        assert_eq!(get(&store, &key).await, None);
    }
}
