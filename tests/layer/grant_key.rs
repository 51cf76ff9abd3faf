//! Responses, events and access tokens tell the application to which grant they belong.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use test_support::access::LOG_IN;
use test_support::foreign::{adopting, another};
use test_support::{Act, App, Plan, post, refresh_form};
use tower_oauth_refresh::{EventKind, GrantKey, ResponseBody};

async fn send(app: &App, form: &[(&str, &str)]) -> Response<ResponseBody<Full<Bytes>>> {
    tower::ServiceExt::oneshot(app.service.clone(), post("/token", form))
        .await
        .unwrap()
}

/// Returns the grant key in the response to this form, and its refresh token.
async fn named(app: &App, form: &[(&str, &str)]) -> (Option<GrantKey>, Option<String>) {
    let response = send(app, form).await;
    let grant = response.extensions().get().copied();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (grant, answer["refresh_token"].as_str().map(str::to_owned))
}

/// Unwraps both for a success with a refresh token of the layer.
#[track_caller]
fn granted((grant, token): (Option<GrantKey>, Option<String>)) -> (GrantKey, String) {
    (
        grant.expect("a response without a grant key"),
        token.expect("a response without a refresh token"),
    )
}

#[tokio::test]
async fn every_response_of_a_grant_carries_its_key() {
    let app = App::new();
    let (grant, first) = granted(named(&app, &LOG_IN).await);
    let (other, _) = granted(named(&app, &LOG_IN).await);
    assert_ne!(grant, other);
    let (rotated, second) = granted(named(&app, &refresh_form("app", &first)).await);
    let (replayed, same) = granted(named(&app, &refresh_form("app", &first)).await);
    assert_eq!((rotated, replayed), (grant, grant));
    assert_eq!(same, second, "this was a replay");
    app.clock.advance(Duration::from_secs(61));
    let (recovered, third) = granted(named(&app, &refresh_form("app", &first)).await);
    assert_eq!(recovered, grant);
    let (again, _) = granted(named(&app.another(), &refresh_form("app", &third)).await);
    assert_eq!(again, grant, "on another instance");
    let kinds = app
        .take_events()
        .into_iter()
        .map(|event| (event.kind, event.grant.unwrap() == grant));
    let expected = [
        (EventKind::Issued, true),
        (EventKind::Issued, false),
        (EventKind::Rotated, true),
        (EventKind::Replayed, true),
        (EventKind::Recovered, true),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected, "events carry it, too");
}

#[tokio::test]
async fn responses_of_an_adoption_carry_the_key_of_the_new_grant() {
    let (app, foreign) = adopting().await;
    let (grant, first) = granted(named(&app, &refresh_form("app", &foreign)).await);
    let (replayed, same) =
        granted(named(&another(&app, 3600), &refresh_form("app", &foreign)).await);
    assert_eq!((replayed, &same), (grant, &first));
    let (rotated, _) = granted(named(&app, &refresh_form("app", &first)).await);
    assert_eq!(rotated, grant);
}

#[tokio::test]
async fn a_response_without_a_grant_carries_no_key() {
    let app = App::new();
    let (_, token) = granted(named(&app, &LOG_IN).await);
    let credentials = [("grant_type", "client_credentials"), ("client_id", "app")];
    let nobody = [("grant_type", "password")];
    for (name, form) in [
        ("no refresh token", &credentials[..]),
        ("no client", &nobody),
        ("a rejection", &refresh_form("thief", &token)),
        (
            "an error of the inner service",
            &refresh_form("confidential", &token),
        ),
    ] {
        assert_eq!(named(&app, form).await, (None, None), "{name}");
    }
    app.store.once(test_support::Call::is_swap, Plan::Lose);
    assert_eq!(
        named(&app, &LOG_IN).await,
        (None, None),
        "a grant that could not be stored"
    );
    app.upstream.then(Act::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_scope"}"#,
    ));
    assert_eq!(
        named(&app, &refresh_form("app", &token)).await,
        (None, None),
        "a rejection by the inner service"
    );
}

#[tokio::test]
async fn an_event_has_the_key_of_its_grant() {
    let app = App::new();
    let (grant, _) = granted(named(&app, &LOG_IN).await);
    let event = app.take_events().remove(0);
    assert_eq!(event.grant, Some(grant));
    assert_eq!(grant.to_string().parse(), Ok(grant), "its text form");
}

#[tokio::test]
async fn an_access_token_carries_the_key_of_its_grant() {
    use test_support::access::Guarded;
    use tower_oauth_refresh::AccessGrant;

    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
    let app = App::with(|builder| builder.reference_access_tokens(true).adopt_until(until));
    let guarded = Guarded::new(&app);
    let before = test_support::foreign::log_in_before(&app, "app").await;
    let credentials = [("grant_type", "client_credentials"), ("client_id", "app")];
    for (name, form, belongs) in [
        ("a log-in", &LOG_IN[..], true),
        ("an adoption", &refresh_form("app", &before), true),
        ("no refresh token", &credentials, false),
    ] {
        let response = send(&app, form).await;
        let grant = response.extensions().get::<GrantKey>().copied();
        assert_eq!(grant.is_some(), belongs, "{name}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let token = answer["access_token"].as_str().unwrap();
        for cached in [false, true] {
            let seen = guarded.grant(token).await;
            assert_eq!(
                seen.as_ref().and_then(AccessGrant::grant),
                grant,
                "{name}, cached: {cached}"
            );
        }
    }
}
