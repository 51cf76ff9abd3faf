use url::Url;

/// The maximum length of a client ID, in bytes.
const LONGEST: usize = 512;

/// A client ID that is the URL of a client ID metadata document.
///
/// Only the normalized form of a URL is accepted. This rejects dot segments, explicit default ports
/// and upper-case hosts, and makes sure that a client has only one ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientIdUrl(Url);

impl ClientIdUrl {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text)
            .ok()
            .filter(|url| text.len() <= LONGEST && url.as_str() == text)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_one =
            url.scheme() == "https" && url.path() != "/" && url.fragment().is_none() && !has_user;
        is_one.then_some(Self(url))
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) const fn url(&self) -> &Url {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normalized_https_urls_are_client_ids() {
        for url in [
            "https://client.example/metadata.json",
            "https://client.example:8443/a/b?c=d",
            "https://client.example/a%2Fb",
            "https://xn--bcher-kva.example/x",
            "https://[2001:db8::1]/x",
        ] {
            assert!(ClientIdUrl::parse(url).is_some(), "{url}");
        }
        let long = format!("https://client.example/{}", "a".repeat(LONGEST));
        for url in [
            &*long,
            "",
            "https://client.example",
            "https://client.example/",
            "https://client.example/?x",
            "http://client.example/x",
            "HTTPS://client.example/x",
            "https://Client.example/x",
            "https://client.example:443/x",
            "https://client.example/x#",
            "https://client.example/x#y",
            "https://user@client.example/x",
            "https://user:password@client.example/x",
            "https://:password@client.example/x",
            "https://@client.example/x",
            "https://client.example/a/../x",
            "https://client.example/./x",
            "https://client.example/%2e%2e/x",
            "https://client.example\\x",
            "https://client.example/a b",
            "https://client.example/\tx",
            " https://client.example/x",
            "https://client.example/x\n",
            "https://bücher.example/x",
            "https://0x7f.1/x",
            "https:client.example/x",
            "https:///client.example/x",
            "file:///x",
        ] {
            assert!(ClientIdUrl::parse(url).is_none(), "{url}");
        }
    }
}
