use super::pattern::RedirectPattern;
use super::redirect::RedirectUri;

/// Private-use schemes of MCP clients that are not named as RFC 8252 §7.1 wants it, after a domain.
const KNOWN_SCHEMES: [&str; 5] = ["cursor", "vscode", "vscode-insiders", "vscodium", "windsurf"];

/// Which redirect URIs the operator allows, of those that break no rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedRedirects(Vec<RedirectPattern>);

impl AllowedRedirects {
    /// With no pattern: any https and any loopback address, schemes that are named after a domain, and a few more.
    pub(crate) const fn new(patterns: Vec<RedirectPattern>) -> Self {
        Self(patterns)
    }

    pub(crate) fn contains(&self, uri: &RedirectUri) -> bool {
        if self.0.is_empty() {
            let scheme = uri.url().scheme();
            return matches!(scheme, "https" | "http") || scheme.contains('.') || KNOWN_SCHEMES.contains(&scheme);
        }
        self.0.iter().any(|pattern| pattern.matches(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_if_nothing_is_said() {
        let allows = |uri| AllowedRedirects::default().contains(&RedirectUri::parse(uri).unwrap());
        for uri in ["https://a.example/", "http://localhost/", "com.example.app:/cb", "cursor://host/cb"] {
            assert!(allows(uri), "{uri}");
        }
        for uri in ["steam://run/1", "ms-settings:/x", "search-ms://x"] {
            assert!(!allows(uri), "{uri}");
        }
    }

    #[test]
    fn patterns_stand_for_the_default() {
        let allowed = AllowedRedirects::new(vec!["steam://run/*".parse().unwrap()]);
        let allows = |uri| allowed.contains(&RedirectUri::parse(uri).unwrap());
        assert!(allows("steam://run/1") && !allows("https://a.example/") && !allows("http://localhost/"));
    }
}
