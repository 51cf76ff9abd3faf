//! Clients in the file of `--clients`, and the flags for redirect URIs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::http::{Answer, get, send};
use test_support::process::Example;
use url::form_urlencoded::byte_serialize;

use crate::PROGRAM;
use crate::support::client_key::{ClientKey, exchange};
use crate::support::identity::Identity;
use crate::support::mcp::{
    self, Browser, PROVIDER_CLIENT, PROVIDER_SECRET, VERIFIER, one, query, request,
};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call};

/// A server with a file of clients.
async fn start(clients: &str, more: &[&str]) -> Example {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clients.toml");
    fs::write(&path, clients).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut flags = Identity::start().await.flags();
    flags.extend(["--clients", path.to_str().unwrap()].map(str::to_owned));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    mcp::start(&flags).await
}

async fn code(server: &Example, client_id: &str) -> String {
    let url = request(server, client_id, REDIRECT, &[]);
    let answer = query(&Browser::default().log_in(&url, REDIRECT).await);
    one(&answer, "code").unwrap().to_owned()
}

/// Exchanges a code with HTTP Basic.
async fn exchange_with_secret(server: &Example, id: &str, secret: &str, code: &str) -> Answer {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
    let body = format!("grant_type=authorization_code&code={code}&code_verifier={VERIFIER}");
    let headers = [
        ("authorization", &*format!("Basic {pair}")),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    send("POST", &server.url("/token"), &headers, body).await
}

#[tokio::test]
async fn configured_clients_log_in_without_a_registration() {
    let key = ClientKey::ec("one");
    let (x, y) = (key.jwk()["x"].clone(), key.jwk()["y"].clone());
    let clients = format!(
        r#"
        [[client]]
        client_id = "a program"
        client_name = "A program"
        redirect_uris = ["{REDIRECT}"]
        scope = "openid"

        [[client]]
        provider = true
        redirect_uris = ["{REDIRECT}"]

        [[client]]
        client_id = "signed"
        redirect_uris = ["{REDIRECT}"]
        jwks = {{ keys = [{{ kty = "EC", kid = "one", crv = "P-256", x = {x}, y = {y} }}] }}
        "#
    );
    let server = start(&clients, &[]).await;
    let program = McpClient {
        id: "a program".into(),
    };
    let tokens = program.log_in(&server).await;
    assert_eq!(tokens.string("scope"), "openid");
    let access = tokens.string("access_token");
    assert_eq!(call(&server, &access, "whoami").await.status, 200);
    let token = tokens.string("refresh_token");
    assert_eq!(program.refresh(&server, &token, &[]).await.status, 200);

    let code_of_provider = code(&server, PROVIDER_CLIENT).await;
    let with = async |secret| {
        exchange_with_secret(&server, PROVIDER_CLIENT, secret, &code_of_provider).await
    };
    assert_error(
        &with("other").await,
        401,
        "invalid_client",
        "another secret",
    );
    let tokens = with(PROVIDER_SECRET).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());

    let code = code(&server, "signed").await;
    let assertion = key.assertion(&server.url(""), "signed", &json!({}));
    let tokens = exchange(&server, &assertion, &code).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());

    let other = request(&server, "a program", "https://other.example/", &[]);
    assert_eq!(get(&other).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_invalid_file_is_an_error_that_names_it_and_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clients.toml");
    let client = "[[client]]\nclient_id = \"one\"\nredirect_uris = [\"http://a.example/\"]";
    fs::write(&path, client).unwrap();
    let path = path.to_str().unwrap();
    for (path, more, words) in [
        (path, &[][..], "client `one`: redirect URI 1 is invalid"),
        (
            path,
            &["--check-config"],
            "client `one`: redirect URI 1 is invalid",
        ),
        ("/nowhere", &[], "No such file"),
    ] {
        let flags = ["--listen", "127.0.0.1:0", "--clients", path];
        let output = Example::run(PROGRAM, &[&flags, more].concat(), &[]);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let named = format!("--clients {path}: ");
        assert!(text.contains(&named) && text.contains(words), "{text}");
    }
}

#[test]
fn the_check_finds_the_client_of_the_provider_as_the_start_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("clients.toml");
    let client = format!("[[client]]\nprovider = true\nredirect_uris = [\"{REDIRECT}\"]");
    fs::write(&path, client).unwrap();
    let provider = [
        "--authorization-endpoint=https://id.example/authorize",
        "--token-endpoint=https://id.example/token",
        "--client-id=x",
    ];
    let public = "--client-auth=none";
    let words = "provider = true needs --client-secret";
    for (flags, status, words) in [
        (&[][..], 0, "configuration is valid"),
        (
            &[&provider[..], &["--client-secret=x"]].concat(),
            0,
            "is valid",
        ),
        (&[&provider[..], &[public]].concat(), 2, words),
    ] {
        let all = [
            &["--check-config", "--clients", path.to_str().unwrap()],
            flags,
        ]
        .concat();
        let output = Example::run(PROGRAM, &all, &[]);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(output.status.code(), Some(status), "{flags:?}: {text}");
        assert!(text.contains(words), "{flags:?}: {text}");
    }
}

async fn register(server: &Example, metadata: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    send(
        "POST",
        &server.url("/register"),
        &headers,
        metadata.to_string(),
    )
    .await
}

#[tokio::test]
async fn a_file_with_secrets_that_others_can_read_gets_a_warning() {
    const WARNING: &str = "the file of --clients has secrets, and other users can read it";
    let hash = "0".repeat(64);
    for (secret, is_expected) in [
        ("client_secret = \"hunter2\"".to_owned(), true),
        (format!("client_secret_sha256 = \"{hash}\""), false),
    ] {
        let client =
            format!("[[client]]\nclient_id = \"a\"\nredirect_uris = [\"{REDIRECT}\"]\n{secret}");
        let log = start(&client, &[]).await.stderr();
        assert_eq!(log.contains(WARNING), is_expected, "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[tokio::test]
async fn patterns_add_to_the_usual_redirect_uris_or_replace_them() {
    let (allow, only) = ("steam://run/*", "http://localhost/*");
    let uris = [
        "steam://run/cb",
        "http://localhost/cb",
        "https://a.example/cb",
    ];
    for (flags, allowed) in [
        (vec![], [false, true, true]),
        (vec!["--allow-redirect", allow], [true, true, true]),
        (vec!["--only-redirect", only], [false, true, false]),
        (
            vec!["--only-redirect", only, "--allow-redirect", allow],
            [true, true, false],
        ),
    ] {
        let server = start("", &flags).await;
        for (uri, allowed) in uris.into_iter().zip(allowed) {
            let answer = register(&server, &json!({ "redirect_uris": [uri] })).await;
            assert_eq!(
                answer.status == StatusCode::CREATED,
                allowed,
                "{flags:?} {uri}"
            );
        }
    }
}

#[tokio::test]
async fn a_web_application_has_https_only() {
    let server = start("", &[]).await;
    let of = |kind: &str, uris: &[&str]| json!({ "application_type": kind, "redirect_uris": uris });
    // As Visual Studio Code does.
    let both = ["https://vscode.dev/redirect", "http://127.0.0.1:33418/"];
    let native = register(&server, &of("native", &both)).await;
    assert_eq!(native.status, StatusCode::CREATED, "{}", native.text());
    assert_eq!(native.string("application_type"), "native");
    let web = register(&server, &of("web", &both[..1])).await;
    assert_eq!(web.string("application_type"), "web");
    let web = register(&server, &of("web", &both)).await;
    assert_error(&web, 400, "invalid_redirect_uri", "web");
    assert!(
        web.text().contains("redirect URI 2 must be https"),
        "{}",
        web.text()
    );
    let other = register(&server, &of("other", &both)).await;
    assert_eq!(other.json().get("application_type"), None);
}
