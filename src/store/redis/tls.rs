//! TLS to Redis with rustls.

use std::io;
use std::sync::Arc;

use redis::cluster::ClusterClientBuilder;
use redis::{ClientTlsConfig, TlsCertificates, TlsMode};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::error::RedisConnectError;
use super::stream::Stream;

/// The trusted certificate authorities and the client certificate.
pub(super) struct Tls {
    connector: TlsConnector,
    /// The certificates for the connections to the nodes of a cluster, which the client library
    /// opens.
    given: Option<TlsCertificates>,
}

impl Tls {
    /// Reads the certificates, if any are configured: all of them as PEM. Returns `None` if the
    /// URL does not use TLS.
    pub(super) fn new(
        in_url: bool,
        roots: Option<Vec<u8>>,
        client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    ) -> Result<Option<Self>, RedisConnectError> {
        let is_configured = roots.is_some() || client.is_some();
        if !in_url && is_configured {
            return Err(RedisConnectError::Setting {
                setting: "tls",
                reason: "certificates need a URL that begins with rediss",
            });
        }
        if !in_url {
            return Ok(None);
        }
        // The redis crate uses the `CryptoProvider` of the process, and panics if there is
        // none. An error here means that another thread has just installed one.
        if CryptoProvider::get_default().is_none() {
            let _ = ring::default_provider().install_default();
        }
        let config = config(roots.as_deref(), client.as_ref())?;
        let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig {
            client_cert,
            client_key: client_key.to_vec(),
        });
        Ok(Some(Self {
            connector: TlsConnector::from(Arc::new(config)),
            given: is_configured.then_some(TlsCertificates {
                client_tls,
                root_cert: roots,
            }),
        }))
    }

    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::pin(self.connector.connect(name, stream).await?))
    }

    pub(super) fn apply(&self, builder: ClusterClientBuilder) -> ClusterClientBuilder {
        let builder = builder.tls(TlsMode::Secure);
        match &self.given {
            Some(given) => builder.certs(given.clone()),
            None => builder,
        }
    }
}

/// Returns a configuration that trusts `roots`, or without them the roots of the operating
/// system.
fn config(
    roots: Option<&[u8]>,
    client: Option<&(Vec<u8>, Zeroizing<Vec<u8>>)>,
) -> Result<ClientConfig, RedisConnectError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for root in chain(pem)? {
                trusted.add(root).map_err(certificate)?;
            }
        }
        None => {
            // Certificates that cannot be parsed are skipped: the certificate of the server
            // must be signed by one of the others.
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let config = ClientConfig::builder().with_root_certificates(trusted);
    let Some((pem, key)) = client else {
        return Ok(config.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(certificate)?;
    config
        .with_client_auth_cert(chain(pem)?, key)
        .map_err(certificate)
}

/// Parses a chain of at least one certificate. rustls would accept an empty chain here, and
/// every handshake would fail.
fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, RedisConnectError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(certificate)?;
    if chain.is_empty() {
        Err(certificate(Error::NoItemsFound))
    } else {
        Ok(chain)
    }
}

fn certificate(error: impl std::error::Error + Send + Sync + 'static) -> RedisConnectError {
    RedisConnectError::Certificate(Arc::new(error))
}
