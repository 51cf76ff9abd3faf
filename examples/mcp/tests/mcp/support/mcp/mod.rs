//! Helpers for tests of the example `mcp`: the server, an identity provider, and a browser.

mod browser;
mod provider;

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, post as post_form, send};
use test_support::process::Example;
use url::Url;

pub(crate) use self::browser::{Browser, form, onward};
pub(crate) use self::provider::{PROVIDER_CLIENT, PROVIDER_SECRET, Provider};
use crate::PROGRAM;

/// The PKCE pair of RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) type Pairs = Vec<(String, String)>;

/// Returns the value of a parameter. Panics if it is repeated.
pub(crate) fn one<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let mut values = pairs
        .iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str());
    let value = values.next();
    assert!(values.next().is_none(), "{name} is repeated: {pairs:?}");
    value
}

pub(crate) fn query(url: &str) -> Pairs {
    Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

/// Starts the example with these flags on a free port. The default store is in memory, because the
/// default of the program is a file that tests would share. By default, requests are not limited,
/// because all of them come from one address.
pub(crate) async fn start(flags: &[String]) -> Example {
    let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    if !flags.iter().any(|flag| flag == "--store") {
        args.extend(["--store", "memory"].map(str::to_owned));
    }
    let limits = ["registrations", "authorizations", "token-failures"];
    for flag in limits.map(|limit| format!("--limit-{limit}")) {
        if !flags.contains(&flag) {
            args.extend([flag, "0".to_owned()]);
        }
    }
    args.extend_from_slice(flags);
    tokio::task::spawn_blocking(move || Example::start::<_, &str, &str>(PROGRAM, &args, &[]))
        .await
        .unwrap()
}

/// Registers a client. Returns the response.
pub(crate) async fn register(server: &Example, metadata: &Value) -> Value {
    register_at(&server.url("/register"), metadata).await
}

pub(crate) async fn register_at(endpoint: &str, metadata: &Value) -> Value {
    let answer = send(
        "POST",
        endpoint,
        &[("content-type", "application/json")],
        metadata.to_string(),
    )
    .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

/// Registers a public client with this redirect URI. Returns its ID.
pub(crate) async fn register_public(server: &Example, name: &str, redirect_uri: &str) -> String {
    let metadata = json!({ "client_name": name, "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none" });
    register(server, &metadata).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Returns a valid authorization request with these changes. A parameter with an empty value is
/// omitted.
pub(crate) fn request(
    server: &Example,
    client_id: &str,
    redirect_uri: &str,
    changes: &[(&str, &str)],
) -> String {
    let usual = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("state", "the client's"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
    let parameters = usual
        .into_iter()
        .filter(|(name, _)| !changed(name))
        .chain(changes.iter().copied());
    let parameters = parameters.filter(|(_, value)| !value.is_empty());
    Url::parse_with_params(&server.url("/authorize"), parameters)
        .unwrap()
        .into()
}

/// Exchanges the code for a request of a public client. Returns the token response.
pub(crate) async fn exchange(server: &Example, request: &str, code: &str) -> Answer {
    let request = query(request);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", one(&request, "client_id").unwrap()),
        ("redirect_uri", one(&request, "redirect_uri").unwrap()),
        ("code_verifier", VERIFIER),
        ("code", code),
    ];
    post_form(&server.url("/token"), &form).await
}

/// Asserts the headers and the elements that all pages have in common.
pub(crate) fn assert_is_page(answer: &Answer) {
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    for directive in [
        "default-src 'none'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(
            policy.split("; ").any(|other| other == directive),
            "{policy}"
        );
    }
    assert!(
        policy.contains("form-action ") && !policy.contains("unsafe"),
        "{policy}"
    );
    let page = answer.text();
    // A script runs only if the policy has its hash.
    let scripts = page.matches("<script").count();
    assert_eq!(
        scripts,
        policy.matches("script-src 'sha256-").count(),
        "{policy}: {page}"
    );
    for needed in [
        "<!DOCTYPE html>",
        "<html lang=\"en\">",
        "<title>",
        "name=\"viewport\"",
        "<main>",
        "<h1>",
    ] {
        assert!(page.contains(needed), "{needed}: {page}");
    }
    for banned in ["<style", " style=", " onclick="] {
        assert!(!page.contains(banned), "{banned}: {page}");
    }
}
