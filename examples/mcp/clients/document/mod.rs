//! Clients that are known by a document of their own, at the URL that is their id
//! (draft-ietf-oauth-client-id-metadata-document).

mod address;
mod age;
mod client_id;
mod fetch;
mod flights;
mod limits;
mod resolver;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tower_oauth_refresh::store::StoreError;

use self::age::freshness;
use self::client_id::ClientIdUrl;
pub(crate) use self::fetch::FetcherError;
use self::fetch::{Fetched, Fetcher};
use self::flights::Flights;
use super::client::Client;
use super::rules::{AUTH_METHODS, InvalidMetadata, Metadata, Rules};
use crate::records::{Kind, Records};

/// Why a client's document is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the client id is no URL of a client id metadata document")]
    ClientId,
    /// The URL names an address that is not public, or a port other than 443.
    #[error("the client's document cannot be fetched")]
    NotPublic,
    /// The fetch failed. The source is for the log only: a client must not learn from the answer
    /// how a name resolves on this network, or which addresses and ports exist.
    #[error("the client's document cannot be fetched")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    #[error("too many documents of clients are being fetched: try again in a moment")]
    Busy,
    #[error("the client's document cannot be fetched: its host answers with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the client's document is not JSON by its Content-Type")]
    ContentType,
    #[error("the client's document is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the client's document is of another client: its client_id is another URL")]
    OfAnother,
    #[error("the client's document holds a secret, which everybody can read")]
    Secret,
    #[error("the client's document asks for a secret, which nobody can share with it")]
    AuthMethod,
    #[error("the client's document cannot be used: {0}")]
    Metadata(Arc<InvalidMetadata>),
}

/// What a document says beside its metadata.
#[derive(Deserialize)]
struct Identity {
    client_id: Option<String>,
    client_secret: Option<IgnoredAny>,
    client_secret_expires_at: Option<IgnoredAny>,
}

/// A document that was taken, and how long it is good.
type Taken = Result<(Client, Duration), DocumentError>;

/// The documents of clients. Those that were taken are remembered as long as their headers allow;
/// errors are not (the draft forbids it), but whoever asks while a document is on its way gets the
/// same answer.
#[derive(Clone, Debug)]
pub(super) struct Documents {
    records: Records,
    fetcher: Fetcher,
    flights: Arc<Flights<Taken>>,
}

impl Documents {
    pub(super) fn new(
        records: Records,
        ca: Option<&Path>,
        loopback: bool,
    ) -> Result<Self, FetcherError> {
        Ok(Self {
            records,
            fetcher: Fetcher::new(ca, loopback)?,
            flights: Arc::default(),
        })
    }

    /// Whether a client id is meant as the URL of a document.
    pub(super) fn is_named_by(client_id: &str) -> bool {
        client_id.contains("://")
    }

    pub(super) async fn find(
        &self,
        client_id: &str,
        rules: &Rules,
    ) -> Result<Result<Client, DocumentError>, StoreError> {
        let Some(url) = ClientIdUrl::parse(client_id) else {
            return Ok(Err(DocumentError::ClientId));
        };
        if let Some(stored) = self
            .records
            .get(Kind::MetadataDocument, url.as_str())
            .await?
        {
            return Ok(Ok(stored.value));
        }
        let taken = self
            .flights
            .join(url.as_str(), self.take(&url, rules))
            .await;
        Ok(taken.map(|(client, _)| client))
    }

    async fn take(&self, url: &ClientIdUrl, rules: &Rules) -> Taken {
        let taken = self
            .fetcher
            .fetch(url)
            .await
            .and_then(|fetched| read(url, &fetched, rules));
        match &taken {
            Ok((client, age)) => {
                // It is as good without.
                if let Err(error) = self
                    .records
                    .put(Kind::MetadataDocument, url.as_str(), client, *age)
                    .await
                {
                    tracing::warn!(
                        error = crate::causes::causes(&error),
                        "a client's document could not be remembered"
                    );
                }
            }
            Err(error) => {
                tracing::info!(
                    client_id = url.as_str(),
                    error = crate::causes::causes(error),
                    "a client is not known"
                );
            }
        }
        taken
    }
}

fn read(url: &ClientIdUrl, fetched: &Fetched, rules: &Rules) -> Taken {
    let invalid = |error: InvalidMetadata| DocumentError::Metadata(Arc::new(error));
    let metadata = Metadata::parse(&fetched.body, rules).map_err(invalid)?;
    let identity: Identity =
        serde_json::from_slice(&fetched.body).map_err(|error| invalid(error.into()))?;
    if identity.client_id.as_deref() != Some(url.as_str()) {
        return Err(DocumentError::OfAnother);
    }
    if identity.client_secret.is_some() || identity.client_secret_expires_at.is_some() {
        return Err(DocumentError::Secret);
    }
    if metadata.auth_method != AUTH_METHODS[0] {
        return Err(DocumentError::AuthMethod);
    }
    let client = Client {
        client_id: url.as_str().to_owned(),
        client_name: metadata.client_name,
        client_uri: metadata.client_uri,
        redirect_uris: metadata.redirect_uris,
        scope: metadata.scope,
        secret: None,
    };
    Ok((client, freshness(&fetched.headers)))
}
