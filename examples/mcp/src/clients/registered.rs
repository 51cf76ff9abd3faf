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

/// The registered clients.
///
/// A registration expires one lifetime after its last use. A registration with a secret expires
/// together with the secret, at the time that was announced to the client.
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
    /// The time of the last renewal, in seconds since 1970.
    written_at: u64,
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
        self.write(&client, issued_at).await?;
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
        let Record { client, written_at } = stored.value;
        let age = Duration::from_secs(now().saturating_sub(written_at));
        if client.secret.is_none() && age >= RENEWAL.min(self.lifetime / 10) {
            // The request succeeds even if the renewal fails: the next request tries again.
            if let Err(error) = self.write(&client, now()).await {
                tracing::warn!(
                    error = server_common::causes::causes(&error),
                    "could not renew a client registration: the next request tries again"
                );
            }
        }
        Ok(Some(client))
    }

    async fn write(&self, client: &Client, written_at: u64) -> Result<(), StoreError> {
        let record = Record {
            client: client.clone(),
            written_at,
        };
        self.records
            .put(Kind::Client, &client.client_id, &record, self.lifetime)
            .await
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
