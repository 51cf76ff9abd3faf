//! The client of a request, however it is named.

use test_support::App;
use test_support::requests::{assertion, basic, send};
use tower_oauth_refresh::ClientId;

use super::{Row, authorized, refresh, serve_all};

#[tokio::test(start_paused = true)]
async fn every_authentication_method_names_the_same_client() {
    let rows: [Row; 9] = [
        ("in the form", |t| {
            refresh(
                t,
                "&client_id=confidential&client_secret=secret+of+confidential",
            )
        }),
        ("in the form, escaped in another way", |t| {
            refresh(
                t,
                "&client_id=c%6Fnfidential&client_secret=secret%20of%20confidential",
            )
        }),
        ("by Basic", |t| {
            authorized(t, &basic("confidential:secret+of+confidential"), "")
        }),
        ("by Basic with escapes", |t| {
            authorized(t, &basic("c%6fnfidential:secret%20of+c%6Fnfidential"), "")
        }),
        ("by Basic and form", |t| {
            let rest = "&client_id=confidential&client_secret=secret+of+confidential";
            authorized(t, &basic("confidential:secret+of+confidential"), rest)
        }),
        ("by Basic, and the client in the form", |t| {
            authorized(
                t,
                &basic("confidential:secret+of+confidential"),
                "&client_id=confidential",
            )
        }),
        ("by Basic, and an empty client in the form", |t| {
            authorized(
                t,
                &basic("confidential:secret+of+confidential"),
                "&client_id=&client_secret=",
            )
        }),
        ("by an assertion in addition to the form", |t| {
            let jwt = assertion(r#"{"sub":"confidential","iss":"confidential"}"#);
            refresh(
                t,
                &format!(
                    "&client_assertion={jwt}&client_id=confidential&client_secret=secret+of+confidential"
                ),
            )
        }),
        ("by an extension in addition to Basic", |t| {
            let mut request = authorized(t, &basic("confidential:secret+of+confidential"), "");
            request
                .extensions_mut()
                .insert(ClientId::try_from("confidential").unwrap());
            request
        }),
    ];
    serve_all(
        &rows,
        "client_id=confidential&client_secret=secret+of+confidential",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn unusual_client_ids_are_accepted() {
    for id in [
        "a b",
        "a:b",
        "\u{e4}\u{20ac}",
        "https://client.example/id?x=1&y=2",
        &"a".repeat(512),
    ] {
        let app = App::new();
        let token = app.log_in(id).await;
        let next = app.refresh_as(id, &token).await.token();
        let escaped: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let by_basic = authorized(&next, &basic(format!("{escaped}:")), "");
        send(&app, by_basic).await.token(id);
    }
}
