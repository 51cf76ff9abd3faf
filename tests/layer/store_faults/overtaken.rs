//! Another request writes the grant before the commit.

use super::*;

/// Runs `meanwhile` between the upstream's response and the commit of a rotation of `token`.
async fn at_the_commit(
    app: &App,
    token: &str,
    meanwhile: impl Future<Output = ()>,
) -> test_support::Answer {
    let (reached, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    app.store.once(Call::is_commit, {
        let (reached, go) = (Arc::clone(&reached), Arc::clone(&go));
        Plan::after(async move {
            reached.notify_one();
            go.notified().await;
        })
    });
    let request = tokio::spawn({
        let (app, token) = (app.clone(), token.to_owned());
        async move { app.refresh(&token).await }
    });
    reached.notified().await;
    app.store.unhook();
    meanwhile.await;
    go.notify_one();
    request.await.unwrap()
}

#[tokio::test]
async fn a_commit_overrides_a_takeover_that_has_not_committed() {
    let app = App::new();
    let token = app.log_in("app").await;
    let (key, entry) = written(&app);
    let answer = at_the_commit(&app, &token, async {
        app.clock.advance(Duration::from_secs(26));
        let claim = app
            .store
            .inner
            .claim(
                &key,
                &entry.tag,
                Version::new([2; 8]),
                Duration::from_secs(25),
            )
            .await;
        assert_eq!(
            claim.unwrap().unwrap().lease,
            Lease::Taken,
            "the lease had expired"
        );
    })
    .await;
    let next = answer.token();
    app.refresh(&next).await.token();
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn an_overtaken_commit_returns_the_response_of_the_other_rotation() {
    let app = App::new();
    let token = app.log_in("app").await;
    let other = app.another();
    let mut theirs = None;
    let answer = at_the_commit(&app, &token, async {
        app.clock.advance(Duration::from_secs(26));
        // The other instance has taken over the lease. This upstream accepts its token a second
        // time.
        app.upstream.then(test_support::Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"b","refresh_token":"upstream-0-1"}"#,
        ));
        theirs = Some(other.refresh(&token).await);
    })
    .await;
    assert_eq!(answer.body, theirs.unwrap().body);
    assert_eq!(app.events()[1..], [EventKind::Replayed]);
    app.refresh(&answer.token()).await.token();
}

#[tokio::test]
async fn the_client_of_a_commit_that_was_overtaken_twice_tries_again() {
    let app = App::new();
    let token = app.log_in("app").await;
    let other = app.another();
    let mut newest = String::new();
    let answer = at_the_commit(&app, &token, async {
        app.clock.advance(Duration::from_secs(26));
        app.upstream.then(test_support::Act::Answer(
            200,
            "application/json",
            r#"{"access_token":"b","refresh_token":"upstream-0-1"}"#,
        ));
        let next = other.refresh(&token).await.token();
        newest = other.refresh(&next).await.token();
    })
    .await;
    assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
    assert_eq!(app.refresh(&token).await.token(), newest);
    assert_eq!(app.events()[1..], [EventKind::Replayed]);
    app.refresh(&newest).await.token();
}

#[tokio::test]
async fn revocation_wins_over_a_commit() {
    let app = App::new();
    let token = app.log_in("app").await;
    let other = app.another();
    let answer = at_the_commit(&app, &token, async {
        assert_eq!(other.revoke(&token).await.status, 200);
    })
    .await;
    assert_eq!(answer.error(), (400, "invalid_grant".into()));
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
}

#[tokio::test]
async fn a_revocation_that_the_upstream_has_not_confirmed_wins_over_a_commit() {
    let app = App::new();
    let token = app.log_in("app").await;
    let other = app.another();
    let answer = at_the_commit(&app, &token, async {
        app.upstream
            .then(test_support::Act::Answer(500, "text/plain", "down"));
        assert_eq!(other.revoke(&token).await.status, 503);
    })
    .await;
    assert_eq!(answer.error(), (400, "invalid_grant".into()));
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_request_that_the_upstream_rejects_gets_the_other_response() {
    let app = App::new();
    let token = app.log_in("app").await;
    let other = app.another();
    let gate = Arc::new(Notify::new());
    let mut theirs = None;
    let answer = at_the_commit(&app, &token, async {
        app.clock.advance(Duration::from_secs(26));
        app.upstream
            .then(test_support::Act::Wait(Arc::clone(&gate)));
        let request = tokio::spawn({
            let (other, token) = (other.clone(), token.clone());
            async move { other.refresh(&token).await }
        });
        // Longer than a takeover waits for the commit.
        tokio::time::sleep(test_support::SECOND * 4).await;
        assert_eq!(app.upstream.refreshes(), 2);
        theirs = Some(request);
    })
    .await;
    gate.notify_one();
    let theirs = theirs.unwrap().await.unwrap();
    assert_eq!(
        app.upstream.reuses(),
        1,
        "the upstream has rejected the second use"
    );
    assert_eq!(theirs.token(), answer.token());
    assert_eq!(other.events(), [EventKind::Replayed]);
}
