//! Connections to the upstream: TCP, or TLS over it.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The time limit for TCP, for all addresses of a name together.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit for name resolution, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connector for HTTP/1.1 connections, which every upstream supports. Each request in flight uses
/// a connection of its own.
#[derive(Clone, Debug)]
pub struct Connector(HttpsConnector<HttpConnector>);

impl Connector {
    /// Creates a connector. For `https` it loads the platform's root certificates.
    ///
    /// # Errors
    ///
    /// If no root certificates can be loaded.
    pub fn new(https: bool) -> io::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TCP_TIMEOUT));
        http.set_keepalive(Some(Duration::from_secs(60)));
        let builder = if https {
            HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider())?
        } else {
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        };
        Ok(Self(
            builder.https_or_http().enable_http1().wrap_connector(http),
        ))
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { timeout(CONNECT_TIMEOUT, connecting).await? })
    }
}
