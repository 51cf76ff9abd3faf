//! An old token leads to the current one: any number of copies of a token stay logged in.

mod chains;
mod trips;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use test_support::instances::{count, events, refresh_each};
use test_support::requests::{assertion, patched};
use test_support::{Act, App, Call, PATIENCE, post, refresh_form, until};
use tokio::sync::Notify;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Key, Sidecar, Store as _, Swap, Ttl, Version};

const HOUR: Duration = Duration::from_secs(3600);
const WEEKEND: Duration = Duration::from_secs(3 * 24 * 3600);

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

/// Returns an app whose old tokens lead to the current one for an hour.
fn shared() -> App {
    App::with(|builder| builder.shared_token_window(HOUR))
}

/// Refreshes this often, each time with the newest token. Returns all tokens, oldest first.
async fn rotate(app: &App, token: &str, times: usize) -> Vec<String> {
    let mut tokens = vec![token.to_owned()];
    for _ in 0..times {
        let next = app.refresh(tokens.last().unwrap()).await.token();
        tokens.push(next);
    }
    app.events();
    tokens
}

/// The length of a link.
const LINK: usize = 64;

/// Returns the links that were written beside the grant since the last call, and its key. No stored
/// answer has their length.
fn links(app: &App) -> (Key, Vec<Sidecar>) {
    let writes = app.store.writes();
    let key = writes.last().unwrap().0;
    let links = writes
        .into_iter()
        .filter_map(|(_, call)| match call {
            Call::Swap { sidecars, .. } => Some(sidecars),
            _ => None,
        })
        .flatten()
        .filter(|sidecar| sidecar.value.len() == LINK)
        .collect();
    (key, links)
}

#[tokio::test]
async fn every_old_token_leads_to_the_current_one() {
    for age in 1..=5 {
        let app = shared();
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, 5).await;
        // Past the retry window, so that no stored answer is left.
        app.clock.advance(Duration::from_secs(100));
        let answer = app.refresh(&tokens[5 - age]).await;
        assert_eq!(answer.status, StatusCode::OK, "{age} generations old");
        assert_eq!(
            app.events(),
            [EventKind::Converged],
            "{age} generations old"
        );
        assert_eq!(app.upstream.reuses(), 0, "{age} generations old");
        assert_eq!(app.upstream.refreshes(), 6, "{age} generations old");
        // The new token is the current one, and the one that it replaced still leads to it.
        app.refresh(&answer.token()).await.token();
        app.refresh(&tokens[5]).await.token();
        assert_eq!(app.upstream.alive(), 1);
    }
}

#[tokio::test]
async fn a_retry_with_an_old_token_gets_the_stored_answer() {
    let app = shared();
    let first = app.log_in("app").await;
    let tokens = rotate(&app, &first, 3).await;
    let newest = app.refresh(&tokens[3]).await;
    // Any token that leads to the current one opens the stored answer.
    for token in &tokens {
        assert_eq!(app.refresh(token).await.body, newest.body);
    }
    assert_eq!(app.upstream.refreshes(), 4);
    assert_eq!(
        app.events(),
        [
            EventKind::Rotated,
            EventKind::Replayed,
            EventKind::Replayed,
            EventKind::Replayed,
            EventKind::Replayed
        ]
    );
    // A retry of a request that converged, too.
    app.clock.advance(Duration::from_secs(100));
    let converged = app.refresh(&tokens[0]).await;
    assert_eq!(app.refresh(&tokens[0]).await.body, converged.body);
    assert_eq!(app.refresh(&tokens[2]).await.body, converged.body);
    assert_eq!(app.upstream.refreshes(), 5);
}

#[tokio::test]
async fn processes_with_private_copies_stay_logged_in() {
    let app = App::with(|builder| builder.shared_token_window(24 * HOUR));
    let first = app.log_in("app").await;
    let mut copies = vec![first; 5];
    // Each process returns at its own pace, minutes to hours apart, and saves only its own token.
    for round in 0..40_usize {
        let process = (round * 7 + round / 5) % copies.len();
        app.clock
            .advance(Duration::from_secs(400 + 900 * (round as u64 % 4)));
        copies[process] = app.refresh(&copies[process]).await.token();
    }
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.alive(), 1);
    assert!(!app.events().contains(&EventKind::ReuseDetected));
}

/// Two tabs share one stored token. The second one refreshes with the old token, too, and whichever
/// answer is saved last stays. If the second answer contained a newer token, the first one would be
/// an old token hours later.
#[tokio::test]
async fn every_tab_that_converges_gets_the_same_token() {
    let app = shared();
    let first = app.log_in("app").await;
    let saved = app.refresh(&first).await.token();
    for tab in 0..3 {
        app.clock.advance(Duration::from_secs(100));
        assert_eq!(app.refresh(&first).await.token(), saved, "tab {tab}");
    }
    app.clock.advance(WEEKEND);
    app.refresh(&saved).await.token();
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.alive(), 1);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Converged,
            EventKind::Converged,
            EventKind::Converged,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn a_lost_answer_is_recovered_after_a_weekend() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    app.clock.advance(WEEKEND);
    let recovered = app.refresh(&token).await.token();
    // The answer of the recovery is lost, too.
    app.clock.advance(WEEKEND);
    let again = app.refresh(&token).await.token();
    assert_ne!(again, recovered);
    app.refresh(&again).await.token();
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Recovered,
            EventKind::Recovered,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn a_request_with_an_assertion_converges() {
    let app = App::new();
    let form = |token: &str, id: &str| {
        let assertion = assertion(&format!(r#"{{"sub":"app","jti":"{id}"}}"#));
        let mut form: Vec<_> = refresh_form("app", token)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        form.push((
            "client_assertion_type".into(),
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into(),
        ));
        form.push(("client_assertion".into(), assertion));
        form
    };
    let send = async |token: &str, id: &str| {
        let form = form(token, id);
        let form: Vec<_> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        app.post("/token", &form).await
    };
    let token = app.log_in("app").await;
    let lost = send(&token, "1").await.token();
    app.clock.advance(Duration::from_secs(30));
    app.store.calls();
    // FAPI 2.0 §5.3.2.1: a retry with the previous token succeeds.
    let retried = send(&token, "2").await;
    assert_eq!(retried.status, 200);
    assert_eq!(retried.token(), lost, "the current token is sent again");
    assert_eq!(app.store.calls().len(), 3, "one trip more than a rotation");
    assert_eq!(
        app.upstream.refreshes(),
        2,
        "the inner service authenticates the retry"
    );
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(
        app.events(),
        [EventKind::Issued, EventKind::Rotated, EventKind::Converged]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_copies_that_arrive_at_once_share_one_rotation() {
    const INSTANCES: usize = 4;
    for (row, first, event) in [
        ("the current token comes first", 4, EventKind::Rotated),
        ("the previous token comes first", 3, EventKind::Converged),
        ("the oldest token comes first", 0, EventKind::Converged),
    ] {
        let app = shared();
        let log_in = app.log_in("app").await;
        let tokens = rotate(&app, &log_in, 4).await;
        app.clock.advance(Duration::from_secs(100));
        let before = app.upstream.refreshes();
        let instances = [(); INSTANCES].map(|()| {
            App::over(
                app.clock.clone(),
                app.store.clone(),
                app.upstream.clone(),
                |builder| builder.shared_token_window(HOUR).rotation_timeout(PATIENCE),
            )
        });
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        let mut requests = refresh_each(&instances, &tokens[first..=first]);
        until("the inner service has the request", || {
            app.upstream.refreshes() == before + 1
        })
        .await;

        // Every token at every instance. They find the lease held, wait and claim again.
        let copies: Vec<_> = tokens.iter().cycle().take(63).cloned().collect();
        app.store.calls();
        let mut others = refresh_each(&instances, &copies);
        let mut claims = 0;
        until("the waiting requests claim again", || {
            let calls = app.store.calls();
            claims += calls.iter().filter(|call| **call == Call::Claim).count();
            claims >= 3 * INSTANCES * tokens.len()
        })
        .await;
        assert_eq!(app.upstream.refreshes(), before + 1, "{row}");
        assert!(others.try_join_next().is_none(), "{row}: all wait");
        gate.notify_one();

        let answer = requests.join_next().await.unwrap().unwrap();
        for other in others.join_all().await {
            assert_eq!(other.body, answer.body, "{row}");
        }
        assert_eq!(app.upstream.refreshes(), before + 1, "{row}");
        assert_eq!((app.upstream.reuses(), app.upstream.alive()), (0, 1));
        let events = events(&instances);
        assert_eq!(
            (count(&events, event), count(&events, EventKind::Replayed)),
            (1, 63),
            "{row}: {events:?}"
        );
    }
}

#[tokio::test]
async fn a_confidential_client_with_a_wrong_secret_does_not_converge() {
    let app = shared();
    let client = "confidential";
    let secret = "secret of confidential";
    let first = app.log_in(client).await;
    let form = |token: &str, secret: &str| {
        post(
            "/token",
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", client),
                ("client_secret", secret),
            ],
        )
    };
    let second = app.send(form(&first, secret)).await.unwrap().token();
    app.clock.advance(Duration::from_secs(100));
    let answer = app.send(form(&first, "guess")).await.unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
    app.send(form(&second, secret)).await.unwrap().token();
    assert_eq!(app.upstream.alive(), 1);
}
