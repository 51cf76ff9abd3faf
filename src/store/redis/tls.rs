//! TLS to Redis with rustls. Without the feature `redis-tls`, the type [`Tls`] has no values.

#[cfg(feature = "redis-tls")]
pub(super) use self::with::Tls;
#[cfg(not(feature = "redis-tls"))]
pub(super) use self::without::Tls;

#[cfg(feature = "redis-tls")]
mod with {
    use std::io;
    use std::sync::Arc;

    use redis::cluster::ClusterClientBuilder;
    use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::pem::{Error, PemObject as _};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;

    use crate::store::redis::error::RedisConnectError;
    use crate::store::redis::stream::Stream;
    use crate::store::redis::target::Host;

    /// The trusted certificate authorities and the client certificate.
    pub(in crate::store::redis) struct Tls {
        connector: TlsConnector,
        /// The certificates for the connections to the nodes of a cluster, which the client library
        /// opens.
        given: Option<TlsCertificates>,
        /// A template for addresses, with everything that was read from the certificates.
        pattern: ConnectionAddr,
    }

    impl Tls {
        /// Reads the certificates, if any are configured: all of them as PEM.
        pub(in crate::store::redis) fn new(
            roots: Option<Vec<u8>>,
            client: Option<(Vec<u8>, Vec<u8>)>,
        ) -> Result<Self, RedisConnectError> {
            // The redis crate uses the `CryptoProvider` of the process, and panics if there is
            // none. An error here means that another thread has just installed one.
            if CryptoProvider::get_default().is_none() {
                let _ = ring::default_provider().install_default();
            }
            let connector =
                TlsConnector::from(Arc::new(config(roots.as_deref(), client.as_ref())?));
            let pattern = ConnectionAddr::TcpTls {
                host: "-".to_owned(),
                port: 1,
                insecure: false,
                tls_params: None,
            };
            if roots.is_none() && client.is_none() {
                return Ok(Self {
                    connector,
                    given: None,
                    pattern,
                });
            }
            let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            });
            let given = TlsCertificates {
                client_tls,
                root_cert: roots,
            };
            let read = Client::build_with_tls(pattern, given.clone()).map_err(certificate)?;
            Ok(Self {
                connector,
                given: Some(given),
                pattern: read.get_connection_info().addr().clone(),
            })
        }

        pub(in crate::store::redis) async fn handshake(
            &self,
            host: &Host,
            stream: TcpStream,
        ) -> io::Result<Stream> {
            let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
            Ok(Box::pin(self.connector.connect(name, stream).await?))
        }

        pub(in crate::store::redis) fn address(&self, host: &Host) -> ConnectionAddr {
            let tls_params = match &self.pattern {
                ConnectionAddr::TcpTls { tls_params, .. } => tls_params.clone(),
                _ => None,
            };
            ConnectionAddr::TcpTls {
                host: host.name.clone(),
                port: host.port,
                insecure: false,
                tls_params,
            }
        }

        pub(in crate::store::redis) fn apply(
            &self,
            builder: ClusterClientBuilder,
        ) -> ClusterClientBuilder {
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
        client: Option<&(Vec<u8>, Vec<u8>)>,
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
}

#[cfg(not(feature = "redis-tls"))]
mod without {
    use std::io;

    use redis::ConnectionAddr;
    use redis::cluster::ClusterClientBuilder;
    use tokio::net::TcpStream;

    use crate::store::redis::stream::Stream;
    use crate::store::redis::target::Host;

    /// No value of this type exists: a URL that requires TLS is rejected.
    pub(in crate::store::redis) enum Tls {}

    impl Tls {
        #[allow(clippy::unused_async, reason = "must match the version with TLS")]
        pub(in crate::store::redis) async fn handshake(
            &self,
            _: &Host,
            _: TcpStream,
        ) -> io::Result<Stream> {
            match *self {}
        }

        pub(in crate::store::redis) fn address(&self, _: &Host) -> ConnectionAddr {
            match *self {}
        }

        pub(in crate::store::redis) fn apply(
            &self,
            _: ClusterClientBuilder,
        ) -> ClusterClientBuilder {
            match *self {}
        }
    }
}
