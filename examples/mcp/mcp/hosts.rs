//! By which names a browser may reach the MCP endpoint: a page that has its own name point at this machine (DNS
//! rebinding) must not.

use std::net::SocketAddr;

use crate::issuer::Issuer;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What `Host` may say: the public URL's, and the address itself, by which a reverse proxy in front may call.
pub(super) fn allowed_hosts(issuer: &Issuer, listen: SocketAddr) -> Vec<String> {
    let here = LOOPBACK.iter().map(|host| format!("{host}:{}", listen.port()));
    here.chain([issuer.authority().to_owned(), listen.to_string()]).collect()
}

/// What `Origin` may say, if it is there: programs send none, pages in a browser do.
pub(super) fn allowed_origins(issuer: &Issuer, more: &[String]) -> Vec<String> {
    let here = LOOPBACK.iter().map(|host| format!("http://{host}:*"));
    here.chain([issuer.origin()]).chain(more.iter().cloned()).collect()
}
