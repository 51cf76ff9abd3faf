//! Clients that registered themselves (RFC 7591).

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tower_oauth_refresh::store::StoreError;

use super::client::{Client, SecretHash};
use super::rules::{Metadata, has_secret};
use crate::records::{Handle, Kind, Records};

/// The shortest time between two renewals of a registration. If a tenth of the lifetime is shorter,
/// that applies instead.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

/// The lifetime of a registration before a user has logged in with its client. Anyone can register
/// any number of clients.
const UNUSED: Duration = Duration::from_secs(24 * 60 * 60);

/// The registered clients.
///
/// A registration expires after a day without a log-in, and otherwise one lifetime after its last
/// use. A registration with a secret then expires together with the secret, at the time that was
/// announced to the client.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    records: Records,
    lifetime: Duration,
}

/// A new registration. The secret is not stored, so that only the client will know it.
pub(crate) struct Registration {
    pub(crate) client: Client,
    pub(crate) secret: Option<String>,
    pub(crate) auth_method: &'static str,
    pub(crate) application_type: Option<&'static str>,
    /// In seconds since 1970.
    pub(crate) issued_at: u64,
    /// The time at which the secret expires, in seconds since 1970.
    pub(crate) expires_at: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    client: Client,
    /// The time of the registration or of the last renewal, in seconds since 1970.
    written_at: u64,
    /// Whether a user has logged in with the client. Earlier versions did not store it.
    #[serde(default = "known")]
    is_used: bool,
}

const fn known() -> bool {
    true
}

impl Registered {
    pub(super) const fn new(records: Records, lifetime: Duration) -> Self {
        Self { records, lifetime }
    }

    /// Stores a new client, with a secret if its authentication method needs one.
    pub(super) async fn register(&self, metadata: Metadata) -> Result<Registration, StoreError> {
        let secret = if has_secret(metadata.auth.method) {
            Some(Handle::random()?.to_string())
        } else {
            None
        };
        let client = Client {
            client_id: Handle::random()?.to_string(),
            client_name: metadata.client_name,
            client_uri: metadata.client_uri,
            redirect_uris: metadata.redirect_uris,
            scope: metadata.scope,
            secret: secret.as_deref().map(SecretHash::of),
            keys: metadata.auth.keys,
        };
        let issued_at = now();
        let record = Record {
            client: client.clone(),
            written_at: issued_at,
            is_used: false,
        };
        self.write(&record, UNUSED.min(self.lifetime)).await?;
        let expires_at = issued_at.saturating_add(self.lifetime.as_secs());
        Ok(Registration {
            client,
            secret,
            auth_method: metadata.auth.method,
            application_type: metadata.application_type,
            issued_at,
            expires_at,
        })
    }

    /// Returns a client, and renews its registration if the last renewal was long ago.
    pub(super) async fn find(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        let Some(stored) = self.records.get::<Record>(Kind::Client, client_id).await? else {
            return Ok(None);
        };
        let mut record = stored.value;
        let is_old = record.age() >= RENEWAL.min(self.lifetime / 10);
        if record.is_used && record.client.secret.is_none() && is_old {
            record.written_at = now();
            // The request succeeds even if the renewal fails: the next request tries again.
            if let Err(error) = self.write(&record, self.lifetime).await {
                tracing::warn!(
                    error = server_common::causes::causes(&error),
                    "could not renew a client registration: the next request tries again"
                );
            }
        }
        Ok(Some(record.client))
    }

    /// Keeps a registration for its whole lifetime, because a user logs in with its client.
    pub(super) async fn keep(&self, client_id: &str) -> Result<(), StoreError> {
        let stored = self.records.get::<Record>(Kind::Client, client_id).await?;
        let Some(mut record) = stored.map(|stored| stored.value) else {
            return Ok(());
        };
        if record.is_used {
            return Ok(());
        }
        record.is_used = true;
        let mut left = self.lifetime;
        if record.client.secret.is_some() {
            left = left.saturating_sub(record.age());
        } else {
            record.written_at = now();
        }
        self.write(&record, left.max(Duration::from_secs(1))).await
    }

    async fn write(&self, record: &Record, lifetime: Duration) -> Result<(), StoreError> {
        let id = &record.client.client_id;
        self.records.put(Kind::Client, id, record, lifetime).await
    }
}

impl Record {
    fn age(&self) -> Duration {
        Duration::from_secs(now().saturating_sub(self.written_at))
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
