use super::pattern::RedirectPattern;
use super::redirect::RedirectUri;

/// Private-use schemes of MCP clients that are not reversed domain names, although RFC 8252 §7.1
/// requires that.
const KNOWN_SCHEMES: [&str; 5] = [
    "cursor",
    "vscode",
    "vscode-insiders",
    "vscodium",
    "windsurf",
];

/// Prefixes of schemes that operating systems, browsers and their tools handle, and not apps. Some
/// of them are top-level domains.
const SYSTEM: [&str; 22] = [
    "about",
    "android",
    "apple",
    "chrome",
    "com.android.",
    "com.apple.",
    "edge",
    "facetime",
    "file",
    "google",
    "help",
    "intent",
    "itms",
    "market",
    "microsoft",
    "ms",
    "opera",
    "search",
    "shell",
    "steam",
    "windows",
    "xbox",
];

/// Returns whether a scheme is a reversed domain name, such as `com.example.app`, as RFC 8252 §7.1
/// requires for apps.
///
/// Top-level domains consist of letters, which excludes names like `x-apple.systempreferences` or
/// `ms-settings.x`.
fn is_named_after_a_domain(scheme: &str) -> bool {
    let Some((top, rest)) = scheme.split_once('.') else {
        return false;
    };
    let is_top = top.len() >= 2 && top.bytes().all(|byte| byte.is_ascii_lowercase());
    let labels = rest.split('.').all(|label| !label.is_empty());
    is_top
        && labels
        && !SYSTEM.iter().any(|prefix| {
            if prefix.ends_with('.') {
                scheme.starts_with(prefix)
            } else {
                top.starts_with(prefix)
            }
        })
}

/// The valid redirect URIs that the operator allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedRedirects {
    only: Vec<RedirectPattern>,
    more: Vec<RedirectPattern>,
}

impl AllowedRedirects {
    /// Allows the redirect URIs that match a pattern of `only` or `more`. If `only` is empty, also
    /// allows any https URL, any loopback address, schemes that are reversed domain names, and the
    /// schemes of a few known clients.
    pub(crate) const fn new(only: Vec<RedirectPattern>, more: Vec<RedirectPattern>) -> Self {
        Self { only, more }
    }

    pub(crate) fn contains(&self, uri: &RedirectUri) -> bool {
        let mut patterns = self.only.iter().chain(&self.more);
        (self.only.is_empty() && is_usual(uri)) || patterns.any(|pattern| pattern.matches(uri))
    }
}

fn is_usual(uri: &RedirectUri) -> bool {
    let scheme = uri.url().scheme();
    matches!(scheme, "https" | "http")
        || is_named_after_a_domain(scheme)
        || KNOWN_SCHEMES.contains(&scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_excludes_schemes_of_the_system() {
        let allows = |uri| AllowedRedirects::default().contains(&RedirectUri::parse(uri).unwrap());
        for uri in [
            "https://a.example/",
            "http://localhost/",
            "com.example.app:/cb",
            "cursor://host/cb",
        ] {
            assert!(allows(uri), "{uri}");
        }
        for uri in [
            "io.example:/cb",
            "org.example.some-app://cb",
            "com.googleusercontent.apps.1-x:/cb",
            "com.microsoft.some-app:/cb",
            "app.example:/cb",
        ] {
            assert!(allows(uri), "{uri}");
        }
        for scheme in [
            "steam",
            "ms-settings",
            "ms-settings.x",
            "ms-word",
            "ms-msdt",
            "ms.x",
            "msteams",
            "search-ms",
            "search-ms.x",
            "search.x",
            "shell",
            "shell.x",
            "shell-x.y",
            "file.x",
            "files",
            "intent.x",
            "intents",
            "x-apple.systempreferences",
            "x-apple-reminderkit",
            "x-apple-helpbasic.x",
            "apple.x",
            "applescript",
            "microsoft.windows.camera",
            "microsoft.windows.camera.picker",
            "microsoft.x",
            "microsoft-edge",
            "windows.x",
            "windowsdefender.x",
            "xbox.x",
            "xbox-gamehub.x",
            "google.navigation",
            "com.apple.systempreferences",
            "com.android.settings",
            "android-app",
            "facetime-audio.x",
            "itms-services",
            "itms-apps.x",
            "market",
            "help",
            "ssh",
            "telnet",
            "smb",
            "afp",
            "nfs",
            "vnc",
            "rdp",
            "ldap",
            "x.example",
            "com.",
            "com..x",
            "1com.x",
        ] {
            for rest in [":/x", "://x", "://x/y?z"] {
                let uri = format!("{scheme}{rest}");
                assert!(
                    RedirectUri::parse(&uri)
                        .is_ok_and(|uri| !AllowedRedirects::default().contains(&uri))
                        || RedirectUri::parse(&uri).is_err(),
                    "{uri}"
                );
            }
        }
    }

    #[test]
    fn a_scheme_of_the_system_can_be_allowed_explicitly() {
        for (pattern, uri) in [
            (
                "x-apple.systempreferences:/*",
                "x-apple.systempreferences:/x",
            ),
            ("ms-settings://cb", "ms-settings://cb"),
            ("search-ms:/*", "search-ms:/x"),
        ] {
            let allowed = AllowedRedirects::new(vec![], vec![pattern.parse().unwrap()]);
            assert!(allowed.contains(&RedirectUri::parse(uri).unwrap()), "{uri}");
        }
    }

    #[test]
    fn patterns_replace_the_default_or_add_to_it() {
        let patterns = |text: &str| text.split(' ').flat_map(str::parse).collect::<Vec<_>>();
        let (steam, local) = ("steam://run/*", "http://localhost/*");
        let uris = ["steam://run/1", "http://localhost/cb", "https://a.example/"];
        for (only, more, allowed) in [
            ("", "", [false, true, true]),
            ("", steam, [true, true, true]),
            (local, "", [false, true, false]),
            (local, steam, [true, true, false]),
        ] {
            let redirects = AllowedRedirects::new(patterns(only), patterns(more));
            let contains = |uri| redirects.contains(&RedirectUri::parse(uri).unwrap());
            assert_eq!(uris.map(contains), allowed, "{only} {more}");
        }
    }
}
