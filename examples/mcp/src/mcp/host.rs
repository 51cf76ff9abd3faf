use axum::http::uri::Authority;

/// A host and a port that a request may name, and the default port that it may omit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllowedHost {
    host: String,
    port: u16,
    default_port: u16,
}

impl AllowedHost {
    /// Returns `None` if `authority` is not a host, or a host and a port.
    pub(super) fn new(authority: &str, default_port: u16) -> Option<Self> {
        let (host, port) = parse(authority)?;
        Some(Self {
            host,
            port: port.unwrap_or(default_port),
            default_port,
        })
    }

    /// Returns whether this is the host and port in the value of a `Host` header.
    pub(super) fn matches(&self, header: &str) -> bool {
        parse(header).is_some_and(|(host, port)| {
            host == self.host && port.unwrap_or(self.default_port) == self.port
        })
    }
}

/// Parses a host and an optional port in the usual notation: no user, no empty port, no leading
/// zeros.
fn parse(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.parse().ok()?;
    let (host, port) = (authority.host().to_ascii_lowercase(), authority.port_u16());
    let written = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    (!host.is_empty() && text.eq_ignore_ascii_case(&written)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_as_a_whole() {
        let names = ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"]
            .map(|host| AllowedHost::new(host, 80));
        let public = AllowedHost::new("mcp.example.com", 443);
        let all: Vec<_> = names
            .into_iter()
            .chain([public])
            .map(Option::unwrap)
            .collect();
        let allows = |host: &str| all.iter().any(|allowed| allowed.matches(host));
        for host in [
            "mcp.example.com",
            "MCP.Example.Com",
            "mcp.example.com:443",
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
        ] {
            assert!(allows(host), "{host}");
        }
        for host in [
            "",
            ":8000",
            "localhost",
            "localhost:",
            "localhost:80",
            "localhost:08000",
            "localhost:8000:8000",
            "localhost:99999",
            "localhost.:8000",
            "localhost:8000.evil.example",
            "evil@127.0.0.1:8000",
            "127.0.0.1:8000@evil.example",
            "evil@mcp.example.com",
            "@mcp.example.com",
            "mcp.example.com:80",
            "mcp.example.com:8000",
            "mcp.example.com.",
            "mcp.example.com.evil.example",
            "evil.mcp.example.com",
            "mcp.example.com evil",
            " mcp.example.com",
            "mcp.example.com/",
            "mcp.example.com\\",
            "mcp.example.com?x",
            "mcp%2eexample.com",
            "[::1%25lo]:8000",
            "[::ffff:127.0.0.1]:8000",
            "::1:8000",
            "127.1:8000",
            "2130706433:8000",
        ] {
            assert!(!allows(host), "{host}");
        }
    }
}
