//! A kept token is presented by several requests.

use super::*;

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
