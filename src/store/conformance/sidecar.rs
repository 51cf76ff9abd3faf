//! Tests of sidecars: [`swap`](Store::swap) and [`sidecar`](Store::sidecar).

use std::time::Duration;

use bytes::Bytes;

use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, long_sidecar, name, put, put_with,
    read_sidecar, take,
};
use crate::store::{Sidecar, SidecarName, Store, Swap, Ttl};

/// A sidecar that was never written is absent, with an entry and without.
pub async fn an_unwritten_sidecar_is_absent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    assert_eq!(
        read_sidecar(&store, &key(), &name()).await,
        None,
        "no entry"
    );
    let key = inserted(&store, &entry(), LONG).await;
    assert_eq!(read_sidecar(&store, &key, &name()).await, None, "an entry");
}

/// A sidecar that was written can be read on every handle, and its entry, too.
pub async fn a_written_sidecar_is_visible_on_every_handle<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let (key, first, second) = (key(), entry(), entry());
    let (one, two) = (long_sidecar(b"one"), long_sidecar(b"two"));
    assert_eq!(
        put_with(&store, &key, None, &first, &one).await,
        Swap::Swapped,
        "with a first entry"
    );
    assert_eq!(
        read_sidecar(&other, &key, &one.name).await,
        Some(one.value.clone())
    );
    assert_eq!(get(&other, &key).await, Some(first.clone()));

    assert_eq!(
        put_with(&other, &key, Some(first.version), &second, &two).await,
        Swap::Swapped,
        "with another"
    );
    assert_eq!(read_sidecar(&store, &key, &one.name).await, Some(one.value));
    assert_eq!(read_sidecar(&store, &key, &two.name).await, Some(two.value));
    assert_eq!(get(&store, &key).await, Some(second));
}

/// Every value is read as it was written: empty, of any bytes, and large.
pub async fn sidecars_round_trip<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let rows = [
        ("empty", SidecarName::new([0; 16]), Bytes::new()),
        (
            "every value of a byte",
            SidecarName::new([0xff; 16]),
            Bytes::from(all_bytes.clone()),
        ),
        (
            "64 KiB",
            SidecarName::new(*b"\r\n:{}*\0 \r\n:{}*\0 "),
            Bytes::from(all_bytes.repeat(256)),
        ),
    ];
    let (key, first) = (key(), entry());
    assert_eq!(put(&store, &key, None, &first, LONG).await, Swap::Swapped);
    let mut version = first.version;
    for (row, name, value) in &rows {
        let (next, also) = (
            entry(),
            Sidecar::new(*name, value.clone(), Duration::from_secs(3600)),
        );
        assert_eq!(
            put_with(&store, &key, Some(version), &next, &also).await,
            Swap::Swapped,
            "{row}"
        );
        version = next.version;
    }
    for (row, name, value) in rows {
        assert_eq!(
            read_sidecar(&store, &key, &name).await,
            Some(value),
            "{row}"
        );
    }
}

/// Sidecars with different names of one entry are independent, and so are sidecars with one name of
/// different entries.
pub async fn sidecars_of_different_keys_and_names_are_independent<S: Store>(
    make: impl AsyncFn() -> S,
) {
    let store = make().await;
    let shared = name();
    let mut near = *shared.as_bytes();
    near[15] ^= 1;
    let (one, other) = (key(), key());
    let with =
        |value: &'static str| Sidecar::new(shared, Bytes::from(value), Duration::from_secs(3600));
    assert_eq!(
        put_with(&store, &one, None, &entry(), &with("of one")).await,
        Swap::Swapped
    );
    assert_eq!(
        read_sidecar(&store, &other, &shared).await,
        None,
        "another key"
    );
    assert_eq!(
        read_sidecar(&store, &one, &SidecarName::new(near)).await,
        None,
        "another name"
    );
    assert_eq!(
        put_with(&store, &other, None, &entry(), &with("of the other")).await,
        Swap::Swapped
    );
    assert_eq!(
        read_sidecar(&store, &one, &shared).await,
        Some(Bytes::from("of one"))
    );
    assert_eq!(
        read_sidecar(&store, &other, &shared).await,
        Some(Bytes::from("of the other"))
    );
}

/// A sidecar replaces an earlier one with the same name.
pub async fn a_sidecar_can_be_replaced<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let one = long_sidecar(b"a longer value, which must be replaced completely");
    let two = Sidecar {
        value: Bytes::from_static(b"another"),
        ..one.clone()
    };
    assert_eq!(
        put_with(&store, &key, None, &first, &one).await,
        Swap::Swapped
    );
    assert_eq!(
        put_with(&store, &key, Some(first.version), &entry(), &two).await,
        Swap::Swapped
    );
    assert_eq!(read_sidecar(&store, &key, &one.name).await, Some(two.value));
}

/// A sidecar stays when its entry is claimed, or swapped without it.
pub async fn a_sidecar_survives_swaps_and_claims<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first, also) = (key(), entry(), long_sidecar(b"stays"));
    assert_eq!(
        put_with(&store, &key, None, &first, &also).await,
        Swap::Swapped
    );
    let claim = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("the entry exists");
    assert_eq!(
        read_sidecar(&store, &key, &also.name).await,
        Some(also.value.clone()),
        "a claim"
    );
    let mut version = claim.entry.version;
    for ttl in [Ttl::Keep, LONG, Ttl::After(Duration::from_secs(7 * 3600))] {
        let next = entry();
        assert_eq!(
            put(&store, &key, Some(version), &next, ttl).await,
            Swap::Swapped
        );
        assert_eq!(
            read_sidecar(&store, &key, &also.name).await,
            Some(also.value.clone()),
            "{ttl:?}"
        );
        version = next.version;
    }
}

/// A conflict writes no sidecar, and changes none.
pub async fn a_conflict_writes_no_sidecar<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, there, kept) = (key(), entry(), long_sidecar(b"kept"));
    assert_eq!(
        put_with(&store, &key, None, &there, &kept).await,
        Swap::Swapped
    );
    let new = long_sidecar(b"new");
    let over = Sidecar {
        value: Bytes::from_static(b"over"),
        ..kept.clone()
    };
    for also in [&new, &over] {
        for expected in [None, Some(entry().version)] {
            let swap = put_with(&store, &key, expected, &entry(), also).await;
            assert_eq!(swap, Swap::Conflict(Some(there.clone())), "{expected:?}");
        }
    }
    assert_eq!(read_sidecar(&store, &key, &new.name).await, None);
    assert_eq!(
        read_sidecar(&store, &key, &kept.name).await,
        Some(kept.value)
    );

    let absent = super::key();
    assert_eq!(
        put_with(&store, &absent, Some(there.version), &entry(), &new).await,
        Swap::Conflict(None)
    );
    assert_eq!(
        read_sidecar(&store, &absent, &new.name).await,
        None,
        "of an absent entry"
    );
    assert_eq!(
        put(&store, &absent, None, &entry(), LONG).await,
        Swap::Swapped
    );
    assert_eq!(
        read_sidecar(&store, &absent, &new.name).await,
        None,
        "of an entry that was absent"
    );
}

/// A swap with a sidecar can be sent twice.
pub async fn a_swap_with_a_sidecar_is_idempotent<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let (one, two) = (long_sidecar(b"one"), long_sidecar(b"two"));
    let second = again(&first);
    for time in 1..=2 {
        assert_eq!(
            put_with(&store, &key, None, &first, &one).await,
            Swap::Swapped,
            "time {time}"
        );
        assert_eq!(
            read_sidecar(&store, &key, &one.name).await,
            Some(one.value.clone()),
            "time {time}"
        );
    }
    for time in 1..=2 {
        assert_eq!(
            put_with(&store, &key, Some(first.version), &second, &two).await,
            Swap::Swapped,
            "time {time}"
        );
        assert_eq!(
            read_sidecar(&store, &key, &two.name).await,
            Some(two.value.clone()),
            "time {time}"
        );
    }
    assert_eq!(get(&store, &key).await, Some(second));
}
