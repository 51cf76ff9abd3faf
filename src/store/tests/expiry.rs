//! What the trait promises of the end of entries and of values beside them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::runtime::{assert_not_before, eventually, within_ttl};
use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, name, put, put_with, read_beside, remove,
    take,
};
use crate::store::{Beside, Change, Lease, Store, Swap, Ttl};

const SHORT: Duration = Duration::from_millis(400);

async fn gone<S: Store>(store: &S, key: &crate::store::Key) {
    eventually("an entry expires", async || {
        get(store, key).await.is_none().then_some(())
    })
    .await;
}

/// An entry goes away by itself when its time is over, and not before.
pub async fn an_entry_expires_and_not_before_its_time<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let started = Instant::now();
    let key = inserted(&store, &entry(), Ttl::After(SHORT)).await;
    gone(&other, &key).await;
    assert_not_before(started, SHORT, "the entry was gone");
}

/// What has expired is absent for every call.
pub async fn what_has_expired_is_absent_for_every_call<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let old = entry();
    let key = inserted(&store, &old, Ttl::After(SHORT)).await;
    gone(&store, &key).await;
    assert_eq!(
        take(&store, &key, &old.tag, LONG_LEASE).await,
        None,
        "claim"
    );
    for ttl in [Ttl::Keep, LONG] {
        let swap = put(&store, &key, Some(old.version), &entry(), ttl).await;
        assert_eq!(swap, Swap::Conflict(None), "swap, {ttl:?}");
    }
    assert_eq!(
        put(&store, &key, Some(entry().version), &old, LONG).await,
        Swap::Conflict(None),
        "its own version"
    );
    assert_eq!(
        remove(&store, &key, Some(old.version)).await,
        Swap::Swapped,
        "removal"
    );
    assert_eq!(get(&store, &key).await, None);

    let new = entry();
    assert_eq!(
        put(&store, &key, None, &new, LONG).await,
        Swap::Swapped,
        "insert"
    );
    assert_eq!(get(&store, &key).await, Some(new));
}

/// A key whose entry has expired can be inserted without anybody having read it in between, and
/// then lives as long as it is told to.
pub async fn an_expired_key_can_be_inserted<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let key = inserted(&store, &entry(), Ttl::After(SHORT)).await;
    let new = entry();
    eventually("an expired key can be inserted", async || {
        (put(&store, &key, None, &new, LONG).await == Swap::Swapped).then_some(())
    })
    .await;
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(
        get(&store, &key).await,
        Some(new),
        "the old end is none of the new entry's"
    );
}

/// An entry goes away at its end even while a lease on it is held.
pub async fn an_entry_expires_under_a_lease<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        let first = entry();
        let key = inserted(&store, &first, Ttl::After(ttl)).await;
        let claim = take(&store, &key, &first.tag, LONG_LEASE).await?;
        gone(&store, &key).await;
        assert_eq!(take(&store, &key, &first.tag, LONG_LEASE).await, None);
        let commit = put(&store, &key, Some(claim.entry.version), &entry(), LONG).await;
        assert_eq!(commit, Swap::Conflict(None), "a lease keeps no entry alive");
        Some(())
    })
    .await;
}

/// [`Ttl::Keep`] keeps the end, however often an entry is swapped.
pub async fn keep_keeps_the_end<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let ttl = Duration::from_secs(1);
    let mut current = entry();
    let started = Instant::now();
    let key = inserted(&store, &current, Ttl::After(ttl)).await;
    eventually(
        "an entry expires that is swapped with its end kept",
        async || {
            let next = again(&current);
            match put(&store, &key, Some(current.version), &next, Ttl::Keep).await {
                Swap::Swapped => {
                    current = next;
                    None
                }
                Swap::Conflict(found) => {
                    assert_eq!(found, None);
                    Some(())
                }
            }
        },
    )
    .await;
    assert_not_before(started, ttl, "the entry was gone");
}

/// [`Ttl::After`] sets another end, a later one or an earlier one.
pub async fn after_sets_another_end<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        let (first, second, third) = (entry(), entry(), entry());
        let key = inserted(&store, &first, Ttl::After(ttl)).await;
        if put(&store, &key, Some(first.version), &second, LONG).await == Swap::Conflict(None) {
            return None;
        }
        tokio::time::sleep(ttl + SHORT).await;
        assert_eq!(get(&store, &key).await, Some(second.clone()), "a later end");

        let started = Instant::now();
        assert_eq!(
            put(
                &store,
                &key,
                Some(second.version),
                &third,
                Ttl::After(SHORT)
            )
            .await,
            Swap::Swapped
        );
        gone(&store, &key).await;
        assert_not_before(started, SHORT, "the entry was gone");
        Some(())
    })
    .await;
}

/// An entry that is renewed before its end each time stays, whether that happens seldom or often.
pub async fn an_entry_that_is_renewed_stays<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        for steps in [3, 40] {
            let mut current = entry();
            let key = inserted(&store, &current, Ttl::After(ttl)).await;
            for _ in 0..steps * 2 {
                tokio::time::sleep(ttl / steps).await;
                let next = again(&current);
                if put(&store, &key, Some(current.version), &next, Ttl::After(ttl)).await
                    == Swap::Conflict(None)
                {
                    return None;
                }
                current = next;
            }
        }
        Some(())
    })
    .await;
}

/// A swap that changes nothing does not change the end either.
pub async fn a_conflict_changes_no_end<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        let there = entry();
        let long = inserted(&store, &there, LONG).await;
        let short = inserted(&store, &there, Ttl::After(ttl)).await;
        for expected in [None, Some(entry().version)] {
            let swap = put(
                &store,
                &long,
                expected,
                &entry(),
                Ttl::After(Duration::from_millis(50)),
            )
            .await;
            assert_eq!(swap, Swap::Conflict(Some(there.clone())));
            if put(&store, &short, expected, &entry(), LONG).await
                != Swap::Conflict(Some(there.clone()))
            {
                return None;
            }
        }
        gone(&store, &short).await;
        assert_eq!(get(&store, &long).await, Some(there));
        Some(())
    })
    .await;
}

/// A claim does not renew an entry, however often it is claimed.
pub async fn a_claim_does_not_renew<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let ttl = Duration::from_secs(1);
    let first = entry();
    let started = Instant::now();
    let key = inserted(&store, &first, Ttl::After(ttl)).await;
    let mut taken = 0;
    eventually("an entry expires that is claimed", async || {
        let Some(claim) = take(&store, &key, &first.tag, Duration::from_millis(1)).await else {
            return Some(());
        };
        taken += usize::from(claim.lease == Lease::Taken);
        None
    })
    .await;
    assert!(taken > 0, "it was claimed");
    assert_not_before(started, ttl, "the entry was gone");
}

/// A claim does not shorten the life of an entry to that of the lease.
pub async fn a_claim_does_not_shorten<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let claim = take(&store, &key, &first.tag, Duration::from_millis(100))
        .await
        .expect("there is an entry");
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(get(&store, &key).await, Some(claim.entry));
}

/// A value beside an entry goes away by itself when its own time is over, and not before; the entry
/// stays.
pub async fn a_value_beside_expires_by_itself<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let short = Beside::new(name(), Bytes::from_static(b"short"), SHORT);
    let long = Beside::new(
        name(),
        Bytes::from_static(b"long"),
        Duration::from_secs(3600),
    );
    assert_eq!(
        put_with(&store, &key, None, &first, &long).await,
        Swap::Swapped
    );
    let second = entry();
    let started = Instant::now();
    assert_eq!(
        put_with(&store, &key, Some(first.version), &second, &short).await,
        Swap::Swapped
    );
    eventually("a value beside an entry expires", async || {
        read_beside(&store, &key, &short.name)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert_not_before(started, SHORT, "the value was gone");
    assert_eq!(
        read_beside(&store, &key, &long.name).await,
        Some(long.value),
        "the other has its own end"
    );
    assert_eq!(
        get(&store, &key).await,
        Some(second),
        "and so has the entry"
    );
}

/// Changes of an entry do not renew what lies beside it.
pub async fn swaps_do_not_renew_a_value_beside<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, mut current) = (key(), entry());
    let also = Beside::new(name(), Bytes::from_static(b"short"), Duration::from_secs(1));
    assert_eq!(
        put_with(&store, &key, None, &current, &also).await,
        Swap::Swapped
    );
    eventually(
        "a value beside an entry that is swapped expires",
        async || {
            for ttl in [LONG, Ttl::Keep] {
                let next = again(&current);
                assert_eq!(
                    put(&store, &key, Some(current.version), &next, ttl).await,
                    Swap::Swapped
                );
                current = next;
            }
            read_beside(&store, &key, &also.name)
                .await
                .is_none()
                .then_some(())
        },
    )
    .await;
}

/// A value that takes the place of another beside an entry brings its own end.
pub async fn a_replaced_value_beside_has_the_new_end<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first, second) = (key(), entry(), entry());
    let short = Beside::new(name(), Bytes::from_static(b"short"), SHORT);
    let long = Beside {
        value: Bytes::from_static(b"long"),
        ttl: Duration::from_secs(3600),
        ..short.clone()
    };
    assert_eq!(
        put_with(&store, &key, None, &first, &short).await,
        Swap::Swapped
    );
    assert_eq!(
        put_with(&store, &key, Some(first.version), &second, &long).await,
        Swap::Swapped
    );
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(
        read_beside(&store, &key, &long.name).await,
        Some(long.value.clone()),
        "a later end"
    );

    assert_eq!(
        put_with(&store, &key, Some(second.version), &entry(), &short).await,
        Swap::Swapped
    );
    eventually(
        "a value that took the place of another expires",
        async || {
            read_beside(&store, &key, &short.name)
                .await
                .is_none()
                .then_some(())
        },
    )
    .await;
}

/// A value beside an entry whose end is kept has the end that it is given.
pub async fn a_value_beside_a_kept_entry_expires<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let second = again(&first);
    let also = Beside::new(name(), Bytes::from_static(b"short"), SHORT);
    let change = Change::Put {
        entry: second.clone(),
        ttl: Ttl::Keep,
    };
    let swap = store
        .swap(&key, Some(first.version), change, Some(also.clone()))
        .await
        .expect("swap");
    assert_eq!(swap, Swap::Swapped);
    eventually("a value beside a kept entry expires", async || {
        read_beside(&store, &key, &also.name)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(get(&store, &key).await, Some(second));
}
