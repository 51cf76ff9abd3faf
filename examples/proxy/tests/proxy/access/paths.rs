//! The spellings and the methods of a guarded path.

use axum::http::StatusCode;
use test_support::Act;

use super::{MISSING, Setup, access_token, request_by};

/// Servers answer these methods with the request that they received.
#[tokio::test]
async fn methods_that_echo_the_request_are_refused_on_every_path() {
    let setup = Setup::start(&[]).await;
    let bearer = format!("Bearer {}", access_token(&setup.log_in().await));
    let before = setup.upstream.seen().len();
    for method in ["TRACE", "TRACK", "trace", "Trace", "tRACK"] {
        for path in [
            "/api",
            "/api/",
            "//API/x",
            "/api/..%2fx",
            "/",
            "/token",
            "*",
        ] {
            for values in [&[&*bearer][..], &[]] {
                let answer = request_by(&setup.proxy, method, path, values).await;
                let status = match method {
                    "TRACE" | "TRACK" => StatusCode::NOT_IMPLEMENTED,
                    _ => StatusCode::BAD_REQUEST,
                };
                assert_eq!(answer.status, status, "{method} {path}");
                assert_eq!(answer.string("error"), "invalid_request", "{method} {path}");
                assert!(!answer.text().contains("at-"), "{method} {path}");
            }
        }
    }
    assert_eq!(setup.upstream.seen().len(), before);
}

#[tokio::test]
async fn every_spelling_of_a_resource_path_is_guarded_and_no_other_path() {
    let setup = Setup::start(&["--resource-prefix", "/v2/items/"]).await;
    let token = access_token(&setup.log_in().await);
    let spellings = [
        ("/api", "/api"),
        ("/api/", "/api/"),
        ("//api/x", "/api/x"),
        ("/API//x/", "/api/x/"),
        ("/%61pi/%78", "/api/x"),
        ("/api;a=b/x;c", "/api/x;c"),
        ("/api%20/caf%c3%a9", "/api/caf%C3%A9"),
        ("http://a/api/x", "/api/x"),
        ("/v2/items", "/v2/items"),
        ("/v2//Items/7", "/v2/items/7"),
    ];
    for (path, way) in spellings {
        assert_eq!(
            setup.refused(path, &[]).await,
            (StatusCode::UNAUTHORIZED, MISSING.into()),
            "{path}"
        );
        assert_eq!(
            setup.reached(path, &token).await,
            ["Bearer at-0-0"],
            "{path}"
        );
        assert_eq!(
            setup.upstream.seen().pop().unwrap().path,
            way,
            "{path} is forwarded in the configured spelling"
        );
    }
    let ambiguous = [
        "/api.json",
        "/api:x",
        "/index.php/api/x",
        "/api%2Fx",
        "/./api/x",
        "/x/../api",
        "/debug/..%2fapi",
        "/x/%2e%2e/api/x",
        "/x/..;/api",
        "/api/../x",
        "/api/a%5cb",
        "/a%2fb",
        "//x/api",
        "/100%25",
    ];
    for path in ambiguous {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            setup.refused(path, &[&bearer]).await,
            (StatusCode::BAD_REQUEST, String::new()),
            "{path}"
        );
    }
    for path in [
        "/",
        "/apis",
        "/x/api",
        "/v2",
        "/v2/x/items",
        "/userinfo",
        "/caf%C3%A9//x?a=%2f..",
    ] {
        assert_eq!(
            setup.reached(path, "at-0-0").await,
            ["Bearer at-0-0"],
            "{path} is not guarded"
        );
        assert_eq!(
            setup.reached(path, &token).await,
            [format!("Bearer {token}")],
            "{path} is not guarded"
        );
    }
    setup
        .upstream
        .then(Act::Answer(200, "text/plain", "of the server"));
    assert_eq!(
        request_by(&setup.proxy, "OPTIONS", "*", &[]).await.text(),
        "of the server"
    );
}

#[tokio::test]
async fn an_allowed_ambiguous_path_is_forwarded_unless_it_may_be_a_resource() {
    let setup = Setup::start(&[
        "--allow-ambiguous-path",
        "/projects,/v4",
        "--resource-prefix",
        "/v4/users",
    ])
    .await;
    let token = access_token(&setup.log_in().await);
    for path in ["/projects/group%2Fname/issues", "/v4/projects/a%2Fb%25c"] {
        assert_eq!(
            setup.reached(path, &token).await,
            [format!("Bearer {token}")],
            "{path}"
        );
        assert_eq!(setup.upstream.seen().pop().unwrap().path, path);
    }
    for path in [
        "/v4/%2fusers",
        "/v4/%2575sers",
        "/projects/..%2fapi",
        "/projects/a%2f..%252f..%252fapi",
        "/other/a%2Fb",
    ] {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            setup.refused(path, &[&bearer]).await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
}
