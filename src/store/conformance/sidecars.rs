//! Tests of several sidecars in one [`swap`](Store::swap).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::runtime::{assert_not_before, eventually};
use super::{LONG, entry, get, inserted, key, long_sidecar, put_all, read_sidecar};
use crate::store::decide::MAX_SIDECARS;
use crate::store::{Change, Key, MAX_SIDECARS_PER_SWAP, Sidecar, Store, Swap};

/// Creates as many sidecars as one swap may write, with different names and values.
fn several() -> Vec<Sidecar> {
    (0..MAX_SIDECARS_PER_SWAP)
        .map(|number| long_sidecar(format!("value {number}").as_bytes()))
        .collect()
}

/// Creates sidecars with the same names and other values.
fn over(sidecars: &[Sidecar]) -> Vec<Sidecar> {
    let over = sidecars.iter().map(|sidecar| Sidecar {
        value: Bytes::from([&sidecar.value[..], b", again"].concat()),
        ..sidecar.clone()
    });
    over.collect()
}

async fn assert_there<S: Store>(store: &S, key: &Key, sidecars: &[Sidecar], case: &str) {
    for Sidecar { name, value, .. } in sidecars {
        assert_eq!(
            read_sidecar(store, key, name).await.as_ref(),
            Some(value),
            "{case}"
        );
    }
}

async fn assert_absent<S: Store>(store: &S, key: &Key, sidecars: &[Sidecar], case: &str) {
    for Sidecar { name, .. } in sidecars {
        assert_eq!(read_sidecar(store, key, name).await, None, "{case}");
    }
}

/// A swap writes all of its sidecars, and replaces those with the same names.
pub async fn a_swap_writes_several_sidecars<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let (key, first, second) = (key(), entry(), entry());
    let old = several();
    assert_eq!(
        put_all(&store, &key, None, &first, &old).await,
        Swap::Swapped
    );
    assert_there(&other, &key, &old, "with a first entry").await;
    assert_eq!(get(&other, &key).await, Some(first.clone()));

    let (kept, replaced) = old.split_at(2);
    let new = [over(replaced), several().split_off(2)].concat();
    assert_eq!(
        put_all(&other, &key, Some(first.version), &second, &new).await,
        Swap::Swapped
    );
    assert_there(&store, &key, &new, "new, or with an existing name").await;
    assert_there(&store, &key, kept, "of the earlier swap").await;
    assert_eq!(get(&store, &key).await, Some(second));
}

/// A conflict writes none of the sidecars.
pub async fn a_conflict_writes_none_of_several_sidecars<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, there, old, new) = (key(), entry(), several(), several());
    assert_eq!(
        put_all(&store, &key, None, &there, &old).await,
        Swap::Swapped
    );
    for sidecars in [&new, &over(&old)] {
        for expected in [None, Some(entry().version)] {
            assert_eq!(
                put_all(&store, &key, expected, &entry(), sidecars).await,
                Swap::Conflict(Some(there.clone())),
                "{expected:?}"
            );
        }
    }
    assert_absent(&store, &key, &new, "new names").await;
    assert_there(&store, &key, &old, "existing names").await;

    let absent = super::key();
    assert_eq!(
        put_all(&store, &absent, Some(there.version), &entry(), &new).await,
        Swap::Conflict(None)
    );
    assert_eq!(
        put_all(&store, &absent, None, &entry(), &[]).await,
        Swap::Swapped
    );
    assert_absent(&store, &absent, &new, "of an entry that was absent").await;
}

/// A swap with several sidecars can be sent twice. A late copy, after another swap, writes none.
pub async fn a_swap_with_several_sidecars_is_idempotent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first, second, third) = (key(), entry(), entry(), entry());
    let (old, new) = (several(), several());
    for (expected, entry, sidecars) in [(None, &first, &old), (Some(first.version), &second, &new)]
    {
        for time in ["once", "twice"] {
            assert_eq!(
                put_all(&store, &key, expected, entry, sidecars).await,
                Swap::Swapped,
                "{time}"
            );
            assert_there(&store, &key, sidecars, time).await;
        }
    }
    let last = over(&new);
    assert_eq!(
        put_all(&store, &key, Some(second.version), &third, &last).await,
        Swap::Swapped
    );
    assert_eq!(
        put_all(&store, &key, Some(first.version), &second, &new).await,
        Swap::Conflict(Some(third))
    );
    assert_there(&store, &key, &last, "after a late copy").await;
}

/// Entries with sidecars of the same names do not share them.
pub async fn sidecars_of_different_entries_do_not_mix<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (one, other) = (key(), key());
    let of_one = several();
    let of_other = over(&of_one);
    assert_eq!(
        put_all(&store, &one, None, &entry(), &of_one).await,
        Swap::Swapped
    );
    let first = entry();
    assert_eq!(
        put_all(&store, &other, None, &first, &[]).await,
        Swap::Swapped
    );
    assert_absent(&store, &other, &of_one, "only the other entry has them").await;
    assert_eq!(
        put_all(&store, &other, Some(first.version), &entry(), &of_other).await,
        Swap::Swapped
    );
    assert_there(&store, &one, &of_one, "one").await;
    assert_there(&store, &other, &of_other, "the other").await;
}

/// Each sidecar of a swap expires after its own time to live.
pub async fn sidecars_of_one_swap_expire_independently<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let seconds = [3600, 1, 3600, 1];
    let sidecars = seconds.map(|seconds| Sidecar {
        ttl: Duration::from_secs(seconds),
        ..long_sidecar(b"value")
    });
    let started = Instant::now();
    assert_eq!(
        put_all(&store, &key, None, &first, &sidecars).await,
        Swap::Swapped
    );
    for sidecar in [&sidecars[1], &sidecars[3]] {
        eventually("a sidecar expires", async || {
            read_sidecar(&store, &key, &sidecar.name)
                .await
                .is_none()
                .then_some(())
        })
        .await;
        assert_not_before(started, sidecar.ttl, "the sidecar expired");
    }
    for long in [&sidecars[0], &sidecars[2]] {
        assert_eq!(
            read_sidecar(&store, &key, &long.name).await.as_ref(),
            Some(&long.value)
        );
    }
    assert_eq!(get(&store, &key).await, Some(first));
}

/// A swap with too many sidecars is an error, and changes nothing.
pub async fn a_swap_with_too_many_sidecars_fails<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let mut sidecars = several();
    sidecars.push(long_sidecar(b"too many"));
    let change = Change::Put {
        entry: entry(),
        ttl: LONG,
    };
    store
        .swap(&key, Some(first.version), change, &sidecars)
        .await
        .expect_err("a swap writes at most MAX_SIDECARS_PER_SWAP sidecars");
    assert_eq!(get(&store, &key).await, Some(first));
    assert_absent(&store, &key, &sidecars, "of a rejected call").await;
}

/// An entry has room for 128 sidecars.
pub async fn an_entry_keeps_128_sidecars<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let mut version = first.version;
    let all: Vec<_> = (0..MAX_SIDECARS)
        .map(|number| long_sidecar(&number.to_be_bytes()))
        .collect();
    for sidecars in all.chunks(MAX_SIDECARS_PER_SWAP) {
        let next = entry();
        assert_eq!(
            put_all(&store, &key, Some(version), &next, sidecars).await,
            Swap::Swapped
        );
        version = next.version;
    }
    assert_there(&store, &key, &all, "written one after another").await;
}
