//! The encoding of a record: round trips, damage, later versions and size.

use proptest::prelude::*;

use super::*;
use crate::codec::DecodeError;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_record_survives_encoding_and_decoding(record in any_record(), tag in any::<[u8; 32]>()) {
        let tag = ClaimTag::new(tag);
        let value = record.encode(&KEY, &tag);
        prop_assert_eq!(Record::decode(&KEY, &tag, &value).unwrap(), record.clone());
        prop_assert_eq!(Binding::decode(&value).unwrap(), record.binding.clone());
        prop_assert!(Record::decode(&Key::new([8; 32]), &tag, &value).is_err(), "under another key");
    }

    #[test]
    fn a_damaged_record_is_rejected(
        record in any_record(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
        cut in any::<bool>(),
    ) {
        let tag = hash(1);
        let value = record.encode(&KEY, &tag);
        let at = at.index(value.len());
        let mut damaged = value.to_vec();
        if cut { damaged.truncate(at) } else { damaged[at] ^= flip }
        prop_assert!(Record::decode(&KEY, &tag, &damaged.into()).is_err());
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), format in any::<bool>()) {
        if let (true, Some(first)) = (format, bytes.first_mut()) {
            *first = 1;
        }
        let _ = Binding::decode(&bytes.clone().into());
        prop_assert!(Record::decode(&KEY, &hash(1), &bytes.into()).is_err());
    }
}
fn any_record() -> impl Strategy<Value = Record> {
    let time = || (0..1_u64 << 47).prop_map(Timestamp::from_millis);
    let bytes = || prop::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from);
    let text = || "[ -~äß]{0,40}".prop_map(|text: String| Utf8::from(text.as_str()));
    let previous = (
        any::<[u8; 32]>(),
        [time(), time(), time()],
        prop::option::of(bytes()),
    )
        .prop_map(
            |(hash, [retry_until, shared_until, recover_until], link)| Previous {
                hash: ClaimTag::new(hash),
                link,
                retry_until,
                shared_until,
                recover_until,
            },
        );
    let binding = (
        text(),
        prop::option::of(text()),
        prop::collection::vec(text(), 0..3),
        prop::option::of(time()),
    )
        .prop_map(|(client_id, scope, resources, absolute_end)| Binding {
            client_id,
            scope,
            resources,
            absolute_end,
        });
    let unknown = prop::collection::vec((100..=u8::MAX, bytes()), 0..3);
    let times = (
        time(),
        prop::option::of(time()),
        prop::option::of(time()),
        prop::option::of(time()),
        time(),
    );
    (
        binding,
        times,
        any::<u32>(),
        (bytes(), prop::option::of(bytes())),
        prop::option::of(previous),
        (
            any::<[bool; 3]>(),
            [prop::option::of(time()), prop::option::of(time())],
        ),
        unknown,
    )
        .prop_map(
            |(
                binding,
                (created_at, rotated_at, upstream_end, authorization_end, expires_at),
                generation,
                (sealed, revocable),
                previous,
                ([presented, revocation_pending, authenticated], [repeat_until, minted_at]),
                unknown,
            )| Record {
                binding,
                created_at,
                rotated_at,
                upstream_end,
                authorization_end,
                expires_at,
                generation,
                sealed,
                previous,
                profile: None,
                revocable,
                listed_until: None,
                presented,
                repeat_until,
                minted_at,
                revocation_pending,
                authenticated,
                unknown,
            },
        )
}
#[test]
fn a_grant_stays_authenticated_and_pays_for_it_alone() {
    let public = record();
    assert!(!public.authenticated);
    let decoded = |record: &Record| {
        let value = record.encode(&KEY, &hash(7));
        let decoded = Record::decode(&KEY, &hash(7), &value).unwrap();
        (decoded.authenticated, value.len())
    };
    let (authenticated, len) = decoded(&public);
    assert!(!authenticated, "a record without the field");
    let confidential = public.clone().granted_with(true);
    assert_eq!(decoded(&confidential), (true, len + 2));
    // Later rotations have no credential.
    let next = rotated(&confidential, at(2000), 8, hash(7));
    let next = next.granted_with(false).presented();
    let next = rotated(&next, at(3000), 10, hash(7));
    let next = next.with_pending_revocation(at(4000)).at(at(3500));
    assert!(next.authenticated);
    assert!(!rotated(&public, at(2000), 8, hash(7)).authenticated);
}

#[test]
fn an_upstream_token_for_revocation_is_of_the_last_renewal() {
    let plain = record();
    let len = |record: &Record| record.encode(&KEY, &hash(7)).len();
    let next = plain.renewed(Renewal {
        revocable: Some(Bytes::from_static(b"revocable")),
        ..renewal(at(2000))
    });
    let value = next.encode(&KEY, &hash(7));
    assert_eq!(Record::decode(&KEY, &hash(7), &value), Ok(next.clone()));
    let without = renewed(&next, at(2000));
    assert_eq!(without.revocable, None, "the option was removed");
    assert_eq!(len(&next), len(&without) + 2 + 9);
}

#[test]
fn fields_of_a_later_version_survive_a_rotation() {
    let mut record = record();
    record.unknown.push((200, Bytes::from_static(b"later")));
    let next = rotated(&record, at(2000), 8, hash(7));
    let value = next.encode(&KEY, &hash(8));
    assert_eq!(
        Record::decode(&KEY, &hash(8), &value).unwrap().unknown,
        record.unknown
    );
}

#[test]
fn a_flag_with_contents_is_rejected() {
    let mut record = record();
    record.unknown.push((11, Bytes::from_static(b"later")));
    let value = record.encode(&KEY, &hash(7));
    assert_eq!(
        Record::decode(&KEY, &hash(7), &value),
        Err(DecodeError::Damaged)
    );
}

#[test]
fn a_later_format_is_reported_with_its_number() {
    let mut value = record().encode(&KEY, &hash(7)).to_vec();
    value[0] = 2;
    assert_eq!(
        Record::decode(&KEY, &hash(7), &value.into()).unwrap_err(),
        DecodeError::Format(2)
    );
}

#[test]
fn debug_output_contains_no_sealed_bytes() {
    let shown = format!("{:?} {:?}", record(), record().previous);
    assert!(
        shown.contains("app") && !shown.contains("sealed"),
        "{shown}"
    );
}

#[test]
fn a_record_takes_at_most_325_bytes() {
    let mut record = record();
    record.binding.client_id = "0123456789abcdef0123456789abcdef0123".into();
    record.binding.scope = Some("openid profile".into());
    record.sealed = Bytes::from(vec![0; 64 + crate::seal::OVERHEAD]);
    if let Some(previous) = &mut record.previous {
        previous.link = Some(Bytes::from(vec![0; crate::link::LEN]));
    }
    let len = record.encode(&KEY, &hash(7)).len();
    assert!(len <= 325, "{len} bytes");
}
