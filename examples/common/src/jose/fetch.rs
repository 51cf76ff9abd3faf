//! Fetches keys: from the discovery document of an issuer, or from the URL of a key set.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use url::Url;

use super::issuer::Issuer;
use super::key_set::KeySet;
use crate::causes::causes;
use crate::connect::Connector;

/// The largest document, in bytes.
const MOST_BYTES: usize = 128 << 10;

/// The time limit for a fetch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The place from which keys are fetched.
pub trait KeySource: fmt::Debug + Send + Sync + 'static {
    /// Returns whether this request may fetch the keys. A refusal does not delay the fetch of
    /// another request; a failed fetch does.
    fn may_fetch(&self) -> bool {
        true
    }

    /// Fetches the keys within a bounded time. If that fails, logs the reason and returns `None`.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Option<KeySet>> + Send + '_>>;
}

/// The provider of the users, whose keys are fetched over its own configuration.
#[derive(Debug)]
pub(super) struct Provider {
    location: Location,
    fetcher: Fetcher,
}

#[derive(Debug)]
enum Location {
    /// The discovery document of the issuer names the URL.
    Discovery(Issuer),
    Url(Url),
}

impl Provider {
    pub(super) fn discovered(issuer: Issuer) -> io::Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(issuer.is_https())?,
            location: Location::Discovery(issuer),
        })
    }

    pub(super) fn at(url: Url) -> io::Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(url.scheme() == "https")?,
            location: Location::Url(url),
        })
    }

    async fn try_fetch(&self) -> Result<KeySet, FetchError> {
        let issuer = match &self.location {
            Location::Url(url) => return self.fetcher.get(url.as_str()).await,
            Location::Discovery(issuer) => issuer,
        };
        let discovery: Discovery = self.fetcher.discover(issuer).await?;
        if !issuer.is_described_by(&discovery.issuer) {
            return Err(FetchError::OtherIssuer);
        }
        if !issuer.trusts(&discovery.jwks_uri) {
            return Err(FetchError::KeysUrl);
        }
        self.fetcher.get(discovery.jwks_uri.as_str()).await
    }
}

impl KeySource for Provider {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Option<KeySet>> + Send + '_>> {
        Box::pin(async {
            let fetched = timeout(TIMEOUT, self.try_fetch()).await;
            match fetched.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(keys) => Some(keys),
                Err(error) => {
                    let from = match &self.location {
                        Location::Discovery(issuer) => issuer.as_str(),
                        Location::Url(url) => url.as_str(),
                    };
                    tracing::warn!(
                        from,
                        error = causes(&error),
                        "cannot fetch keys: tokens that are signed with them are refused unless an earlier key verifies them"
                    );
                    None
                }
            }
        })
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

/// Fetches JSON documents of at most 128 KiB. It follows no redirects.
#[derive(Clone, Debug)]
pub struct Fetcher(Client<Connector, Empty<Bytes>>);

/// The reason why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the URL is invalid")]
    Url(#[from] http::Error),
    #[error("the provider sent no valid response")]
    NoAnswer(#[from] legacy::Error),
    #[error("the provider did not respond in time")]
    TimedOut(#[from] Elapsed),
    #[error("the provider sent status {0}")]
    Status(StatusCode),
    #[error("the document could not be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the document is not the expected JSON")]
    Json(#[from] serde_json::Error),
    #[error("the discovery document is that of another issuer")]
    OtherIssuer,
    #[error("the URL of the keys is not https")]
    KeysUrl,
}

impl Fetcher {
    /// Creates a client.
    ///
    /// # Errors
    ///
    /// If the root certificates of the platform, which `https` needs, cannot be loaded.
    pub fn new(https: bool) -> io::Result<Self> {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        Ok(Self(client.build(Connector::new(https)?)))
    }

    /// Fetches the discovery document of an issuer: from its path in OpenID Connect, or from the
    /// path of RFC 8414 if the first one does not exist. The caller limits the time, and checks
    /// that the document names the issuer.
    pub async fn discover<T: DeserializeOwned>(&self, issuer: &Issuer) -> Result<T, FetchError> {
        match self.get(&issuer.discovery_document()).await {
            Err(FetchError::Status(StatusCode::NOT_FOUND)) => {
                let metadata = self.get(&issuer.server_metadata()).await;
                // The first path is the one that an operator expects.
                metadata.map_err(|_| FetchError::Status(StatusCode::NOT_FOUND))
            }
            result => result,
        }
    }

    /// Fetches a document. The caller limits the time.
    pub async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .body(Empty::new())?;
        let response = self.0.request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MOST_BYTES);
        let body = body.collect().await.map_err(FetchError::Body)?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    }
}
