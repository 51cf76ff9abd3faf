//! A request for more than the grant has.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_beyond_the_grant_is_rejected_and_consumes_nothing() {
    const SCOPE: &str = "invalid_scope";
    const TARGET: &str = "invalid_target";
    let rows: [Row; 24] = [
        ("a scope more", |f| f.scope("read write admin"), SCOPE, None),
        ("another scope", |f| f.scope("admin"), SCOPE, None),
        ("a scope of another case", |f| f.scope("READ"), SCOPE, None),
        ("a part of a scope", |f| f.scope("rea"), SCOPE, None),
        (
            "two spaces in the scope",
            |f| f.scope("read  write"),
            SCOPE,
            None,
        ),
        (
            "a leading space in the scope",
            |f| f.scope(" read"),
            SCOPE,
            None,
        ),
        (
            "a trailing space in the scope",
            |f| f.scope("read "),
            SCOPE,
            None,
        ),
        ("only a space as scope", |f| f.scope(" "), SCOPE, None),
        (
            "a tab in the scope",
            |f| f.scope("read\twrite"),
            SCOPE,
            None,
        ),
        ("a quote in the scope", |f| f.scope("read\""), SCOPE, None),
        (
            "a backslash in the scope",
            |f| f.scope("read\\"),
            SCOPE,
            None,
        ),
        (
            "a scope that is not ASCII",
            |f| f.scope("r\u{e9}ad"),
            SCOPE,
            None,
        ),
        (
            "another resource",
            |f| f.resource("https://other.example.com/"),
            TARGET,
            None,
        ),
        (
            "a resource below it",
            |f| f.resource("https://api.example.com/v1/x"),
            TARGET,
            None,
        ),
        (
            "a resource above it",
            |f| f.resource("https://api.example.com/"),
            TARGET,
            None,
        ),
        (
            "one resource of two",
            |f| f.asking(&[("resource", API), ("resource", "https://x.example/")]),
            TARGET,
            None,
        ),
        (
            "a fragment",
            |f| f.resource("https://api.example.com/v1#a"),
            TARGET,
            None,
        ),
        (
            "an empty fragment",
            |f| f.resource("https://api.example.com/v1#"),
            TARGET,
            None,
        ),
        ("a path as resource", |f| f.resource("/v1"), TARGET, None),
        (
            "a host as resource",
            |f| f.resource("api.example.com"),
            TARGET,
            None,
        ),
        (
            "a resource without a host",
            |f| f.resource("https:///v1"),
            TARGET,
            None,
        ),
        (
            "a resource with a space",
            |f| f.resource("https://api.example.com/v1 "),
            TARGET,
            None,
        ),
        (
            "a resource with half an escape",
            |f| f.resource("https://api.example.com/v1%2"),
            TARGET,
            None,
        ),
        (
            "a resource that is not ASCII",
            |f| f.resource("https://api.example.com/\u{e9}"),
            TARGET,
            None,
        ),
    ];
    refuse_all(&rows).await;
}
