//! Which tokens end a grant.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_accepted_token_revokes_the_grant_and_the_upstream_token() {
    let rows: [(&str, usize, usize, Duration, &str); 7] = [
        ("the first token", 0, 0, Duration::ZERO, "upstream-0-0"),
        ("the current token", 3, 3, Duration::ZERO, "upstream-0-3"),
        (
            "the current token after weeks",
            1,
            1,
            600 * HOUR,
            "upstream-0-1",
        ),
        (
            "the previous token in its retry window",
            1,
            0,
            Duration::from_secs(59),
            "upstream-0-1",
        ),
        (
            "the previous token of several",
            3,
            2,
            Duration::from_secs(59),
            "upstream-0-3",
        ),
        (
            "an older token, from which links lead to the current one",
            3,
            0,
            Duration::from_secs(59),
            "upstream-0-3",
        ),
        (
            "the previous token in its recovery",
            2,
            1,
            23 * HOUR,
            "upstream-0-2",
        ),
    ];
    for (name, rotations, presented, passed, inside) in rows {
        let app = App::new();
        let tokens = grant(&app, rotations).await;
        app.clock.advance(passed);
        assert_revoked(
            name,
            &send(&app, revocation("app", &tokens[presented])).await,
        );
        assert_eq!(app.events(), [EventKind::Revoked], "{name}");
        assert_eq!(revoked_inside(&app), [inside], "{name}");
        assert_eq!(app.upstream.alive(), 0, "{name}");
        for token in &tokens {
            let answer = send(&app, post("/token", &refresh_form("app", token))).await;
            answer.assert_refused(name, 400, "invalid_grant", false);
            assert_revoked_here(name, &send(&app, revocation("app", token)).await);
        }
        assert_eq!(
            revoked_inside(&app).len(),
            1,
            "{name}: an ended grant is not revoked again"
        );
        assert_eq!(app.upstream.refreshes(), rotations, "{name}");
        assert!(
            app.events().iter().all(|kind| *kind == EventKind::Unknown),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_accepted_revokes_nothing() {
    type Presented = fn(&[String]) -> String;
    let rows: [(&str, &str, Presented, Duration, EventKind); 9] = [
        (
            "of no grant",
            "app",
            |t| patched(&t[2], |bytes| bytes[..12].fill(9)),
            Duration::ZERO,
            EventKind::Unknown,
        ),
        (
            "of another client",
            "other",
            |t| t[2].clone(),
            Duration::ZERO,
            EventKind::ClientMismatch,
        ),
        (
            "previous, of another client",
            "other",
            |t| t[1].clone(),
            2 * HOUR,
            EventKind::ClientMismatch,
        ),
        (
            "old, of another client",
            "other",
            |t| t[0].clone(),
            2 * HOUR,
            EventKind::ClientMismatch,
        ),
        (
            "with a made-up secret",
            "app",
            |t| forged(&t[2], 2),
            Duration::ZERO,
            EventKind::Forged,
        ),
        (
            "with a made-up previous secret",
            "app",
            |t| forged(&t[2], 1),
            2 * HOUR,
            EventKind::Forged,
        ),
        (
            "ahead of the grant",
            "app",
            |t| forged(&t[2], 3),
            Duration::ZERO,
            EventKind::Ahead,
        ),
        (
            "far ahead of the grant",
            "app",
            |t| forged(&t[2], u32::MAX),
            2 * HOUR,
            EventKind::Ahead,
        ),
        (
            "old, of another client, in the retry window",
            "other",
            |t| t[0].clone(),
            Duration::ZERO,
            EventKind::ClientMismatch,
        ),
    ];
    for (name, client, presented, passed, event) in rows {
        let app = App::new();
        let tokens = grant(&app, 2).await;
        app.clock.advance(passed);
        app.store.calls();
        assert_revoked_here(
            name,
            &send(&app, revocation(client, &presented(&tokens))).await,
        );
        assert_eq!(app.events(), [event], "{name}");
        assert!(
            !app.store.calls().iter().any(test_support::Call::is_swap),
            "{name}: the store was written to"
        );
        assert_eq!(revoked_inside(&app), [""; 0], "{name}");
        app.refresh(&tokens[2]).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reused_token_ends_the_grant() {
    let rows: [(&str, bool, usize, Duration); 4] = [
        (
            "older than the previous one",
            false,
            0,
            Duration::from_secs(61),
        ),
        ("the previous one after its recovery", false, 1, 25 * HOUR),
        ("strict: the previous one", true, 1, Duration::ZERO),
        ("strict: an older one", true, 0, Duration::ZERO),
    ];
    for (name, strict, presented, passed) in rows {
        let app = App::with(|builder| {
            if strict {
                builder.strict(true)
            } else {
                builder.recovery_window(24 * HOUR)
            }
        });
        let tokens = grant(&app, 2).await;
        app.clock.advance(passed);
        assert_revoked_here(
            name,
            &send(&app, revocation("app", &tokens[presented])).await,
        );
        assert_eq!(app.events(), [EventKind::ReuseDetected], "{name}");
        assert_eq!(
            revoked_inside(&app),
            [""; 0],
            "{name}: the old token does not unseal the upstream token"
        );
        assert_eq!(
            app.refresh(&tokens[2]).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        assert_eq!(app.upstream.refreshes(), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_previous_token_revokes_at_the_inner_service_only_in_its_windows() {
    for (passed, event) in [
        (Duration::ZERO, EventKind::Revoked),
        (2 * HOUR, EventKind::ReuseDetected),
    ] {
        let app = App::new();
        let tokens = grant(&app, 1).await;
        app.upstream
            .then(test_support::Act::Answer(500, "text/plain", "down"));
        assert_eq!(app.refresh(&tokens[1]).await.status, 500);
        app.clock.advance(passed);
        let answer = send(&app, revocation("app", &tokens[0])).await;
        assert_eq!(answer.head.status, 200, "after {passed:?}");
        assert_eq!(app.events(), [event], "after {passed:?}");
        let inside = usize::from(event == EventKind::Revoked);
        assert_eq!(revoked_inside(&app).len(), inside, "after {passed:?}");
        assert_eq!(
            app.refresh(&tokens[1]).await.error(),
            (400, "invalid_grant".into()),
            "after {passed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn any_older_token_revokes_the_grant_within_the_retry_window() {
    for (rotations, presented) in [(2, 0), (3, 0), (3, 1), (7, 0), (7, 5)] {
        for passed in [Duration::ZERO, Duration::from_secs(59)] {
            let name = format!("token {presented} after {rotations} rotations and {passed:?}");
            let app = App::with(|builder| builder.shared_token_window(Duration::ZERO));
            let tokens = grant(&app, rotations).await;
            app.clock.advance(passed);
            let refresh = app.refresh(&tokens[presented]).await;
            assert_eq!(refresh.error(), (400, "invalid_grant".into()), "{name}");
            assert_eq!(
                app.events(),
                [EventKind::Late],
                "{name}: a refresh with it ends nothing"
            );
            assert_revoked_here(
                &name,
                &send(&app, revocation("app", &tokens[presented])).await,
            );
            assert!(
                !app.store.calls().contains(&test_support::Call::Sidecar),
                "{name}: there are no links to read"
            );
            assert_eq!(app.events(), [EventKind::Revoked], "{name}");
            assert_eq!(
                revoked_inside(&app),
                [""; 0],
                "{name}: the older token does not unseal the upstream token"
            );
            for token in &tokens {
                assert_eq!(
                    app.refresh(token).await.error(),
                    (400, "invalid_grant".into()),
                    "{name}"
                );
                assert_revoked_here(&name, &send(&app, revocation("app", token)).await);
            }
        }
    }
}
