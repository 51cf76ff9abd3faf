//! Tests of the expiry of entries and sidecars.

use std::slice;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::runtime::{assert_not_before, eventually, within_ttl};
use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, name, put, put_with, read_sidecar, remove,
    take,
};
use crate::store::{Change, Lease, Sidecar, Store, Swap, Ttl};

const SHORT: Duration = Duration::from_millis(400);

async fn gone<S: Store>(store: &S, key: &crate::store::Key) {
    eventually("an entry expires", async || {
        get(store, key).await.is_none().then_some(())
    })
    .await;
}

/// An entry expires after its time to live, and not before.
pub async fn an_entry_expires_after_its_ttl_and_not_before<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let started = Instant::now();
    let key = inserted(&store, &entry(), Ttl::After(SHORT)).await;
    gone(&other, &key).await;
    assert_not_before(started, SHORT, "the entry expired");
}

/// An expired entry is absent for every call.
pub async fn an_expired_entry_is_absent_for_every_call<S: Store>(make: impl AsyncFn() -> S) {
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

/// An entry can be inserted where one has expired, even if no call has read the key since. The new
/// entry has its own time to live.
pub async fn an_insert_replaces_an_expired_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let key = inserted(&store, &entry(), Ttl::After(SHORT)).await;
    let new = entry();
    eventually("an insert replaces an expired entry", async || {
        (put(&store, &key, None, &new, LONG).await == Swap::Swapped).then_some(())
    })
    .await;
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(
        get(&store, &key).await,
        Some(new),
        "the old expiry does not apply to the new entry"
    );
}

/// An entry expires even while a lease on it is held.
pub async fn an_entry_expires_while_a_lease_is_held<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        let first = entry();
        let key = inserted(&store, &first, Ttl::After(ttl)).await;
        let claim = take(&store, &key, &first.tag, LONG_LEASE).await?;
        gone(&store, &key).await;
        assert_eq!(take(&store, &key, &first.tag, LONG_LEASE).await, None);
        let commit = put(&store, &key, Some(claim.entry.version), &entry(), LONG).await;
        assert_eq!(
            commit,
            Swap::Conflict(None),
            "a lease does not extend the entry"
        );
        Some(())
    })
    .await;
}

/// [`Ttl::Keep`] keeps the expiry, however often an entry is swapped.
pub async fn ttl_keep_keeps_the_expiry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let ttl = Duration::from_secs(1);
    let mut current = entry();
    let started = Instant::now();
    let key = inserted(&store, &current, Ttl::After(ttl)).await;
    eventually(
        "an entry expires although it is swapped with `Ttl::Keep`",
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
    assert_not_before(started, ttl, "the entry expired");
}

/// [`Ttl::After`] sets a new expiry, a later or an earlier one.
pub async fn ttl_after_sets_a_new_expiry<S: Store>(make: impl AsyncFn() -> S) {
    within_ttl(async |ttl| {
        let store = make().await;
        let (first, second, third) = (entry(), entry(), entry());
        let key = inserted(&store, &first, Ttl::After(ttl)).await;
        if put(&store, &key, Some(first.version), &second, LONG).await == Swap::Conflict(None) {
            return None;
        }
        tokio::time::sleep(ttl + SHORT).await;
        assert_eq!(
            get(&store, &key).await,
            Some(second.clone()),
            "a later expiry"
        );

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
        assert_not_before(started, SHORT, "the entry expired");
        Some(())
    })
    .await;
}

/// An entry that is always renewed before its expiry stays, whether it is renewed seldom or often.
pub async fn a_renewed_entry_does_not_expire<S: Store>(make: impl AsyncFn() -> S) {
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

/// A swap with a conflict does not change the expiry.
pub async fn a_conflict_does_not_change_the_expiry<S: Store>(make: impl AsyncFn() -> S) {
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

/// A claim does not extend the time to live of an entry, however often it is claimed.
pub async fn a_claim_does_not_extend_the_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let ttl = Duration::from_secs(1);
    let first = entry();
    let started = Instant::now();
    let key = inserted(&store, &first, Ttl::After(ttl)).await;
    let mut taken = 0;
    eventually("an entry expires although it is claimed", async || {
        let Some(claim) = take(&store, &key, &first.tag, Duration::from_millis(1)).await else {
            return Some(());
        };
        taken += usize::from(claim.lease == Lease::Taken);
        None
    })
    .await;
    assert!(taken > 0, "no claim took the lease");
    assert_not_before(started, ttl, "the entry expired");
}

/// A claim does not shorten the time to live of an entry to that of the lease.
pub async fn a_claim_does_not_shorten_the_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let claim = take(&store, &key, &first.tag, Duration::from_millis(100))
        .await
        .expect("the entry exists");
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(get(&store, &key).await, Some(claim.entry));
}

/// A sidecar expires after its own time to live, and not before. The entry stays.
pub async fn a_sidecar_expires_independently_of_its_entry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let short = Sidecar::new(name(), Bytes::from_static(b"short"), SHORT);
    let long = Sidecar::new(
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
    eventually("a sidecar expires", async || {
        read_sidecar(&store, &key, &short.name)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert_not_before(started, SHORT, "the sidecar expired");
    assert_eq!(
        read_sidecar(&store, &key, &long.name).await,
        Some(long.value),
        "the other sidecar has its own expiry"
    );
    assert_eq!(
        get(&store, &key).await,
        Some(second),
        "the entry has its own expiry"
    );
}

/// Swaps of an entry do not extend the time to live of its sidecars.
pub async fn swaps_do_not_extend_a_sidecar<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, mut current) = (key(), entry());
    let also = Sidecar::new(name(), Bytes::from_static(b"short"), Duration::from_secs(1));
    assert_eq!(
        put_with(&store, &key, None, &current, &also).await,
        Swap::Swapped
    );
    eventually(
        "a sidecar expires although its entry is swapped",
        async || {
            for ttl in [LONG, Ttl::Keep] {
                let next = again(&current);
                assert_eq!(
                    put(&store, &key, Some(current.version), &next, ttl).await,
                    Swap::Swapped
                );
                current = next;
            }
            read_sidecar(&store, &key, &also.name)
                .await
                .is_none()
                .then_some(())
        },
    )
    .await;
}

/// A sidecar that replaces another has its own expiry.
pub async fn a_replaced_sidecar_has_the_new_expiry<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first, second) = (key(), entry(), entry());
    let short = Sidecar::new(name(), Bytes::from_static(b"short"), SHORT);
    let long = Sidecar {
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
        read_sidecar(&store, &key, &long.name).await,
        Some(long.value.clone()),
        "a later expiry"
    );

    assert_eq!(
        put_with(&store, &key, Some(second.version), &entry(), &short).await,
        Swap::Swapped
    );
    eventually("a replaced sidecar expires", async || {
        read_sidecar(&store, &key, &short.name)
            .await
            .is_none()
            .then_some(())
    })
    .await;
}

/// A sidecar that is written together with [`Ttl::Keep`] has its own time to live.
pub async fn a_sidecar_written_with_ttl_keep_expires<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let second = again(&first);
    let also = Sidecar::new(name(), Bytes::from_static(b"short"), SHORT);
    let change = Change::Put {
        entry: second.clone(),
        ttl: Ttl::Keep,
    };
    let swap = store
        .swap(&key, Some(first.version), change, slice::from_ref(&also))
        .await
        .expect("swap");
    assert_eq!(swap, Swap::Swapped);
    eventually("a sidecar written with `Ttl::Keep` expires", async || {
        read_sidecar(&store, &key, &also.name)
            .await
            .is_none()
            .then_some(())
    })
    .await;
    assert_eq!(get(&store, &key).await, Some(second));
}
