//! What holds when several instances call at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Barrier;

use super::runtime::eventually;
use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, long_beside, name, put, put_with,
    read_beside, remove, tag, take,
};
use crate::store::{Beside, Change, Entry, Lease, Name, Store, Swap, Ttl};

const TASKS: usize = 16;
const ROUNDS: usize = 20;
/// How many values beside one entry every store keeps.
const BESIDES: usize = 8;

/// Several handles on the store.
async fn handles<S: Store>(make: impl AsyncFn() -> S) -> Vec<Arc<S>> {
    vec![
        Arc::new(make().await),
        Arc::new(make().await),
        Arc::new(make().await),
    ]
}

/// Starts [`TASKS`] tasks at once, each on one of the handles, and collects what they return.
async fn at_once<S, T, F>(handles: &[Arc<S>], task: impl Fn(Arc<S>, usize) -> F) -> Vec<T>
where
    S: Store,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(TASKS));
    let running: Vec<_> = handles
        .iter()
        .cycle()
        .take(TASKS)
        .enumerate()
        .map(|(number, handle)| {
            let (start, task) = (Arc::clone(&start), task(Arc::clone(handle), number));
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut returned = Vec::with_capacity(TASKS);
    for task in running {
        returned.push(task.await.expect("a task of the test"));
    }
    returned
}

/// The one entry whose swap succeeded; all others have been shown it.
fn only_winner(swaps: Vec<(Entry, Swap)>) -> Entry {
    let won = |swap: &Swap| *swap == Swap::Swapped;
    assert_eq!(
        swaps.iter().filter(|(_, swap)| won(swap)).count(),
        1,
        "one of {TASKS} succeeds"
    );
    let winner = swaps
        .iter()
        .find(|(_, swap)| won(swap))
        .map(|(entry, _)| entry.clone())
        .expect("there is one");
    for (_, swap) in swaps.into_iter().filter(|(_, swap)| !won(swap)) {
        assert_eq!(
            swap,
            Swap::Conflict(Some(winner.clone())),
            "the others are shown what is there"
        );
    }
    winner
}

/// Of many inserts of one key one succeeds.
pub async fn one_of_many_inserts_succeeds<S: Store>(make: impl AsyncFn() -> S) {
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

/// Of many inserts of a key whose entry has expired one succeeds.
pub async fn one_of_many_inserts_over_an_expired_entry_succeeds<S: Store>(
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

/// Of many swaps of one version one succeeds, and only what it wrote beside the entry is there.
pub async fn one_of_many_swaps_succeeds_with_what_is_beside<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    for round in 0..ROUNDS {
        let first = entry();
        let key = inserted(&*handles[0], &first, LONG).await;
        let expected = Some(first.version);
        let swaps = at_once(&handles, |store, number| async move {
            let (mine, also) = (entry(), long_beside(&[7; 16]));
            // Ends that are far apart, so that a store which keeps them by range or class has to
            // move entries.
            let hours = u64::try_from(1 + number * (round % 3)).unwrap_or(1);
            let change = Change::Put {
                entry: mine.clone(),
                ttl: Ttl::After(Duration::from_secs(hours * 3600)),
            };
            let swap = store
                .swap(&key, expected, change, Some(also.clone()))
                .await
                .expect("swap");
            (mine, also, swap)
        })
        .await;
        for (_, also, swap) in &swaps {
            let beside = read_beside(&*handles[1], &key, &also.name).await;
            assert_eq!(
                beside.is_some(),
                *swap == Swap::Swapped,
                "a value is there exactly if its swap succeeded"
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

/// Of many claims one takes the lease.
pub async fn one_of_many_claims_takes_the_lease<S: Store>(make: impl AsyncFn() -> S) {
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
            .map(|claim| claim.expect("there is an entry"))
            .collect();
        let taken: Vec<_> = claims
            .iter()
            .filter(|claim| claim.lease == Lease::Taken)
            .collect();
        assert_eq!(taken.len(), 1, "one of {TASKS} takes the lease");
        for claim in &claims {
            assert!(
                matches!(claim.lease, Lease::Taken | Lease::Held(_)),
                "{:?}",
                claim.lease
            );
            assert_eq!(claim.entry, taken[0].entry, "all are shown what is there");
        }
        assert_eq!(
            get(&*handles[1], &key).await.as_ref(),
            Some(&taken[0].entry)
        );
    }
}

/// When a lease has run out, one of many claims takes it.
pub async fn one_of_many_claims_takes_a_lease_that_ran_out<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    for _ in 0..5 {
        let first = entry();
        let key = inserted(&*handles[0], &first, LONG).await;
        let old = take(&*handles[0], &key, &first.tag, Duration::from_millis(50))
            .await
            .expect("there is an entry");
        assert_eq!(old.lease, Lease::Taken);
        eventually("a lease runs out", async || {
            let probe = take(&*handles[0], &key, &tag(), LONG_LEASE)
                .await
                .expect("there is an entry");
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
        assert_eq!(taken, 1, "one of {TASKS} takes the lease");
    }
}

/// Of many who read, add one and swap until it succeeds, nobody's addition is lost.
pub async fn no_update_is_lost<S: Store>(make: impl AsyncFn() -> S) {
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
                let current = found.expect("nobody removes it");
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
    let last = get(&*handles[0], &key).await.expect("nobody removes it");
    assert_eq!(usize::try_from(count(&last)), Ok(TASKS * EACH));
}

/// Of removals, swaps and claims of one version one succeeds (and with a removal all of them, since
/// the rest find nothing), and what is there in the end is what it left.
pub async fn a_removal_and_a_swap_exclude_each_other<S: Store>(make: impl AsyncFn() -> S) {
    let handles = handles(&make).await;
    for _ in 0..ROUNDS {
        let first = entry();
        let (expected, tag) = (Some(first.version), first.tag);
        let key = inserted(&*handles[0], &first, LONG).await;
        // What each left there, if it succeeded.
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
                "every removal succeeds, and nothing else"
            );
            left.dedup();
        }
        assert_eq!(left.len(), 1, "one of {TASKS} changes the entry");
        assert_eq!(
            get(&*handles[1], &key).await,
            left[0],
            "and what it left is there"
        );
    }
}

/// Entries that are inserted and removed by many at once are never lost and never come back.
pub async fn inserts_and_removals_take_turns<S: Store>(make: impl AsyncFn() -> S) {
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
                "nobody else may change it"
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
                "what was removed is gone for good"
            );
        }
    })
    .await;
    assert_eq!(
        get(&*handles[0], &key).await,
        None,
        "everybody has removed what they inserted"
    );
}

/// Who sees an entry sees what was written beside it with the same swap.
pub async fn an_entry_is_never_seen_without_what_is_beside_it<S: Store>(make: impl AsyncFn() -> S) {
    fn beside_of(entry: &Entry) -> Name {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&entry.value[..16]);
        Name::new(bytes)
    }
    fn pair() -> (Entry, Beside) {
        let also = Beside {
            name: name(),
            ..long_beside(b"beside")
        };
        (
            Entry {
                value: Bytes::copy_from_slice(also.name.as_bytes()),
                ..entry()
            },
            also,
        )
    }

    let handles = handles(&make).await;
    for _ in 0..5 {
        let (key, (first, also)) = (key(), pair());
        assert_eq!(
            put_with(&*handles[0], &key, None, &first, &also).await,
            Swap::Swapped
        );
        let first = Arc::new(first);
        at_once(&handles, |store, number| {
            let first = Arc::clone(&first);
            async move {
                let mut current = Entry::clone(&first);
                // No more than a store has to keep beside one entry: a reader may be slow to ask.
                for _ in 1..BESIDES {
                    if number == 0 {
                        let (next, also) = pair();
                        let swap =
                            put_with(&*store, &key, Some(current.version), &next, &also).await;
                        assert_eq!(swap, Swap::Swapped, "there is one writer");
                        current = next;
                    } else {
                        let seen = get(&*store, &key).await.expect("nobody removes it");
                        let beside = read_beside(&*store, &key, &beside_of(&seen)).await;
                        assert_eq!(
                            beside.as_deref(),
                            Some(&b"beside"[..]),
                            "with the entry comes what is beside it"
                        );
                    }
                }
            }
        })
        .await;
    }
}
