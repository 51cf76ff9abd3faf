//! The rotation policy of each client.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, StatusCode};
use http_body_util::Full;
use test_support::requests::{assertion, basic, generation};
use test_support::{Act, App, Call, Plan, foreign, post, refresh_form, settle};
use tokio::task::JoinSet;
use tower_oauth_refresh::RotationPolicy::{EveryUse, Never, WhenOlderThan};
use tower_oauth_refresh::{
    ClientId, ClientInfo, Clock as _, EventKind, RotationPolicy, SenderConstrained,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

fn app(policy: RotationPolicy) -> App {
    App::with(move |builder| builder.rotation_policy(move |_| policy))
}

/// Returns another instance over the same store, with this policy.
fn another(app: &App, policy: RotationPolicy) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        move |builder| builder.rotation_policy(move |_| policy),
    )
}

#[tokio::test]
async fn a_client_that_never_rotates_keeps_its_token() {
    let app = app(Never);
    let token = app.log_in("app").await;
    for day in 1..=50 {
        app.clock.advance(24 * HOUR);
        app.store.calls();
        let answer = app.refresh(&token).await;
        assert_eq!(answer.token(), token, "day {day}");
        assert_eq!(answer.get("access_token"), Some(format!("at-0-{day}")));
        assert_eq!(app.store.calls().len(), 2, "as many trips as a rotation");
        assert_eq!(app.upstream.refreshes(), day);
    }
    assert_eq!(app.upstream.reuses(), 0, "each upstream token is used once");
    assert_eq!(app.upstream.alive(), 1);
    let events = app.take_events();
    assert_eq!(events.len(), 51);
    for event in &events[1..] {
        assert_eq!((event.kind, event.generation), (EventKind::Kept, Some(0)));
    }
    // The lifetime is that of an unused token, as with rotation.
    app.clock.advance(30 * 24 * HOUR);
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.events(), [EventKind::Expired]);
}

#[tokio::test]
async fn a_token_is_replaced_once_it_is_old_enough() {
    let app = app(WhenOlderThan(HOUR));
    let mut token = app.log_in("app").await;
    for minted in 0..3 {
        // The age counts from when the token was minted, not from the last refresh.
        for _ in 0..5 {
            app.clock.advance(10 * MINUTE);
            assert_eq!(app.refresh(&token).await.token(), token);
        }
        app.clock.advance(10 * MINUTE - Duration::from_millis(1));
        assert_eq!(app.refresh(&token).await.token(), token);
        app.clock.advance(2 * MINUTE);
        let next = app.refresh(&token).await.token();
        assert_ne!(next, token);
        assert_eq!(generation(&next), minted + 1);
        token = next;
    }
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.refreshes(), 21);
}

#[tokio::test]
async fn a_convergence_does_not_make_the_token_younger() {
    let app = App::with(|builder| {
        builder
            .shared_token_window(24 * HOUR)
            .rotation_policy(|_| WhenOlderThan(HOUR))
    });
    let old = app.log_in("app").await;
    app.clock.advance(2 * HOUR);
    let current = app.refresh(&old).await.token();
    for _ in 0..2 {
        app.clock.advance(25 * MINUTE);
        assert_eq!(app.refresh(&old).await.token(), current);
    }
    app.clock.advance(10 * MINUTE);
    assert_ne!(app.refresh(&current).await.token(), current);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Converged,
            EventKind::Converged,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn the_presets_are_policies() {
    assert_eq!(RotationPolicy::default(), EveryUse);
    assert_eq!(RotationPolicy::mcp(), EveryUse);
    assert_eq!(RotationPolicy::fapi2(), Never);
    assert_eq!(RotationPolicy::account_linking(), Never);
}

#[tokio::test]
async fn each_client_has_its_own_policy() {
    let app = App::with(|builder| {
        builder.rotation_policy(|client| match client.client_id.as_str() {
            "confidential alexa" if client.authenticates => RotationPolicy::account_linking(),
            _ => EveryUse,
        })
    });
    let browser = app.log_in("app").await;
    assert_ne!(app.refresh(&browser).await.token(), browser);
    let alexa = app.log_in("confidential alexa").await;
    let mut form = refresh_form("confidential alexa", &alexa).to_vec();
    form.push(("client_secret", "secret of confidential alexa"));
    for _ in 0..3 {
        app.clock.advance(HOUR);
        assert_eq!(app.post("/token", &form).await.token(), alexa);
    }
}

#[tokio::test]
async fn the_policy_is_asked_with_what_the_request_carries() {
    let seen: Arc<Mutex<Vec<ClientInfo>>> = Arc::default();
    let app = App::with({
        let seen = Arc::clone(&seen);
        move |builder| {
            builder.rotation_policy(move |client| {
                seen.lock().unwrap().push(client.clone());
                Never
            })
        }
    });
    let token = app.log_in("app").await;
    assert!(seen.lock().unwrap().is_empty(), "a log-in has no policy");
    let assertion = assertion(r#"{"sub":"app"}"#);
    let with = |members: &[(&str, &str)]| {
        let mut form = refresh_form("app", &token).to_vec();
        form.extend_from_slice(members);
        post("/token", &form)
    };
    let headed = |name: &'static str, value: &str| {
        let mut request = with(&[]);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let mut named = with(&[]);
    let id = ClientId::try_from("app").unwrap();
    named.extensions_mut().insert(id);
    let mut marked = with(&[]);
    marked.extensions_mut().insert(SenderConstrained);
    let requests: [(&str, Request<Full<_>>, bool, bool); 8] = [
        ("public", with(&[]), false, false),
        ("secret", with(&[("client_secret", "s")]), true, false),
        (
            "basic",
            headed("authorization", &basic("app:s")),
            true,
            false,
        ),
        (
            "assertion",
            with(&[("client_assertion", &assertion)]),
            true,
            false,
        ),
        (
            "attestation",
            headed("oauth-client-attestation", "e30.e30.x"),
            true,
            false,
        ),
        ("named by an outer layer", named, true, false),
        ("DPoP", headed("dpop", "e30.e30.x"), false, true),
        ("marked by an outer layer", marked, false, true),
    ];
    for (name, request, authenticates, sender_constrained) in requests {
        assert_eq!(app.send(request).await.unwrap().token(), token, "{name}");
        let info = seen.lock().unwrap().pop().unwrap();
        assert_eq!(info.client_id.as_str(), "app", "{name}");
        assert_eq!(
            (info.authenticates, info.sender_constrained),
            (authenticates, sender_constrained),
            "{name}"
        );
        assert!(seen.lock().unwrap().is_empty(), "{name}: asked once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_a_kept_token_share_one_upstream_call() {
    let first = app(Never);
    let instances: Vec<_> = (0..4).map(|_| another(&first, Never)).collect();
    let token = first.log_in("app").await;
    for round in 1..=5 {
        let mut requests = JoinSet::new();
        for n in 0..64 {
            let (instance, token) = (instances[n % 4].clone(), token.clone());
            requests.spawn(async move { instance.refresh(&token).await });
        }
        let answers = requests.join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        assert_eq!(answers[0].token(), token);
        assert_eq!(first.upstream.refreshes(), round);
        first.clock.advance(2 * MINUTE);
    }
    assert_eq!(first.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_for_the_retry_window() {
    let app = app(Never);
    let token = app.log_in("app").await;
    let lost = app.refresh(&token).await;
    app.clock.advance(Duration::from_millis(59_900));
    let retried = app.refresh(&token).await;
    assert_eq!(retried.get("access_token"), lost.get("access_token"));
    assert_eq!(retried.token(), token);
    assert_eq!(app.upstream.refreshes(), 1);
    // Another scope is another request.
    let mut form = refresh_form("app", &token).to_vec();
    form.push(("scope", "read"));
    let other = app.post("/token", &form).await;
    assert_eq!(other.get("access_token"), Some("at-0-2".into()));
    app.clock.advance(MINUTE);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.refreshes(), 3);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Kept,
            EventKind::Replayed,
            EventKind::Kept,
            EventKind::Kept
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_gets_the_answer_with_its_retry() {
    let app = app(Never);
    let token = app.log_in("app").await;
    app.upstream.slow_down(Duration::from_secs(1));
    let request = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    settle().await;
    request.abort();
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_kept_refresh_whose_commit_has_no_reply_is_stored() {
    let app = app(Never);
    let token = app.log_in("app").await;
    let mut lost = false;
    app.store.hook(move |_, call: &Call| {
        if call.is_commit() && !std::mem::replace(&mut lost, true) {
            return Plan::Lose;
        }
        Plan::Pass
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.layer.drain().await;
    assert_eq!(app.refresh(&token).await.token(), token);
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.refreshes(), 2);
}

#[tokio::test]
async fn old_tokens_follow_the_same_rules_as_with_rotation() {
    let app = app(WhenOlderThan(HOUR));
    let old = app.log_in("app").await;
    app.clock.advance(2 * HOUR);
    let current = app.refresh(&old).await.token();
    app.clock.advance(30 * Duration::from_secs(1));
    assert_eq!(
        app.refresh(&old).await.token(),
        current,
        "replayed in the retry window"
    );
    // After the windows, an old token is reuse: the answer that is stored for the current token is
    // not for it.
    app.clock.advance(5 * MINUTE);
    assert_eq!(app.refresh(&current).await.token(), current);
    assert_eq!(app.refresh(&old).await.error(), refused());
    assert_eq!(app.refresh(&current).await.error(), refused(), "ended");
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Replayed,
            EventKind::Kept,
            EventKind::ReuseDetected,
            EventKind::Unknown
        ]
    );
}

#[tokio::test]
async fn an_old_token_in_its_window_leads_to_the_kept_one() {
    let app = App::with(|builder| {
        builder
            .shared_token_window(HOUR)
            .rotation_policy(|_| WhenOlderThan(24 * HOUR))
    });
    let old = app.log_in("app").await;
    app.clock.advance(25 * HOUR);
    let current = app.refresh(&old).await.token();
    app.clock.advance(10 * MINUTE);
    let kept = app.refresh(&current).await;
    assert_eq!(
        app.refresh(&old).await.body,
        kept.body,
        "shares the upstream call"
    );
    app.clock.advance(10 * MINUTE);
    assert_eq!(app.refresh(&old).await.token(), current);
    assert_eq!(app.upstream.refreshes(), 3);
    assert_eq!(app.upstream.reuses(), 0);
}

/// A kept token was received by its client, so the token before it cannot be recovered.
#[tokio::test]
async fn a_kept_refresh_marks_its_token_as_presented() {
    let app = app(EveryUse);
    let old = app.log_in("app").await;
    let current = app.refresh(&old).await.token();
    let keeping = another(&app, Never);
    app.clock.advance(5 * MINUTE);
    assert_eq!(keeping.refresh(&current).await.token(), current);
    app.clock.advance(5 * MINUTE);
    assert_eq!(keeping.refresh(&old).await.error(), refused());
    assert_eq!(
        keeping.events(),
        [EventKind::Kept, EventKind::ReuseDetected]
    );
}

#[tokio::test]
async fn a_change_of_the_policy_applies_from_the_next_refresh() {
    let rotating = app(EveryUse);
    let keeping = another(&rotating, Never);
    let first = rotating.log_in("app").await;
    assert_eq!(keeping.refresh(&first).await.token(), first);
    rotating.clock.advance(5 * MINUTE);
    let second = rotating.refresh(&first).await.token();
    assert_ne!(second, first);
    // A client that cannot save its new token goes on with the old one, which is recovered.
    rotating.clock.advance(HOUR);
    let recovered = keeping.refresh(&first).await.token();
    assert_ne!(recovered, second);
    rotating.clock.advance(HOUR);
    assert_eq!(keeping.refresh(&recovered).await.token(), recovered);
    rotating.clock.advance(HOUR);
    let last = rotating.refresh(&recovered).await.token();
    assert_ne!(last, recovered);
    assert_eq!(rotating.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_kept_token_can_be_revoked() {
    let app = app(Never);
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    assert_eq!(app.revoke(&token).await.status, StatusCode::OK);
    assert_eq!(app.upstream.alive(), 0);
    assert_eq!(app.refresh(&token).await.error(), refused());
    let other = app.log_in("app").await;
    assert_eq!(app.refresh_as("other", &other).await.error(), refused());
    assert_eq!(app.refresh(&other).await.token(), other);
}

#[tokio::test]
async fn an_upstream_that_does_not_rotate_keeps_its_token_too() {
    let app = app(Never);
    let token = app.log_in("app").await;
    for _ in 0..3 {
        app.upstream.then(Act::KeepToken);
        app.clock.advance(HOUR);
        assert_eq!(app.refresh(&token).await.token(), token);
    }
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn an_upstream_that_ends_the_session_ends_the_grant() {
    let app = app(Never);
    let token = app.log_in("app").await;
    app.upstream.then(Act::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::UpstreamRejected,
            EventKind::Unknown
        ]
    );
}

/// With all windows at zero there is no stored answer: requests with the kept token follow each
/// other.
#[tokio::test(start_paused = true)]
async fn strict_and_never_go_together() {
    let app = App::with(|builder| {
        builder
            .strict(true)
            .rotation_policy(|_| RotationPolicy::fapi2())
    });
    let token = app.log_in("app").await;
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let (app, token) = (app.clone(), token.clone());
        requests.spawn(async move { app.refresh(&token).await.token() });
    }
    assert_eq!(requests.join_all().await, [(); 4].map(|()| token.clone()));
    assert_eq!(app.upstream.refreshes(), 4);
    assert_eq!(app.upstream.reuses(), 0);
}

/// Adoption replaces the token once. A client that does not save the new token is served with the
/// adopted one, until the new one is presented.
#[tokio::test]
async fn an_adopted_token_leads_to_the_kept_one() {
    let app = app(Never);
    let until = Duration::from_millis(app.clock.now().as_millis()) + HOUR;
    let app = App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| {
            builder
                .adopt_until(SystemTime::UNIX_EPOCH + until)
                .rotation_policy(|_| Never)
        },
    );
    let foreign = foreign::log_in_before(&app, "app").await;
    let token = app.refresh(&foreign).await.token();
    for _ in 0..3 {
        app.clock.advance(HOUR);
        assert_eq!(app.refresh(&foreign).await.token(), token);
    }
    assert_eq!(app.refresh(&token).await.token(), token);
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.refresh(&foreign).await.error(), refused());
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_panic_of_the_callback_fails_one_request_only() {
    let app = App::with(|builder| {
        let mut calls = 0;
        let calls = Mutex::new(move || {
            calls += 1;
            calls
        });
        builder.rotation_policy(move |_| {
            let call = calls.lock().unwrap()();
            // The lock is released before the panic.
            assert_ne!(call, 1, "the callback panics");
            Never
        })
    });
    let token = app.log_in("app").await;
    app.store.calls();
    let panicking = tokio::spawn({
        let (app, token) = (app.clone(), token.clone());
        async move { app.refresh(&token).await }
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(app.store.calls().len(), 0, "nothing was claimed");
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.refreshes(), 1);
}

#[tokio::test]
async fn each_kept_refresh_has_its_own_reference_access_token() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .rotation_policy(|_| Never)
    });
    let token = app.log_in("app").await;
    let mut issued = HashSet::new();
    for _ in 0..3 {
        app.clock.advance(HOUR);
        let answer = app.refresh(&token).await;
        assert_eq!(answer.token(), token);
        let access = answer.get("access_token").unwrap();
        assert!(access.starts_with("at_"), "{access}");
        let retried = app.refresh(&token).await;
        assert_eq!(retried.get("access_token"), Some(access.clone()));
        assert!(issued.insert(access), "a new access token");
    }
    assert_eq!(app.upstream.refreshes(), 3);
}
