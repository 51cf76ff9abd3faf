use crate::clock::Timestamp;
use crate::store::redis_entry::{beginning, decode, encode, with_head};
use crate::store::{Entry, StoreError, Version};

/// Input: what lies in Redis under the key of an entry.
pub fn redis_entry(input: &[u8]) {
    match decode(input.to_vec()) {
        Ok(entry) => {
            assert_eq!(encode(&entry), input, "an entry is written as it was read");
            assert_eq!(
                entry.value,
                input[47..],
                "its value is what comes behind the head"
            );
            assert!(
                input.starts_with(&beginning(entry.version)),
                "it begins as a swap expects of this version"
            );
            assert!(
                entry.lease.is_none_or(|end| end.as_millis() > 0),
                "no lease is none"
            );
            let claimed = Entry::new(Version::new([7; 8]), entry.tag, entry.value)
                .with_lease(Some(Timestamp::from_millis(1_700_000_000_000)));
            let written = with_head(input.to_vec(), &encode(&claimed)[1..15]);
            assert!(
                written.is_some_and(|bytes| bytes == encode(&claimed)),
                "a claim changes version and lease alone"
            );
        }
        Err(StoreError::Corrupt(_)) => assert!(
            input.len() < 47 || input[0] != 1,
            "an entry of this format is read"
        ),
        Err(error) => panic!("{error} is no word for bytes"),
    }
}
