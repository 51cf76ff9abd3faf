//! Clients that authenticate with a signed assertion (`private_key_jwt`, RFC 7523).

use serde_json::{Value, json};
use test_support::PATIENCE;
use test_support::http::post;
use test_support::redis::RedisServer;

use crate::support::client_key::{
    ASSERTION_TYPE, ClientKey, Site, assert_refused, claims, exchange, now, post_signed, refresh,
    register_with,
};
use crate::support::identity::Identity;
use crate::support::mcp::{self, VERIFIER};
use crate::support::mcp_client::{assert_error, call};

#[tokio::test]
async fn a_document_with_a_key_set_logs_in_refreshes_and_revokes() {
    let site = Site::start().await;
    let key = ClientKey::rsa("one");
    let client_id = site.document(
        &key.jwks(),
        &json!({ "token_endpoint_auth_signing_alg": "RS256" }),
    );
    let issuer = site.server.url("");
    let token_endpoint = site.server.url("/token");
    let sign = |aud: Value| key.assertion(&issuer, &client_id, &json!({ "aud": aud }));
    let code = site.code(&client_id).await;
    let tokens = exchange(&site.server, &sign(json!(issuer)), &code).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let mut token = tokens.string("refresh_token");
    for aud in [
        json!(token_endpoint),
        json!(format!("{issuer}/")),
        json!(["https://other.example", token_endpoint]),
    ] {
        let tokens = refresh(&site.server, &sign(aud), &token).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        token = tokens.string("refresh_token");
        let access = tokens.string("access_token");
        assert_eq!(call(&site.server, &access, "whoami").await.status, 200);
    }
    let form = [("token", token.as_str())];
    let revoked = post(&site.server.url("/revoke"), &form).await;
    assert_error(&revoked, 401, "invalid_client", "without an assertion");
    let revoked = post_signed(&site.server, "/revoke", &sign(json!(issuer)), &form).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let tokens = refresh(&site.server, &sign(json!(issuer)), &token).await;
    assert_error(&tokens, 400, "invalid_grant", "revoked");
    assert_eq!(site.host.requests(), 2, "the document and the keys");
}

#[tokio::test]
async fn an_invalid_assertion_is_refused_and_uses_nothing_up() {
    let site = Site::start().await;
    let (key, other) = (ClientKey::ec("one"), ClientKey::ec("one"));
    let client_id = register_with(&site.server, &key.jwks()).await;
    let issuer = site.server.url("");
    let code = site.code(&client_id).await;
    let with = |changes: Value| key.assertion(&issuer, &client_id, &changes);
    let valid = claims(&issuer, &client_id, &json!({}));
    let hmac = json!({ "alg": "HS256" });
    let none = json!({ "alg": "none" });
    let other_kid = json!({ "kid": "two" });
    let critical = json!({ "crit": ["b64"], "b64": false });
    let rows = [
        // To the layer, this one names no client.
        (
            with(json!({ "iss": "other" })),
            "does not identify its client",
        ),
        (
            with(json!({ "aud": "https://other.example" })),
            "aud must be",
        ),
        (with(json!({ "aud": [] })), "aud must be"),
        (with(json!({ "aud": null })), "needs the claims"),
        (with(json!({ "exp": null })), "needs the claims"),
        (with(json!({ "exp": "tomorrow" })), "needs the claims"),
        (with(json!({ "exp": now() - 90 })), "has expired"),
        (with(json!({ "exp": now() + 7200 })), "more than one hour"),
        (with(json!({ "exp": 1e300 })), "more than one hour"),
        (with(json!({ "nbf": now() + 120 })), "not yet valid"),
        (with(json!({ "iat": now() + 120 })), "not yet valid"),
        (with(json!({ "jti": null })), "needs the claims"),
        (with(json!({ "jti": "" })), "jti is empty or too long"),
        (
            with(json!({ "jti": "x".repeat(513) })),
            "jti is empty or too long",
        ),
        (other.sign(&json!({}), &valid), "signature is invalid"),
        (key.sign(&other_kid, &valid), "no such key"),
        (key.sign(&hmac, &valid), "not asymmetric"),
        (key.sign(&none, &valid), "known algorithm"),
        (key.sign(&critical, &valid), "critical headers"),
        (key.sign(&json!({ "typ": "at+jwt" }), &valid), "typ"),
        (key.sign(&json!({ "alg": "RS256" }), &valid), "no such key"),
    ];
    for (assertion, words) in rows {
        assert_refused(&exchange(&site.server, &assertion, &code).await, words);
    }
    // The layer reads the subject, too, and refuses what two parsers could read differently.
    let form = |assertion: &str, more: &[(&str, &str)]| {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", VERIFIER),
            ("client_assertion", assertion),
        ];
        usual
            .iter()
            .chain(more)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let valid = with(json!({}));
    for (assertion, more) in [
        (
            "x",
            vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_id", &client_id),
            ],
        ),
        (&valid, vec![]),
        (&valid, vec![("client_assertion_type", "urn:x")]),
        (
            &valid,
            vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_id", "other"),
            ],
        ),
        (
            &valid,
            vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_secret", "x"),
            ],
        ),
    ] {
        let form = form(assertion, &more);
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let answer = post(&site.server.url("/token"), &form).await;
        assert_error(&answer, 400, "invalid_request", &format!("{more:?}"));
    }
    let unsigned = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("code_verifier", VERIFIER),
        ("client_id", &client_id),
    ];
    let unsigned = post(&site.server.url("/token"), &unsigned).await;
    assert_refused(&unsigned, "must authenticate with a client_assertion");
    let tokens = exchange(&site.server, &valid, &code).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
}

#[tokio::test]
async fn an_assertion_is_accepted_once_by_all_instances() {
    let (identity, redis) = (Identity::start().await, RedisServer::start().await);
    let mut flags = identity.flags();
    let url = "https://mcp.example.com";
    flags.extend(["--store", &redis.url(), "--public-url", url].map(str::to_owned));
    let (one, two) = (mcp::start(&flags).await, mcp::start(&flags).await);
    let key = ClientKey::ec("one");
    let client_id = register_with(&one, &key.jwks()).await;
    let same = json!({ "jti": "the same" });
    let assertion = key.assertion(url, &client_id, &same);
    let unknown = refresh(&one, &assertion, "rt_unknown").await;
    assert_error(
        &unknown,
        400,
        "invalid_grant",
        "the layer refuses an unknown token itself",
    );
    let code = "x";
    let (first, second) = tokio::join!(
        exchange(&one, &assertion, code),
        exchange(&two, &assertion, code)
    );
    let mut both = [first.status.as_u16(), second.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [400, 401], "{first:?} {second:?}");
    assert_refused(&exchange(&two, &assertion, code).await, "was used before");
    // The ID is the client's own.
    let other = ClientKey::ec("one");
    let other_id = register_with(&two, &other.jwks()).await;
    let assertion = other.assertion(url, &other_id, &same);
    assert_error(
        &exchange(&one, &assertion, code).await,
        400,
        "invalid_grant",
        "of another client",
    );
}

#[tokio::test]
async fn an_assertion_proves_the_client_before_a_session_ends() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let client_id = site.document(&key.jwks(), &json!({}));
    let issuer = site.server.url("");
    let sign = || key.assertion(&issuer, &client_id, &json!({}));
    let code = site.code(&client_id).await;
    let old = exchange(&site.server, &sign(), &code)
        .await
        .string("refresh_token");
    let tokens = refresh(&site.server, &sign(), &old).await;
    let (token, access) = (
        tokens.string("refresh_token"),
        tokens.string("access_token"),
    );
    assert_eq!(refresh(&site.server, &sign(), &token).await.status, 200);
    let forged = ClientKey::ec("one").assertion(&issuer, &client_id, &json!({}));
    let form = [("token", old.as_str())];
    let revoked = post_signed(&site.server, "/revoke", &forged, &form).await;
    assert_error(&revoked, 401, "invalid_client", "a forged assertion");
    assert_eq!(call(&site.server, &access, "whoami").await.status, 200);
    let revoked = post_signed(&site.server, "/revoke", &sign(), &form).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!(call(&site.server, &access, "whoami").await.status, 401);
}

#[tokio::test]
async fn a_repeated_request_needs_a_new_assertion() {
    let site = Site::start().await;
    let key = ClientKey::ec("one");
    let client_id = site.document(&key.jwks(), &json!({}));
    let issuer = site.server.url("");
    let sign = || key.assertion(&issuer, &client_id, &json!({}));
    let code = site.code(&client_id).await;
    let used = sign();
    let tokens = exchange(&site.server, &used, &code).await;
    assert_refused(
        &exchange(&site.server, &used, &code).await,
        "was used before",
    );
    let again = exchange(&site.server, &sign(), &code).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(again.text(), tokens.text());
    let old = tokens.string("refresh_token");
    let used = sign();
    let tokens = refresh(&site.server, &used, &old).await;
    let identical = refresh(&site.server, &used, &old).await;
    assert_refused(&identical, "was used before");
    // It leads to the current token instead of the same response.
    let again = refresh(&site.server, &sign(), &old).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_ne!(again.text(), tokens.text());
    let token = again.string("refresh_token");
    assert_eq!(refresh(&site.server, &sign(), &token).await.status, 200);
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn an_assertion_is_accepted_once_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", directory.path().join("store").display());
    let url = "https://mcp.example.com";
    let mut flags = Identity::start().await.flags();
    flags.extend(["--store", &store, "--public-url", url].map(str::to_owned));
    let mut server = mcp::start(&flags).await;
    let key = ClientKey::ec("one");
    let client_id = register_with(&server, &key.jwks()).await;
    let assertion = key.assertion(url, &client_id, &json!({}));
    let first = exchange(&server, &assertion, "x").await;
    assert_error(&first, 400, "invalid_grant", "no such code");
    server.terminate();
    server.ended(PATIENCE).await;
    let server = mcp::start(&flags).await;
    assert_refused(&exchange(&server, &assertion, "x").await, "used before");
}
