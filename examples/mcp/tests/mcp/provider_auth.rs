//! The example `mcp` as a client of the provider: authentication and parameters.

use std::collections::HashSet;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::KeyPair;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use test_support::process::Example;

use crate::PROGRAM;
use crate::support::idp::{Behaviour, CLIENT, Idp};
use crate::support::mcp::{self, one};
use crate::support::mcp_client::McpClient;

/// Logs in at a server with these flags, and refreshes once.
async fn log_in(flags: &[String]) -> Example {
    let server = mcp::start(flags).await;
    let client = McpClient::register(&server).await;
    let refresh = client.log_in(&server).await.string("refresh_token");
    let refreshed = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    server
}

fn without_secret(idp: &Idp, more: &[&str]) -> Vec<String> {
    let mut flags = idp.flags();
    flags.retain(|flag| !flag.starts_with("--client-secret"));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn a_public_client_uses_pkce_only() {
    let idp = Idp::with(Behaviour {
        methods: &["none"],
        ..Behaviour::default()
    })
    .await;
    log_in(&without_secret(&idp, &["--client-auth=none"])).await;
    let keycloak = ["--client-auth=none", "--provider=keycloak"];
    log_in(&without_secret(&idp, &keycloak)).await;
    for token in idp.received("/token") {
        assert_eq!(one(&token.form, "client_id"), Some(CLIENT));
        assert_eq!(one(&token.form, "client_secret"), None);
    }
}

#[tokio::test]
async fn a_key_signs_a_new_assertion_for_each_request() {
    let idp = Idp::with(Behaviour {
        methods: &["private_key_jwt"],
        ..Behaviour::default()
    })
    .await;
    let pair = KeyPair::generate().unwrap();
    let pem = file(&pair.serialize_pem());
    let path = pem.path().to_str().unwrap();
    let point = pair.public_key_raw();
    let (x, y) = point[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(thumbprint));
    let key = DecodingKey::from_ec_components(&x, &y).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[idp.url("/token")]);
    validation.set_issuer(&[CLIENT]);
    for (flags, kid) in [
        (vec!["--client-key", path], &*thumbprint),
        (vec!["--client-key", path, "--provider=okta"], &*thumbprint),
        (
            vec!["--client-key", path, "--provider=keycloak"],
            &*thumbprint,
        ),
        (vec!["--client-key", path, "--client-key-id", "7"], "7"),
    ] {
        let before = idp.received("/token").len();
        log_in(&without_secret(&idp, &flags)).await;
        let mut ids = HashSet::new();
        for token in &idp.received("/token")[before..] {
            assert_eq!(
                one(&token.form, "client_assertion_type"),
                Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            );
            assert_eq!(one(&token.form, "client_id"), Some(CLIENT));
            let assertion = one(&token.form, "client_assertion").unwrap();
            assert_eq!(decode_header(assertion).unwrap().kid.as_deref(), Some(kid));
            let claims: Map<String, Value> = decode(assertion, &key, &validation).unwrap().claims;
            assert_eq!(claims["sub"], CLIENT);
            let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
            assert_eq!(lifetime, 60);
            ids.insert(claims["jti"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), 2, "each assertion has its own ID");
    }
}

#[tokio::test]
async fn parameters_are_sent_as_they_are() {
    let idp = Idp::start().await;
    let mut flags = idp.flags();
    let own = [
        "--authorization-param=claims={\"a\":1,\"b\":2}",
        "--authorization-param=audience=https://api.example.com",
        "--token-param=audience=a,b",
        "--token-param=x=",
        "--forward-resource",
    ];
    flags.extend(own.map(str::to_owned));
    let server = log_in(&flags).await;
    let resource = server.url("/mcp");
    let asked = idp.last("/authorize").form;
    assert_eq!(one(&asked, "claims"), Some("{\"a\":1,\"b\":2}"));
    assert_eq!(one(&asked, "audience"), Some("https://api.example.com"));
    assert_eq!(one(&asked, "resource"), Some(&*resource));
    for token in idp.received("/token") {
        assert_eq!(one(&token.form, "audience"), Some("a,b"));
        assert_eq!(one(&token.form, "x"), Some(""));
        assert_eq!(one(&token.form, "resource"), Some(&*resource));
    }
}

#[tokio::test]
async fn invalid_credentials_are_rejected_at_start() {
    let not_a_key = file("no key");
    let not_a_key = format!("--client-key={}", not_a_key.path().display());
    let rows: [(&[&str], &str); 9] = [
        (
            &[],
            "needs --client-secret, --client-key or --client-auth none",
        ),
        (
            &["--client-auth=none", "--client-secret=x"],
            "--client-auth none cannot be combined with --client-secret",
        ),
        (
            &["--client-auth=private_key_jwt", "--client-secret=x"],
            "--client-auth private_key_jwt needs --client-key",
        ),
        (&[&not_a_key], "not a private key in PEM"),
        (&["--client-key=/none"], "--client-key /none"),
        (
            &["--client-key=/none", "--client-secret=x"],
            "--client-secret cannot be combined with --client-key",
        ),
        (
            &["--client-secret=x", "--client-key-id=7"],
            "--client-key-id needs --client-key",
        ),
        (
            &["--client-secret=x", "--token-param=scope=x"],
            "this server itself sends `scope`",
        ),
        (
            &["--client-secret=x", "--token-param=x"],
            "it must be NAME=VALUE",
        ),
    ];
    for (flags, text) in rows {
        let common = [
            "--listen=127.0.0.1:0",
            "--client-id=x",
            "--authorization-endpoint=http://127.0.0.1:1/a",
            "--token-endpoint=http://127.0.0.1:1/t",
        ];
        let args = [&common, flags].concat();
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let run = tokio::task::spawn_blocking(move || Example::run(PROGRAM, &args, &[]));
        let output = run.await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {stderr}");
        assert!(stderr.contains(text), "{flags:?}: {stderr}");
    }
}
