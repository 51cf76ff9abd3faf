//! TLS to Redis: rustls, or nothing at all without the feature `redis-tls`.

#[cfg(feature = "redis-tls")]
pub(super) use self::with::Tls;
#[cfg(not(feature = "redis-tls"))]
pub(super) use self::without::Tls;

#[cfg(feature = "redis-tls")]
mod with {
    use std::sync::Arc;

    use redis::cluster::ClusterClientBuilder;
    use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::pem::{Error, PemObject as _};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use crate::store::redis::error::RedisConnectError;
    use crate::store::redis::target::Host;

    /// Whom to trust, and who we are.
    pub(in crate::store::redis) struct Tls {
        given: Option<TlsCertificates>,
        /// An address of the right kind, with all that was read from the certificates.
        pattern: ConnectionAddr,
    }

    impl Tls {
        /// Reads the certificates, if any were given: all of them as PEM.
        pub(in crate::store::redis) fn new(
            roots: Option<Vec<u8>>,
            client: Option<(Vec<u8>, Vec<u8>)>,
        ) -> Result<Self, RedisConnectError> {
            // The redis crate takes the provider of the process, and panics if there is none. An error here means that
            // another thread has just installed one.
            if CryptoProvider::get_default().is_none() {
                let _ = ring::default_provider().install_default();
            }
            let pattern = ConnectionAddr::TcpTls { host: "-".to_owned(), port: 1, insecure: false, tls_params: None };
            if roots.is_none() && client.is_none() {
                return Ok(Self { given: None, pattern });
            }
            for pem in roots.iter().chain(client.as_ref().map(|(certificate, _)| certificate)) {
                // An empty chain would be taken, and would fail every handshake.
                let first = CertificateDer::pem_slice_iter(pem).next().unwrap_or(Err(Error::NoItemsFound));
                first.map_err(certificate)?;
            }
            if let Some((_, key)) = &client {
                PrivateKeyDer::from_pem_slice(key).map_err(certificate)?;
            }
            let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
            let given = TlsCertificates { client_tls, root_cert: roots };
            let read = Client::build_with_tls(pattern, given.clone()).map_err(certificate)?;
            Ok(Self { given: Some(given), pattern: read.get_connection_info().addr().clone() })
        }

        pub(in crate::store::redis) fn address(&self, host: &Host) -> ConnectionAddr {
            let tls_params = match &self.pattern {
                ConnectionAddr::TcpTls { tls_params, .. } => tls_params.clone(),
                _ => None,
            };
            ConnectionAddr::TcpTls { host: host.name.clone(), port: host.port, insecure: false, tls_params }
        }

        pub(in crate::store::redis) fn apply(&self, builder: ClusterClientBuilder) -> ClusterClientBuilder {
            match &self.given {
                Some(given) => builder.certs(given.clone()),
                None => builder,
            }
        }
    }

    fn certificate(error: impl std::error::Error + Send + Sync + 'static) -> RedisConnectError {
        RedisConnectError::Certificate(Arc::new(error))
    }
}

#[cfg(not(feature = "redis-tls"))]
mod without {
    use redis::ConnectionAddr;
    use redis::cluster::ClusterClientBuilder;

    use crate::store::redis::target::Host;

    /// A URL that asks for TLS is refused, so there is none of these.
    pub(in crate::store::redis) enum Tls {}

    impl Tls {
        pub(in crate::store::redis) fn address(&self, _: &Host) -> ConnectionAddr {
            match *self {}
        }

        pub(in crate::store::redis) fn apply(&self, _: ClusterClientBuilder) -> ClusterClientBuilder {
            match *self {}
        }
    }
}
