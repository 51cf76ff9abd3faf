//! The issuer identifier of the provider.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// The part of an issuer that stands for the tenant of a user, at Entra ID.
pub const TENANT: &str = "{tenantid}";

/// The names that stand for all tenants.
const ALL_TENANTS: [&str; 3] = ["common", "organizations", "consumers"];

/// The issuer identifier of an OpenID provider: an https URL, or an http URL of this computer.
///
/// It is compared as text, and so it must be spelled as in the provider's tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    text: String,
    is_https: bool,
}

impl Issuer {
    /// Returns the issuer identifier as it was configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL of the provider's discovery document (OpenID Connect Discovery §4).
    pub fn discovery_document(&self) -> String {
        let base = self.text.trim_end_matches('/');
        format!("{base}/.well-known/openid-configuration")
    }

    /// Returns the URL of the metadata of the provider as an authorization server (RFC 8414 §3.1).
    pub(super) fn server_metadata(&self) -> String {
        let scheme = self.text.find("://").map_or(0, |at| at + 3);
        let path = self.text[scheme..]
            .find('/')
            .map_or(self.text.len(), |at| scheme + at);
        let (host, path) = self.text.split_at(path);
        let path = path.trim_end_matches('/');
        format!("{host}/.well-known/oauth-authorization-server{path}")
    }

    /// Returns whether a discovery document that names `issuer` describes this issuer. The document
    /// for all tenants of Entra ID names none: `https://login.microsoftonline.com/{tenantid}/v2.0`.
    pub fn is_described_by(&self, issuer: &str) -> bool {
        let is_for_all = |all: &&str| issuer.replace(TENANT, all) == self.text;
        issuer == self.text || (issuer.contains(TENANT) && ALL_TENANTS.iter().any(is_for_all))
    }

    /// Returns whether `iss` in a token is this issuer, or that of a tenant if this one stands for
    /// all tenants.
    pub fn is_named_by(&self, iss: &str) -> bool {
        let is_id = |id: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !id.is_empty() && id.bytes().all(is_part)
        };
        let is_of_tenant = |all: &&str| {
            let (before, after) = self.text.split_once(&format!("/{all}/"))?;
            let id = iss.strip_prefix(before)?.strip_prefix('/')?;
            let id = id.strip_suffix(after)?.strip_suffix('/')?;
            is_id(id).then_some(())
        };
        iss == self.text || ALL_TENANTS.iter().any(|all| is_of_tenant(all).is_some())
    }

    /// Returns whether this is the issuer of all tenants of Entra ID instead of one.
    pub fn is_of_all_tenants(&self) -> bool {
        let text = self.text.trim_end_matches('/');
        // Version 1.0 has issuers on a host of its own.
        let ends = |all: &&str| {
            text.ends_with(&format!("/{all}/v2.0"))
                || text.ends_with(&format!("://sts.windows.net/{all}"))
        };
        text.contains(TENANT) || ALL_TENANTS.iter().any(ends)
    }

    /// Returns whether the provider's keys may be fetched from `url`. Without TLS an attacker on
    /// the way could replace them.
    pub fn trusts(&self, url: &Url) -> bool {
        url.scheme() == "https" || (!self.is_https && is_local_http(url))
    }

    /// Returns whether the URL is https.
    pub const fn is_https(&self) -> bool {
        self.is_https
    }
}

/// Returns the error text for a URL that is neither https nor an http URL of this computer. Without
/// TLS, others on the way could read secrets and replace keys.
pub fn check_scheme(url: &Url) -> Result<(), String> {
    if url.scheme() == "https" || is_local_http(url) {
        Ok(())
    } else {
        Err("the scheme must be https, except on this computer".into())
    }
}

fn is_local_http(url: &Url) -> bool {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && local
}

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("not a URL such as https://login.example.com: {error}"))?;
        check_scheme(&url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not contain a user name or a password".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the URL must not contain a query or a fragment".into());
        }
        Ok(Self {
            text: text.to_owned(),
            is_https: url.scheme() == "https",
        })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_computer() {
        for text in [
            "https://login.example.com",
            "https://login.example.com/realms/a/",
            "http://127.0.0.1:8080",
            "http://[::1]/x",
            "http://localhost",
        ] {
            assert!(text.parse::<Issuer>().is_ok(), "{text}");
        }
        for text in [
            "login.example.com",
            "http://login.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "ftp://localhost",
            "https://u@a.example",
            "https://a.example/?x",
            "https://a.example/#x",
        ] {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
        let trusts = |issuer: &str, url: &str| {
            let issuer: Issuer = issuer.parse().unwrap();
            issuer.trusts(&Url::parse(url).unwrap())
        };
        assert!(trusts("https://a.example", "https://keys.example/jwks"));
        assert!(trusts("http://localhost:1", "http://127.0.0.1:2/jwks"));
        assert!(!trusts("https://a.example", "http://a.example/jwks"));
        assert!(!trusts("https://a.example", "http://127.0.0.1/jwks"));
        assert!(!trusts("http://localhost:1", "http://a.example/jwks"));
        assert!(!trusts("http://localhost:1", "file:///etc/passwd"));
    }

    #[test]
    fn the_issuer_of_all_tenants_stands_for_each() {
        let all: Issuer = "https://id.example/common/v2.0".parse().unwrap();
        let one: Issuer = "https://id.example/7-a/v2.0".parse().unwrap();
        for (iss, of_all, of_one) in [
            ("https://id.example/common/v2.0", true, false),
            ("https://id.example/7-a/v2.0", true, true),
            ("https://id.example/7-b/v2.0", true, false),
            ("https://id.example//v2.0", false, false),
            ("https://id.example/a/b/v2.0", false, false),
            ("https://id.example/{tenantid}/v2.0", false, false),
            ("https://id.example/7-a/v2.0/", false, false),
            ("https://id.example.org/7-a/v2.0", false, false),
        ] {
            assert_eq!(
                (all.is_named_by(iss), one.is_named_by(iss)),
                (of_all, of_one),
                "{iss}"
            );
        }
        for (document, of_all, of_one) in [
            ("https://id.example/{tenantid}/v2.0", true, false),
            ("https://id.example/common/v2.0", true, false),
            ("https://id.example/7-a/v2.0", false, true),
            ("https://id.example/{tenantid}/v1", false, false),
        ] {
            let described = (all.is_described_by(document), one.is_described_by(document));
            assert_eq!(described, (of_all, of_one), "{document}");
        }
    }

    #[test]
    fn the_issuer_of_all_tenants_is_recognized() {
        for (issuer, expected) in [
            ("https://login.microsoftonline.com/common/v2.0", true),
            ("https://login.microsoftonline.com/organizations/v2.0", true),
            ("https://login.microsoftonline.com/consumers/v2.0/", true),
            ("https://login.microsoftonline.com/{tenantid}/v2.0", true),
            ("https://sts.windows.net/common/", true),
            ("https://login.microsoftonline.com/7-a/v2.0", false),
            ("https://sts.windows.net/7-a/", false),
            ("https://id.example/realms/common", false),
            ("https://common.example/v2.0", false),
        ] {
            let issuer: Issuer = issuer.parse().unwrap();
            assert_eq!(issuer.is_of_all_tenants(), expected, "{issuer}");
        }
    }

    #[test]
    fn the_discovery_document_is_below_the_issuer() {
        for (issuer, document) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/t/1",
                "https://a.example/t/1/.well-known/openid-configuration",
            ),
        ] {
            let issuer: Issuer = issuer.parse().unwrap();
            assert_eq!(issuer.discovery_document(), document);
            let path = document.trim_start_matches("https://a.example");
            let path = path.trim_end_matches("/.well-known/openid-configuration");
            let metadata = "https://a.example/.well-known/oauth-authorization-server";
            assert_eq!(issuer.server_metadata(), format!("{metadata}{path}"));
        }
    }
}
