//! Tests of [`claim`](Store::claim).

use std::time::{Duration, Instant};

use super::runtime::{assert_not_before, eventually};
use super::{LONG, LONG_LEASE, again, claim_as, entry, get, inserted, key, put, random, tag, take};
use crate::store::{Claim, Lease, Store, Swap, Ttl, Version};

fn assert_left(left: Duration, lease: Duration) {
    assert!(!left.is_zero(), "a held lease has time left");
    // The clock of the store may have been set back a little since the claim.
    let most = lease + Duration::from_secs(1);
    assert!(left <= most, "{left:?} left of {lease:?}");
}

/// An absent entry cannot be claimed.
pub async fn an_absent_entry_cannot_be_claimed<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let key = key();
    assert_eq!(take(&store, &key, &tag(), LONG_LEASE).await, None);
    assert_eq!(get(&store, &key).await, None, "a claim writes no entry");
}

/// A claim takes the lease. The entry gets the new version and the expiry of the lease; the rest
/// does not change.
pub async fn a_claim_takes_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let before = store.now();
    let claim = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(claim.lease, Lease::Taken);
    assert!(!claim.taken_over, "there was no expired lease");
    let end = claim.entry.lease.expect("a taken lease has an expiry");
    assert!(end > before, "{end:?} is not after {before:?}");
    assert_eq!(
        (claim.entry.version, claim.entry.tag, &claim.entry.value),
        (version, first.tag, &first.value)
    );
    for handle in [&store, &other] {
        assert_eq!(
            get(handle, &key).await.as_ref(),
            Some(&claim.entry),
            "the stored entry is the returned one"
        );
    }
}

/// While a lease is held, another claim returns the time left, and changes nothing.
pub async fn a_held_lease_cannot_be_claimed<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    for handle in [&store, &other] {
        let Claim { lease, entry, .. } = take(handle, &key, &first.tag, LONG_LEASE * 2)
            .await
            .expect("the entry exists");
        let Lease::Held(left) = lease else {
            panic!("{lease:?} while the lease is held")
        };
        assert_left(left, LONG_LEASE);
        assert_eq!(entry, taken.entry, "the claim returns the stored entry");
    }
    assert_eq!(
        get(&store, &key).await,
        Some(taken.entry),
        "nothing has changed"
    );
}

/// A claim with another tag takes no lease and changes nothing, whether a lease is held or not.
pub async fn a_claim_with_another_tag_takes_no_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let mut near = *first.tag.as_bytes();
    near[31] ^= 1;
    for other in [tag(), crate::store::ClaimTag::new(near)] {
        let claim = take(&store, &key, &other, LONG_LEASE).await;
        assert_eq!(
            claim,
            Some(Claim::new(Lease::OtherTag(None), first.clone())),
            "no lease is held"
        );
    }
    assert_eq!(get(&store, &key).await, Some(first.clone()));

    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(
        taken.lease,
        Lease::Taken,
        "the claims with another tag took no lease"
    );
    let Claim { lease, entry, .. } = take(&store, &key, &tag(), LONG_LEASE)
        .await
        .expect("the entry exists");
    let Lease::OtherTag(Some(left)) = lease else {
        panic!("{lease:?} while a lease is held")
    };
    assert_left(left, LONG_LEASE);
    assert_eq!(entry, taken.entry);
    assert_eq!(get(&store, &key).await, Some(taken.entry));
}

/// A claim compares the tag with that of the current entry.
pub async fn a_claim_compares_the_current_tag<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (first, second) = (entry(), entry());
    let key = inserted(&store, &first, LONG).await;
    assert_eq!(
        put(&store, &key, Some(first.version), &second, LONG).await,
        Swap::Swapped
    );
    let claim = take(&store, &key, &first.tag, LONG_LEASE).await;
    assert_eq!(
        claim,
        Some(Claim::new(Lease::OtherTag(None), second.clone())),
        "the old tag"
    );
    let claim = take(&store, &key, &second.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(claim.lease, Lease::Taken, "the new tag");
}

/// A swap releases the lease if its entry has none, and sets the lease if it has one.
pub async fn a_swap_releases_or_sets_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    let free = again(&first);
    assert_eq!(
        put(&store, &key, Some(taken.entry.version), &free, Ttl::Keep).await,
        Swap::Swapped
    );
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(taken.lease, Lease::Taken, "the lease was released");
    assert!(!taken.taken_over, "the lease had not expired");

    let held = again(&first).with_lease(Some(store.now().saturating_add(LONG_LEASE)));
    assert_eq!(
        put(&store, &key, Some(taken.entry.version), &held, Ttl::Keep).await,
        Swap::Swapped
    );
    let claim = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert!(
        matches!(claim.lease, Lease::Held(_)),
        "{:?} of a lease that a swap wrote",
        claim.lease
    );
}

/// A claim that is sent twice takes the lease once, and returns the same both times.
pub async fn a_claim_is_idempotent<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let taken = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(taken.lease, Lease::Taken);
    for handle in [&store, &other] {
        let claim = claim_as(handle, &key, &first.tag, version, LONG_LEASE).await;
        assert_eq!(claim, Some(taken.clone()));
    }
    assert_eq!(get(&store, &key).await, Some(taken.entry));
}

/// A copy of a claim that arrives after a swap finds another tag, and does not report the lease as
/// taken.
pub async fn a_late_copy_of_a_claim_takes_no_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (first, second) = (entry(), entry());
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let taken = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(
        put(&store, &key, Some(taken.entry.version), &second, LONG).await,
        Swap::Swapped
    );
    let late = claim_as(&store, &key, &first.tag, version, LONG_LEASE).await;
    assert_eq!(
        late,
        Some(Claim::new(Lease::OtherTag(None), second.clone()))
    );
    assert_eq!(get(&store, &key).await, Some(second));
}

/// A lease can be taken over after it has expired, and not before. The entry does not expire with
/// it.
pub async fn an_expired_lease_can_be_taken_over<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let lease = Duration::from_millis(400);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let started = Instant::now();
    let taken = take(&store, &key, &first.tag, lease)
        .await
        .expect("the entry exists");
    assert_eq!(taken.lease, Lease::Taken);
    let next = eventually("an expired lease can be taken over", async || {
        let claim = take(&other, &key, &first.tag, LONG_LEASE)
            .await
            .expect("the entry does not expire with its lease");
        match claim.lease {
            Lease::Taken => Some(claim),
            Lease::Held(left) => {
                assert_left(left, lease);
                None
            }
            Lease::OtherTag(_) => panic!("the tag is the same"),
        }
    })
    .await;
    assert_not_before(started, lease, "the lease was taken over");
    assert_eq!(next.entry.value, first.value);
    assert!(
        next.taken_over,
        "a claim that takes over an expired lease reports it"
    );

    let late = put(&store, &key, Some(taken.entry.version), &entry(), LONG).await;
    assert_eq!(
        late,
        Swap::Conflict(Some(next.entry)),
        "the previous holder cannot swap the entry"
    );
}

/// An expired lease is not reported as held to a claim with another tag. Its holder can still swap
/// the entry.
pub async fn an_expired_lease_is_not_reported_as_held<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, Duration::from_millis(200))
        .await
        .expect("the entry exists");
    eventually("a lease expires", async || {
        let claim = take(&store, &key, &tag(), LONG_LEASE)
            .await
            .expect("the entry exists");
        (claim.lease == Lease::OtherTag(None)).then_some(())
    })
    .await;
    let swap = put(&store, &key, Some(taken.entry.version), &entry(), LONG).await;
    assert_eq!(swap, Swap::Swapped, "no claim has taken the lease over");
}
