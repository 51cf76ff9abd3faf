use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::fuzzing::redis_entry::{beginning, claimed, decode, encode};
use tower_oauth_refresh::store::{Entry, StoreError, Version};

/// Checks the codec of entries in Redis. The input is the value of a Redis key.
pub fn redis_entry(input: &[u8]) {
    match decode(input.to_vec()) {
        Ok(entry) => {
            assert_eq!(encode(&entry), input, "the entry is encoded to other bytes");
            assert_eq!(
                entry.value,
                input[47..],
                "the value is not the part after the head"
            );
            assert!(
                input.starts_with(&beginning(entry.version)),
                "the entry does not begin as a swap of this version expects"
            );
            assert!(
                entry.lease.is_none_or(|end| end.as_millis() > 0),
                "a zero expiry was decoded as a lease"
            );
            let version = Version::new([7; 8]);
            let after = Entry::new(version, entry.tag, entry.value)
                .with_lease(Some(Timestamp::from_millis(1_700_000_000_001)));
            let after = encode(&after);
            let written = claimed(input.to_vec(), version, &after[9..15]);
            assert!(
                written.is_some_and(|written| written == (after, true)),
                "a claim changes more than version and lease"
            );
        }
        Err(StoreError::Corrupt(_)) => assert!(
            input.len() < 47 || input[0] != 1,
            "a valid entry was rejected"
        ),
        Err(error) => panic!("decoding failed with another error: {error}"),
    }
}
