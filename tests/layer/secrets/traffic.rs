//! Requests in which every kind of secret occurs.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::foreign::log_in_before;
use test_support::requests::{assertion, basic, forged, form};
use test_support::{Act, Plan, post, refresh_form};

use super::{CLIENT, HOUR, SECRET, Watched, log_in, refresh, revoke};

fn refresh_by_basic(token: &str, secret: &str) -> Request<Full<Bytes>> {
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    form("/token")
        .header("authorization", basic(format!("{CLIENT}:{secret}")))
        .body(body.into())
        .unwrap()
}

pub(super) async fn the_good_paths(watched: &mut Watched) {
    for client in ["app", CLIENT] {
        let first = watched.token(log_in(client)).await;
        let second = watched.token(refresh(client, &first)).await;
        watched.token(refresh(client, &first)).await;
        watched.app.clock.advance(2 * HOUR);
        watched.token(refresh(client, &first)).await;
        watched.app.clock.advance(2 * HOUR);
        // The clock of the store has not moved, so the link of the dropped token is still there.
        let third = watched.token(refresh(client, &second)).await;
        let fourth = watched.token(refresh(client, &third)).await;
        watched
            .app
            .upstream
            .then(Act::Answer(503, "text/plain", "down"));
        watched.send(refresh(client, &fourth)).await;
        watched.app.clock.advance(2 * HOUR);
        if client == CLIENT {
            watched.send(refresh_by_basic(&third, "wrong secret")).await;
        }
        watched.send(refresh(client, &third)).await;
    }
    let first = watched.token(log_in(CLIENT)).await;
    let second = watched.token(refresh_by_basic(&first, SECRET)).await;
    watched.token(refresh_by_basic(&first, SECRET)).await;
    let assertion = assertion(r#"{"sub":"confidential"}"#);
    watched.needles.text(&assertion);
    let form = [
        &refresh_form(CLIENT, &second)[..],
        &[("client_secret", SECRET), ("client_assertion", &assertion)],
    ];
    watched.token(post("/token", &form.concat())).await;
    // An answer to an assertion is not stored: the retry converges.
    let third = watched.token(post("/token", &form.concat())).await;
    watched.send(revoke(&third)).await.assert_ok("revoked");

    let foreign = log_in_before(&watched.app, CLIENT).await;
    watched.needles.text(&foreign);
    let adopted = watched.token(refresh(CLIENT, &foreign)).await;
    watched.token(refresh(CLIENT, &foreign)).await;
    watched.send(refresh("other", &foreign)).await;
    watched.token(refresh(CLIENT, &adopted)).await;
}

pub(super) async fn the_refusals(watched: &mut Watched) {
    let first = watched.token(log_in(CLIENT)).await;
    let token = watched.token(refresh(CLIENT, &first)).await;
    let with = |rest: &str| {
        form("/token")
            .body(Full::from(format!("refresh_token={token}{rest}")))
            .unwrap()
    };
    let authorized = |scheme: &str| {
        let body = "grant_type=refresh_token&refresh_token=x";
        form("/token")
            .header("authorization", format!("{scheme} {token}"))
            .body(body.into())
            .unwrap()
    };
    let requests = [
        refresh("other", &token),
        refresh_by_basic(&first, "wrong secret"),
        refresh_by_basic(&token, "wrong secret"),
        refresh(CLIENT, &forged(&token, 1)),
        refresh(CLIENT, &forged(&token, 9)),
        refresh(CLIENT, &token[..60]),
        revoke(&forged(&token, 9)),
        post(
            "/token",
            &[&refresh_form(CLIENT, &token)[..], &[("scope", &token)]].concat(),
        ),
        post(
            "/token",
            &[&refresh_form(CLIENT, &token)[..], &[("resource", &token)]].concat(),
        ),
        post(
            "/token",
            &[
                (&token, &token),
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT),
            ],
        ),
        authorized("Basic"),
        authorized("Bearer"),
        with(&format!("&grant_type=refresh_token&refresh_token={token}")),
        with("&grant_type=refresh_token&client_id=a%"),
        with("&grant_type=refresh_token"),
        with(
            "&grant_type=refresh_token&client_id=app&client_secret=a&client_secret=secret+of+confidential",
        ),
        with(&"&".repeat(70_000)),
        post("/token", &[("grant_type", "password")]),
    ];
    for request in requests {
        watched.send(request).await;
    }
}

pub(super) async fn the_faults(watched: &mut Watched) {
    const QUOTED: &str = r#"{"error":"invalid_grant","error_description":"upstream-5-0"}"#;
    let acts = [
        Act::Answer(
            200,
            "application/json",
            r#"{"refresh_token":"upstream-9-8","refresh_token":"upstream-9-9"}"#,
        ),
        Act::Answer(200, "text/html", "upstream-9-9"),
        Act::Answer(400, "application/json", QUOTED),
        Act::Answer(500, "application/json", r#"{"error":"server_error"}"#),
        Act::Break,
        Act::Hang,
        Act::Answer(400, "application/json", r#"{"error":"invalid_grant"}"#),
    ];
    let mut token = watched.token(log_in(CLIENT)).await;
    for act in acts {
        watched.app.upstream.then(act);
        watched.send(refresh(CLIENT, &token)).await;
        watched.app.layer.drain().await;
        watched.send(refresh(CLIENT, &token)).await;
        token = watched.token(log_in(CLIENT)).await;
    }
    watched.app.upstream.then(Act::Break);
    watched.send(revoke(&token)).await.assert_refused(
        "down",
        503,
        "temporarily_unavailable",
        false,
    );

    let plans: [fn(&test_support::Call) -> Plan; 4] = [
        |call| {
            if call.is_commit() {
                Plan::Lose
            } else {
                Plan::Pass
            }
        },
        |call| {
            if call.is_commit() {
                Plan::LoseAnswer
            } else {
                Plan::Pass
            }
        },
        |call| {
            if call.is_swap() {
                Plan::Corrupt
            } else {
                Plan::Pass
            }
        },
        |_| Plan::Lose,
    ];
    for plan in plans {
        let token = watched.token(log_in(CLIENT)).await;
        watched.fault(plan);
        for request in [
            refresh(CLIENT, &token),
            log_in(CLIENT),
            revoke(&token),
            refresh(CLIENT, "foreign"),
        ] {
            watched.send(request).await;
        }
        watched.app.layer.drain().await;
        watched.no_fault();
        watched.send(refresh(CLIENT, &token)).await;
    }
    let token = watched.token(log_in(CLIENT)).await;
    watched.app.clock.advance(1000 * HOUR);
    watched.send(refresh(CLIENT, &token)).await;
}
