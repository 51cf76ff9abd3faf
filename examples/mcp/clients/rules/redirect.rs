//! Which redirect URIs a client may have at all, and when one is the same as another (RFC 6749 §3.1.2, RFC 8252 §7).

use url::Url;

/// Of a redirect URI, in bytes.
const LONGEST: usize = 2048;

/// Hosts by which a program on the person's own computer is reached (RFC 8252 §7.3; `localhost` since clients use it).
const LOOPBACK: [&str; 3] = ["127.0.0.1", "[::1]", "localhost"];

/// Schemes that run something, read something or show something in the name of whoever wrote the URI: no operator can
/// allow them.
pub(super) const NEVER: [&str; 24] = [
    "about",
    "blob",
    "chrome",
    "chrome-extension",
    "content",
    "data",
    "file",
    "filesystem",
    "ftp",
    "intent",
    "jar",
    "javascript",
    "livescript",
    "mailto",
    "mocha",
    "moz-extension",
    "resource",
    "sms",
    "tel",
    "vbscript",
    "view-source",
    "ws",
    "wss",
    "xmpp",
];

/// A redirect URI that breaks no rule. Whether the operator wants it is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectUri {
    url: Url,
}

/// What is wrong with a redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRedirectUri {
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error("it holds a character that no URI may hold: percent-encode it")]
    Character,
    #[error("it is not an absolute URI with a host or a path")]
    NotAbsolute,
    #[error("it has a fragment")]
    Fragment,
    #[error("it holds a user or a password")]
    Userinfo,
    #[error("its path has dot segments")]
    DotSegments,
    #[error("its scheme is not allowed")]
    Scheme,
    #[error("http is for 127.0.0.1, [::1] and localhost alone: use https")]
    Http,
}

impl RedirectUri {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidRedirectUri> {
        use InvalidRedirectUri::*;
        if text.len() > LONGEST {
            return Err(TooLong);
        }
        if text.contains('#') {
            return Err(Fragment);
        }
        // A browser reads `\` as `/` and leaves out a tab: what it would read is what is checked.
        if !of_uri_characters(text.as_bytes()) {
            return Err(Character);
        }
        let (scheme, rest) = text.split_once(':').ok_or(NotAbsolute)?;
        if NEVER.contains(&&*scheme.to_ascii_lowercase()) {
            return Err(Scheme);
        }
        let url = Url::parse(text).map_err(|_| NotAbsolute)?;
        if scheme != url.scheme() {
            // Upper case; no client needs it.
            return Err(Scheme);
        }
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if authority.contains('@') {
            return Err(Userinfo);
        }
        if has_dot_segments(path) {
            return Err(DotSegments);
        }
        match scheme {
            "https" if authority.is_empty() => Err(NotAbsolute),
            "https" => Ok(Self { url }),
            "http" if Loopback::parse(text).is_some() => Ok(Self { url }),
            "http" => Err(Http),
            _ if authority.is_empty() && !(path.starts_with('/') && path.len() > 1) => Err(NotAbsolute),
            _ => Ok(Self { url }),
        }
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }
}

/// Whether a client that has registered the one may be answered at the other: they are the same, except that a program on
/// the person's computer does not choose its port in advance (RFC 8252 §7.3).
pub(crate) fn same(registered: &str, asked_for: &str) -> bool {
    registered == asked_for
        || Loopback::parse(registered).is_some_and(|registered| Some(registered) == Loopback::parse(asked_for))
}

/// A loopback redirect URI without its port.
#[derive(Debug, PartialEq, Eq)]
struct Loopback<'a> {
    host: &'a str,
    /// Path and query.
    rest: &'a str,
}

impl<'a> Loopback<'a> {
    fn parse(uri: &'a str) -> Option<Self> {
        let uri = uri.strip_prefix("http://")?;
        let (authority, rest) = uri.split_at(uri.find(['/', '?', '#']).unwrap_or(uri.len()));
        let host = LOOPBACK.into_iter().find(|host| authority.starts_with(host))?;
        let port = &authority[host.len()..];
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(Self { host, rest })
    }
}

pub(super) fn is_loopback_host(host: &str) -> bool {
    LOOPBACK.contains(&host)
}

/// Of the characters that RFC 3986 §2 knows, each `%` with two digits.
pub(super) fn of_uri_characters(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [a, b, after @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
            (byte, after) if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte) => after,
            _ => return false,
        };
    }
    true
}

pub(super) fn has_dot_segments(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path).to_ascii_lowercase().replace("%2e", ".");
    path.split('/').any(|segment| segment == "." || segment == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_registered() {
        for uri in [
            "https://client.example/callback",
            "https://client.example",
            "https://client.example:8443/callback?to=%2Fhome&x=1",
            "https://[2001:db8::1]/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:33418",
            "http://[::1]:7000/callback",
            "http://localhost:6274/oauth/callback/debug",
            "com.example.app:/callback",
            "com.example.app://callback",
            "cursor://anysphere.cursor-retrieval/oauth/user-x/callback",
        ] {
            assert!(
                RedirectUri::parse(uri).is_ok_and(|parsed| parsed.url().scheme() == uri.split(':').next().unwrap()),
                "{uri}"
            );
        }
    }

    #[test]
    fn what_may_not() {
        use InvalidRedirectUri::*;
        let long = format!("https://client.example/{}", "a".repeat(LONGEST));
        for (uri, error) in [
            (&*long, TooLong),
            ("", NotAbsolute),
            ("/callback", NotAbsolute),
            ("//client.example/callback", NotAbsolute),
            ("https:", NotAbsolute),
            ("https:client.example/callback", NotAbsolute),
            ("https:///client.example/callback", NotAbsolute),
            ("https://client.example:99999/", NotAbsolute),
            ("com.example.app:callback", NotAbsolute),
            ("com.example.app:/", NotAbsolute),
            ("https://client.example/callback#", Fragment),
            ("https://client.example/callback#x", Fragment),
            ("https://user@client.example/callback", Userinfo),
            ("https://user:password@client.example/callback", Userinfo),
            ("https://@client.example/callback", Userinfo),
            ("http://localhost:80@evil.example/callback", Userinfo),
            ("cursor://user@host/callback", Userinfo),
            ("https://client.example/a/../b", DotSegments),
            ("https://client.example/./b", DotSegments),
            ("https://client.example/a/%2E%2e/b", DotSegments),
            ("https://client.example/a/.%2e", DotSegments),
            ("https://client.example\\@evil.example/", Character),
            ("https://client.example/a b", Character),
            ("https://client.example/\u{0}", Character),
            ("https://client.example/\t", Character),
            ("https://client.example/\r\nlocation: x", Character),
            ("https://client.example/%zz", Character),
            ("https://client.example/%2", Character),
            ("https://client.example/<script>", Character),
            ("https://client.example/\"", Character),
            ("https://bücher.example/", Character),
            (" https://client.example/", Character),
            ("javascript:alert(1)", Scheme),
            ("JavaScript://client.example/%0aalert(1)", Scheme),
            ("data:text/html,x", Scheme),
            ("file:///etc/passwd", Scheme),
            ("blob:https://client.example/x", Scheme),
            ("about:blank", Scheme),
            ("vbscript:x", Scheme),
            ("view-source:https://client.example/", Scheme),
            ("ws://client.example/", Scheme),
            ("HTTPS://client.example/", Scheme),
            ("http://client.example/callback", Http),
            ("http://127.0.0.2/callback", Http),
            ("http://127.0.0.1.evil.example/callback", Http),
            ("http://127.1/callback", Http),
            ("http://2130706433/callback", Http),
            ("http://localhost.evil.example/callback", Http),
            ("http://localhost./callback", Http),
            ("http://LOCALHOST/callback", Http),
            ("http://localhost:/callback", Http),
            ("http://0.0.0.0/callback", Http),
            ("http://[::ffff:127.0.0.1]/callback", Http),
        ] {
            assert_eq!(RedirectUri::parse(uri), Err(error), "{uri}");
        }
    }

    #[test]
    fn only_the_port_of_a_loopback_address_may_differ() {
        let registered = ["http://127.0.0.1/callback", "http://localhost:1/callback", "http://[::1]:1/callback?a=b"];
        for (registered, asked_for) in registered.into_iter().zip([
            "http://127.0.0.1:51004/callback",
            "http://localhost/callback",
            "http://[::1]:65535/callback?a=b",
        ]) {
            assert!(same(registered, registered) && same(registered, asked_for), "{asked_for}");
        }
        for (registered, asked_for) in [
            ("http://127.0.0.1/callback", "http://localhost/callback"),
            ("http://127.0.0.1/callback", "https://127.0.0.1/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback/"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback?x"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback#x"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:x/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:+1/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:99999/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1:1@evil.example/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1.evil.example/callback"),
            ("http://127.0.0.1/callback", "http://127.0.0.1\\@evil.example/callback"),
            ("https://client.example/callback", "https://client.example:443/callback"),
            ("https://client.example/callback", "https://client.example/Callback"),
            ("https://client.example/callback", "https://client.example/callback/"),
            ("https://localhost/callback", "https://localhost:1/callback"),
        ] {
            assert!(!same(registered, asked_for), "{asked_for}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_the_same_leads_a_browser_to_the_same_place(
            parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..7)
        ) {
            let asked_for = format!("http://127.0.0.1{}", parts.concat());
            if same("http://127.0.0.1/cb", &asked_for) {
                let mut url = Url::parse(&asked_for).unwrap();
                url.set_port(None).unwrap();
                assert_eq!(url.as_str(), "http://127.0.0.1/cb", "{asked_for}");
            }
        }

        #[test]
        fn what_is_taken_is_read_alike_by_all(
            parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..7)
        ) {
            for start in ["https://", "http://localhost", "https:", "cursor://", "com.example:"] {
                let uri = format!("{start}{}", parts.concat());
                let Ok(parsed) = RedirectUri::parse(&uri) else { continue };
                let url = parsed.url();
                assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{uri}");
                assert!(url.scheme() != "http" || url.host_str() == Some("localhost"), "{uri}");
                // Nothing was left out or read as something else.
                let plain = |text: &str| text.trim_end_matches('/').replace(":443", "").replace(":80", "");
                assert_eq!(plain(&url.as_str().replace("/?", "?")), plain(&uri.replace("/?", "?")), "{uri}");
            }
        }
    }

    const PARTS: [&str; 18] = [
        ":",
        "80",
        "443",
        "8080",
        "/",
        "/cb",
        "@",
        "evil.example",
        "\\",
        "?",
        "#",
        ".",
        "..",
        "%2e",
        "%40",
        "\t",
        "a",
        "localhost",
    ];
}
