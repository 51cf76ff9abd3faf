use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderMap};
use reqwest::Certificate;
use reqwest::redirect::Policy;
use url::{Host, Url};

use super::limits::{Limits, Seen, TooMany};
use super::resolver::CheckedResolver;
use crate::content_type::is_json_based;
use crate::rate_limit::{Limit, Network};

/// The time limit from the name lookup to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches what clients name: their metadata documents and their keys.
#[derive(Clone, Debug)]
pub(in crate::clients) struct Fetcher {
    http: reqwest::Client,
    resolver: CheckedResolver,
    limits: Limits,
    /// The limit on the fetches that one network causes, so that no network uses up the limits of
    /// all.
    of_networks: Option<Arc<Limit>>,
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

/// The reason why a fetch failed. The message is a clause whose subject is the document.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The URL names an address that is not public, or a port other than 443.
    #[error("cannot be fetched")]
    NotPublic,
    /// The source is only logged: a client must not learn how a name resolves on this network, or
    /// which addresses and ports exist.
    #[error("cannot be fetched")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    #[error("cannot be fetched now, because too many others are: try again later")]
    Busy,
    #[error(
        "cannot be fetched now, because your network requests too many documents: try again later"
    )]
    BusyNetwork,
    #[error("cannot be fetched: its host responded with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("has a Content-Type that is not JSON")]
    ContentType,
    #[error("is larger than {0} bytes")]
    TooLarge(usize),
}

impl FetchError {
    /// Returns whether a later fetch may succeed.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy | Self::BusyNetwork => true,
            Self::Status(status) => {
                let retries = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
                status.is_server_error() || retries.contains(status)
            }
            Self::NotPublic | Self::ContentType | Self::TooLarge(_) => false,
        }
    }
}

/// A fetched document.
pub(in crate::clients) struct Fetched {
    pub(super) headers: HeaderMap,
    pub(in crate::clients) body: Vec<u8>,
}

impl Fetcher {
    pub(in crate::clients) fn new(
        ca: Option<&Path>,
        loopback: bool,
        of_networks: Option<Limit>,
    ) -> Result<Self, FetcherError> {
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
            of_networks: of_networks.map(Arc::new),
        })
    }

    /// Counts a fetch that a request of `network` causes. It does not wait: requests of other
    /// networks can share the result of the fetch, and must not share this error.
    pub(in crate::clients) fn admit(&self, network: Network) -> Result<(), FetchError> {
        let limit = self.of_networks.as_ref();
        let counted = limit.map_or(Ok(()), |limit| limit.count(network));
        counted.map_err(|_| FetchError::BusyNetwork)
    }

    /// Fetches a document of at most `largest` bytes from an https URL.
    pub(in crate::clients) async fn fetch(
        &self,
        url: &Url,
        seen: Seen,
        largest: usize,
    ) -> Result<Fetched, FetchError> {
        // The resolver is not called for a literal address.
        if address(url).is_some_and(|address| !self.resolver.allows(address))
            || !self.allows_port(url)
        {
            return Err(FetchError::NotPublic);
        }
        let host = url.host_str().unwrap_or_default();
        let _permit = self
            .limits
            .acquire(host, seen, TIMEOUT)
            .await
            .map_err(|TooMany| FetchError::Busy)?;
        let request = self
            .http
            .get(url.clone())
            .header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        if !is_json_based(response.headers()) {
            return Err(FetchError::ContentType);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > largest {
                return Err(FetchError::TooLarge(largest));
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
    fn allows_port(&self, url: &Url) -> bool {
        self.resolver.loopback || url.port_or_known_default() == Some(443)
    }
}

/// Returns the IP address of the host; `None` if the host is a name.
fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, FetcherError> {
    let pem = std::fs::read(path).map_err(|error| FetcherError::File(path.to_owned(), error))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FetcherError::NoCertificate(path.to_owned())),
    }
}

fn unreachable(error: reqwest::Error) -> FetchError {
    FetchError::Unreachable(Arc::new(error.without_url()))
}
