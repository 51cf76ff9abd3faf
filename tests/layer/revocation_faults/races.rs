//! A revocation at the same time as a rotation, or without its client.

use super::*;

/// Sends a refresh in a task and lets it proceed as far as it can.
async fn refreshing(
    app: &App,
    token: &str,
) -> tokio::task::JoinHandle<test_support::requests::Whole> {
    let (app, request) = (app.clone(), post("/token", &refresh_form("app", token)));
    let task = tokio::spawn(async move { send(&app, request).await });
    settle().await;
    task
}

#[tokio::test(start_paused = true)]
async fn a_revocation_wins_over_a_rotation_in_progress() {
    let rows = [
        (
            "before the inner service has rotated",
            true,
            None,
            EventKind::UpstreamRejected,
        ),
        (
            "before the rotation is stored",
            false,
            None,
            EventKind::Unknown,
        ),
        (
            "before the rotation is stored, unconfirmed",
            false,
            Some(Act::Break),
            EventKind::Unknown,
        ),
    ];
    for (name, inside, act, event) in rows {
        let app = App::new();
        let [_, token] = grant(&app).await;
        let gate = Arc::new(Notify::new());
        if inside {
            app.upstream.then(Act::Wait(Arc::clone(&gate)));
        } else {
            let gate = Arc::clone(&gate);
            app.store.once(
                Call::is_commit,
                Plan::after(async move { gate.notified().await }),
            );
        }
        let rotation = refreshing(&app, &token).await;
        let confirmed = act.is_none();
        if let Some(act) = act {
            app.upstream.then(act);
        }
        let revoked = send(&app, revocation(&token)).await;
        assert_eq!(
            revoked.head.status,
            if confirmed { 200 } else { 503 },
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Revoked], "{name}");
        gate.notify_one();
        let answer = rotation.await.unwrap();
        assert_eq!(
            (answer.head.status.as_u16(), &answer.json()["error"]),
            (400, &"invalid_grant".into()),
            "{name}"
        );
        assert!(
            answer.json().get("refresh_token").is_none(),
            "{name}: {answer:?}"
        );
        assert_eq!(app.events(), [event], "{name}");
        assert_ended(name, &app, &token).await;
        if !confirmed {
            send(&app, revocation(&token)).await.assert_ok(name);
        }
        assert_eq!(app.upstream.alive(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_faster_rotation_does_not_survive_the_revocation() {
    for (name, act, fits) in [
        ("the removal meets the rotated grant", None, false),
        ("the mark meets the rotated grant", Some(Act::Break), true),
    ] {
        let app = App::new();
        let [_, token] = grant(&app).await;
        let gate = Arc::new(Notify::new());
        let opened = Arc::clone(&gate);
        let write = move |call: &Call| {
            call.is_swap()
                && !call.is_commit()
                && matches!(
                    call,
                    Call::Swap {
                        change: Change::Put { .. },
                        ..
                    }
                ) == fits
        };
        app.store
            .once(write, Plan::after(async move { opened.notified().await }));
        if let Some(act) = act {
            app.upstream.then(act);
        } else {
            // The upstream session must survive the revocation so that the rotation can be the
            // faster one.
            app.upstream.then(Act::Answer(200, "text/plain", ""));
        }
        let (revoking, request) = (app.clone(), revocation(&token));
        let revocation = tokio::spawn(async move { send(&revoking, request).await });
        settle().await;
        let next = app.refresh(&token).await.token();
        gate.notify_one();
        revocation.await.unwrap();
        assert_ended(name, &app, &next).await;
        assert_ended(name, &app, &token).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_completes_after_its_client_hangs_up() {
    for (name, down) in [
        ("the inner service is slow", false),
        ("the inner service is down", true),
    ] {
        let app = App::new();
        let [_, token] = grant(&app).await;
        let gate = Arc::new(Notify::new());
        app.upstream.then(if down {
            Act::Hang
        } else {
            Act::Wait(Arc::clone(&gate))
        });
        let (revoking, request) = (app.clone(), revocation(&token));
        let client = tokio::spawn(async move { send(&revoking, request).await });
        settle().await;
        assert_eq!(revocations(&app), 1, "{name}");
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled(), "{name}");
        gate.notify_one();
        app.layer.drain().await;
        assert_eq!(
            app.events(),
            [EventKind::Revoked],
            "{name}: draining waits for it"
        );
        assert_ended(name, &app, &token).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_completes_after_a_hang_up_during_the_store_read() {
    let app = App::new();
    let [_, token] = grant(&app).await;
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    app.store.once(
        |call| matches!(call, Call::Get),
        Plan::after(async move { opened.notified().await }),
    );
    let (revoking, request) = (app.clone(), revocation(&token));
    let client = tokio::spawn(async move { send(&revoking, request).await });
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(
        (app.upstream.alive(), app.events()),
        (0, vec![EventKind::Revoked])
    );
}
