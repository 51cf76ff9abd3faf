//! The client of a request.

use super::*;

#[tokio::test(start_paused = true)]
async fn malformed_basic_credentials_get_a_challenge() {
    let rows: [Row; 14] = [
        ("a user with a percent sign", |good| {
            good.authorized(basic("a%b:secret"), "")
        }),
        ("a user with half an escape, and the form", |good| {
            good.authorized(basic("app%4:secret"), "&client_id=app")
        }),
        ("nothing after the scheme", |good| {
            good.authorized("Basic", "")
        }),
        ("only spaces after the scheme", |good| {
            good.authorized("Basic   ", "")
        }),
        ("no base64", |good| good.authorized("Basic !!!", "")),
        ("no base64, the scheme in small letters", |good| {
            good.authorized("basic app:secret", "")
        }),
        ("two pieces of base64", |good| {
            good.authorized("Basic YXBw Og==", "")
        }),
        ("half a byte", |good| good.authorized("Basic YXBwO", "")),
        ("no colon", |good| good.authorized(basic("app"), "")),
        ("no user", |good| good.authorized(basic(":secret"), "")),
        ("only a colon", |good| good.authorized(basic(":"), "")),
        ("no UTF-8", |good| good.authorized(basic(b"app:\xff"), "")),
        ("a user with a line feed", |good| {
            good.authorized(basic("a%0App:secret"), "")
        }),
        ("unreadable although the form names the client", |good| {
            good.authorized("Basic ?", "&client_id=app")
        }),
    ];
    refuse_all(&rows, 401, "invalid_client", true).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_client_is_rejected_without_a_challenge() {
    let rows: [Row; 9] = [
        ("no client", |good| good.with("")),
        ("a client that is too long", |good| {
            good.with(format!("&client_id={}", "a".repeat(513)))
        }),
        ("an empty client", |good| good.with("&client_id=")),
        ("a client without a value", |good| good.with("&client_id")),
        ("only a secret", |good| {
            good.with("&client_secret=secret+of+app")
        }),
        ("another scheme", |good| good.authorized("Bearer abc", "")),
        ("a scheme that begins like Basic", |good| {
            good.authorized("Basically abc", "")
        }),
        ("an assertion that is no JWT", |good| {
            good.with("&client_assertion=abc")
        }),
        ("an assertion without a subject", |good| {
            good.asserted(r#"{"iss":"app"}"#, "")
        }),
    ];
    refuse_all(&rows, 401, "invalid_client", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_with_two_clients_is_rejected() {
    let rows: [Row; 18] = [
        ("a plus in Basic that is a space", |good| {
            good.authorized(basic("my+app:s"), "&client_id=my%2Bapp")
        }),
        ("an encrypted assertion and form", |good| {
            good.with("&client_assertion=a.b.c.d.e&client_id=app")
        }),
        ("SAML and Basic", |good| {
            good.authorized(basic("app:s"), "&client_assertion=PHNhbWw-")
        }),
        ("a number for a subject and form", |good| {
            good.asserted(r#"{"sub":7}"#, "&client_id=app")
        }),
        ("a subject twice and extension", |good| {
            extended(good.asserted(r#"{"sub":"app","sub":"app"}"#, ""), "app")
        }),
        ("Basic and form", |good| {
            good.authorized(basic("other:s"), "&client_id=app")
        }),
        ("Basic and form that differ in case", |good| {
            good.authorized(basic("APP:s"), "&client_id=app")
        }),
        ("Basic and form with two secrets", |good| {
            good.authorized(basic("app:s"), "&client_id=app&client_secret=t")
        }),
        ("assertion and form", |good| {
            good.asserted(r#"{"sub":"other"}"#, "&client_id=app")
        }),
        ("an assertion with two subjects", |good| {
            good.asserted(r#"{"sub":"app","sub":"other"}"#, "&client_id=app")
        }),
        ("assertion and Basic", |good| {
            good.authorized(
                basic("app:s"),
                &format!("&client_assertion={}", assertion(r#"{"sub":"other"}"#)),
            )
        }),
        ("extension and form", |good| {
            extended(good.with("&client_id=app"), "other")
        }),
        ("extension and Basic", |good| {
            extended(good.authorized(basic("app:s"), ""), "other")
        }),
        ("extension and assertion", |good| {
            extended(good.asserted(r#"{"sub":"app"}"#, ""), "other")
        }),
        ("two authorizations", |good| {
            let builder = form(good.path)
                .header("authorization", basic("app:s"))
                .header("authorization", basic("app:s"));
            builder.body(full(good.bytes(""))).unwrap()
        }),
        ("a client with a control character", |good| {
            good.with("&client_id=app%0A")
        }),
        ("a client with a DEL", |good| good.with("&client_id=app%7F")),
        (
            "an assertion of a client with a control character",
            |good| good.asserted(r#"{"sub":"a\u0007"}"#, ""),
        ),
    ];
    refuse_all(&rows, 400, "invalid_request", false).await;
}
