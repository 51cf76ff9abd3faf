//! Reads a reference access token from the store and decides whether it is valid.

use crate::access_token::record::AccessRecord;
use crate::clock::Timestamp;
use crate::grant::Record;
use crate::store::{Key, Store, StoreError};
use futures_util::future::join;

/// The reason why an access token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dead {
    /// The store has no such token.
    Unknown,
    /// It has expired.
    Expired,
    /// It was revoked, or its grant has ended.
    Ended,
}

/// A valid access token.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) record: AccessRecord,
    /// The expiry of the token or of its grant, whichever comes first. A rotation may extend the
    /// grant.
    #[cfg_attr(
        not(feature = "access"),
        allow(dead_code, reason = "only `AccessLayer` reads it")
    )]
    pub(crate) until: Timestamp,
}

/// An access token that is not valid.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "access"),
    allow(dead_code, reason = "only `AccessLayer` reads it")
)]
pub(crate) struct Refused {
    pub(crate) dead: Dead,
    /// The record of the token, if the store has one.
    pub(crate) record: Option<AccessRecord>,
}

/// Reads an access token and its grant concurrently, and decides whether the token is valid.
pub(crate) async fn check<St: Store>(
    store: &St,
    key: &Key,
    grant_key: &Key,
    now: Timestamp,
) -> Result<Result<Alive, Refused>, StoreError> {
    let (access, grant) = join(store.get(key), store.get(grant_key)).await;
    let Some(entry) = access? else {
        return Ok(Err(Refused {
            dead: Dead::Unknown,
            record: None,
        }));
    };
    let record = AccessRecord::decode(key, &entry).map_err(StoreError::corrupt)?;
    let grant = match record.has_grant {
        true => grant?
            .map(|entry| Record::decode(grant_key, &entry.tag, &entry.value))
            .transpose(),
        false => Ok(None),
    };
    let grant = grant
        .map_err(StoreError::corrupt)?
        .map(|grant| grant.at(now));
    Ok(match judge(&record, grant.as_ref(), now) {
        Ok(until) => Ok(Alive { record, until }),
        Err(dead) => Err(Refused {
            dead,
            record: Some(record),
        }),
    })
}

/// Returns the time until which an access token is valid, as far as it is known now.
fn judge(record: &AccessRecord, grant: Option<&Record>, now: Timestamp) -> Result<Timestamp, Dead> {
    if now >= record.expires_at {
        return Err(Dead::Expired);
    }
    if record.ended {
        return Err(Dead::Ended);
    }
    if !record.has_grant {
        return Ok(record.expires_at);
    }
    match grant {
        None => Err(Dead::Ended),
        Some(grant) if grant.ended || grant.time(now) >= grant.expires_at => Err(Dead::Ended),
        // This cannot happen, because the key is a hash of random bytes. If it does, this is not
        // the grant of the token.
        Some(grant) if grant.binding.client_id != record.client_id => Err(Dead::Unknown),
        Some(grant) => Ok(record.expires_at.min(grant.expires_at)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::grant::Binding;

    const NOW: Timestamp = Timestamp::from_millis(10_000);

    fn token(expires_at: u64, has_grant: bool, ended: bool) -> AccessRecord {
        AccessRecord {
            client_id: "app".into(),
            scope: None,
            resources: Vec::new(),
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(expires_at),
            has_grant,
            sealed: Bytes::new(),
            ended,
            unknown: Vec::new(),
        }
    }

    fn grant(client: &str, expires_at: u64, ended: bool) -> Option<Record> {
        let binding = Binding {
            client_id: client.into(),
            scope: None,
            resources: Vec::new(),
            absolute_end: None,
        };
        let lifetime = Duration::from_millis(expires_at);
        let record = Record::begin(
            binding,
            Bytes::new(),
            Timestamp::from_millis(0),
            lifetime,
            None,
        );
        Some(Record { ended, ..record })
    }

    #[test]
    fn the_decision_table_of_an_access_token() {
        let rows = [
            (
                "valid with its grant",
                token(20_000, true, false),
                grant("app", 30_000, false),
                Ok(20_000),
            ),
            (
                "the grant expires before the token",
                token(20_000, true, false),
                grant("app", 15_000, false),
                Ok(15_000),
            ),
            (
                "valid without a grant",
                token(20_000, false, false),
                None,
                Ok(20_000),
            ),
            (
                "a token without a grant ignores an unrelated grant",
                token(20_000, false, false),
                grant("app", 1, true),
                Ok(20_000),
            ),
            (
                "expired",
                token(10_000, true, false),
                grant("app", 30_000, false),
                Err(Dead::Expired),
            ),
            (
                "expired without a grant",
                token(9_000, false, false),
                None,
                Err(Dead::Expired),
            ),
            (
                "revoked",
                token(20_000, true, true),
                grant("app", 30_000, false),
                Err(Dead::Ended),
            ),
            (
                "revoked without a grant",
                token(20_000, false, true),
                None,
                Err(Dead::Ended),
            ),
            (
                "its grant does not exist",
                token(20_000, true, false),
                None,
                Err(Dead::Ended),
            ),
            (
                "its grant was revoked",
                token(20_000, true, false),
                grant("app", 30_000, true),
                Err(Dead::Ended),
            ),
            (
                "its grant has expired",
                token(20_000, true, false),
                grant("app", 10_000, false),
                Err(Dead::Ended),
            ),
            (
                "its grant belongs to another client",
                token(20_000, true, false),
                grant("b", 30_000, false),
                Err(Dead::Unknown),
            ),
        ];
        for (name, record, grant, expected) in rows {
            assert_eq!(
                judge(&record, grant.as_ref(), NOW),
                expected.map(Timestamp::from_millis),
                "{name}"
            );
        }
    }
}
