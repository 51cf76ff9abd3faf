//! Reads a reference access token from the store and decides whether it is valid.

use std::time::Duration;

#[cfg(feature = "access")]
use futures_util::future::join;
use futures_util::future::join3;

use crate::access_token::record::AccessRecord;
use crate::clock::Timestamp;
use crate::epochs::{Epochs, Table};
use crate::grant::Record;
use crate::store::{Entry, Key, Store, StoreError};

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

/// An access token in the store.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) record: AccessRecord,
    /// The expiry of the token or of its grant, whichever comes first. A rotation may extend the
    /// grant.
    pub(crate) until: Result<Timestamp, Dead>,
    /// The age of the epochs that the check used.
    #[allow(dead_code, reason = "only the feature `access` reads it")]
    pub(crate) epochs_age: Duration,
}

/// Reads an access token and its grant concurrently, and decides whether the token is valid. The
/// epochs that it uses are younger than `max_age`. Returns `None` if the store has no such token.
pub(crate) async fn check<St: Store>(
    store: &St,
    key: &Key,
    grant_key: &Key,
    now: Timestamp,
    epochs: &Epochs,
    max_age: Duration,
) -> Result<Option<Checked>, StoreError> {
    let epochs = epochs.younger_than(max_age, store);
    let (access, grant, epochs) = join3(store.get(key), store.get(grant_key), epochs).await;
    let Some(entry) = access? else {
        return Ok(None);
    };
    let (epochs, epochs_age) = epochs?;
    let record = AccessRecord::decode(key, &entry).map_err(StoreError::corrupt)?;
    let grant = if record.has_grant {
        decode_grant(grant_key, grant?, &epochs, now)?
    } else {
        None
    };
    let until = judge(&record, grant.as_ref(), &epochs, now);
    Ok(Some(Checked {
        record,
        until,
        epochs_age,
    }))
}

/// Reads the grant of an access token and returns whether it has ended or expired.
///
/// It is for a token that has expired: the store may have removed it, so that [`check`] cannot
/// distinguish its expiry from its revocation.
#[cfg(feature = "access")]
pub(crate) async fn grant_is_over<St: Store>(
    store: &St,
    grant_key: &Key,
    now: Timestamp,
    epochs: &Epochs,
) -> Result<bool, StoreError> {
    let (grant, epochs) = join(store.get(grant_key), epochs.current(store)).await;
    let grant = decode_grant(grant_key, grant?, &*epochs?, now)?;
    Ok(grant.is_none_or(|grant| grant.is_over(now)))
}

/// Decodes a grant. Returns `None` if it is absent, or was ended with others.
fn decode_grant(
    key: &Key,
    entry: Option<Entry>,
    epochs: &Table,
    now: Timestamp,
) -> Result<Option<Record>, StoreError> {
    let Some(entry) = entry else {
        return Ok(None);
    };
    let grant = Record::decode(key, &entry.tag, &entry.value).map_err(StoreError::corrupt)?;
    Ok((!grant.has_ended(epochs)).then(|| grant.at(now)))
}

/// Returns the time until which an access token is valid, as far as it is known now.
fn judge(
    record: &AccessRecord,
    grant: Option<&Record>,
    epochs: &Table,
    now: Timestamp,
) -> Result<Timestamp, Dead> {
    if now >= record.expires_at {
        return Err(Dead::Expired);
    }
    if record.revocation_pending {
        return Err(Dead::Ended);
    }
    if !record.has_grant {
        let has_ended = epochs.ends(record.client_id.as_str(), record.issued_at);
        return match has_ended {
            true => Err(Dead::Ended),
            false => Ok(record.expires_at),
        };
    }
    let grant = grant
        .filter(|grant| !grant.is_over(now))
        .ok_or(Dead::Ended)?;
    if grant.binding.client_id != record.client_id {
        // This cannot happen, because the key is a hash of random bytes. If it does, this is not
        // the grant of the token.
        return Err(Dead::Unknown);
    }
    Ok(record.expires_at.min(grant.expires_at))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::grant::Binding;

    const NOW: Timestamp = Timestamp::from_millis(10_000);

    fn token(expires_at: u64, has_grant: bool, revocation_pending: bool) -> AccessRecord {
        AccessRecord {
            client_id: "app".into(),
            scope: None,
            resources: Vec::new(),
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(expires_at),
            has_grant,
            sealed: Bytes::new(),
            profile: None,
            renewable: None,
            revocation_pending,
            unknown: Vec::new(),
        }
    }

    fn grant(client: &str, expires_at: u64, revocation_pending: bool) -> Option<Record> {
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
            None,
        );
        Some(Record {
            revocation_pending,
            ..record
        })
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
                judge(&record, grant.as_ref(), &Table::default(), NOW),
                expected.map(Timestamp::from_millis),
                "{name}"
            );
        }
    }
}
