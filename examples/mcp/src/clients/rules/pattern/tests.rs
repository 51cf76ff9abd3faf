use proptest::prelude::ProptestConfig;

use super::*;

fn matches(pattern: &str, uri: &str) -> bool {
    let uri = RedirectUri::parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
    pattern
        .parse::<RedirectPattern>()
        .unwrap_or_else(|error| panic!("{pattern}: {error}"))
        .matches(&uri)
}

#[test]
fn patterns_match_by_part() {
    for (pattern, uri) in [
        (
            "https://client.example/callback",
            "https://client.example/callback",
        ),
        (
            "https://client.example:443/callback",
            "https://client.example/callback",
        ),
        (
            "https://client.example/callback",
            "https://CLIENT.example:443/callback",
        ),
        (
            "https://client.example:8443",
            "https://client.example:8443/any/path?and=query",
        ),
        ("https://*.example.com/*", "https://a.example.com/"),
        ("https://*.example.com/*", "https://a.example.com"),
        (
            "https://*.example.com/*",
            "https://a.example.com/b/c?d=https://e.example/",
        ),
        (
            "https://*.example.com:*/cb",
            "https://a.example.com:8443/cb",
        ),
        ("https://*/cb", "https://anything.example/cb"),
        (
            "https://client.example/user-*/cb",
            "https://client.example/user-1/cb",
        ),
        ("https://client.example/*/cb", "https://client.example/a/cb"),
        (
            "https://client.example/a*b*c",
            "https://client.example/aXbYbZc",
        ),
        (
            "https://client.example/oauth/*",
            "https://client.example/oauth/",
        ),
        ("http://localhost/cb", "http://localhost:4000/cb"),
        ("http://localhost:4000/cb", "http://localhost:4000/cb"),
        ("http://[::1]:*/*", "http://[::1]:4000/cb"),
        ("http://*", "http://127.0.0.1:4000/cb?x"),
        (
            "cursor://anysphere.cursor-retrieval/*",
            "cursor://anysphere.cursor-retrieval/oauth/cb",
        ),
        ("com.example.app:/*", "com.example.app:/cb"),
    ] {
        assert!(matches(pattern, uri), "{pattern} {uri}");
    }
}

#[test]
fn wildcards_do_not_match_beyond_their_part() {
    for (pattern, uri) in [
        ("https://*.example.com/*", "https://example.com/"),
        ("https://*.example.com/*", "https://a.b.example.com/"),
        (
            "https://*.example.com/*",
            "https://evil.example/.example.com/",
        ),
        (
            "https://*.example.com/*",
            "https://evil.example/a.example.com/",
        ),
        (
            "https://*.example.com/*",
            "https://evil.example?.example.com/",
        ),
        ("https://*.example.com/*", "https://evilexample.com/"),
        (
            "https://*.example.com/*",
            "https://a.example.com.evil.example/",
        ),
        ("https://*.example.com/*", "https://a.example.com:8443/"),
        ("https://*.example.com/*", "http://localhost/.example.com/"),
        (
            "https://client.example/callback",
            "https://client.example/callback/",
        ),
        (
            "https://client.example/callback",
            "https://client.example/callback?x",
        ),
        (
            "https://client.example/callback",
            "https://client.example/Callback",
        ),
        ("https://client.example/*/cb", "https://client.example/cb"),
        ("https://client.example/*/cb", "https://client.example//cb"),
        (
            "https://client.example/*/cb",
            "https://client.example/a/b/cb",
        ),
        (
            "https://client.example/*/cb",
            "https://client.example/a/cb?x",
        ),
        (
            "https://client.example/*/cb",
            "https://client.example/a%2Fb/cb",
        ),
        ("https://client.example/*", "https://client.example/a%5cb"),
        ("https://client.example/ab*ba", "https://client.example/aba"),
        (
            "https://client.example/oauth/*",
            "https://client.example/oauth",
        ),
        (
            "https://client.example/oauth/*",
            "https://client.example/oauthx/y",
        ),
        ("http://localhost/cb", "http://127.0.0.1/cb"),
        ("http://localhost:4000/cb", "http://localhost:4001/cb"),
        ("cursor://host/*", "vscode://host/cb"),
        ("com.example.app:/*", "com.example.app://host/cb"),
        ("com.example.app://host/*", "com.example.app:/host/cb"),
    ] {
        assert!(!matches(pattern, uri), "{pattern} {uri}");
    }
}

#[test]
fn invalid_patterns_are_rejected() {
    for pattern in [
        "",
        "*",
        "*://example.com/",
        "example.com",
        "https:",
        "https://",
        "https:///cb",
        "https:/cb",
        "HTTPS://a.example/",
        "https://*.com/",
        "https://a.*.example.com/",
        "https://a*.example.com/",
        "https://*.*.example.com/",
        "https://user@example.com/",
        "https://example.com/?x=*",
        "https://example.com/#",
        "https://example.com/../*",
        "https://example.com:x/",
        "https://exa mple.com/",
        "https://example.com\\*",
        "http://example.com/*",
        "http://*.localhost.com/",
        "javascript:*",
        "javascript://*/*",
        "data:/*",
        "file:///*",
        "com.example.app:cb",
    ] {
        assert!(pattern.parse::<RedirectPattern>().is_err(), "{pattern}");
    }
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_match_implies_the_host_that_a_browser_would_use(
        parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..8)
    ) {
        let text = format!("https://{}", parts.concat());
        let Ok(uri) = RedirectUri::parse(&text) else { return Ok(()) };
        if "https://*.example.com/ok/*".parse::<RedirectPattern>().unwrap().matches(&uri) {
            // As a browser parses it.
            let url = Url::parse(&text).unwrap();
            let host = url.host_str().unwrap();
            assert!(host.ends_with(".example.com") && host.matches('.').count() == 2, "{text}");
            assert!(url.path().starts_with("/ok/") && url.port().is_none(), "{text}");
        }
    }
}

const PARTS: [&str; 16] = [
    "a",
    ".example.com",
    "example.com",
    ".",
    "/ok/",
    "/",
    "..",
    "%2e%2e",
    "%2F",
    "\\",
    "@",
    ":",
    "8443",
    "?",
    "#",
    "evil",
];
