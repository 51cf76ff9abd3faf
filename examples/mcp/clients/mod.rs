//! The clients of this server: registered ones, and those whose client id is the URL of a document about them.

mod client;
mod redirect;

use tower_oauth_refresh::store::StoreError;

pub(crate) use self::client::{Client, SecretHash};
use crate::records::{Kind, Records};

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
