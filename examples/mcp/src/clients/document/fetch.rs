use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderMap};
use reqwest::Certificate;
use reqwest::redirect::Policy;

use super::DocumentError;
use super::client_id::ClientIdUrl;
use super::limits::{Limits, TooMany};
use super::resolver::CheckedResolver;
use crate::content_type::is_json_based;

/// The time limit from the name lookup to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a document, in bytes (draft-ietf-oauth-client-id-metadata-document, "Maximum
/// Response Size").
const LARGEST: usize = 5 * 1024;

/// Fetches metadata documents.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    http: reqwest::Client,
    resolver: CheckedResolver,
    limits: Limits,
}

/// The reason why the fetcher could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetcherError {
    #[error("--metadata-ca {}", .0.display())]
    File(PathBuf, #[source] std::io::Error),
    #[error("--metadata-ca {}: the file contains no certificate in PEM format", .0.display())]
    NoCertificate(PathBuf),
    #[error(transparent)]
    Http(#[from] reqwest::Error),
}

/// A fetched document.
pub(super) struct Fetched {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Fetcher {
    pub(super) fn new(ca: Option<&Path>, loopback: bool) -> Result<Self, FetcherError> {
        let resolver = CheckedResolver { loopback };
        let http = reqwest::Client::builder()
            .tls_certs_merge(ca.map(certificates).transpose()?.unwrap_or_default())
            .https_only(true)
            .redirect(Policy::none())
            .referer(false)
            // Some hosts reject requests without a `User-Agent`.
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            // A proxy would resolve the name itself and bypass the check of the address.
            .no_proxy()
            .dns_resolver(resolver)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            resolver,
            limits: Limits::default(),
        })
    }

    pub(super) async fn fetch(&self, url: &ClientIdUrl) -> Result<Fetched, DocumentError> {
        // The resolver is not called for a literal address.
        if url
            .address()
            .is_some_and(|address| !self.resolver.allows(address))
            || !self.allows_port(url)
        {
            return Err(DocumentError::NotPublic);
        }
        let host = url.url().host_str().unwrap_or_default();
        let _permit = self
            .limits
            .acquire(host, TIMEOUT)
            .await
            .map_err(|TooMany| DocumentError::Busy)?;
        let request = self
            .http
            .get(url.url().clone())
            .header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(DocumentError::Status(response.status()));
        }
        if !is_json_based(response.headers()) {
            return Err(DocumentError::ContentType);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(DocumentError::TooLarge(LARGEST));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched {
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    /// Returns whether the port is the default port of https. A service on another port may not be
    /// a web server.
    fn allows_port(&self, url: &ClientIdUrl) -> bool {
        self.resolver.loopback || url.url().port_or_known_default() == Some(443)
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, FetcherError> {
    let pem = std::fs::read(path).map_err(|error| FetcherError::File(path.to_owned(), error))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FetcherError::NoCertificate(path.to_owned())),
    }
}

fn unreachable(error: reqwest::Error) -> DocumentError {
    DocumentError::Unreachable(Arc::new(error.without_url()))
}
