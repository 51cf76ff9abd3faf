//! The scope of an access token.

use super::*;

/// An inner service without scopes ignores the parameter and omits it from the response, which
/// grants nothing.
#[tokio::test]
async fn a_requested_scope_is_ignored_if_the_inner_service_knows_no_scopes() {
    let app = referencing();
    let asking = || {
        LOG_IN
            .iter()
            .copied()
            .chain([("scope", "orders")])
            .collect::<Vec<_>>()
    };
    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let log_in = app.send(post("/token", &asking())).await.unwrap();
    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let refresh = [
        ("scope", "orders"),
        ("client_id", "app"),
        ("grant_type", "refresh_token"),
    ];
    let refresh_token = log_in.token();
    let refreshed = app
        .post(
            "/token",
            &[&refresh[..], &[("refresh_token", &refresh_token)]].concat(),
        )
        .await;
    let guarded = Guarded::with(&app, |builder| builder.require_scope("orders"));
    for (name, answer) in [
        ("a code with a scope", log_in),
        ("a refresh with a scope", refreshed),
    ] {
        let refused = guarded
            .send(&[&format!("Bearer {}", access_token(&answer))])
            .await
            .0;
        assert_eq!(refused.status, 403, "{name}");
    }
}

#[tokio::test]
async fn the_requested_scope_applies_if_the_response_omits_scope() {
    let omitted = r#"{"scope":null}"#;
    let rows = [
        ("password", "orders", omitted, true),
        ("client_credentials", "x orders", omitted, true),
        (
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "orders",
            omitted,
            true,
        ),
        ("password", "orders", r#"{"scope":""}"#, false),
        ("password", "orders", r#"{"scope":["x"]}"#, false),
        ("password", "orders", r#"{"scope":7}"#, false),
        ("password", "orders", r#"{"scope":"x"}"#, false),
        ("password", "orders  x", omitted, false),
        ("password", " orders", omitted, false),
        ("authorization_code", "orders", omitted, false),
        ("authorization_code ", "orders", omitted, false),
        (" authorization_code", "orders", omitted, false),
        ("Authorization_Code", "orders", omitted, false),
        ("authorization_code\t", "orders", omitted, false),
        ("PASSWORD", "orders", omitted, false),
        ("password ", "orders", omitted, false),
        (
            "urn:ietf:params:oauth:grant-type:device_code",
            "orders",
            omitted,
            false,
        ),
        (
            "URN:IETF:params:oauth:grant-type:token-exchange",
            "orders",
            omitted,
            false,
        ),
        ("of their own", "orders", omitted, false),
        ("REFRESH_TOKEN", "orders", omitted, false),
    ];
    for (grant_type, asked, members, granted) in rows {
        let app = referencing();
        app.upstream.then(Act::With(members));
        let form = [
            ("grant_type", grant_type),
            ("client_id", "app"),
            ("code", "c"),
            ("scope", asked),
        ];
        let first = app.post("/token", &form).await;
        let mut answers = vec![access_token(&first)];
        if let Some(token) = first.get("refresh_token") {
            app.upstream.then(Act::With(omitted));
            answers.push(access_token(&app.refresh(&token).await));
        }
        let guarded = Guarded::with(&app, |builder| builder.require_scope("orders"));
        for token in answers {
            assert_eq!(
                guarded.status(&token).await,
                if granted { 200 } else { 403 },
                "{grant_type:?} {members}"
            );
        }
    }
}
