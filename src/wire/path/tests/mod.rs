//! Paths that are guarded, forwarded and refused.

mod allowed;
mod properties;

use std::borrow::Cow;

use path_readings::{is_served, readings};
use proptest::prelude::*;
use url::Url;

use super::*;

fn prefix(text: &str) -> PathPrefix {
    text.parse().unwrap()
}

/// Returns the pathname of Node's `new URL(path, base)`.
fn whatwg(path: &str) -> Option<String> {
    Url::parse("http://localhost")
        .ok()?
        .join(path)
        .ok()
        .map(|url| url.path().to_owned())
}

#[test]
fn spellings_of_a_guarded_path_are_guarded_or_refused() {
    let guarded = [
        "/oauth/token",
        "/oauth/token/",
        "//oauth//token//",
        "/OAuth/TOKEN",
        "/oauth/%74oken",
        "/oauth/%54oken",
        "/oauth;v=1/token;a=b;c",
        "/oauth/token%3Ba",
        "/;a/oauth/token",
        "/%3ba/oauth/token",
        "/oauth/token.json",
        "/oauth/TOKEN%2EXML/",
        "/oauth/token.",
        "/oauth./token",
        "/oauth%20/token%20",
        "/oauth/%20token",
        "/oauth/token+",
        "/oauth/token%C2%A0",
        "/oauth/token::$DATA",
        "/oauth/token%3fa=b",
        "/oauth/token%23a",
        "/oauth/token/x",
        "/oauth/token.json/x/y",
        "/oauth/to%E2%84%AAen",
        "/oauth/to\u{212a}en",
        "/oauth/toke%C2%ADn",
        "/oauth/token%CC%81",
    ];
    let rules = PathRules::new([prefix("/oauth/token")], []);
    for path in guarded {
        assert_eq!(rules.find(path), PathMatch::Guarded(0), "{path}");
    }
    let refused = [
        "/./oauth/token",
        "/oauth/x/../token",
        "/oauth/%2e/token",
        "/oauth/x/%2E./token",
        "/oauth/x/..;a/token",
        "/oauth/x/..%3b/token",
        "/oauth/x/..%20/token",
        "/oauth/x/..%3f/token",
        "/oauth/.../token",
        "/oauth//../token",
        "/oauth/;/../token",
        "/a%5cb/../oauth/token",
        "/a\\b",
        "/oauth\\token",
        "/oauth%2Ftoken",
        "/oauth/%2574oken",
        "/oauth/token%",
        "/oauth/token%zz",
        "/oauth%u002ftoken",
        "/oauth/token%00",
        "/oauth/to%09ken",
        "/oauth/token\n",
        "/oauth/token%7f",
        "/oauth/token%c2%85",
        "/oauth%c0%aftoken",
        "/oauth/%c1%b4oken",
        "/oauth/token%ff",
        "/oauth/%ed%a0%80",
        "/oauth\u{ff0f}token",
        "/oauth%ef%bc%8ftoken",
        "/x/\u{ff0e}\u{ff0e}/token",
        "/x/\u{2025}/token",
        "/x/.%e2%80%8b./token",
        "/%e2%80%8b/oauth/token",
        "/oauth\u{2215}token",
        "//x/oauth/token",
        "///x//oauth/token",
        "/oauth/\u{ff54}oken",
        "/oauth/\u{3231}login",
        "/oauth/token\u{b2}",
        "/index.php/oauth/token",
        "/x/index.php/oauth/token",
        "/cgi-bin/app.fcgi/oauth/token/x",
        "/oauth/INDEX%2EPHP/token.json",
        "/oauth/api.php8;a/./x/..;/token",
        "/oauth/api.php8;a/token",
        "/oauth.php/token",
        "/a.cgi/b.pl/oauth/token",
        "/oauth/x.dll%20/y.aspx::$DATA/token",
        "/x.p\u{ff48}p/oauth/token",
        "//x/index.php/oauth/token",
        "/(S(x))/oauth/token",
        "/oauth/(a(x)f(y))/token",
        "/%28S%28x%29%29/oauth/token",
        "/(\u{ff33}\u{ff08}x))/y",
        "/x/(F(",
        "oauth/token",
        "",
        "*",
        "example.com:80",
    ];
    for path in refused {
        assert_eq!(rules.find(path), PathMatch::Refused, "{path}");
    }
    let open = [
        "/",
        "/oauth",
        "/oauth/tokens",
        "/oauth/toke",
        "/oauth/authorize",
        "/oauth.json/token",
        "/x/oauth/token",
        "//x/y",
        "/oauth/..token",
        "/oauth/token-x",
        "/oauth/t%C3%B6ken",
        "/m%C3%BCnchen/stra\u{df}e",
        "/%E6%97%A5%E6%9C%AC%E8%AA%9E",
        "/a%20b/c+d",
        "/c%23/what%3f",
        "/a;b=c/d",
        "/.well-known/openid-configuration",
        "/caf\u{e9}/a\u{2122}",
        "/\u{2764}\u{fe0f}",
        "/%e2%80%8dx/token",
        "/index.php/oauth/tokens",
        "/index.html/oauth/token",
        "/oauth/v2.0/token",
        "/x;a.php/oauth/token",
        "/products(1)/(2)/(a)",
    ];
    for path in open {
        assert_eq!(rules.find(path), PathMatch::Open, "{path}");
    }
}

#[test]
fn a_prefix_is_a_literal_path_with_one_reading() {
    for path in ["", "api", "*", "/a?x", "/a b", "/a#x", "https://a/b"] {
        assert_eq!(
            path.parse::<PathPrefix>(),
            Err(InvalidPath::NotAbsolute),
            "{path:?}"
        );
    }
    for path in ["/{tenant}/token", "/a/*", "/*rest", "/:tenant/token", "/a}"] {
        assert_eq!(
            path.parse::<PathPrefix>(),
            Err(InvalidPath::Pattern),
            "{path:?}"
        );
    }
    for path in [
        "/a/../b", "/a/%2E.", "/a%2fb", "/a;b", "/a%3bb", "/a%3f", "/%25", "/a.", "/a+", "/%20a",
        "/ä", "/%c3%a4",
    ] {
        assert_eq!(
            path.parse::<PathPrefix>(),
            Err(InvalidPath::Ambiguous),
            "{path:?}"
        );
    }
    for path in [
        "/",
        "/token",
        "//API/v1/",
        "/%61pi",
        "/.well-known/x",
        "/a/b.c",
        "/v1/token:exchange",
        "/a+b",
        "/a%20b",
    ] {
        let prefix = prefix(path);
        assert_eq!((prefix.as_str(), prefix.covers(path)), (path, true));
    }
}

#[test]
fn a_guarded_path_is_forwarded_in_one_spelling() {
    let rules = PathRules::new(["/api/admin", "/api", "/v2/items/"].map(prefix), []);
    let rows = [
        ("/api", Some("/api")),
        ("/api/", Some("/api/")),
        ("//API//orders//7", Some("/api/orders/7")),
        (
            "/%61pi;v=1/%6frders%2d7/a%c3%a4\u{e4}/",
            Some("/api/orders-7/a%C3%A4%C3%A4/"),
        ),
        ("/api.json/x;a=b", None),
        ("/api;v=1/x;a=b.json", Some("/api/x;a=b.json")),
        ("/api/orders:get", Some("/api/orders:get")),
        ("/api:get", None),
        ("/api%20/x", Some("/api/x")),
        ("/api./x", None),
        ("/api%23/x", None),
        ("/ap%C4%B1", None),
        ("/api%CC%81/x", None),
        ("/api%C2%A0/x", None),
        ("/v2./items", None),
        ("/V2/items:batchGet", None),
        ("/api/;a/b|c/", Some("/api/b%7Cc/")),
        ("/API/Admin.xml", None),
        ("/API/Admin/x.xml", Some("/api/admin/x.xml")),
        ("/V2/items", Some("/v2/items")),
        ("/v2/items/7", Some("/v2/items/7")),
        ("/api.json/admin", None),
        ("/api%3f/admin/x", None),
        ("/api:x/Admin", None),
    ];
    for (path, expected) in rows {
        let PathMatch::Guarded(index) = rules.find(path) else {
            panic!("{path}")
        };
        assert_eq!(rules.canonical(index, path).as_deref(), expected, "{path}");
    }
    let refused = [
        "/api/\u{df}x",
        "/api/%EF%AC%81",
        "/\u{3231}x",
        "/api/x.php/admin",
        "/api.php/v2/items",
    ];
    for path in refused {
        assert_eq!(rules.find(path), PathMatch::Refused, "{path}");
    }
    assert_eq!(rules.find("/api/x.php/orders"), PathMatch::Guarded(1));
}

#[test]
fn only_paths_without_dot_segments_stay_below_the_base() {
    for path in [
        "/",
        "/a/b",
        "//a",
        "/a%2Fb",
        "/100%25",
        "/a\\b",
        "/caf%C3%A9",
        "/a/..b/c...",
        "/%25%32%35",
    ] {
        assert!(!leaves_base(path), "{path}");
    }
    let leaving = [
        "/..",
        "/a/../b",
        "/a/../../b",
        "/%2e%2E/x",
        "/..%2fx",
        "/.%2e%5cx",
        "/x%5cy/../../b",
        "/%252e%252e%252fb",
        "/a/..;/..;/b",
        "/%c0%ae%c0%ae/b",
        "/\u{ff0e}\u{ff0e}/b",
        "/..%00/b",
        "/.%09./b",
        "/%u002e%u002e/b",
        "",
        "x",
        "*",
    ];
    for path in leaving {
        assert!(leaves_base(path), "{path}");
    }
}

#[test]
fn a_path_with_many_levels_of_encoding_is_refused_in_bounded_time() {
    let path = format!("/a/%{}2f", "25".repeat(30_000));
    assert_eq!(
        PathRules::new([], [prefix("/a")]).find(&path),
        PathMatch::Refused
    );
    assert!(leaves_base(&path));
}

#[test]
fn replacing_a_path_keeps_the_rest() {
    for (uri, path, expected) in [
        ("/%74oken?a=b%2f..", "/token", "/token?a=b%2f.."),
        ("/x", "/token", "/token"),
        (
            "http://as.example:80/x?",
            "/token",
            "http://as.example:80/token?",
        ),
        ("http://as.example", "/token", "http://as.example/token"),
    ] {
        assert_eq!(
            replace_path(uri.parse().unwrap(), path)
                .unwrap()
                .to_string(),
            expected
        );
    }
    let long = format!("/x?{}", "a".repeat(65_000));
    assert!(replace_path(long.parse().unwrap(), &format!("/{}", "a".repeat(1000))).is_err());
}
