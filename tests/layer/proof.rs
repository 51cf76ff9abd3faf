//! Reuse of a grant whose client authenticates itself ends the grant only if the request proves to
//! come from the client.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use test_support::client::{Client, Sent};
use test_support::{Act, App, PATIENCE, SECOND, post, refresh_form, settle};
use tokio::sync::Notify;
use tower::ServiceBuilder;
use tower_oauth_refresh::{ClientProof, EventKind, Reuse};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const CONFIDENTIAL: &str = "confidential";
const SECRET: &str = "secret of confidential";
pub(crate) const RIGHT: Sent = Sent::Post(SECRET);
pub(crate) const WRONG: Sent = Sent::Post("guessed");

pub(crate) fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".into())
}

/// Logs in, rotates twice and lets every window pass. Returns the first and the newest token.
pub(crate) async fn stale(client: &Client, sent: [Sent; 3]) -> [String; 2] {
    let first = client.log_in(sent[0]).await;
    let second = client.refresh(&first, sent[1]).await.token();
    let newest = client.refresh(&second, sent[2]).await.token();
    client.app.clock.advance(2 * HOUR);
    client.app.take_events();
    client.app.store.calls();
    [first, newest]
}

/// Returns the only event, which is about reuse.
#[track_caller]
pub(crate) fn reuse(app: &App) -> (EventKind, Reuse) {
    let events = app.take_events();
    let [event] = events.as_slice() else {
        panic!("not one event: {events:?}");
    };
    (event.kind, event.reuse.expect("the event has its reuse"))
}

/// Panics if one of the probes could have used something up. `before` is the number of requests
/// that the inner service had received before.
#[track_caller]
fn assert_harmless(app: &App, before: usize, probes: usize) {
    let seen = app.upstream.seen().split_off(before);
    let probed: Vec<_> = seen
        .iter()
        .filter_map(|seen| seen.param("refresh_token"))
        .collect();
    assert_eq!(probed.len(), probes, "{seen:?}");
    for (at, token) in probed.iter().enumerate() {
        assert_eq!(token.len(), 72, "a token that no one has issued");
        assert!(!probed[..at].contains(token), "the same token twice");
    }
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.alive(), 1);
}

#[tokio::test]
async fn a_request_that_does_not_authenticate_ends_nothing() {
    let client = Client::of(App::new(), CONFIDENTIAL).await;
    let [first, mut newest] = stale(&client, [RIGHT; 3]).await;
    let sent = [Sent::Nothing, WRONG, Sent::Basic("guessed"), Sent::Jwt(1)];
    for sent in sent {
        let before = client.app.upstream.seen().len();
        let answer = client.refresh(&first, sent).await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
        assert_eq!(answer.headers["x-upstream"], "yes", "{sent:?}");
        let (kind, reuse) = reuse(&client.app);
        assert_eq!(kind, EventKind::ReuseUnproven, "{sent:?}");
        assert_eq!(reuse.client_proof, ClientProof::Disproved, "{sent:?}");
        assert_harmless(&client.app, before, 1);
        let writes = client.app.store.calls();
        assert!(
            !writes.iter().any(test_support::Call::is_swap),
            "{sent:?}: {writes:?}"
        );
        newest = client.refresh(&newest, RIGHT).await.token();
        client.app.clock.advance(2 * HOUR);
        client.app.take_events();
        client.app.store.calls();
    }
}

#[tokio::test]
async fn the_client_itself_ends_its_grant() {
    for sent in [RIGHT, Sent::Basic(SECRET)] {
        let client = Client::of(App::new(), CONFIDENTIAL).await;
        let [first, newest] = stale(&client, [RIGHT, sent, RIGHT]).await;
        let before = client.app.upstream.seen().len();
        assert_eq!(client.refresh(&first, sent).await.error(), invalid_grant());
        let (kind, reuse) = reuse(&client.app);
        assert_eq!(kind, EventKind::ReuseDetected);
        assert_eq!(reuse.client_proof, ClientProof::Proved);
        assert_eq!(reuse.generations_behind, 2);
        assert_eq!(reuse.rotated_away_for, 2 * HOUR, "a lower bound");
        assert_harmless(&client.app, before, 1);
        let answer = client.refresh(&newest, sent).await;
        assert_eq!(answer.error(), invalid_grant());
    }
}

#[tokio::test]
async fn an_assertion_proves_its_client() {
    proves_its_client("signed", Sent::Jwt, Sent::ForgedJwt).await;
}

#[tokio::test]
async fn an_attestation_proves_its_client() {
    proves_its_client("attested", Sent::Attested, Sent::ForgedAttestation).await;
}

/// Checks a client whose credential differs each time.
async fn proves_its_client(name: &'static str, sent: fn(u32) -> Sent, forged: Sent) {
    let client = Client::of(App::new(), name).await;
    let [first, newest] = stale(&client, [1, 2, 3].map(sent)).await;
    // A forged credential, one that was sent before, and none.
    for sent in [forged, sent(3), Sent::Nothing] {
        let answer = client.refresh(&first, sent).await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{sent:?}");
        let (kind, reuse) = reuse(&client.app);
        assert_eq!(kind, EventKind::ReuseUnproven, "{sent:?}");
        assert_eq!(reuse.client_proof, ClientProof::Disproved, "{sent:?}");
    }
    let newest = client.refresh(&newest, sent(4)).await.token();
    client.app.clock.advance(2 * HOUR);
    client.app.take_events();
    let answer = client.refresh(&first, sent(5)).await;
    assert_eq!(answer.error(), invalid_grant());
    let (kind, reuse) = reuse(&client.app);
    assert_eq!(kind, EventKind::ReuseDetected);
    assert_eq!(reuse.client_proof, ClientProof::Proved);
    let answer = client.refresh(&newest, sent(6)).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test]
async fn the_time_of_the_previous_token_is_exact() {
    let client = Client::of(App::new(), CONFIDENTIAL).await;
    let first = client.log_in(RIGHT).await;
    let second = client.refresh(&first, RIGHT).await.token();
    // A convergence writes the record again, and does not make the token younger.
    client.app.clock.advance(30 * SECOND);
    let converged = client.refresh(&first, Sent::Basic(SECRET)).await;
    assert_eq!(converged.token(), second);
    client.app.clock.advance(HOUR);
    // The current token is presented, so that the previous one cannot be recovered.
    client.app.upstream.then(Act::Answer(503, "text/plain", ""));
    assert_eq!(client.refresh(&second, RIGHT).await.status, 503);
    client.app.take_events();
    assert_eq!(client.refresh(&first, RIGHT).await.error(), invalid_grant());
    let (_, reuse) = reuse(&client.app);
    assert_eq!(reuse.generations_behind, 1);
    assert_eq!(reuse.rotated_away_for, HOUR + 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_proves_nothing_ends_nothing() {
    let json = "application/json";
    let acts = [
        Act::Answer(500, json, r#"{"error":"invalid_grant"}"#),
        Act::Answer(503, "text/plain", "down"),
        Act::Answer(
            200,
            json,
            r#"{"access_token":"a","token_type":"Bearer","refresh_token":"upstream-9-9"}"#,
        ),
        Act::Answer(200, "text/html", "<h1>Welcome</h1>"),
        Act::Answer(400, json, r#"{"error":"invalid_request"}"#),
        Act::Answer(400, json, r#"{"error":"unauthorized_client"}"#),
        Act::Answer(400, "text/plain", "invalid_grant"),
        Act::Answer(404, "text/html", ""),
        Act::Answer(429, "text/plain", "slow down"),
        Act::Break,
    ];
    for act in acts {
        let app = App::new();
        let [first, newest] = begin(&app).await;
        app.upstream.then(act.clone());
        let answer = app.post("/token", &with_secret(&first)).await;
        assert_eq!(answer.error(), invalid_grant(), "{act:?}");
        let (kind, reuse) = reuse(&app);
        assert_eq!(kind, EventKind::ReuseUnproven, "{act:?}");
        assert_eq!(reuse.client_proof, ClientProof::Missing, "{act:?}");
        app.post("/token", &with_secret(&newest)).await.token();
        assert_eq!(app.upstream.alive(), 1, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_in_the_way_of_other_servers_is_a_proof() {
    let json = "application/json";
    for (act, proof) in [
        // Auth0 and GitHub.
        (
            Act::Answer(403, json, r#"{"error":"invalid_grant"}"#),
            ClientProof::Proved,
        ),
        (
            Act::Answer(200, json, r#"{"error":"bad_refresh_token"}"#),
            ClientProof::Proved,
        ),
        (
            Act::Answer(400, json, r#"{"error":"invalid_client"}"#),
            ClientProof::Disproved,
        ),
        (
            Act::Answer(401, json, r#"{"error":"invalid_grant"}"#),
            ClientProof::Disproved,
        ),
        (Act::Answer(401, "text/plain", "no"), ClientProof::Disproved),
    ] {
        let app = App::new();
        let [first, newest] = begin(&app).await;
        app.upstream.then(act.clone());
        app.post("/token", &with_secret(&first)).await;
        assert_eq!(reuse(&app).1.client_proof, proof, "{act:?}");
        let alive = app.post("/token", &with_secret(&newest)).await.status == 200;
        assert_eq!(alive, proof == ClientProof::Disproved, "{act:?}");
    }
}

/// Like [`stale`], within this process.
async fn begin(app: &App) -> [String; 2] {
    let first = app.log_in(CONFIDENTIAL).await;
    let second = app.post("/token", &with_secret(&first)).await.token();
    let newest = app.post("/token", &with_secret(&second)).await.token();
    app.clock.advance(2 * HOUR);
    app.take_events();
    [first, newest]
}

fn with_secret(token: &str) -> [(&str, &str); 4] {
    let [grant_type, token, client] = refresh_form(CONFIDENTIAL, token);
    [grant_type, token, client, ("client_secret", SECRET)]
}

#[tokio::test(start_paused = true)]
async fn a_probe_has_the_time_limit_of_every_call_and_outlives_its_client() {
    for hang_up in [false, true] {
        let app = App::new();
        let [first, newest] = begin(&app).await;
        app.upstream.then(Act::Hang);
        let request = app.send(post("/token", &with_secret(&first)));
        if hang_up {
            let hung_up = tokio::time::timeout(Duration::from_secs(1), request).await;
            assert!(hung_up.is_err());
        } else {
            // Like every request, it is answered within `rotation_timeout`.
            assert_eq!(request.await.unwrap().status, 503);
        }
        app.layer.drain().await;
        let (kind, reuse) = reuse(&app);
        assert_eq!(kind, EventKind::ReuseUnproven, "hang up: {hang_up}");
        assert_eq!(reuse.client_proof, ClientProof::Missing);
        app.post("/token", &with_secret(&newest)).await.token();
    }
    // A proof that comes after its client has gone still counts.
    let app = App::new();
    let [first, newest] = begin(&app).await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let request = app.send(post("/token", &with_secret(&first)));
    assert!(
        tokio::time::timeout(Duration::from_secs(1), request)
            .await
            .is_err()
    );
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(reuse(&app).0, EventKind::ReuseDetected);
    let answer = app.post("/token", &with_secret(&newest)).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test(start_paused = true)]
async fn a_probe_needs_a_permit_like_every_call() {
    let app = App::new();
    let [first, newest] = begin(&app).await;
    let other = app.log_in("app").await;
    let service = ServiceBuilder::new()
        .layer(app.layer.clone())
        .concurrency_limit(1)
        .service(app.upstream.clone());
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let send = |form: &[(&str, &str)]| {
        let (service, request) = (service.clone(), post("/token", form));
        tokio::spawn(async move { test_support::session::send(&service, request).await })
    };
    let rotation = send(&refresh_form("app", &other));
    settle().await;
    let before = app.upstream.seen().len();
    let probe = send(&with_secret(&first));
    settle().await;
    assert_eq!(app.upstream.seen().len(), before, "the probe waits");
    gate.notify_one();
    rotation.await.unwrap().token();
    assert_eq!(probe.await.unwrap().error(), invalid_grant());
    assert_eq!(app.upstream.seen().len(), before + 1);
    assert_eq!(
        app.post("/token", &with_secret(&newest)).await.error(),
        invalid_grant()
    );
}

#[tokio::test]
async fn the_grant_of_a_public_client_ends_without_a_probe() {
    let client = Client::of(App::new(), "app").await;
    let [first, newest] = stale(&client, [Sent::Nothing; 3]).await;
    let before = client.app.upstream.seen().len();
    let answer = client.refresh(&first, Sent::Nothing).await;
    assert_eq!(answer.error(), invalid_grant());
    let (kind, reuse) = reuse(&client.app);
    assert_eq!(kind, EventKind::ReuseDetected);
    assert_eq!(reuse.client_proof, ClientProof::NotRequired);
    assert_harmless(&client.app, before, 0);
    let answer = client.refresh(&newest, Sent::Nothing).await;
    assert_eq!(answer.error(), invalid_grant());
}

#[tokio::test]
async fn concurrent_reuse_ends_the_grant_only_by_a_proof() {
    let app = App::new();
    let other = Client::of(app.another(), CONFIDENTIAL).await;
    let client = Client::of(app, CONFIDENTIAL).await;
    let [first, newest] = stale(&client, [RIGHT; 3]).await;
    let attack = [Sent::Nothing, WRONG, Sent::Basic("guessed")];
    let refused = attack
        .iter()
        .cycle()
        .take(24)
        .enumerate()
        .map(|(at, sent)| {
            let instance = if at % 2 == 0 { &client } else { &other };
            instance.refresh(&first, *sent)
        });
    let refused = tokio::time::timeout(PATIENCE, join_all(refused)).await;
    assert!(refused.unwrap().iter().all(|answer| answer.status != 200));
    let newest = client.refresh(&newest, RIGHT).await.token();
    assert_eq!(client.app.upstream.alive(), 1);
    client.app.clock.advance(2 * HOUR);

    let mixed = (0..24).map(|at| {
        let instance = if at % 2 == 0 { &client } else { &other };
        instance.refresh(&first, if at < 2 { RIGHT } else { WRONG })
    });
    let refused = tokio::time::timeout(PATIENCE, join_all(mixed)).await;
    assert!(refused.unwrap().iter().all(|answer| answer.status != 200));
    // A request that waited is only late. Without competition the proof counts.
    client.refresh(&first, RIGHT).await;
    let answer = client.refresh(&newest, RIGHT).await;
    assert_eq!(answer.error(), invalid_grant());
}
