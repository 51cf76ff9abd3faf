//! What [`swap`](Store::swap) and [`beside`](Store::beside) promise of values beside an entry.

use std::time::Duration;

use bytes::Bytes;

use super::{
    LONG, LONG_LEASE, again, entry, get, inserted, key, long_beside, name, put, put_with,
    read_beside, take,
};
use crate::store::{Beside, Name, Store, Swap, Ttl};

/// What nobody wrote beside an entry is absent, with the entry and without.
pub async fn nothing_is_beside_what_has_none<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    assert_eq!(read_beside(&store, &key(), &name()).await, None, "no entry");
    let key = inserted(&store, &entry(), LONG).await;
    assert_eq!(read_beside(&store, &key, &name()).await, None, "an entry");
}

/// What was written beside an entry can be read, over this handle and over another, and the entry
/// as well.
pub async fn what_was_put_beside_can_be_read<S: Store>(make: impl AsyncFn() -> S) {
    let (store, other) = (make().await, make().await);
    let (key, first, second) = (key(), entry(), entry());
    let (one, two) = (long_beside(b"one"), long_beside(b"two"));
    assert_eq!(
        put_with(&store, &key, None, &first, &one).await,
        Swap::Swapped,
        "with a first entry"
    );
    assert_eq!(
        read_beside(&other, &key, &one.name).await,
        Some(one.value.clone())
    );
    assert_eq!(get(&other, &key).await, Some(first.clone()));

    assert_eq!(
        put_with(&other, &key, Some(first.version), &second, &two).await,
        Swap::Swapped,
        "with another"
    );
    assert_eq!(read_beside(&store, &key, &one.name).await, Some(one.value));
    assert_eq!(read_beside(&store, &key, &two.name).await, Some(two.value));
    assert_eq!(get(&store, &key).await, Some(second));
}

/// Every value comes back as it was put: any bytes, none, many.
pub async fn every_value_beside_comes_back_as_it_was_put<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let all_bytes: Vec<u8> = (0..=u8::MAX).collect();
    let rows = [
        ("empty", Name::new([0; 16]), Bytes::new()),
        (
            "every value of a byte",
            Name::new([0xff; 16]),
            Bytes::from(all_bytes.clone()),
        ),
        (
            "64 KiB",
            Name::new(*b"\r\n:{}*\0 \r\n:{}*\0 "),
            Bytes::from(all_bytes.repeat(256)),
        ),
    ];
    let (key, first) = (key(), entry());
    assert_eq!(put(&store, &key, None, &first, LONG).await, Swap::Swapped);
    let mut version = first.version;
    for (row, name, value) in &rows {
        let (next, also) = (
            entry(),
            Beside::new(*name, value.clone(), Duration::from_secs(3600)),
        );
        assert_eq!(
            put_with(&store, &key, Some(version), &next, &also).await,
            Swap::Swapped,
            "{row}"
        );
        version = next.version;
    }
    for (row, name, value) in rows {
        assert_eq!(read_beside(&store, &key, &name).await, Some(value), "{row}");
    }
}

/// Neither names beside one entry nor entries with one name get into each other's way.
pub async fn names_do_not_collide<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let shared = name();
    let mut near = *shared.as_bytes();
    near[15] ^= 1;
    let (one, other) = (key(), key());
    let with =
        |value: &'static str| Beside::new(shared, Bytes::from(value), Duration::from_secs(3600));
    assert_eq!(
        put_with(&store, &one, None, &entry(), &with("of one")).await,
        Swap::Swapped
    );
    assert_eq!(
        read_beside(&store, &other, &shared).await,
        None,
        "another key"
    );
    assert_eq!(
        read_beside(&store, &one, &Name::new(near)).await,
        None,
        "another name"
    );
    assert_eq!(
        put_with(&store, &other, None, &entry(), &with("of the other")).await,
        Swap::Swapped
    );
    assert_eq!(
        read_beside(&store, &one, &shared).await,
        Some(Bytes::from("of one"))
    );
    assert_eq!(
        read_beside(&store, &other, &shared).await,
        Some(Bytes::from("of the other"))
    );
}

/// A value that is written beside an entry under a name that is there takes its place.
pub async fn a_value_beside_can_be_replaced<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let one = long_beside(b"a longer value, which has to go altogether");
    let two = Beside {
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
    assert_eq!(read_beside(&store, &key, &one.name).await, Some(two.value));
}

/// A value beside an entry stays there through changes of the entry that do not name it.
pub async fn a_value_beside_stays_through_swaps_and_claims<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first, also) = (key(), entry(), long_beside(b"stays"));
    assert_eq!(
        put_with(&store, &key, None, &first, &also).await,
        Swap::Swapped
    );
    let claim = take(&store, &key, &first.tag, LONG_LEASE)
        .await
        .expect("there is an entry");
    assert_eq!(
        read_beside(&store, &key, &also.name).await,
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
            read_beside(&store, &key, &also.name).await,
            Some(also.value.clone()),
            "{ttl:?}"
        );
        version = next.version;
    }
}

/// With a conflict nothing is written beside the entry either, and what is there stays as it is.
pub async fn a_conflict_writes_nothing_beside<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, there, kept) = (key(), entry(), long_beside(b"kept"));
    assert_eq!(
        put_with(&store, &key, None, &there, &kept).await,
        Swap::Swapped
    );
    let new = long_beside(b"new");
    let over = Beside {
        value: Bytes::from_static(b"over"),
        ..kept.clone()
    };
    for also in [&new, &over] {
        for expected in [None, Some(entry().version)] {
            let swap = put_with(&store, &key, expected, &entry(), also).await;
            assert_eq!(swap, Swap::Conflict(Some(there.clone())), "{expected:?}");
        }
    }
    assert_eq!(read_beside(&store, &key, &new.name).await, None);
    assert_eq!(
        read_beside(&store, &key, &kept.name).await,
        Some(kept.value)
    );

    let absent = super::key();
    assert_eq!(
        put_with(&store, &absent, Some(there.version), &entry(), &new).await,
        Swap::Conflict(None)
    );
    assert_eq!(
        read_beside(&store, &absent, &new.name).await,
        None,
        "beside what is absent"
    );
    assert_eq!(
        put(&store, &absent, None, &entry(), LONG).await,
        Swap::Swapped
    );
    assert_eq!(
        read_beside(&store, &absent, &new.name).await,
        None,
        "beside what was absent"
    );
}

/// A swap with a value beside the entry can be sent twice as well.
pub async fn a_swap_with_a_value_beside_can_be_sent_twice<S: Store>(make: impl AsyncFn() -> S) {
    let store = make().await;
    let (key, first) = (key(), entry());
    let (one, two) = (long_beside(b"one"), long_beside(b"two"));
    let second = again(&first);
    for time in 1..=2 {
        assert_eq!(
            put_with(&store, &key, None, &first, &one).await,
            Swap::Swapped,
            "time {time}"
        );
        assert_eq!(
            read_beside(&store, &key, &one.name).await,
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
            read_beside(&store, &key, &two.name).await,
            Some(two.value.clone()),
            "time {time}"
        );
    }
    assert_eq!(get(&store, &key).await, Some(second));
}
