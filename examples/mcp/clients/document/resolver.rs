use std::io;
use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::is_global;

/// Finds the addresses of hosts, and lets nobody connect to one that is not anybody's: what was
/// checked is what is connected to, whatever the name stands for a moment later.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedResolver {
    /// Whether this machine will do too.
    pub(super) loopback: bool,
}

/// A host that must not be asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("its host has an address that is not public")]
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
            // One that is not public among others is no oversight of an honest host's.
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
