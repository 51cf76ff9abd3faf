//! A revocation ends the grant of a client that authenticates itself only if the inner service has
//! authenticated the client: at its revocation endpoint or, if it has none, at its token endpoint.

use std::time::Duration;

use axum::Router;
use axum::routing::post;
use http::StatusCode;
use test_support::client::{Client, Sent};
use test_support::session::infallible;
use test_support::upstream::Seen;
use test_support::{Act, App, refresh_form};
use tower::Layer as _;
use tower_oauth_refresh::{ClientProof, EventKind};

use crate::proof::{CONFIDENTIAL, HOUR, RIGHT, WRONG, invalid_grant};

const UNSUPPORTED: &str = r#"{"error":"unsupported_token_type"}"#;

/// The responses of inner services that revoke no refresh tokens.
fn no_revocation() -> [Act; 3] {
    [
        Act::Answer(404, "text/html", "<h1>Not Found</h1>"),
        Act::Answer(405, "text/plain", ""),
        Act::Answer(400, "application/json", UNSUPPORTED),
    ]
}

/// Logs in and rotates this often. Returns all tokens, oldest first.
async fn grant(client: &Client, sent: Sent, rotations: usize) -> Vec<String> {
    let mut tokens = vec![client.log_in(sent).await];
    for _ in 0..rotations {
        let next = client.refresh(tokens.last().unwrap(), sent).await.token();
        tokens.push(next);
    }
    client.app.events();
    tokens
}

/// Returns the requests that the inner service has received since there were `before`.
fn since(client: &Client, before: usize) -> Vec<Seen> {
    client.app.upstream.seen().split_off(before)
}

/// Panics unless this is a probe, which has no token of the layer and none of the inner service.
#[track_caller]
fn assert_probe(seen: &Seen) {
    assert_eq!(seen.path, "/token");
    assert_eq!(seen.param("grant_type"), Some("refresh_token"));
    assert_eq!(seen.param("client_id"), Some(CONFIDENTIAL));
    let token = seen.param("refresh_token").unwrap();
    assert_eq!(token.len(), 72, "a token that no one has issued");
    assert_eq!(seen.param("token"), Some(token));
    for shape in ["rt_", "upstream-"] {
        let raw = String::from_utf8_lossy(&seen.raw);
        assert!(!raw.contains(shape), "{raw}");
    }
}

async fn assert_alive(client: &Client, token: &str) {
    client.refresh(token, RIGHT).await.token();
    assert_eq!(client.app.upstream.alive(), 1);
    assert_eq!(client.app.upstream.reuses(), 0);
}

#[tokio::test]
async fn without_a_revocation_endpoint_only_the_client_ends_its_grant() {
    for act in no_revocation() {
        let client = Client::of(App::new(), CONFIDENTIAL).await;
        let mut token = client.log_in(RIGHT).await;
        for sent in [Sent::Nothing, WRONG, Sent::Basic("guessed"), Sent::Jwt(1)] {
            let before = client.app.upstream.seen().len();
            client.app.upstream.then(act.clone());
            client.app.events();
            let answer = client.revoke(&token, sent).await;
            assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
            assert_eq!(client.app.events(), [], "{sent:?}");
            let [revocation, probe] = since(&client, before).try_into().unwrap();
            assert_eq!(revocation.path, "/revoke");
            assert_probe(&probe);
            token = client.refresh(&token, RIGHT).await.token();
        }
        client.app.events();
        client.app.upstream.then(act.clone());
        let before = client.app.upstream.seen().len();
        let answer = client.revoke(&token, RIGHT).await;
        assert_eq!(answer.status, 200, "{act:?}");
        assert_eq!(client.app.events(), [EventKind::Revoked], "{act:?}");
        assert_probe(&since(&client, before)[1]);
        let answer = client.refresh(&token, RIGHT).await;
        assert_eq!(answer.error(), invalid_grant(), "{act:?}");
    }
}

#[tokio::test]
async fn an_attested_client_revokes_with_its_attestation() {
    let client = Client::of(App::new(), "attested").await;
    let token = client.log_in(Sent::Attested(1)).await;
    let [not_found, ..] = no_revocation();
    for sent in [Sent::Nothing, Sent::ForgedAttestation, Sent::Attested(1)] {
        client.app.upstream.then(not_found.clone());
        let answer = client.revoke(&token, sent).await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
    }
    let token = client.refresh(&token, Sent::Attested(2)).await.token();
    client.app.upstream.then(not_found);
    let answer = client.revoke(&token, Sent::Attested(3)).await;
    assert_eq!(answer.status, 200);
    let answer = client.refresh(&token, Sent::Attested(4)).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test]
async fn without_a_proof_a_revocation_ends_nothing() {
    for act in [
        Act::Answer(500, "text/plain", "down"),
        Act::Answer(200, "application/json", r#"{"access_token":"a"}"#),
        Act::Answer(400, "application/json", r#"{"error":"invalid_request"}"#),
        Act::Answer(404, "text/html", ""),
    ] {
        let client = Client::of(App::new(), CONFIDENTIAL).await;
        let token = client.log_in(RIGHT).await;
        client.app.events();
        let [not_found, ..] = no_revocation();
        client.app.upstream.then(not_found);
        client.app.upstream.then(act.clone());
        let answer = client.revoke(&token, RIGHT).await;
        assert_eq!(answer.error(), (502, "server_error".into()), "{act:?}");
        let events = client.app.events();
        assert_eq!(events, [EventKind::UpstreamUnreadable], "{act:?}");
        assert_alive(&client, &token).await;
    }
}

#[tokio::test]
async fn a_revocation_endpoint_is_not_probed() {
    let client = Client::of(App::new(), CONFIDENTIAL).await;
    let token = client.log_in(RIGHT).await;
    let before = client.app.upstream.seen().len();
    for sent in [Sent::Nothing, WRONG] {
        let answer = client.revoke(&token, sent).await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
    }
    assert_eq!(client.revoke(&token, RIGHT).await.status, 200);
    let paths: Vec<_> = since(&client, before)
        .into_iter()
        .map(|seen| seen.path)
        .collect();
    assert_eq!(paths, ["/revoke"; 3]);
    let answer = client.refresh(&token, RIGHT).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test]
async fn the_probe_goes_to_the_configured_path() {
    let app = App::with(|builder| builder.token_path("/realms/a/token"));
    let client = Client::of(app, CONFIDENTIAL).await;
    // The test server has its token endpoint elsewhere, so that it is told what to answer.
    let tokens = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"upstream-0-0"}"#;
    let json = "application/json";
    client.app.upstream.then(Act::Answer(200, json, tokens));
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", CONFIDENTIAL),
    ];
    let answer = client.post("/realms/a/token", &form, RIGHT).await;
    let [not_found, ..] = no_revocation();
    client.app.upstream.then(not_found);
    let rejected = r#"{"error":"invalid_grant"}"#;
    client.app.upstream.then(Act::Answer(400, json, rejected));
    assert_eq!(client.revoke(&answer.token(), RIGHT).await.status, 200);
    let [_, _, probe] = client.app.upstream.seen().try_into().unwrap();
    assert_eq!(probe.path, "/realms/a/token");
    assert_eq!(client.app.events(), [EventKind::Issued, EventKind::Revoked]);
}

/// Otherwise the service that gets the revocation is only the handler of its route.
#[tokio::test]
async fn in_axum_the_layer_must_be_around_the_whole_router() {
    for whole in [false, true] {
        let app = App::new();
        let routes = Router::new()
            .route_service("/token", infallible(&app.upstream))
            .route("/revoke", post(|| async { StatusCode::NOT_FOUND }));
        let router = if whole {
            Router::new().fallback_service(app.layer.layer(routes))
        } else {
            routes.layer(app.layer.clone())
        };
        let client = Client::at(app, CONFIDENTIAL, router).await;
        let token = client.log_in(RIGHT).await;
        let answer = client.revoke(&token, RIGHT).await;
        assert_eq!(answer.status.as_u16(), if whole { 200 } else { 502 });
        let alive = client.refresh(&token, RIGHT).await.status == 200;
        assert_eq!(alive, !whole);
    }
}

#[tokio::test]
async fn a_public_client_needs_no_proof() {
    for act in no_revocation() {
        let client = Client::of(App::new(), "app").await;
        let token = client.log_in(Sent::Nothing).await;
        client.app.upstream.then(act.clone());
        let answer = client.revoke(&token, Sent::Nothing).await;
        assert_eq!(answer.status, 200, "{act:?}");
        assert_eq!(client.app.upstream.seen().len(), 2, "{act:?}: no probe");
        let answer = client.refresh(&token, Sent::Nothing).await;
        assert_eq!(answer.error(), invalid_grant(), "{act:?}");
    }
}

#[tokio::test]
async fn a_late_or_reused_token_revokes_only_with_a_proof() {
    for (passed, refused, proved) in [
        (Duration::ZERO, None, EventKind::Revoked),
        (
            2 * HOUR,
            Some(EventKind::ReuseUnproven),
            EventKind::ReuseDetected,
        ),
    ] {
        let app = App::with(|builder| builder.shared_token_window(Duration::ZERO));
        let client = Client::of(app, CONFIDENTIAL).await;
        let tokens = grant(&client, RIGHT, 2).await;
        client.app.clock.advance(passed);
        for sent in [Sent::Nothing, WRONG] {
            let before = client.app.upstream.seen().len();
            let answer = client.revoke(&tokens[0], sent).await;
            assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
            assert_eq!(client.app.events(), Vec::from_iter(refused), "{sent:?}");
            let [probe] = since(&client, before).try_into().unwrap();
            assert_probe(&probe);
        }
        let down = Act::Answer(500, "text/plain", "down");
        client.app.upstream.then(down);
        let answer = client.revoke(&tokens[0], RIGHT).await;
        // A reused token is invalid, which is not an error (RFC 7009 §2.2).
        let status = if refused.is_some() { 200 } else { 502 };
        assert_eq!(answer.status, status, "after {passed:?}");
        let event = refused.unwrap_or(EventKind::UpstreamUnreadable);
        assert_eq!(client.app.events(), [event], "after {passed:?}");

        let answer = client.revoke(&tokens[0], RIGHT).await;
        assert_eq!(answer.status, 200, "after {passed:?}");
        let events = client.app.take_events();
        assert_eq!(events.len(), 1, "after {passed:?}: {events:?}");
        assert_eq!(events[0].kind, proved, "after {passed:?}");
        if let Some(reuse) = events[0].reuse {
            assert_eq!(reuse.client_proof, ClientProof::Proved);
        }
        let answer = client.refresh(&tokens[2], RIGHT).await;
        assert_eq!(answer.error(), invalid_grant());
    }
}

/// A log-out must work while the inner service is down. The client can repeat it then.
#[tokio::test]
async fn a_pending_revocation_is_confirmed_only_with_a_proof() {
    let client = Client::of(App::new(), CONFIDENTIAL).await;
    let token = client.log_in(RIGHT).await;
    let down = Act::Answer(503, "text/plain", "down");
    client.app.upstream.then(down);
    assert_eq!(client.revoke(&token, RIGHT).await.status, 503);
    let [not_found, ..] = no_revocation();
    client.app.upstream.then(not_found.clone());
    assert_eq!(client.revoke(&token, WRONG).await.status, 401);
    client.app.upstream.then(not_found);
    assert_eq!(client.revoke(&token, RIGHT).await.status, 200);
    let answer = client
        .post("/token", &refresh_form(CONFIDENTIAL, &token), RIGHT)
        .await;
    assert_eq!(answer.error(), invalid_grant());
}
