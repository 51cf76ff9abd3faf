//! Tests of [`get`](Store::get) and [`swap`](Store::swap).

use std::time::Duration;

use bytes::Bytes;

use super::{LONG, LONG_LEASE, again, entry, get, inserted, key, put, random, remove, tag, take};
use crate::store::{ClaimTag, Entry, Hint, Key, Lease, Store, Swap, Ttl, Version};

/// A key that was never written has no entry.
pub async fn an_unwritten_key_is_absent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    assert_eq!(get(&store, &key()).await, None);
}

/// An entry that was written can be read on every handle.
pub async fn a_written_entry_is_visible_on_every_handle<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    assert_eq!(get(&store, &key).await, Some(first.clone()));
    assert_eq!(get(&other, &key).await, Some(first.clone()));

    let second = entry();
    assert_eq!(
        put(&other, &key, Some(first.version), &second, LONG).await,
        Swap::Swapped
    );
    assert_eq!(
        get(&store, &key).await,
        Some(second.clone()),
        "the write of the other handle is visible at once"
    );
    assert_eq!(get(&other, &key).await, Some(second));
}

/// Every entry is read as it was written: with an empty value, any bytes or a large value, with a
/// lease and without.
pub async fn entries_round_trip<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let lease = Some(store.now().saturating_add(LONG_LEASE));
    let rows = [
        (
            "an empty value",
            entry().version,
            entry().tag,
            None,
            Bytes::new(),
        ),
        (
            "every value of a byte",
            entry().version,
            entry().tag,
            None,
            Bytes::from(all_bytes.clone()),
        ),
        (
            "64 KiB",
            entry().version,
            entry().tag,
            None,
            Bytes::from(all_bytes.repeat(256)),
        ),
        (
            "a lease",
            entry().version,
            entry().tag,
            lease,
            Bytes::from_static(b"leased"),
        ),
        (
            "a lease on an empty value",
            entry().version,
            entry().tag,
            lease,
            Bytes::new(),
        ),
        (
            "zeros",
            Version::new([0; 8]),
            ClaimTag::new([0; 32]),
            None,
            Bytes::from_static(&[0; 3]),
        ),
        (
            "ones",
            Version::new([0xff; 8]),
            ClaimTag::new([0xff; 32]),
            lease,
            Bytes::from_static(&[0xff; 3]),
        ),
        (
            "line ends",
            Version::new(*b"\r\n\r\n\0\r\n\0"),
            ClaimTag::new([b'\n'; 32]),
            None,
            Bytes::from_static(b"\r\n"),
        ),
    ];
    for (row, version, tag, lease, value) in rows {
        let put_first = Entry::new(version, tag, value.clone()).with_lease(lease);
        let key = inserted(&store, &put_first, LONG).await;
        assert_eq!(
            get(&store, &key).await,
            Some(put_first.clone()),
            "{row}: as a first entry"
        );

        let between = entry();
        assert_eq!(
            put(&store, &key, Some(version), &between, LONG).await,
            Swap::Swapped,
            "{row}: is replaced"
        );
        assert_eq!(
            put(&store, &key, Some(between.version), &put_first, LONG).await,
            Swap::Swapped,
            "{row}: replaces"
        );
        assert_eq!(
            get(&store, &key).await,
            Some(put_first),
            "{row}: in place of another"
        );
    }
}

/// Keys that differ in one bit are different keys.
pub async fn keys_do_not_collide<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    for byte in [0, 15, 31] {
        let mut bytes = *key.as_bytes();
        bytes[byte] ^= 0x80;
        let other = Key::new(bytes);
        assert_eq!(get(&store, &other).await, None, "byte {byte}");
        assert_eq!(
            put(&store, &other, None, &entry(), LONG).await,
            Swap::Swapped,
            "byte {byte}"
        );
    }
    assert_eq!(get(&store, &key).await, Some(first));
}

/// An insert over an entry changes nothing and returns that entry.
pub async fn an_insert_over_an_entry_is_a_conflict<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let there = entry();
    let key = inserted(&store, &there, LONG).await;
    for ttl in [LONG, Ttl::After(Duration::from_millis(1))] {
        assert_eq!(
            put(&store, &key, None, &entry(), ttl).await,
            Swap::Conflict(Some(there.clone()))
        );
    }
    assert_eq!(get(&store, &key).await, Some(there));
}

/// A swap that expects another version changes nothing and returns the stored entry.
pub async fn a_swap_that_expects_another_version_is_a_conflict<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let store = make().await;
    let (old, there) = (entry(), entry());
    let key = inserted(&store, &old, LONG).await;
    assert_eq!(
        put(&store, &key, Some(old.version), &there, LONG).await,
        Swap::Swapped
    );

    let mut near = *there.version.as_bytes();
    near[7] ^= 1;
    for (row, expected) in [
        ("old", old.version),
        ("random", Version::new(random())),
        ("near", Version::new(near)),
    ] {
        for ttl in [LONG, Ttl::Keep] {
            let swap = put(&store, &key, Some(expected), &entry(), ttl).await;
            assert_eq!(swap, Swap::Conflict(Some(there.clone())), "{row}, {ttl:?}");
        }
    }
    assert_eq!(get(&store, &key).await, Some(there));
}

/// A swap that expects a version of an absent entry writes nothing.
pub async fn a_swap_of_an_absent_entry_is_a_conflict<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let key = key();
    for ttl in [LONG, Ttl::Keep] {
        let swap = put(&store, &key, Some(Version::new(random())), &entry(), ttl).await;
        assert_eq!(swap, Swap::Conflict(None), "{ttl:?}");
    }
    assert_eq!(get(&store, &key).await, None);
}

/// A conflict returns the lease of the stored entry.
pub async fn a_conflict_returns_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let there = entry().with_lease(Some(store.now().saturating_add(LONG_LEASE)));
    let key = inserted(&store, &there, LONG).await;
    assert_eq!(
        put(&store, &key, None, &entry(), LONG).await,
        Swap::Conflict(Some(there))
    );
}

/// A lease does not prevent a swap: only the version decides.
pub async fn a_swap_ignores_the_lease<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let first = entry();
    let key = inserted(&store, &first, LONG).await;
    let claim = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    let stale = put(&store, &key, Some(first.version), &entry(), LONG).await;
    assert_eq!(
        stale,
        Swap::Conflict(Some(claim.entry.clone())),
        "a claim sets a new version"
    );

    let second = entry();
    assert_eq!(
        put(&store, &key, Some(claim.entry.version), &second, LONG).await,
        Swap::Swapped
    );
    assert_eq!(get(&store, &key).await, Some(second));
}

/// A swap that is sent twice succeeds twice, and is made once.
pub async fn a_swap_is_idempotent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (first, second) = (entry(), entry());
    let key = inserted(&store, &first, LONG).await;
    assert_eq!(
        put(&store, &key, None, &first, LONG).await,
        Swap::Swapped,
        "an insert"
    );
    assert_eq!(get(&store, &key).await, Some(first.clone()));

    for ttl in [LONG, LONG, Ttl::Keep] {
        assert_eq!(
            put(&store, &key, Some(first.version), &second, ttl).await,
            Swap::Swapped,
            "a swap, {ttl:?}"
        );
        assert_eq!(get(&store, &key).await, Some(second.clone()));
    }
    let third = put(&store, &key, Some(second.version), &again(&second), LONG).await;
    assert_eq!(
        third,
        Swap::Swapped,
        "the entry has the version that was sent"
    );
}

/// A copy of a swap that arrives after another swap is a conflict.
pub async fn a_late_copy_of_a_swap_is_a_conflict<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (first, second, third) = (entry(), entry(), entry());
    let key = inserted(&store, &first, LONG).await;
    assert_eq!(
        put(&store, &key, Some(first.version), &second, LONG).await,
        Swap::Swapped
    );
    assert_eq!(
        put(&store, &key, Some(second.version), &third, LONG).await,
        Swap::Swapped
    );
    let late = Swap::Conflict(Some(third.clone()));
    assert_eq!(
        put(&store, &key, Some(first.version), &second, LONG).await,
        late,
        "a swap"
    );
    assert_eq!(
        put(&store, &key, None, &first, LONG).await,
        late,
        "an insert"
    );
    assert_eq!(get(&store, &key).await, Some(third));
}

/// A hint about an existing entry is `None`, or a value that the entry has had, with its tag. It is
/// never [`Hint::Gone`]. The key is used once.
pub async fn a_hint_is_never_wrong<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let values = [entry(), entry(), entry()];
    let check = |key: &Key, written: &[Entry], row: &str| {
        for (handle, hint) in [
            ("this handle", store.peek(key)),
            ("another handle", other.peek(key)),
        ] {
            match hint {
                None => {}
                Some(Hint::Gone) => {
                    panic!("{row}, {handle}: the hint is `Gone`, but the entry exists")
                }
                Some(Hint::Value { tag, value }) => {
                    let had = written
                        .iter()
                        .any(|entry| entry.tag == tag && entry.value == value);
                    assert!(had, "{row}, {handle}: {value:?}");
                }
            }
        }
    };
    let key = inserted(&store, &values[0], LONG).await;
    check(&key, &values[..1], "an insert");
    assert_eq!(get(&other, &key).await.as_ref(), Some(&values[0]));
    check(&key, &values[..1], "a read");
    assert_eq!(
        put(&store, &key, Some(values[0].version), &values[1], LONG).await,
        Swap::Swapped
    );
    check(&key, &values[..2], "a swap");
    let probe = take(&other, &key, &tag(), LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(probe.lease, Lease::OtherTag(None));
    check(&key, &values[..2], "a claim with another tag");
    let claim = take(&store, &key, &values[1].tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    check(&key, &values[..2], "a claim");
    let held = take(&other, &key, &values[1].tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert!(matches!(held.lease, Lease::Held(_)), "{:?}", held.lease);
    check(&key, &values[..2], "a claim while the lease is held");
    for expected in [None, Some(values[0].version)] {
        assert!(
            matches!(
                put(&other, &key, expected, &entry(), LONG).await,
                Swap::Conflict(Some(_))
            ),
            "{expected:?}"
        );
        assert!(
            matches!(
                remove(&other, &key, expected).await,
                Swap::Conflict(Some(_))
            ),
            "{expected:?}"
        );
        check(&key, &values[..2], "a conflict");
    }
    assert_eq!(
        put(
            &store,
            &key,
            Some(claim.entry.version),
            &values[2],
            Ttl::Keep
        )
        .await,
        Swap::Swapped
    );
    check(&key, &values, "another swap");
    assert_eq!(get(&store, &key).await.as_ref(), Some(&values[2]));
    check(&key, &values, "another read");
}
