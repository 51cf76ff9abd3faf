use std::str::FromStr;

use url::Url;

/// An origin that may call the MCP endpoint: scheme, host and port. Without a port, only the
/// default port of the scheme is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedOrigin {
    /// The origin as a browser sends it.
    serialized: String,
    /// Whether the port was given as `:*`.
    any_port: bool,
}

impl AllowedOrigin {
    /// Returns whether this is the origin in the value of an `Origin` header.
    pub(crate) fn matches(&self, header: &str) -> bool {
        parse(header).is_some_and(|url| {
            let mut url = url;
            if self.any_port && url.set_port(None).is_err() {
                return false;
            }
            url.origin().ascii_serialization() == self.serialized
        })
    }
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (origin, any_port) = text
            .strip_suffix(":*")
            .map_or((text, false), |origin| (origin, true));
        let url = parse(origin)
            .ok_or("it must be an origin such as https://app.example.com, without a path")?;
        if origin.contains('*') || (any_port && url.port().is_some()) {
            return Err("the only wildcard is `:*` instead of the port".into());
        }
        Ok(Self {
            serialized: url.origin().ascii_serialization(),
            any_port,
        })
    }
}

/// Parses an http or https origin as browsers write it (RFC 6454 §6.2): scheme, host and port, and
/// nothing else.
fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let origin = url.origin().ascii_serialization();
    let with_port = url
        .port_or_known_default()
        .map(|port| format!("{origin}:{port}"));
    let is_origin = text.eq_ignore_ascii_case(&origin)
        || with_port.is_some_and(|full| text.eq_ignore_ascii_case(&full));
    is_origin.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let rows: [(&str, &[&str], &[&str]); 5] = [
            (
                "https://app.example.com",
                &[
                    "https://app.example.com",
                    "https://app.example.com:443",
                    "HTTPS://APP.example.com",
                ],
                &[
                    "http://app.example.com",
                    "https://app.example.com:8443",
                    "https://app.example.com:443:443",
                    "https://app.example.com.",
                    "https://app.example.com/",
                    "https://app.example.com/x",
                    "https://app.example.com?x",
                    "https://app.example.com#x",
                    "https://app.example.com\\",
                    "https://app.example.com@evil.example",
                    "https://user@app.example.com",
                    "https://app.example.com.evil.example",
                    "https://evil-app.example.com",
                    "https:app.example.com",
                    "https:///app.example.com",
                    " https://app.example.com",
                    "https://app.example.com https://evil.example",
                    "https://app.example.com, https://evil.example",
                    "null",
                    "",
                    "app.example.com",
                    "file://",
                ],
            ),
            (
                "https://app.example.com:443",
                &["https://app.example.com"],
                &["https://app.example.com:80"],
            ),
            (
                "http://app.example.com",
                &["http://app.example.com:80"],
                &["http://app.example.com:443"],
            ),
            (
                "http://app.example.com:8080",
                &["http://app.example.com:8080"],
                &["http://app.example.com"],
            ),
            (
                "http://localhost:*",
                &["http://localhost", "http://localhost:1234"],
                &[
                    "http://localhost:1234.evil.example",
                    "http://localhost:*",
                    "http://localhost:99999",
                    "https://localhost",
                ],
            ),
        ];
        for (allowed, yes, no) in rows {
            let origin: AllowedOrigin = allowed.parse().unwrap();
            for text in yes {
                assert!(origin.matches(text), "{allowed}: {text}");
            }
            for text in no {
                assert!(!origin.matches(text), "{allowed}: {text}");
            }
        }
        for text in [
            "*",
            "null",
            "app.example.com",
            "https://*.example.com",
            "https://a.example/x",
            "ftp://a.example",
            "",
        ] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
    }
}
