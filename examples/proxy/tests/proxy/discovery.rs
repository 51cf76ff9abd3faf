//! The example proxy rewrites discovery documents, and warns of those that direct clients past it.

use axum::http::StatusCode;
use serde_json::json;
use test_support::http::{Recorder, Seen, get, send};

use crate::proxy;

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";
const PUBLIC: &str = "https://login.example.com";
const DETOUR: &str = "the upstream's discovery document directs clients past the proxy";

/// Starts an upstream whose discovery documents are `document`. `UP` is replaced with its own URL.
async fn upstream(document: impl Fn(&Seen) -> String + Clone + Send + Sync + 'static) -> Recorder {
    Recorder::start(move |seen| {
        let up = format!("http://{}", seen.header("host").unwrap());
        let headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("etag", "\"1\""),
            ("content-md5", "x"),
            ("digest", "sha-256=x"),
            ("cache-control", "max-age=60"),
        ];
        (headers, document(seen).replace("UP", &up))
    })
    .await
}

#[tokio::test]
async fn endpoints_at_the_upstream_are_rewritten_and_all_other_bytes_are_kept() {
    let document = "{\n \"issuer\": \"UP\", \"n\":1.0e2 ,\"token_endpoint\":\"UP/token?x=%20\",\
        \"revocation_endpoint\":\"UP/revoke\",\"introspection_endpoint\" : \"UP/introspect\",\
        \"authorization_endpoint\":\"UP/authorize\",\"a\":1,\"a\":2,\
        \"mtls_endpoint_aliases\":{\"token_endpoint\":\"UP/mtls\",\"x\":null}}\r\n";
    let upstream = upstream(|_| document.into()).await;
    let up = upstream.url();
    let want = document.replace("UP", &up);
    let types = ",\"refresh_token_expiration_types_supported\":[\"token_timeout\"]}\r\n";
    let want = want.replace("}\r\n", types);
    let want = ["token?", "revoke", "introspect", "mtls"]
        .iter()
        .fold(want, |text, path| {
            text.replace(&format!("{up}/{path}"), &format!("{PUBLIC}/{path}"))
        });
    for public in [PUBLIC.to_owned(), format!("{PUBLIC}/")] {
        let proxy = proxy::start(&up, &["--public-url", &public]).await;
        for path in [
            OPENID,
            OAUTH,
            "/.well-known/oauth-authorization-server/a/b",
            "/a/b/.well-known/openid-configuration",
        ] {
            let headers = [
                ("accept-encoding", "gzip"),
                ("range", "bytes=0-1"),
                ("x-other", "1"),
            ];
            let answer = send("GET", &proxy.url(path), &headers, "").await;
            assert_eq!(answer.text(), want, "{path}");
            assert_eq!(answer.headers["content-length"], want.len().to_string());
            assert_eq!(answer.headers["cache-control"], "max-age=60");
            for name in ["etag", "content-md5", "digest"] {
                assert_eq!(
                    answer.headers.get(name),
                    None,
                    "{name} identifies the original bytes"
                );
            }
            // The proxy also requests some of these documents itself when it starts.
            let ours = |seen: &Seen| seen.target == path && seen.header("x-other") == Some("1");
            let seen = upstream
                .all()
                .into_iter()
                .rfind(ours)
                .expect("the request is forwarded");
            assert_eq!(seen.header("accept-encoding"), None);
            assert_eq!(seen.header("range"), None);
            let head = send("HEAD", &proxy.url(path), &[], "").await;
            assert_eq!(
                (head.status, head.headers.get("content-length")),
                (StatusCode::OK, None)
            );
        }
        let other = get(&proxy.url("/other")).await;
        assert_eq!(
            (other.text(), &other.headers["etag"]),
            (&*document.replace("UP", &up), &"\"1\"".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_document_without_urls_of_the_upstream_is_not_changed() {
    let document = r#"{"token_endpoint":"https://login.example.com/other","revocation_endpoint":"http://UPx/r"}"#;
    let upstream = Recorder::start(move |_| {
        (
            [("content-type", "application/json"), ("etag", "\"1\"")],
            document,
        )
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", PUBLIC]).await;
    let answer = get(&proxy.url(OPENID)).await;
    assert_eq!(
        (answer.text(), &answer.headers["etag"]),
        (document, &"\"1\"".parse().unwrap())
    );
}

#[tokio::test]
async fn the_expirations_that_every_response_states_are_listed() {
    let upstream = upstream(|seen| {
        match seen.target.as_str() {
            OPENID => r#"{"token_endpoint":"https://login.example.com/token","refresh_token_expiration_types_supported":["authorization"]}"#,
            OAUTH => r#"{"token_endpoint":"UP/token"}"#,
            _ => r#"{"token_endpoint":"UP/realms/a/token"}"#,
        }
        .into()
    })
    .await;
    let other = format!("/realms/a{OPENID}");
    let both = json!(["authorization", "token_timeout"]);
    let rows = [
        (OPENID, None, both.clone()),
        (OAUTH, None, json!(["token_timeout"])),
        (OAUTH, Some("--absolute-lifetime"), both),
        (&other, None, json!(null)),
    ];
    for (path, flag, types) in rows {
        let mut flags = vec!["--public-url", PUBLIC];
        flags.extend(flag.into_iter().flat_map(|flag| [flag, "86400"]));
        let proxy = proxy::start(&upstream.url(), &flags).await;
        let document = get(&proxy.url(path)).await.json();
        assert_eq!(
            document["refresh_token_expiration_types_supported"], types,
            "{path}, {flag:?}: {document}"
        );
    }
}

#[tokio::test]
async fn without_a_public_url_nothing_is_rewritten() {
    let upstream = upstream(|_| r#"{"token_endpoint":"UP/token"}"#.into()).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let answer = send(
        "GET",
        &proxy.url(OPENID),
        &[("accept-encoding", "gzip")],
        "",
    )
    .await;
    assert_eq!(
        answer.text(),
        format!(r#"{{"token_endpoint":"{}/token"}}"#, upstream.url())
    );
    assert_eq!(answer.headers["etag"], "\"1\"");
    // The proxy also requests the document itself when it starts.
    let ours =
        |seen: &Seen| seen.target == OPENID && seen.header("accept-encoding") == Some("gzip");
    assert!(upstream.all().iter().any(ours), "{:?}", upstream.all());
}

#[tokio::test]
async fn the_base_path_of_the_upstream_is_replaced_with_that_of_the_public_url() {
    let upstream = upstream(|_| {
        r#"{"token_endpoint":"UP/auth/token","revocation_endpoint":"UP/other/revoke"}"#.into()
    })
    .await;
    let public = format!("{PUBLIC}/sso");
    let proxy = proxy::start(
        &format!("{}/auth", upstream.url()),
        &["--public-url", &public],
    )
    .await;
    let answer = get(&proxy.url(OPENID)).await;
    assert_eq!(answer.string("token_endpoint"), format!("{public}/token"));
    assert_eq!(
        answer.string("revocation_endpoint"),
        format!("{}/other/revoke", upstream.url()),
        "the proxy cannot reach this URL"
    );
    proxy.written(DETOUR).await;
    assert!(
        proxy.stderr().contains("revocation_endpoint=http"),
        "{proxy:?}"
    );
}

#[tokio::test]
async fn an_unreadable_document_gets_502() {
    let upstream = Recorder::start(|seen| match seen.target.as_str() {
        "/large/.well-known/openid-configuration" => {
            ([("content-type", "application/json")], vec![b' '; 2 << 20])
        }
        "/zip/.well-known/openid-configuration" => {
            ([("content-encoding", "gzip")], vec![0x1f, 0x8b])
        }
        "/html/.well-known/openid-configuration" => {
            ([("content-type", "text/html")], vec![b' '; 2 << 20])
        }
        _ => ([("content-type", "application/json")], b"{".to_vec()),
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", PUBLIC]).await;
    for path in ["/large", "/zip"] {
        let answer = get(&proxy.url(&format!("{path}{OPENID}"))).await;
        assert_eq!(
            (answer.status, &*answer.string("error")),
            (StatusCode::BAD_GATEWAY, "server_error"),
            "{path}"
        );
    }
    assert_eq!(
        get(&proxy.url(&format!("/html{OPENID}"))).await.body.len(),
        2 << 20,
        "HTML is not a discovery document"
    );
    assert_eq!(
        get(&proxy.url(OPENID)).await.text(),
        "{",
        "an invalid document is passed on, because clients cannot use it either"
    );
}

#[tokio::test]
async fn endpoints_past_the_proxy_are_reported_at_start() {
    let upstream = upstream(|_| {
        r#"{"token_endpoint":"UP/token","introspection_endpoint":"https://x.example/i"}"#.into()
    });
    let upstream = upstream.await;
    let up = upstream.url();
    let proxy = proxy::start(&up, &[]).await;
    proxy.written(DETOUR).await;
    let log = proxy.stderr();
    for words in [
        &*format!("token_endpoint={up}/token"),
        "introspection_endpoint=https://x.example/i",
        "--public-url",
    ] {
        assert!(log.contains(words), "{words} is missing in {log}");
    }
    let proxy = proxy::start(&up, &["--public-url", PUBLIC, "--log-format", "json"]).await;
    proxy.written(DETOUR).await;
    let log = proxy.stderr();
    let line = log.lines().find(|line| line.contains(DETOUR)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        line["endpoints"],
        json!("introspection_endpoint=https://x.example/i"),
        "the token endpoint is rewritten"
    );
}

#[tokio::test]
async fn correct_documents_are_not_reported() {
    let document = r#"{"token_endpoint":"UP/token","revocation_endpoint":"UP/revoke"}"#;
    let upstream = upstream(move |seen| match seen.target.as_str() {
        OPENID => document.into(),
        // The proxy requests this document last, so its warning shows that the check is complete.
        _ => r#"{"token_endpoint":"https://elsewhere.example/token"}"#.into(),
    });
    let upstream = upstream.await;
    // An upstream that builds its URLs from the Host header, and one whose endpoints are rewritten.
    for flags in [&["--preserve-host"][..], &["--public-url", PUBLIC]] {
        let proxy = proxy::start(&upstream.url(), flags).await;
        proxy.written(DETOUR).await;
        let log = proxy.stderr();
        assert_eq!(log.matches(DETOUR).count(), 1, "{log}");
        assert!(
            log.contains("https://elsewhere.example") && !log.contains(OPENID),
            "{log}"
        );
    }
}

#[tokio::test]
async fn unguarded_endpoints_are_reported_at_start() {
    let document = r#"{"token_endpoint":"UP/oauth/token","revocation_endpoint":"UP/revoke","introspection_endpoint":"UP/inspect"}"#;
    let upstream = upstream(move |_| document.into()).await;
    let words = "the proxy does not guard these endpoints: correct the flags for their paths";
    for flags in [
        &[][..],
        &["--public-url", PUBLIC],
        &["--introspection-path", "/introspect"],
    ] {
        let proxy = proxy::start(&upstream.url(), flags).await;
        proxy.written(words).await;
        let log = proxy.stderr();
        assert!(
            log.contains("/oauth/token is not --token-path /token"),
            "{log}"
        );
        assert!(!log.contains("--revocation-path"), "{log}");
        let asked = flags.contains(&"--introspection-path");
        assert_eq!(
            log.contains("/inspect is not --introspection-path /introspect"),
            asked,
            "{log}"
        );
    }
}

#[tokio::test]
async fn the_document_of_an_issuer_with_a_path_is_found() {
    let upstream = Recorder::start(|seen| match seen.target.as_str() {
        "/realms/a/.well-known/openid-configuration" => (
            StatusCode::OK,
            r#"{"token_endpoint":"https://elsewhere.example/realms/a/oidc/token"}"#,
        ),
        _ => (StatusCode::NOT_FOUND, ""),
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &["--token-path", "/realms/a/oidc/token"]).await;
    proxy.written(DETOUR).await;
}

#[tokio::test]
async fn signed_metadata_is_reported_at_start() {
    let upstream = upstream(|_| r#"{"signed_metadata":"e30.e30."}"#.into()).await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", PUBLIC]).await;
    proxy
        .written("signed_metadata cannot be rewritten and may direct clients past the proxy")
        .await;
}
