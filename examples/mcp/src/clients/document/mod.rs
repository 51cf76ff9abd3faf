//! Clients whose ID is the URL of a metadata document
//! (draft-ietf-oauth-client-id-metadata-document).

mod address;
mod age;
mod client_id;
mod fetch;
mod limits;
mod resolver;
mod single_flight;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use self::age::freshness;
use self::client_id::ClientIdUrl;
use self::fetch::Fetched;
pub(super) use self::fetch::Fetcher;
pub(crate) use self::fetch::{FetchError, FetcherError};
use self::single_flight::SingleFlight;
use super::ClientError;
use super::client::Client;
use super::rules::{InvalidMetadata, Metadata, Origin, Rules};
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

/// The client in a document and the document's freshness lifetime, or an error.
type Taken = Result<(Client, Duration), DocumentError>;

/// Metadata documents of clients. A valid document is cached for as long as its headers allow.
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

    /// Returns the client that is described by the document at this URL.
    pub(super) async fn find(&self, client_id: &str, rules: &Rules) -> Result<Client, ClientError> {
        let Some(url) = ClientIdUrl::parse(client_id) else {
            return Err(DocumentError::ClientId.into());
        };
        if let Some(stored) = self
            .records
            .get(Kind::MetadataDocument, url.as_str())
            .await?
        {
            return Ok(stored.value);
        }
        let (client, _) = self
            .fetches
            .join(url.as_str(), self.take(&url, rules))
            .await?;
        Ok(client)
    }

    async fn take(&self, url: &ClientIdUrl, rules: &Rules) -> Taken {
        let taken = self
            .fetcher
            .fetch(url.url(), LARGEST)
            .await
            .map_err(DocumentError::from)
            .and_then(|fetched| read(url, &fetched, rules));
        match &taken {
            Ok((client, age)) => {
                // The document is only fetched again if it could not be stored.
                if let Err(error) = self
                    .records
                    .put(Kind::MetadataDocument, url.as_str(), client, *age)
                    .await
                {
                    tracing::warn!(
                        error = server_common::causes::causes(&error),
                        "could not cache a client metadata document: it will be fetched again"
                    );
                }
            }
            Err(error) => {
                tracing::info!(
                    client_id = url.as_str(),
                    error = server_common::causes::causes(error),
                    "could not use a client metadata document"
                );
            }
        }
        taken
    }
}

fn read(url: &ClientIdUrl, fetched: &Fetched, rules: &Rules) -> Taken {
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
    Ok((client, freshness(&fetched.headers)))
}
