//! The scheme of `--public-url`.

use std::net::IpAddr;

use url::{Host, Url};

use crate::address::is_global;

/// The ends of names that only private networks resolve (RFC 6761, RFC 6762, RFC 8375, and the
/// reservation of `internal` by ICANN).
const PRIVATE_NAMES: [&str; 4] = [".localhost", ".local", ".internal", ".home.arpa"];

/// Logs a warning if clients use this URL without TLS, which OAuth requires (RFC 6749 §3.1, §3.2),
/// and its host is neither this computer nor in a private network.
pub fn warn_without_tls(public_url: &Url) {
    if public_url.scheme() == "http" && !is_private(public_url) {
        tracing::warn!(
            url = %public_url,
            "--public-url is not https: tokens, authorization codes and secrets are sent unencrypted, terminate TLS in front of this server and set an https URL"
        );
    }
}

/// Returns whether the host is this computer or in a private network. A name without a dot is one
/// of a private network.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => !is_global(address.into()),
        Some(Host::Ipv6(address)) => !is_global(IpAddr::from(address).to_canonical()),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            !name.contains('.') || PRIVATE_NAMES.iter().any(|end| name.ends_with(end))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts_are_recognized() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "app.localhost",
            "proxy",
            "printer.local",
            "auth.corp.internal",
            "nas.home.arpa",
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "[::1]",
            "[::]",
            "[fd12::1]",
            "[fe80::1]",
            "[::ffff:10.0.0.1]",
        ] {
            let url = format!("http://{host}:8000/x").parse().unwrap();
            assert!(is_private(&url), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "internal.example.com",
            "mylocal.com",
            "8.8.8.8",
            "11.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "[2001:4860:4860::8888]",
            "[::ffff:8.8.8.8]",
        ] {
            let url = format!("http://{host}:8000/x").parse().unwrap();
            assert!(!is_private(&url), "{host}");
        }
    }
}
