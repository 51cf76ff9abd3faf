//! The module `tls` without the feature `redis-tls`: no connection uses TLS.

use std::io;

use redis::cluster::ClusterClientBuilder;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::error::RedisConnectError;
use super::stream::Stream;

/// No value of this type exists: a URL that requires TLS is rejected.
pub(super) enum Tls {}

impl Tls {
    pub(super) fn new(
        in_url: bool,
        _: Option<Vec<u8>>,
        _: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    ) -> Result<Option<Self>, RedisConnectError> {
        if in_url {
            Err(RedisConnectError::TlsFeature)
        } else {
            Ok(None)
        }
    }

    #[allow(clippy::unused_async, reason = "must match the version with TLS")]
    pub(super) async fn handshake(&self, _: &str, _: TcpStream) -> io::Result<Stream> {
        match *self {}
    }

    pub(super) fn apply(&self, _: ClusterClientBuilder) -> ClusterClientBuilder {
        match *self {}
    }
}
