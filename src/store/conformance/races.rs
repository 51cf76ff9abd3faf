//! Tests of concurrent calls on several handles.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::runtime::eventually;
use super::tasks::{TASKS, at_once, handles};
use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, long_sidecar, put, put_all, read_sidecar,
    remove, tag, take,
};
use crate::store::{
    Change, Entry, Lease, MAX_SIDECARS_PER_SWAP, Sidecar, SidecarName, Store, Swap, Ttl,
};

const ROUNDS: usize = 20;

/// Returns the entry of the only swap that succeeded. Checks that all other swaps returned it as
/// the conflict.
fn only_winner(swaps: Vec<(Entry, Swap)>) -> Entry {
    let won = |swap: &Swap| *swap == Swap::Swapped;
    assert_eq!(
        swaps.iter().filter(|(_, swap)| won(swap)).count(),
        1,
        "exactly one of {TASKS} succeeds"
    );
    let winner = swaps
        .iter()
        .find(|(_, swap)| won(swap))
        .map(|(entry, _)| entry.clone())
        .expect("one swap succeeded");
    for (_, swap) in swaps.into_iter().filter(|(_, swap)| !won(swap)) {
        assert_eq!(
            swap,
            Swap::Conflict(Some(winner.clone())),
            "the other swaps return the stored entry"
        );
    }
    winner
}

/// One of many concurrent inserts of one key succeeds.
pub async fn one_of_many_concurrent_inserts_succeeds<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    for _ in 0..ROUNDS {
        let key = key();
        let swaps = at_once(&handles, |store, _| async move {
            let mine = entry();
            let swap = put(&*store, &key, None, &mine, LONG).await;
            (mine, swap)
        })
        .await;
        let winner = only_winner(swaps);
        assert_eq!(get(&*handles[0], &key).await, Some(winner));
    }
}

/// One of many concurrent inserts of a key whose entry has expired succeeds.
pub async fn one_of_many_concurrent_inserts_over_an_expired_entry_succeeds<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let handles = handles(&make).await;
    for _ in 0..5 {
        let key = inserted(
            &*handles[0],
            &entry(),
            Ttl::After(Duration::from_millis(50)),
        )
        .await;
        eventually("an entry expires", async || {
            get(&*handles[0], &key).await.is_none().then_some(())
        })
        .await;
        let swaps = at_once(&handles, |store, _| async move {
            let mine = entry();
            let swap = put(&*store, &key, None, &mine, LONG).await;
            (mine, swap)
        })
        .await;
        let winner = only_winner(swaps);
        assert_eq!(get(&*handles[1], &key).await, Some(winner));
    }
}

/// One of many concurrent swaps of one version succeeds, and only its sidecar is written.
pub async fn one_of_many_concurrent_swaps_succeeds_with_its_sidecar<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let handles = handles(&make).await;
    for round in 0..ROUNDS {
        let first = entry();
        let key = inserted(&*handles[0], &first, LONG).await;
        let expected = Some(first.version);
        let swaps = at_once(&handles, |store, number| async move {
            let (mine, also) = (entry(), long_sidecar(&[7; 16]));
            // The expiries differ widely, so that a store which sorts entries by expiry must move
            // them.
            let hours = u64::try_from(1 + number * (round % 3)).unwrap_or(1);
            let change = Change::Put {
                entry: mine.clone(),
                ttl: Ttl::After(Duration::from_secs(hours * 3600)),
            };
            let swap = store
                .swap(&key, expected, change, slice::from_ref(&also))
                .await
                .expect("swap");
            (mine, also, swap)
        })
        .await;
        for (_, also, swap) in &swaps {
            let sidecar = read_sidecar(&*handles[1], &key, &also.name).await;
            assert_eq!(
                sidecar.is_some(),
                *swap == Swap::Swapped,
                "a sidecar exists if and only if its swap succeeded"
            );
        }
        let winner = only_winner(
            swaps
                .into_iter()
                .map(|(mine, _, swap)| (mine, swap))
                .collect(),
        );
        assert_eq!(get(&*handles[2], &key).await, Some(winner));
    }
}

/// One of many concurrent claims takes the lease.
pub async fn one_of_many_concurrent_claims_takes_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    for _ in 0..ROUNDS {
        let first = entry();
        let key = inserted(&*handles[0], &first, LONG).await;
        let claims = at_once(&handles, |store, _| async move {
            take(&*store, &key, &first.tag, LONG_LEASE).await
        })
        .await;
        let claims: Vec<_> = claims
            .into_iter()
            .map(|claim| claim.expect("the entry exists"))
            .collect();
        let taken: Vec<_> = claims
            .iter()
            .filter(|claim| claim.lease == Lease::Taken)
            .collect();
        assert_eq!(taken.len(), 1, "exactly one of {TASKS} takes the lease");
        for claim in &claims {
            assert!(
                matches!(claim.lease, Lease::Taken | Lease::Held(_)),
                "{:?}",
                claim.lease
            );
            assert_eq!(
                claim.entry, taken[0].entry,
                "every claim returns the stored entry"
            );
        }
        assert_eq!(
            get(&*handles[1], &key).await.as_ref(),
            Some(&taken[0].entry)
        );
    }
}

/// One of many concurrent claims takes over an expired lease.
pub async fn one_of_many_concurrent_claims_takes_over_an_expired_lease<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let handles = handles(&make).await;
    for _ in 0..5 {
        let first = entry();
        let key = inserted(&*handles[0], &first, LONG).await;
        let old = take(&*handles[0], &key, &first.tag, Duration::from_millis(50))
            .await
            .expect("the entry exists");
        assert_eq!(old.lease, Lease::Taken);
        eventually("a lease expires", async || {
            let probe = take(&*handles[0], &key, &tag(), LONG_LEASE)
                .await
                .expect("the entry exists");
            (probe.lease == Lease::OtherTag(None)).then_some(())
        })
        .await;
        let claims = at_once(&handles, |store, _| async move {
            take(&*store, &key, &first.tag, LONG_LEASE).await
        })
        .await;
        let taken = claims
            .iter()
            .flatten()
            .filter(|claim| claim.lease == Lease::Taken)
            .count();
        assert_eq!(taken, 1, "exactly one of {TASKS} takes the lease");
    }
}

/// Many tasks read a counter, add one, and repeat the swap until it succeeds. No addition is lost.
pub async fn concurrent_updates_are_not_lost<S: Store>(make: impl AsyncFn() -> S) {
    const EACH: usize = 10;
    fn count(entry: &Entry) -> u64 {
        entry
            .value
            .as_ref()
            .try_into()
            .map(u64::from_be_bytes)
            .expect("eight bytes")
    }

    let handles = handles(&make).await;
    let zero = Entry {
        value: Bytes::copy_from_slice(&0_u64.to_be_bytes()),
        ..entry()
    };
    let key = inserted(&*handles[0], &zero, LONG).await;
    at_once(&handles, |store, number| async move {
        for round in 0..EACH {
            let ttl = match (number + round) % 3 {
                0 => Ttl::Keep,
                1 => LONG,
                _ => Ttl::After(Duration::from_secs(9 * 3600)),
            };
            let mut found = get(&*store, &key).await;
            loop {
                let current = found.expect("no task removes the entry");
                let value = Bytes::copy_from_slice(&(count(&current) + 1).to_be_bytes());
                let next = Entry {
                    value,
                    ..again(&current)
                };
                match put(&*store, &key, Some(current.version), &next, ttl).await {
                    Swap::Swapped => break,
                    Swap::Conflict(current) => found = current,
                }
            }
        }
    })
    .await;
    let last = get(&*handles[0], &key)
        .await
        .expect("no task removes the entry");
    assert_eq!(usize::try_from(count(&last)), Ok(TASKS * EACH));
}

/// Of concurrent removals, swaps and claims of one version, one succeeds, and the stored state is
/// the one that it wrote. If it is a removal, all removals succeed, because the others find no
/// entry.
pub async fn concurrent_removals_swaps_and_claims_exclude_each_other<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let handles = handles(&make).await;
    for _ in 0..ROUNDS {
        let first = entry();
        let (expected, tag) = (Some(first.version), first.tag);
        let key = inserted(&*handles[0], &first, LONG).await;
        // The state that each task wrote, if it succeeded.
        let results = at_once(&handles, |store, number| async move {
            match number % 3 {
                0 => (remove(&*store, &key, expected).await == Swap::Swapped).then_some(None),
                1 => {
                    let claim = take(&*store, &key, &tag, LONG_LEASE).await?;
                    (claim.lease == Lease::Taken).then_some(Some(claim.entry))
                }
                _ => {
                    let mine = entry();
                    (put(&*store, &key, expected, &mine, LONG).await == Swap::Swapped)
                        .then_some(Some(mine))
                }
            }
        })
        .await;
        let mut left: Vec<_> = results.into_iter().flatten().collect();
        if left.iter().any(Option::is_none) {
            assert_eq!(
                left.len(),
                TASKS.div_ceil(3),
                "every removal succeeds, and no other call"
            );
            left.dedup();
        }
        assert_eq!(left.len(), 1, "exactly one of {TASKS} changes the entry");
        assert_eq!(
            get(&*handles[1], &key).await,
            left[0],
            "the stored state is the one that it wrote"
        );
    }
}

/// Concurrent inserts and removals of one key do not interfere: no entry is lost, and no removed
/// entry comes back.
pub async fn concurrent_inserts_and_removals_do_not_interfere<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    let key = key();
    at_once(&handles, |store, _| async move {
        for _ in 0..ROUNDS {
            let mine = entry();
            if put(&*store, &key, None, &mine, LONG).await != Swap::Swapped {
                continue;
            }
            assert_eq!(
                get(&*store, &key).await,
                Some(mine.clone()),
                "no other task changes the entry"
            );
            let next = entry();
            assert_eq!(
                put(&*store, &key, Some(mine.version), &next, Ttl::Keep).await,
                Swap::Swapped
            );
            assert_eq!(get(&*store, &key).await, Some(next.clone()));
            assert_eq!(
                remove(&*store, &key, Some(next.version)).await,
                Swap::Swapped
            );
            let after = get(&*store, &key).await;
            assert!(
                after.is_none_or(|after| after != mine && after != next),
                "a removed entry does not come back"
            );
        }
    })
    .await;
    assert_eq!(
        get(&*handles[0], &key).await,
        None,
        "every task has removed its entries"
    );
}

/// A reader that sees an entry also sees every sidecar of the same swap.
pub async fn an_entry_is_never_visible_without_its_sidecar<S: Store>(make: impl AsyncFn() -> S) {
    /// At most as many sidecars as a store must keep, because a reader may be slow.
    const WRITES: usize = 8;
    fn sidecars_of(entry: &Entry) -> [Sidecar; MAX_SIDECARS_PER_SWAP] {
        std::array::from_fn(|number| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&entry.value[number..number + 16]);
            Sidecar {
                name: SidecarName::new(bytes),
                ..long_sidecar(b"sidecar")
            }
        })
    }

    let handles = handles(&make).await;
    for _ in 0..5 {
        let (key, first) = (key(), entry());
        assert_eq!(
            put_all(&*handles[0], &key, None, &first, &sidecars_of(&first)).await,
            Swap::Swapped
        );
        let first = Arc::new(first);
        at_once(&handles, |store, number| {
            let first = Arc::clone(&first);
            async move {
                let mut current = Entry::clone(&first);
                for _ in 1..WRITES {
                    if number == 0 {
                        let (next, expected) = (entry(), Some(current.version));
                        let swap =
                            put_all(&*store, &key, expected, &next, &sidecars_of(&next)).await;
                        assert_eq!(swap, Swap::Swapped, "there is only one writer");
                        current = next;
                    } else {
                        let seen = get(&*store, &key).await.expect("no task removes the entry");
                        for sidecar in sidecars_of(&seen) {
                            assert_eq!(
                                read_sidecar(&*store, &key, &sidecar.name).await,
                                Some(sidecar.value),
                                "the sidecar is visible with its entry"
                            );
                        }
                    }
                }
            }
        })
        .await;
    }
}
