//! An expired lease is taken over, and used only after its previous holder has had time to commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::{App, Call, Plan, settle};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Claim, Entry, Key, Lease, Store as _, Version};

const LEASE: Duration = Duration::from_secs(25);

/// Returns the entry that the layer wrote last, and its key.
fn written(app: &App) -> (Key, Entry) {
    let found = app
        .store
        .writes()
        .into_iter()
        .find_map(|(key, call)| match call {
            Call::Swap {
                change: Change::Put { entry, .. },
                ..
            } => Some((key, entry)),
            _ => None,
        });
    found.unwrap()
}

/// Claims the grant as another instance does.
async fn claim(app: &App, (key, entry): &(Key, Entry), version: u8) -> Claim {
    let claim = app
        .store
        .inner
        .claim(key, &entry.tag, Version::new([version; 8]), LEASE)
        .await;
    claim.unwrap().unwrap()
}

/// An instance takes the lease and dies.
async fn let_run_out(app: &App, entry: &(Key, Entry)) {
    assert_eq!(claim(app, entry, 2).await.lease, Lease::Taken);
    app.clock.advance(Duration::from_secs(26));
}

/// Another instance takes over the expired lease, and the previous commit arrives a moment later.
#[tokio::test(start_paused = true)]
async fn a_takeover_first_waits_for_the_previous_commit() {
    let app = App::new();
    let other = app.another();
    let token = app.log_in("app").await;
    let claimed = Arc::new(AtomicBool::new(false));
    let mut failures = 4;
    app.store.hook({
        let claimed = Arc::clone(&claimed);
        move |_, call| {
            if !call.is_commit() || (claimed.load(Ordering::SeqCst) && failures == 0) {
                return Plan::Pass;
            }
            failures -= usize::from(claimed.load(Ordering::SeqCst));
            Plan::Lose
        }
    });
    assert_eq!(app.refresh(&token).await.status, 503);
    app.clock.advance(Duration::from_secs(26));
    let request = tokio::spawn(async move { (other.refresh(&token).await, other) });
    settle().await;
    claimed.store(true, Ordering::SeqCst);
    let (answer, other) = request.await.unwrap();
    app.layer.drain().await;
    assert_eq!(
        app.upstream.refreshes(),
        1,
        "the upstream token was used already"
    );
    assert_eq!(
        (app.events().last(), other.events().last()),
        (Some(&EventKind::Rotated), Some(&EventKind::Replayed))
    );
    other.refresh(&answer.token()).await.token();
    assert_eq!(app.upstream.reuses(), 0);
}

/// The instance that held the lease is dead, and no commit arrives.
#[tokio::test(start_paused = true)]
async fn a_takeover_rotates_if_no_commit_arrives() {
    let app = App::new();
    let token = app.log_in("app").await;
    let entry = written(&app);
    let_run_out(&app, &entry).await;
    app.refresh(&token).await.token();
    let calls = app.store.calls();
    assert!(
        matches!(calls[..], [Call::Claim, Call::Claim, Call::Swap { .. }]),
        "it looks twice: {calls:?}"
    );
    assert_eq!(app.upstream.refreshes(), 1);
}

/// After a takeover, or a possible one, that commits nothing, the lease must still count as
/// expired.
#[tokio::test(start_paused = true)]
async fn releasing_a_lease_taken_over_restores_the_expired_lease() {
    let rows: [(&str, bool, fn() -> Plan, usize); 3] = [
        ("its first claim unanswered", true, || Plan::LoseAnswer, 0),
        (
            "a lease that was free, its claim unanswered",
            false,
            || Plan::LoseAnswer,
            0,
        ),
        ("its second look failed", true, || Plan::Lose, 1),
    ];
    for (row, ran_out, plan, before) in rows {
        let app = App::new();
        let token = app.log_in("app").await;
        let entry = written(&app);
        if ran_out {
            let_run_out(&app, &entry).await;
        }
        let mut claims = 0;
        app.store.hook(move |_, call| {
            claims += usize::from(*call == Call::Claim);
            if *call == Call::Claim && claims == before + 1 {
                plan()
            } else {
                Plan::Pass
            }
        });
        assert_eq!(app.refresh(&token).await.status, 503, "{row}");
        app.layer.drain().await;
        let next = claim(&app, &entry, 4).await;
        assert_eq!((next.lease, next.taken_over), (Lease::Taken, true), "{row}");
        assert_eq!(app.upstream.refreshes(), 0, "{row}");
    }
    // A request that is rejected has held the lease for a moment.
    let app = App::new();
    let token = app.log_in("app").await;
    let entry = written(&app);
    let_run_out(&app, &entry).await;
    assert_eq!(
        app.refresh_as("another", &token).await.error(),
        (400, "invalid_grant".into())
    );
    assert!(claim(&app, &entry, 4).await.taken_over);
}

/// A request with the current token dies. A request with the previous token takes its lease over,
/// and the reply to its claim is lost. The current token still counts as presented.
#[tokio::test(start_paused = true)]
async fn a_lost_takeover_keeps_the_mark_of_the_current_token() {
    const HOUR: Duration = Duration::from_secs(3600);
    let app = App::with(|builder| builder.shared_token_window(HOUR));
    let previous = app.log_in("app").await;
    written(&app);
    app.refresh(&previous).await.token();
    let entry = written(&app);
    // No stored answer is left.
    app.clock.advance(Duration::from_secs(100));
    let_run_out(&app, &entry).await;
    let mut claims = 0;
    app.store.hook(move |_, call| {
        claims += usize::from(*call == Call::Claim);
        if *call == Call::Claim && claims == 2 {
            Plan::LoseAnswer
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&previous).await.status, 503);
    app.layer.drain().await;
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&previous).await.status, 400);
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
    assert_eq!(app.upstream.refreshes(), 1);
}
