//! The example `mcp` with `--issuer`: the discovery document of the provider says how to use it.

use std::time::Instant;

use serde_json::json;
use test_support::PATIENCE;
use test_support::http::{get, post};
use test_support::process::Example;
use tokio::time::{Duration, sleep};

use crate::PROGRAM;
use crate::support::idp::{Behaviour, CLIENT, Idp, SECRET};
use crate::support::mcp::{self, Browser, assert_is_page, one, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call};

async fn start(idp: &Idp, more: &[&str]) -> (Example, McpClient) {
    let mut flags = idp.flags();
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    (server, client)
}

/// Runs the program with these flags, which it rejects. Returns its output.
async fn rejected(flags: &[String]) -> String {
    let args = [&["--listen".to_owned(), "127.0.0.1:0".to_owned()], flags].concat();
    let run = tokio::task::spawn_blocking(move || Example::run(PROGRAM, &args, &[]));
    let output = run.await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[tokio::test]
async fn the_discovery_document_names_everything() {
    for (path, rfc8414) in [
        ("", false),
        ("/realms/a", false),
        ("/tenant/", false),
        ("/x", true),
    ] {
        let behaviour = Behaviour {
            path,
            rfc8414,
            methods: &["client_secret_post"],
            ..Behaviour::default()
        };
        let idp = Idp::with(behaviour).await;
        let (server, client) = start(&idp, &[]).await;
        let tokens = client.log_in(&server).await;
        let refresh = tokens.string("refresh_token");
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{path}: {}", tokens.text());
        assert_eq!(
            client
                .revoke(&server, &tokens.string("refresh_token"))
                .await
                .status,
            200
        );
        assert_eq!(idp.received("/revoke").len(), 1, "{path}");
        assert_eq!(one(&idp.last("/token").form, "client_secret"), Some(SECRET));
    }
}

#[tokio::test]
async fn flags_override_the_discovery_document() {
    let (idp, other) = (Idp::start().await, Idp::start().await);
    idp.change(|behaviour| behaviour.methods = &["client_secret_basic", "client_secret_post"]);
    other.change(|behaviour| behaviour.methods = &["client_secret_post"]);
    let (authorize, token) = (other.url("/authorize"), other.url("/token"));
    let flags = [
        "--authorization-endpoint",
        &authorize,
        "--token-endpoint",
        &token,
        "--client-auth=client_secret_post",
        "--scope=profile",
    ];
    let (server, client) = start(&idp, &flags).await;
    client.log_in(&server).await;
    assert_eq!(other.received("/token").len(), 1);
    assert!(idp.received("/authorize").is_empty() && idp.received("/token").is_empty());
}

#[tokio::test]
async fn an_unreachable_issuer_does_not_prevent_the_start() {
    let idp = Idp::start().await;
    idp.is_down(true);
    let (server, client) = start(&idp, &[]).await;
    let log_in = request(&server, &client.id, REDIRECT, &[]);
    let page = get(&log_in).await;
    assert_eq!(page.status, 503);
    assert_is_page(&page);
    assert!(
        page.text().contains("identity provider cannot be reached"),
        "{}",
        page.text()
    );
    assert!(page.headers.contains_key("retry-after"));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", &client.id),
        ("code", "x"),
        ("code_verifier", "x"),
    ];
    let refused = post(&server.url("/token"), &form).await;
    assert_error(&refused, 503, "temporarily_unavailable", "no provider");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(
        get(&server.url("/.well-known/oauth-authorization-server"))
            .await
            .status,
        200
    );

    idp.is_down(false);
    let end = Instant::now() + PATIENCE;
    while get(&log_in).await.status == 503 {
        assert!(
            Instant::now() < end,
            "the document is not read again: {server:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
    let access = client.log_in(&server).await.string("access_token");
    assert_eq!(call(&server, &access, "whoami").await.status, 200);
}

#[tokio::test]
async fn a_document_that_does_not_fit_is_an_error_at_start() {
    let idp = Idp::start().await;
    let document = |more| move |behaviour: &mut Behaviour| behaviour.document = Some(more);
    let rows = [
        (
            json!({ "issuer": "https://other.example" }),
            "is that of `https://other.example`",
        ),
        (
            json!({ "issuer": format!("{}/", idp.issuer()) }),
            "both must be spelled the same",
        ),
        (
            json!({ "token_endpoint": "http://other.example/token" }),
            "names http://other.example/token, which is not https",
        ),
        (
            json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] }),
            "supports only the authentication methods private_key_jwt: set --client-secret, --client-key or --client-auth",
        ),
        (
            json!({ "jwks_uri": null }),
            "has no jwks_uri, without which ID tokens cannot be verified: leave openid out of --scope",
        ),
        (
            json!({ "token_endpoint": null }),
            "--issuer: the discovery document has no endpoint for --token-endpoint",
        ),
    ];
    for (more, text) in rows {
        idp.change(document(more.clone()));
        let output = rejected(&idp.flags()).await;
        assert!(
            output.contains("--issuer") && output.contains(text),
            "{more}: {output}"
        );
    }
}

#[tokio::test]
async fn the_issuer_of_an_authorization_response_is_checked() {
    for (supported, sent, right) in [
        (true, true, true),
        (true, false, false),
        (false, false, true),
    ] {
        let idp = Idp::with(Behaviour {
            document: Some(json!({ "authorization_response_iss_parameter_supported": supported })),
            iss: sent,
            ..Behaviour::default()
        })
        .await;
        let (server, client) = start(&idp, &[]).await;
        let log_in = request(&server, &client.id, REDIRECT, &[]);
        let answer = query(&Browser::default().log_in(&log_in, REDIRECT).await);
        assert_eq!(
            one(&answer, "code").is_some(),
            right,
            "{supported} {sent}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn an_issuer_needs_tls_and_a_client() {
    let client = ["--client-id", CLIENT, "--client-secret", SECRET];
    let rows: [(&[&str], &str); 7] = [
        (&["--issuer=http://id.example.com"], "--issuer"),
        (&["--issuer=https://id.example.com/?x"], "--issuer"),
        (
            &["--issuer=https://id.example.com"],
            "--issuer needs --client-id",
        ),
        (&["--provider=entra"], "--provider needs --client-id"),
        (&["--provider=aol"], "--provider"),
        (
            &[&client[..], &["--provider=entra"]].concat(),
            "--provider entra needs --issuer, such as https://login.microsoftonline.com/TENANT/v2.0",
        ),
        (
            &[
                &client[..],
                &["--issuer=https://a.example", "--provider-issuer=x"],
            ]
            .concat(),
            "--provider-issuer cannot be combined with --issuer",
        ),
    ];
    for (flags, text) in rows {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let output = rejected(&flags).await;
        assert!(output.contains(text), "{flags:?}: {output}");
    }
}
