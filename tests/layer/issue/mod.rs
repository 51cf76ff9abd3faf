//! A grant begins with every refresh token that the inner service issues, and with nothing else.

mod binding;
mod expiry;
mod response;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::requests::{assertion, basic, form, generation, send};
use test_support::{Act, App, Plan, post, refresh_form};
use tower_oauth_refresh::{ClientId, EventKind};

// `MemoryStore` removes entries with less than a moment to live.
const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn log_in(more: &[(&str, &str)]) -> Request<Full<Bytes>> {
    post(
        "/token",
        &[
            &[
                ("grant_type", "authorization_code"),
                ("code", "c"),
                ("client_id", "app"),
            ],
            more,
        ]
        .concat(),
    )
}

#[tokio::test(start_paused = true)]
async fn every_grant_type_gets_a_refresh_token_of_the_layer() {
    for grant_type in [
        "authorization_code",
        "password",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:openid:params:grant-type:ciba",
        "REFRESH_TOKEN",
        "refresh_token ",
        "something of their own",
    ] {
        let app = App::new();
        let token = app
            .post(
                "/token",
                &[("grant_type", grant_type), ("client_id", "app")],
            )
            .await
            .token();
        assert_eq!(
            (&token[..3], token.len(), generation(&token)),
            ("rt_", 75, 0),
            "{grant_type}"
        );
        let events = app.take_events();
        assert_eq!(
            (events[0].kind, events[0].generation, events.len()),
            (EventKind::Issued, Some(0), 1),
            "{grant_type}"
        );
        assert_eq!(
            events[0].client_id.as_ref().map(ClientId::as_str),
            Some("app")
        );
        app.refresh(&token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_form_without_a_grant_type_is_left_to_the_inner_service() {
    let app = App::new();
    let answer = app
        .post("/token", &[("refresh_token", "x"), ("client_id", "app")])
        .await;
    assert_eq!(answer.error(), (400, "unsupported_grant_type".into()));
}

#[tokio::test(start_paused = true)]
async fn if_the_store_is_down_a_log_in_succeeds_without_a_refresh_token() {
    for (name, plan, event) in [
        ("unavailable", Plan::Lose, EventKind::StoreUnavailable),
        (
            "its answer lost",
            Plan::LoseAnswer,
            EventKind::StoreUnavailable,
        ),
        ("corrupt", Plan::Corrupt, EventKind::StoreCorrupt),
    ] {
        let app = App::new();
        app.store.once(|_| true, plan);
        let answer = send(&app, log_in(&[])).await;
        answer.assert_ok(name);
        assert_eq!(
            answer.body,
            r#"{"access_token":"at-0-0","token_type":"Bearer","expires_in":3600,"scope":"read write"}"#,
            "{name}"
        );
        assert_eq!(app.events(), [event], "{name}");
        assert_eq!(answer.headers()["cache-control"], "no-store", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_refuse_unstored_grants_a_log_in_fails_if_its_grant_cannot_be_stored() {
    type Fault = fn() -> Plan;
    let rows: [(&str, Fault, u16, &str, EventKind); 3] = [
        (
            "unavailable",
            || Plan::Lose,
            503,
            "temporarily_unavailable",
            EventKind::StoreUnavailable,
        ),
        (
            "its answer lost",
            || Plan::LoseAnswer,
            503,
            "temporarily_unavailable",
            EventKind::StoreUnavailable,
        ),
        (
            "corrupt",
            || Plan::Corrupt,
            500,
            "server_error",
            EventKind::StoreCorrupt,
        ),
    ];
    for (name, plan, status, error, event) in rows {
        for reference in [false, true] {
            let app = App::with(|builder| {
                builder
                    .refuse_unstored_grants(true)
                    .reference_access_tokens(reference)
            });
            app.store.hook(move |_, _| plan());
            let name = format!("{name}, reference tokens: {reference}");
            let answer = send(&app, log_in(&[])).await;
            answer.assert_refused(&name, status, error, false);
            assert_eq!(app.upstream.seen().len(), 1, "{name}");
            assert!(app.events().contains(&event), "{name}: {:?}", app.events());
            app.store.unhook();
            app.log_in("app").await;
        }
    }
}
