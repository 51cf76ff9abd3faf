//! Fetches JSON documents of the provider.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::io;

use tokio::time::error::Elapsed;

use crate::connect::Connector;

/// The largest document, in bytes.
const MOST_BYTES: usize = 128 << 10;

/// A client that follows no redirects.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Client<Connector, Empty<Bytes>>);

/// The reason why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
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
    pub(super) fn new(https: bool) -> io::Result<Self> {
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_max_idle_per_host(0);
        Ok(Self(client.build(Connector::new(https)?)))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
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
