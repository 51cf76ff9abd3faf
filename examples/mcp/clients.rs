//! The clients of this server: registered ones, and those whose client id is the URL of a document about them.

use serde::{Deserialize, Serialize};
use tower_oauth_refresh::store::StoreError;

use crate::records::{Kind, Records};

/// A client, as far as this server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) client_id: String,
    /// What it calls itself: nobody has checked that.
    pub(crate) client_name: Option<String>,
    pub(crate) client_uri: Option<String>,
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) scope: Option<String>,
    /// The hash of its secret; none: a public client.
    pub(crate) secret: Option<[u8; 32]>,
}

impl Client {
    /// Whether the client may be answered there (RFC 6749 §3.1.2.3; RFC 8252 §7.3: a loopback address with any port).
    pub(crate) fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|allowed| allowed == uri)
    }
}

/// Why a client cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// In words for the person who meets it.
    #[error("{0}")]
    Document(String),
}

/// All clients.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    records: Records,
}

impl Clients {
    pub(crate) const fn new(records: Records) -> Self {
        Self { records }
    }

    /// The client with this id, wherever it is known from.
    pub(crate) async fn find(&self, client_id: &str) -> Result<Option<Client>, ClientError> {
        Ok(self.records.get(Kind::Client, client_id).await?.map(|stored| stored.value))
    }
}
