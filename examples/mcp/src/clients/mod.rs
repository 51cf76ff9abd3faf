//! The clients of this server: clients in the operator's file, registered clients, and clients
//! whose ID is the URL of a client ID metadata document.

mod client;
mod configured;
mod document;
mod flags;
mod keys;
mod registered;
mod rules;

use std::sync::Arc;

use server_common::jose::Keys;
use tower_oauth_refresh::store::StoreError;

pub(crate) use self::client::{Client, ClientKeys, KeyLocation};
use self::configured::Configured;
pub(crate) use self::configured::ProviderClient;
pub(crate) use self::document::{DocumentError, FetchError};
use self::document::{Documents, Fetcher, FetcherError};
pub(crate) use self::flags::ClientFlags;
use self::keys::KeyCache;
use self::registered::Registered;
pub(crate) use self::registered::Registration;
use self::rules::RedirectUri;
pub(crate) use self::rules::{
    AUTH_METHODS, GRANT_TYPES, InvalidMetadata, Metadata, Origin, RESPONSE_TYPES, Rules, visible,
};
use crate::rate_limit::{Limit, Network};
use crate::records::Records;
use crate::scopes::Scopes;

/// The reason why a client could not be looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The message is shown to the user.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// The reason why the flags for clients are invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidFlags {
    #[error(transparent)]
    Fetcher(#[from] FetcherError),
    #[error("{0}")]
    File(String),
}

/// The lookup and the registration of clients.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    configured: Configured,
    registered: Registered,
    /// `None` if disabled with `--no-metadata-documents`.
    documents: Option<Documents>,
    rules: Arc<Rules>,
    keys: KeyCache,
}

impl Clients {
    pub(crate) fn new(
        records: &Records,
        flags: &ClientFlags,
        fetches: Option<Limit>,
        scopes: Scopes,
        provider: ProviderClient<'_>,
    ) -> Result<Self, InvalidFlags> {
        let ca = flags.metadata_ca.as_deref();
        let fetcher = || Fetcher::new(ca, flags.metadata_loopback, fetches);
        let fetcher = flags.documents().then(fetcher).transpose()?;
        let documents = fetcher.clone();
        let documents = documents.map(|fetcher| Documents::new(records.clone(), fetcher));
        let keys = KeyCache::new(fetcher);
        let rules = Rules {
            redirects: flags.redirects(),
            scopes,
            fetches_keys: keys.fetches(),
        };
        let configured = match &flags.clients {
            Some(path) => Configured::read(path, &rules, provider).map_err(InvalidFlags::File)?,
            None => Configured::default(),
        };
        Ok(Self {
            configured,
            registered: Registered::new(records.clone(), flags.lifetime()),
            documents,
            rules: Arc::new(rules),
            keys,
        })
    }

    /// Returns the rules for the metadata of all clients.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns whether a client ID may be the URL of a document.
    pub(crate) const fn knows_documents(&self) -> bool {
        self.documents.is_some()
    }

    pub(crate) async fn register(&self, metadata: Metadata) -> Result<Registration, StoreError> {
        self.registered.register(metadata).await
    }

    /// Keeps the registration of a client with which a user logs in. Without a log-in, it lives for
    /// a day.
    pub(crate) async fn keep(&self, client_id: &str) -> Result<(), StoreError> {
        if self.configured.find(client_id).is_some() || Documents::is_named_by(client_id) {
            return Ok(());
        }
        self.registered.keep(client_id).await
    }

    /// Returns the keys of a client; `None` if they are not valid under the current flags. A fetch
    /// counts against the limit of `network`.
    pub(crate) fn keys(&self, client: &Client, network: Network) -> Option<Arc<Keys>> {
        let location = &client.keys.as_ref()?.location;
        let configured = self.configured.keys(&client.client_id);
        configured.or_else(|| self.keys.find(location, network))
    }

    /// Returns the client with this ID. A fetch counts against the limit of `network`.
    pub(crate) async fn find(
        &self,
        client_id: &str,
        network: Network,
    ) -> Result<Option<Client>, ClientError> {
        if let Some(client) = self.configured.find(client_id) {
            return Ok(Some(client));
        }
        let found = match &self.documents {
            Some(documents) if Documents::is_named_by(client_id) => {
                Some(documents.find(client_id, network, &self.rules).await?)
            }
            _ => self.registered.find(client_id).await?,
        };
        Ok(found.map(|client| self.as_allowed(client)))
    }

    /// Removes redirect URIs that are no longer allowed. The client may have been stored when other
    /// flags were set.
    fn as_allowed(&self, mut client: Client) -> Client {
        let redirects = &self.rules.redirects;
        client
            .redirect_uris
            .retain(|uri| RedirectUri::parse(uri).is_ok_and(|uri| redirects.contains(&uri)));
        client
    }
}
