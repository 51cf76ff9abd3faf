use proptest::prelude::ProptestConfig;

use super::*;

#[test]
fn valid_redirect_uris_are_accepted() {
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
            RedirectUri::parse(uri)
                .is_ok_and(|parsed| parsed.url().scheme() == uri.split(':').next().unwrap()),
            "{uri}"
        );
    }
}

#[test]
fn invalid_redirect_uris_are_rejected() {
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
        ("https://2130706433/callback", Host),
        ("https://0x7f.1/callback", Host),
        ("https://%63lient.example/callback", Host),
        ("https://client.example:/callback", Host),
        ("https://user@client.example/callback", Userinfo),
        ("https://user:password@client.example/callback", Userinfo),
        ("https://@client.example/callback", Userinfo),
        ("http://localhost:80@evil.example/callback", Userinfo),
        ("cursor://user@host/callback", Userinfo),
        ("cursor://host:/callback", Host),
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
    let registered = [
        "http://127.0.0.1/callback",
        "http://localhost:1/callback",
        "http://[::1]:1/callback?a=b",
    ];
    for (registered, asked_for) in registered.into_iter().zip([
        "http://127.0.0.1:51004/callback",
        "http://localhost/callback",
        "http://[::1]:65535/callback?a=b",
    ]) {
        assert!(
            same(registered, registered) && same(registered, asked_for),
            "{asked_for}"
        );
    }
    for (registered, asked_for) in [
        ("http://127.0.0.1/callback", "http://localhost/callback"),
        ("http://127.0.0.1/callback", "https://127.0.0.1/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback/"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback?x"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1/callback#x"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:x/callback"),
        ("http://127.0.0.1/callback", "http://127.0.0.1:+1/callback"),
        (
            "http://127.0.0.1/callback",
            "http://127.0.0.1:99999/callback",
        ),
        (
            "http://127.0.0.1/callback",
            "http://127.0.0.1:1@evil.example/callback",
        ),
        (
            "http://127.0.0.1/callback",
            "http://127.0.0.1.evil.example/callback",
        ),
        (
            "http://127.0.0.1/callback",
            "http://127.0.0.1\\@evil.example/callback",
        ),
        (
            "https://client.example/callback",
            "https://client.example:443/callback",
        ),
        (
            "https://client.example/callback",
            "https://client.example/Callback",
        ),
        (
            "https://client.example/callback",
            "https://client.example/callback/",
        ),
        ("https://localhost/callback", "https://localhost:1/callback"),
    ] {
        assert!(!same(registered, asked_for), "{asked_for}");
    }
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn a_browser_goes_to_the_registered_uri_for_every_match(
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
    fn an_accepted_uri_is_parsed_as_it_is_written(
        parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..7)
    ) {
        for start in ["https://", "http://localhost", "https:", "cursor://", "com.example:"] {
            let uri = format!("{start}{}", parts.concat());
            let Ok(parsed) = RedirectUri::parse(&uri) else { continue };
            let url = parsed.url();
            assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{uri}");
            assert!(url.scheme() != "http" || url.host_str() == Some("localhost"), "{uri}");
            // The parser has removed or changed nothing.
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
