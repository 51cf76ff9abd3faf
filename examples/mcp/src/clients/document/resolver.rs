//! Resolves the host of a metadata document, and rejects hosts in private networks.

use std::io;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use server_common::address::is_global;

/// A resolver that returns public addresses only, because anyone can make this server fetch a URL.
/// The connection uses the checked address, even if
/// the name resolves to another one a moment later.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedResolver {
    /// Whether loopback addresses are allowed, too.
    pub(super) loopback: bool,
}

/// The host has an address that is not public.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has an address that is not public")]
struct NotPublic;

impl CheckedResolver {
    pub(super) fn allows(self, address: IpAddr) -> bool {
        is_global(address) || (self.loopback && address.is_loopback())
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = *self;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // A legitimate host does not mix public and private addresses, so the host is rejected
            // if any address is not public.
            if !addresses.iter().all(|address| this.allows(address.ip())) {
                return Err(NotPublic.into());
            }
            if addresses.is_empty() {
                return Err(
                    io::Error::new(io::ErrorKind::NotFound, "the host has no address").into(),
                );
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
