//! What [`claim`](Store::claim) promises.

use std::time::{Duration, Instant};

use super::runtime::{assert_not_before, eventually};
use super::{LONG, LONG_LEASE, again, claim_as, entry, get, inserted, key, put, random, tag, take};
use crate::store::{Claim, Lease, Store, Swap, Ttl, Version};

fn assert_left(left: Duration, lease: Duration) {
    assert!(!left.is_zero(), "a lease that is held has time left");
    assert!(left <= lease, "{left:?} left of {lease:?}");
}

/// There is no lease on what is absent.
pub async fn what_is_absent_cannot_be_claimed<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let key = key();
    assert_eq!(take(&store, &key, &tag(), LONG_LEASE).await, None);
    assert_eq!(get(&store, &key).await, None, "a claim puts nothing there");
}

/// A claim takes the lease: the entry has the new version and an end of the lease, and is the same
/// otherwise.
pub async fn a_claim_takes_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let before = store.now();
    let claim = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("there is an entry");
    assert_eq!(claim.lease, Lease::Taken);
    assert!(!claim.taken_over, "nobody's lease had run out");
    let end = claim
        .entry
        .lease
        .expect("a lease that was taken has an end");
    assert!(end > before, "{end:?} is not after {before:?}");
    assert_eq!(
        (claim.entry.version, claim.entry.tag, &claim.entry.value),
        (version, first.tag, &first.value)
    );
    for handle in [&store, &other] {
        assert_eq!(
            get(handle, &key).await.as_ref(),
            Some(&claim.entry),
            "the store has what the claim shows"
        );
    }
}

/// While a lease is held, another claim is told for how long, and changes nothing.
pub async fn a_lease_is_held_by_one<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("there is an entry");
    for handle in [&store, &other] {
        let Claim { lease, entry, .. } = take(handle, &key, &first.tag, LONG_LEASE * 2)
            .await
            .expect("it is there");
        let Lease::Held(left) = lease else {
            panic!("{lease:?} while the lease is held")
        };
        assert_left(left, LONG_LEASE);
        assert_eq!(entry, taken.entry, "the claim shows what is there");
    }
    assert_eq!(
        get(&store, &key).await,
        Some(taken.entry),
        "nothing has changed"
    );
}

/// A claim that names another tag takes no lease and changes nothing, whether a lease is held or
/// not.
pub async fn a_claim_of_another_tag_takes_no_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let mut near = *first.tag.as_bytes();
    near[31] ^= 1;
    for other in [tag(), crate::store::Tag::new(near)] {
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
        .expect("there is an entry");
    assert_eq!(
        taken.lease,
        Lease::Taken,
        "nothing has kept the lease from being taken"
    );
    let Claim { lease, entry, .. } = take(&store, &key, &tag(), LONG_LEASE)
        .await
        .expect("there is an entry");
    let Lease::OtherTag(Some(left)) = lease else {
        panic!("{lease:?} while a lease is held")
    };
    assert_left(left, LONG_LEASE);
    assert_eq!(entry, taken.entry);
    assert_eq!(get(&store, &key).await, Some(taken.entry));
}

/// The tag that counts is the one that is in place now.
pub async fn a_claim_goes_by_the_tag_in_place<S: Store>(make: impl AsyncFn() -> S) {
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
        .expect("there is an entry");
    assert_eq!(claim.lease, Lease::Taken, "the new tag");
}

/// A lease is given back by a swap that writes none, and handed on by one that does.
pub async fn a_swap_says_who_holds_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("there is an entry");
    let free = again(&first);
    assert_eq!(
        put(&store, &key, Some(taken.entry.version), &free, Ttl::Keep).await,
        Swap::Swapped
    );
    let taken = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("there is an entry");
    assert_eq!(taken.lease, Lease::Taken, "the lease was given back");
    assert!(!taken.taken_over, "it had not run out");

    let held = again(&first).with_lease(Some(store.now().saturating_add(LONG_LEASE)));
    assert_eq!(
        put(&store, &key, Some(taken.entry.version), &held, Ttl::Keep).await,
        Swap::Swapped
    );
    let claim = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("there is an entry");
    assert!(
        matches!(claim.lease, Lease::Held(_)),
        "{:?} of a lease that a swap wrote",
        claim.lease
    );
}

/// A claim that is sent twice takes the lease once, and is told so twice.
pub async fn a_claim_can_be_sent_twice<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let taken = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("there is an entry");
    assert_eq!(taken.lease, Lease::Taken);
    for handle in [&store, &other] {
        let claim = claim_as(handle, &key, &first.tag, version, LONG_LEASE).await;
        assert_eq!(claim, Some(taken.clone()));
    }
    assert_eq!(get(&store, &key).await, Some(taken.entry));
}

/// A claim that comes again after a swap is told that the tag has changed, not that the lease is
/// its own.
pub async fn a_claim_that_comes_again_late_takes_nothing<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (first, second) = (entry(), entry());
    let key = inserted(&store, &first, LONG).await;
    let version = Version::new(random());
    let taken = claim_as(&store, &key, &first.tag, version, LONG_LEASE)
        .await
        .expect("there is an entry");
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

/// A lease that has run out can be taken by another, and not before; the entry outlives it.
pub async fn a_lease_runs_out<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let lease = Duration::from_millis(400);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let started = Instant::now();
    let taken = take(&store, &key, &first.tag, lease)
        .await
        .expect("there is an entry");
    assert_eq!(taken.lease, Lease::Taken);
    let next = eventually("a lease that has run out can be taken", async || {
        let claim = take(&other, &key, &first.tag, LONG_LEASE)
            .await
            .expect("the entry outlives a lease on it");
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
    assert_not_before(started, lease, "the lease was taken by another");
    assert_eq!(next.entry.value, first.value);
    assert!(
        next.taken_over,
        "who takes the place of a lease that has run out is told so"
    );

    let late = put(&store, &key, Some(taken.entry.version), &entry(), LONG).await;
    assert_eq!(
        late,
        Swap::Conflict(Some(next.entry)),
        "who lost the lease cannot swap what it had claimed"
    );
}

/// A lease that has run out is not reported as held to a claim of another tag.
pub async fn a_lease_that_ran_out_is_not_held<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let taken = take(&store, &key, &first.tag, Duration::from_millis(200))
        .await
        .expect("there is an entry");
    eventually("a lease runs out", async || {
        let claim = take(&store, &key, &tag(), LONG_LEASE)
            .await
            .expect("there is an entry");
        (claim.lease == Lease::OtherTag(None)).then_some(())
    })
    .await;
    let swap = put(&store, &key, Some(taken.entry.version), &entry(), LONG).await;
    assert_eq!(swap, Swap::Swapped, "nobody has taken the lease since");
}
