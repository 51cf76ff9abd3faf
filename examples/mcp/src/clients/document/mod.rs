//! Clients whose ID is the URL of a metadata document
//! (draft-ietf-oauth-client-id-metadata-document).

mod age;
mod client_id;
mod fetch;
mod limits;
mod resolver;
mod single_flight;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use self::age::freshness;
use self::client_id::ClientIdUrl;
use self::fetch::Fetched;
pub(super) use self::fetch::Fetcher;
pub(crate) use self::fetch::{FetchError, FetcherError};
pub(super) use self::limits::Seen;
use self::single_flight::SingleFlight;
use super::ClientError;
use super::client::Client;
use super::rules::{InvalidMetadata, Metadata, Origin, Rules};
use crate::rate_limit::Network;
use crate::records::{Kind, Records};

/// The reason why a client's metadata document was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the client ID is not a valid URL of a client ID metadata document")]
    ClientId,
    #[error("the client metadata document {0}")]
    Fetch(#[from] FetchError),
    #[error("the client_id in the client metadata document is not the URL of the document")]
    OfAnother,
    #[error("the client metadata document contains a secret, but anyone can read the document")]
    Secret,
    #[error("the client metadata document is invalid: {0}")]
    Metadata(Arc<InvalidMetadata>),
}

const KIND: Kind = Kind::MetadataDocument;

/// The maximum size of a document, in bytes (draft-ietf-oauth-client-id-metadata-document, "Maximum
/// Response Size").
const LARGEST: usize = 5 * 1024;

/// The members of a document that are not client metadata.
#[derive(Deserialize)]
struct Identity {
    client_id: Option<String>,
    client_secret: Option<IgnoredAny>,
    client_secret_expires_at: Option<IgnoredAny>,
}

/// The time for which a document is used after it is no longer fresh, if it cannot be fetched now.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The time after which a stale document is fetched again.
const RETRY: Duration = Duration::from_secs(60);

/// The client in a document, in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cached {
    client: Client,
    /// The time at which the document is fetched again.
    fresh_until: SystemTime,
    /// The time until which the document is used if it cannot be fetched.
    usable_until: SystemTime,
}

impl Cached {
    fn new(client: Client, age: Duration) -> Self {
        let fresh_until = SystemTime::now() + age;
        Self {
            client,
            fresh_until,
            usable_until: fresh_until + STALE,
        }
    }

    /// Returns the client if the document is still valid, and keeps it for [`RETRY`].
    fn revive(mut self, now: SystemTime) -> Option<Self> {
        self.fresh_until = (now + RETRY).min(self.usable_until);
        (now < self.usable_until).then_some(self)
    }

    fn time_left(&self) -> Duration {
        let left = self.usable_until.duration_since(SystemTime::now());
        left.unwrap_or_default().max(Duration::from_secs(1))
    }
}

/// The client in a document, or an error.
type Taken = Result<Client, DocumentError>;

/// Metadata documents of clients. A valid document is cached for as long as its headers allow, and
/// used for [`STALE`] longer if it cannot be fetched then: an attacker can use up the limits of
/// fetches, and must not lock out clients.
///
/// Errors are not cached, as the draft requires, but concurrent requests for a document share one
/// fetch and its result.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    records: Records,
    fetcher: Fetcher,
    fetches: Arc<SingleFlight<Taken>>,
}

impl Documents {
    pub(super) fn new(records: Records, fetcher: Fetcher) -> Self {
        Self {
            records,
            fetcher,
            fetches: Arc::default(),
        }
    }

    /// Returns whether a client ID looks like a URL.
    pub(super) fn is_named_by(client_id: &str) -> bool {
        client_id.contains("://")
    }

    /// Returns the client that is described by the document at this URL. A fetch counts against the
    /// limit of `network`. Beyond it, a document is used for as long as it would be if its host did
    /// not respond, and requests of other networks fetch it.
    pub(super) async fn find(
        &self,
        client_id: &str,
        network: Network,
        rules: &Rules,
    ) -> Result<Client, ClientError> {
        let Some(url) = ClientIdUrl::parse(client_id) else {
            return Err(DocumentError::ClientId.into());
        };
        let stored = self.records.get::<Cached>(KIND, url.as_str()).await?;
        let cached = stored.map(|stored| stored.value);
        let now = SystemTime::now();
        let known = match cached {
            Some(cached) if now < cached.fresh_until => return Ok(cached.client),
            cached => cached.and_then(|cached| cached.revive(now)),
        };
        let taken = async {
            self.fetcher.admit(network)?;
            Ok::<_, FetchError>(self.take(&url, known.clone(), rules).await)
        };
        match (self.fetches.join(url.as_str(), taken).await, known) {
            (Ok(taken), _) => Ok(taken?),
            // It is not kept, so that the next request of another network fetches it.
            (Err(_), Some(cached)) => Ok(cached.client),
            (Err(refused), None) => Err(DocumentError::from(refused).into()),
        }
    }

    /// Fetches a document. `known` is the result of an earlier fetch.
    async fn take(&self, url: &ClientIdUrl, known: Option<Cached>, rules: &Rules) -> Taken {
        let seen = known.as_ref().map_or(Seen::Never, |_| Seen::Valid);
        let fetched = self.fetcher.fetch(url.url(), seen, LARGEST).await;
        let read = fetched
            .map_err(DocumentError::from)
            .and_then(|fetched| read(url, &fetched, rules));
        let error = match read {
            Ok(cached) => {
                self.keep(url, &cached).await;
                return Ok(cached.client);
            }
            Err(error) => error,
        };
        let is_temporary = matches!(&error, DocumentError::Fetch(why) if why.is_temporary());
        tracing::info!(
            client_id = url.as_str(),
            error = server_common::causes::causes(&error),
            "could not use a client metadata document"
        );
        match known {
            Some(cached) if is_temporary => {
                self.keep(url, &cached).await;
                Ok(cached.client)
            }
            Some(mut cached) => {
                cached.fresh_until = SystemTime::UNIX_EPOCH;
                cached.usable_until = SystemTime::UNIX_EPOCH;
                self.keep(url, &cached).await;
                Err(error)
            }
            None => Err(error),
        }
    }

    async fn keep(&self, url: &ClientIdUrl, cached: &Cached) {
        let kept = self
            .records
            .put(KIND, url.as_str(), cached, cached.time_left());
        // The document is only fetched again if it could not be stored.
        if let Err(error) = kept.await {
            tracing::warn!(
                error = server_common::causes::causes(&error),
                "could not cache a client metadata document: it will be fetched again"
            );
        }
    }
}

fn read(url: &ClientIdUrl, fetched: &Fetched, rules: &Rules) -> Result<Cached, DocumentError> {
    let invalid = |error: InvalidMetadata| DocumentError::Metadata(Arc::new(error));
    let metadata = Metadata::parse(&fetched.body, Origin::Document, rules).map_err(invalid)?;
    let identity: Identity =
        serde_json::from_slice(&fetched.body).map_err(|error| invalid(error.into()))?;
    if identity.client_id.as_deref() != Some(url.as_str()) {
        return Err(DocumentError::OfAnother);
    }
    if identity.client_secret.is_some() || identity.client_secret_expires_at.is_some() {
        return Err(DocumentError::Secret);
    }
    let client = Client {
        client_id: url.as_str().to_owned(),
        client_name: metadata.client_name,
        client_uri: metadata.client_uri,
        redirect_uris: metadata.redirect_uris,
        scope: metadata.scope,
        secret: None,
        keys: metadata.auth.keys,
    };
    Ok(Cached::new(client, freshness(&fetched.headers)))
}
