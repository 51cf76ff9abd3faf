use crate::store::StoreError;
use crate::store::redis_entry::{beginning, decode, encode};

/// Input: what lies in Redis under the key of an entry.
pub fn redis_entry(input: &[u8]) {
    match decode(input.to_vec()) {
        Ok(entry) => {
            assert_eq!(encode(&entry), input, "an entry is written as it was read");
            assert_eq!(entry.value, input[47..], "its value is what comes behind the head");
            assert!(input.starts_with(&beginning(entry.version)), "it begins as a swap expects of this version");
            assert!(entry.lease.is_none_or(|end| end.as_millis() > 0), "no lease is none");
        }
        Err(StoreError::Corrupt(_)) => assert!(input.len() < 47 || input[0] != 1, "an entry of this format is read"),
        Err(error) => panic!("{error} is no word for bytes"),
    }
}
