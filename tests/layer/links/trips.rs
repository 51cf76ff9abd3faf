//! The calls of the store that an old token makes. Each of them is one round trip.

use test_support::foreign::{another, log_in_before};
use test_support::{Plan, SECOND};

use super::*;

/// Past the retry window, by any clock.
const PASSED: Duration = Duration::from_secs(100);

/// Returns the calls of the store since the last call.
fn calls(app: &App) -> Vec<&'static str> {
    app.store
        .calls()
        .iter()
        .map(|call| match call {
            Call::Get => "get",
            Call::Sidecar => "sidecar",
            Call::Claim => "claim",
            Call::Swap { .. } => "swap",
            Call::Announce => "announce",
        })
        .collect()
}

/// Returns the calls of a convergence after the reads of these sidecars.
fn converging(sidecars: usize) -> Vec<&'static str> {
    let reads = vec!["sidecar"; sidecars];
    [&["claim"], &reads[..], &["claim", "swap"]].concat()
}

#[tokio::test]
async fn a_rotation_makes_two_calls_and_the_previous_token_at_most_two_more() {
    let app = shared();
    let first = app.log_in("app").await;
    app.store.calls();
    let second = app.refresh(&first).await.token();
    assert_eq!(calls(&app), ["claim", "swap"], "the current token");

    assert_eq!(app.refresh(&first).await.token(), second);
    assert_eq!(calls(&app), ["claim", "sidecar"], "the same request again");

    let scoped = [&refresh_form("app", &first)[..], &[("scope", "read")]].concat();
    assert_eq!(app.post("/token", &scoped).await.token(), second);
    assert_eq!(calls(&app), converging(1), "with another scope");

    app.clock.advance(PASSED);
    assert_eq!(app.refresh(&first).await.token(), second);
    assert_eq!(calls(&app), converging(0), "after the retry window");

    app.clock.advance(HOUR);
    app.events();
    app.refresh(&first).await.token();
    assert_eq!(app.events(), [EventKind::Recovered]);
    assert_eq!(calls(&app), converging(0), "after the shared token window");
}

#[tokio::test]
async fn each_further_link_is_one_read() {
    for links in 2..=6 {
        let app = shared();
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, links).await;
        app.store.calls();
        let answer = app.refresh(&first).await;
        assert_eq!(answer.token(), tokens[links]);
        // The last link is in the record. The stored answer is the last sidecar.
        let reads = [&["claim"], &vec!["sidecar"; links][..]].concat();
        assert_eq!(calls(&app), reads, "{links} links, a replay");

        app.clock.advance(PASSED);
        assert_eq!(app.refresh(&first).await.token(), tokens[links]);
        assert_eq!(calls(&app), converging(links), "{links} links");
        // This convergence has stored a link to the current token.
        app.clock.advance(PASSED);
        app.refresh(&first).await.token();
        assert_eq!(calls(&app), converging(2), "once more");

        let assertion = assertion(r#"{"sub":"app"}"#);
        let asserted = [("client_assertion", assertion.as_str())];
        let form = [&refresh_form("app", &tokens[0])[..], &asserted].concat();
        app.post("/token", &form).await.token();
        assert_eq!(calls(&app), converging(1), "no stored answer is for it");
    }
}

#[tokio::test]
async fn an_adopted_token_makes_one_call_more() {
    const SECONDS: u64 = 24 * 3600;
    // The token that the adopted one leads to is the current one, or the previous one.
    for behind in [0, 1] {
        let app = another(&App::new(), SECONDS);
        let old = log_in_before(&app, "app").await;
        let first = app.refresh(&old).await.token();
        let newest = rotate(&app, &first, behind).await.pop().unwrap();
        app.store.calls();
        let token = app.refresh(&old).await.token();
        assert_eq!(token, newest, "{behind} behind");
        // A replay for the current token releases its lease.
        let replayed = [
            &["swap", "claim", "sidecar", "swap"][..],
            &["swap", "claim", "sidecar"],
        ];
        assert_eq!(calls(&app), replayed[behind], "{behind} behind, a replay");

        app.clock.advance(PASSED);
        app.events();
        app.refresh(&old).await.token();
        // After its shared token window, the grant is read to find out whether it leads on.
        let (event, after) = [
            (
                EventKind::Rotated,
                &["swap", "get", "claim", "sidecar", "swap"],
            ),
            (
                EventKind::Recovered,
                &["swap", "get", "claim", "claim", "swap"],
            ),
        ][behind];
        assert_eq!(app.events(), [event], "{behind} behind");
        assert_eq!(calls(&app), after, "{behind} behind");
    }
    for behind in [0, 1] {
        let app = another(&App::new(), SECONDS);
        let app = App::over(
            app.clock.clone(),
            app.store.clone(),
            app.upstream.clone(),
            |builder| {
                builder
                    .adopt_until(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32))
                    .shared_token_window(HOUR)
            },
        );
        let old = log_in_before(&app, "app").await;
        let first = app.refresh(&old).await.token();
        rotate(&app, &first, behind).await;
        app.clock.advance(PASSED);
        app.store.calls();
        app.refresh(&old).await.token();
        let within = [
            &["swap", "claim", "sidecar", "swap"],
            &["swap", "claim", "claim", "swap"],
        ];
        assert_eq!(
            calls(&app),
            within[behind],
            "{behind} behind, in its window"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn links_are_followed_until_the_deadline() {
    const LIMIT: Duration = Duration::from_secs(3);
    for (row, pause, reads) in [
        ("one read takes longer", 2 * LIMIT, 1),
        ("all reads together take longer", SECOND, 3),
    ] {
        let app = App::with(|builder| builder.shared_token_window(HOUR).rotation_timeout(LIMIT));
        let first = app.log_in("app").await;
        let tokens = rotate(&app, &first, 6).await;
        app.clock.advance(PASSED);
        let refreshes = app.upstream.refreshes();
        app.store.calls();
        app.store.hook(move |_, call| match call {
            Call::Sidecar => Plan::after(tokio::time::sleep(pause)),
            _ => Plan::Pass,
        });
        let answer = app.refresh(&first).await;
        assert_eq!(
            answer.error(),
            (503, "temporarily_unavailable".into()),
            "{row}"
        );
        app.layer.drain().await;
        let expected = [&["claim"], &vec!["sidecar"; reads][..]].concat();
        assert_eq!(calls(&app), expected, "{row}");
        assert_eq!(app.events(), [], "{row}");
        assert_eq!(app.upstream.refreshes(), refreshes, "{row}");

        // Nothing is consumed, and no lease is left.
        app.store.unhook();
        assert_eq!(app.refresh(&first).await.token(), tokens[6], "{row}");
        app.refresh(&tokens[6]).await.token();
        assert_eq!(app.upstream.reuses(), 0, "{row}");
        assert_eq!(
            app.events(),
            [EventKind::Converged, EventKind::Replayed],
            "{row}"
        );
    }
}
