//! The keys of clients, in their metadata or at a `jwks_uri`.

use std::time::{Duration, Instant};

use serde_json::json;
use test_support::PATIENCE;
use test_support::http::{post, send};
use tokio::time::sleep;

use crate::support::client_key::{
    ClientKey, Site, assert_refused, exchange, refresh, register_with,
};
use crate::support::documents::{DocumentHost, answer, is_refused, start};
use crate::support::mcp::{VERIFIER, register};
use crate::support::mcp_client::{REDIRECT, assert_error};

#[tokio::test]
async fn unknown_keys_do_not_make_the_server_fetch_without_a_limit() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let client_id = site.document(&key.jwks(), &json!({}));
    let issuer = site.server.url("");
    let code = site.code(&client_id).await;
    let unknown = async || {
        let other = ClientKey::ec("two").assertion(&issuer, &client_id, &json!({}));
        exchange(&site.server, &other, &code).await
    };
    for _ in 0..2 {
        assert_refused(&unknown().await, "no such key");
    }
    for _ in 0..10 {
        // The client may have a new key: it keeps its tokens.
        assert_error(&unknown().await, 503, "temporarily_unavailable", "too soon");
    }
    let requests = site.host.requests();
    assert_eq!(requests, 3, "the document, and the keys twice");
    let assertion = key.assertion(&issuer, &client_id, &json!({}));
    assert_eq!(exchange(&site.server, &assertion, &code).await.status, 200);
    assert_eq!(site.host.requests(), 3);
}

#[tokio::test]
async fn a_new_key_works_right_after_the_keys_were_fetched() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let client_id = site.document(&key.jwks(), &json!({}));
    let issuer = site.server.url("");
    let code = site.code(&client_id).await;
    let assertion = key.assertion(&issuer, &client_id, &json!({}));
    let tokens = exchange(&site.server, &assertion, &code).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let key = ClientKey::ec("two");
    let jwks = key.jwks().to_string();
    site.host.serve("/jwks", move || answer(&[], jwks.clone()));
    let assertion = key.assertion(&issuer, &client_id, &json!({}));
    let tokens = refresh(&site.server, &assertion, &tokens.string("refresh_token")).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_fetched_later() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let client_id = site.document(&key.jwks(), &json!({}));
    let (jwks, issuer) = (key.jwks().to_string(), site.server.url(""));
    let code = site.code(&client_id).await;
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(40 << 10));
    site.host.serve("/jwks", move || answer(&[], large.clone()));
    let sign = || key.assertion(&issuer, &client_id, &json!({}));
    let tokens = exchange(&site.server, &sign(), &code).await;
    assert_error(&tokens, 503, "temporarily_unavailable", "too large");
    site.host.serve("/jwks", move || answer(&[], jwks.clone()));
    let end = Instant::now() + PATIENCE;
    loop {
        let tokens = exchange(&site.server, &sign(), &code).await;
        if tokens.status == 200 {
            break;
        }
        assert_error(&tokens, 503, "temporarily_unavailable", "not fetched yet");
        assert!(Instant::now() < end, "the keys are not fetched again");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn keys_are_not_fetched_from_private_addresses() {
    let host = DocumentHost::start().await;
    let key = ClientKey::ec("one");
    let jwks = key.jwks().to_string();
    let uri = host.serve("/jwks", move || answer(&[], jwks.clone()));
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    let metadata = |uri: &str| {
        json!({
            "redirect_uris": [REDIRECT],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": uri,
        })
    };
    for uri in [&*uri, "https://169.254.169.254/jwks", "https://[::1]/jwks"] {
        let registered = register(&server, &metadata(uri)).await;
        assert_eq!(registered["jwks_uri"], uri);
        let client_id = registered["client_id"].as_str().unwrap();
        let assertion = key.assertion(&server.url(""), client_id, &json!({}));
        let answer = exchange(&server, &assertion, "x").await;
        assert_error(&answer, 503, "temporarily_unavailable", uri);
    }
    assert_eq!(host.server.connections(), 0);
    // A server that fetches nothing that clients name refuses the registration.
    let server = start(&["--no-metadata-documents"]).await;
    let body = metadata(&uri).to_string();
    let headers = [("content-type", "application/json")];
    let refused = send("POST", &server.url("/register"), &headers, body).await;
    assert_error(&refused, 400, "invalid_client_metadata", "no fetches");
    let inline = register_with(&server, &key.jwks()).await;
    let assertion = key.assertion(&server.url(""), &inline, &json!({}));
    assert_error(
        &exchange(&server, &assertion, "x").await,
        400,
        "invalid_grant",
        "inline keys",
    );
}

#[tokio::test]
async fn a_document_with_several_methods_may_use_each_that_works() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let methods = json!(["tls_client_auth", "none", "private_key_jwt"]);
    let changes = json!({ "token_endpoint_auth_method": methods });
    let client_id = site.document(&key.jwks(), &changes);
    let issuer = site.server.url("");
    let code = site.code(&client_id).await;
    let wrong = ClientKey::ec("one").assertion(&issuer, &client_id, &json!({}));
    assert_refused(&exchange(&site.server, &wrong, &code).await, "signature");
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("code_verifier", VERIFIER),
        ("client_id", &client_id),
    ];
    let tokens = post(&site.server.url("/token"), &form).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let assertion = key.assertion(&issuer, &client_id, &json!({}));
    let tokens = refresh(&site.server, &assertion, &tokens.string("refresh_token")).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
}

#[tokio::test]
async fn a_document_whose_keys_cannot_be_used_is_refused() {
    let site = Site::start().await;
    let rows = [
        (
            json!({ "jwks_uri": null }),
            "needs the member jwks or jwks_uri",
        ),
        (
            json!({ "jwks_uri": "http://client.example/jwks" }),
            "jwks_uri must be an https URL",
        ),
        (
            json!({ "jwks_uri": null, "jwks": { "keys": [] } }),
            "jwks must be a JSON Web Key Set",
        ),
        (
            json!({ "jwks_uri": null, "jwks": { "keys": [{ "kty": "oct", "k": "AQAB" }] } }),
            "must not contain private",
        ),
        (
            json!({ "token_endpoint_auth_signing_alg": "HS256" }),
            "must be one of: RS256",
        ),
    ];
    for (number, (changes, words)) in rows.into_iter().enumerate() {
        let mut metadata = json!({
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": site.host.url("/jwks"),
        });
        for (name, value) in changes.as_object().unwrap() {
            metadata[name] = value.clone();
        }
        let path = format!("/client-{number}");
        let url = site.host.document(&path, &metadata, &[]);
        is_refused(&site.server, &url, words).await;
    }
}
