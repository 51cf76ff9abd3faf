//! An adoption that fails either leaves the session as it was or completes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::foreign::{adopting, another, log_in_before};
use test_support::requests::send;
use test_support::users::next_id_token;
use test_support::{Act, Call, Plan, post, refresh_form, settle};
use tokio::runtime;
use tokio::sync::Notify;
use tower_oauth_refresh::store::{Change, ClaimTag, Lease, Store as _, Version};
use tower_oauth_refresh::{EventKind, Subject};

/// The default duration of a lease.
const LEASE: Duration = Duration::from_secs(25);

#[tokio::test(start_paused = true)]
async fn errors_are_passed_on_and_the_token_can_be_adopted_later() {
    const GRANT: &str = r#"{"error":"invalid_grant"}"#;
    let rows = [
        (
            "invalid_grant",
            400,
            GRANT,
            &[EventKind::UpstreamRejected][..],
        ),
        ("another error", 400, r#"{"error":"invalid_scope"}"#, &[]),
        (
            "a client that is not authenticated",
            401,
            r#"{"error":"invalid_client"}"#,
            &[],
        ),
        ("too many requests", 429, "slow down", &[]),
        (
            "an error of the inner service",
            500,
            "<html>oops</html>",
            &[],
        ),
        ("down", 503, "", &[]),
    ];
    for (name, status, body, events) in rows {
        let (app, foreign) = adopting().await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.refresh(&foreign).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes()),
            "{name}"
        );
        assert_eq!(app.events(), events, "{name}");
        app.refresh(&foreign).await.token();
        assert_eq!(app.upstream.reuses(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_success_is_withheld() {
    let rows = [
        ("no JSON", 200, "access_token=a&refresh_token=upstream-0-1"),
        (
            "two refresh tokens",
            200,
            r#"{"refresh_token":"upstream-0-1","refresh_token":"upstream-0-2"}"#,
        ),
        (
            "a number for a token",
            200,
            r#"{"access_token":"a","refresh_token":1}"#,
        ),
        (
            "an error that quotes the token",
            400,
            r#"{"error":"invalid_scope","error_description":"upstream-0-0"}"#,
        ),
    ];
    for (name, status, body) in rows {
        let (app, foreign) = adopting().await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = send(&app, post("/token", &refresh_form("app", &foreign))).await;
        answer.assert_refused(name, 502, "server_error", false);
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable], "{name}");
        app.refresh(&foreign).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_can_be_adopted_after_the_inner_service_failed() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::Break);
    assert!(
        app.send(post("/token", &refresh_form("app", &foreign)))
            .await
            .is_err()
    );
    app.upstream.then(Act::Panic);
    let (panicking, request) = (app.clone(), post("/token", &refresh_form("app", &foreign)));
    assert!(
        tokio::spawn(async move { panicking.send(request).await })
            .await
            .unwrap_err()
            .is_panic()
    );
    app.refresh(&foreign).await.token();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_inner_service_times_out() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::Hang);
    let answer = send(&app, post("/token", &refresh_form("app", &foreign))).await;
    answer.assert_refused("it hangs", 503, "temporarily_unavailable", false);
    app.layer.drain().await;
    app.refresh(&foreign).await;
    assert_eq!(
        app.upstream.refreshes(),
        2,
        "no client holds the token any more"
    );
}

/// A fault in one store call, and the expected result of the adoption.
struct Fault {
    name: &'static str,
    fits: fn(&Call) -> bool,
    plan: fn() -> Plan,
    /// The status of the first response.
    status: u16,
    /// The number of refreshes that the inner service sees before the second request.
    refreshes: usize,
}

fn placeholder(call: &Call) -> bool {
    matches!(call, Call::Swap { expected: None, change: Change::Put { entry, .. }, .. } if entry.value.is_empty())
}

fn insert(call: &Call) -> bool {
    matches!(call, Call::Swap { expected: None, change: Change::Put { entry, .. }, .. } if !entry.value.is_empty())
}

fn done(call: &Call) -> bool {
    matches!(
        call,
        Call::Swap {
            expected: Some(_),
            change: Change::Put { .. },
            ..
        }
    )
}

#[tokio::test(start_paused = true)]
async fn one_store_failure_loses_no_session() {
    let fault = |name, fits, plan, status, refreshes| Fault {
        name,
        fits,
        plan,
        status,
        refreshes,
    };
    let rows = [
        fault("no placeholder", placeholder, || Plan::Lose, 503, 0),
        fault(
            "the answer to the placeholder lost",
            placeholder,
            || Plan::LoseAnswer,
            503,
            0,
        ),
        fault("the grant not stored", insert, || Plan::Lose, 503, 1),
        fault(
            "the answer to the grant lost",
            insert,
            || Plan::LoseAnswer,
            503,
            1,
        ),
        fault("the replay not stored", done, || Plan::Lose, 200, 1),
        fault(
            "the answer to the replay lost",
            done,
            || Plan::LoseAnswer,
            200,
            1,
        ),
    ];
    for Fault {
        name,
        fits,
        plan,
        status,
        refreshes,
    } in rows
    {
        let (app, foreign) = adopting().await;
        app.store.once(fits, plan());
        let first = send(&app, post("/token", &refresh_form("app", &foreign))).await;
        assert_eq!(first.head.status, status, "{name}: {first:?}");
        if status == 503 {
            first.assert_refused(name, 503, "temporarily_unavailable", false);
        }
        assert_eq!(app.upstream.refreshes(), refreshes, "{name}");
        let again = app.refresh(&foreign).await;
        if status == 200 {
            assert_eq!(again.body, first.body, "{name}");
        }
        let next = app.refresh(&again.token()).await.token();
        app.refresh(&next).await.token();
        assert_eq!(
            (app.upstream.refreshes(), app.upstream.reuses()),
            (3, 0),
            "{name}"
        );
        app.layer.drain().await;
        let events = app.events();
        assert!(
            events.contains(&EventKind::StoreUnavailable),
            "{name}: {events:?}"
        );
        assert_eq!(
            events
                .iter()
                .filter(|kind| **kind == EventKind::Adopted)
                .count(),
            1,
            "{name}: {events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_lease_loses_no_session() {
    let (app, foreign) = adopting().await;
    let mut reserved = false;
    app.store.hook(move |_, call| {
        let lost = reserved;
        reserved |= *call == Call::Claim;
        if lost { Plan::Lose } else { Plan::Pass }
    });
    let first = send(&app, post("/token", &refresh_form("app", &foreign))).await;
    first.assert_refused("down", 503, "temporarily_unavailable", false);
    app.clock.advance(Duration::from_secs(40));
    tokio::time::sleep(Duration::from_secs(40)).await;
    app.store.unhook();
    app.layer.drain().await;
    let token = app.refresh(&foreign).await.token();
    app.refresh(&token).await.token();
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_commit_emits_an_event() {
    let (app, foreign) = adopting().await;
    app.store
        .hook(|_, call| if insert(call) { Plan::Lose } else { Plan::Pass });
    assert_eq!(app.refresh(&foreign).await.status, 503);
    app.layer.drain().await;
    let events = app.events();
    assert_eq!(events.last(), Some(&EventKind::CommitLost), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adoption_completes_after_its_client_hangs_up() {
    let (app, foreign) = adopting().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let (hanging, request) = (app.clone(), post("/token", &refresh_form("app", &foreign)));
    let client = tokio::spawn(async move { hanging.send(request).await });
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(app.events(), [EventKind::Adopted], "draining waits for it");
    let token = another(&app, 3600).refresh(&foreign).await.token();
    app.refresh(&token).await.token();
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_too_long_is_told_to_retry() {
    let (app, foreign) = adopting().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let other = another(&app, 3600);
    for (name, app) in [
        ("the adopting request", &app),
        ("a waiting request", &other),
    ] {
        let answer = send(app, post("/token", &refresh_form("app", &foreign))).await;
        answer.assert_refused(name, 503, "temporarily_unavailable", false);
    }
    // Twenty seconds have passed: a response now is too late.
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(app.upstream.refreshes(), 1);
}

#[test]
fn a_session_is_adopted_after_the_first_instance_died() {
    let start = || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let dying = start();
    let (app, foreign) = dying.block_on(async {
        let (app, foreign) = adopting().await;
        let other = log_in_before(&app, "app").await;
        app.refresh(&other).await.token();
        app.upstream.then(Act::Wait(Arc::new(Notify::new())));
        let (begun, request) = (app.clone(), post("/token", &refresh_form("app", &foreign)));
        tokio::spawn(async move { begun.send(request).await });
        settle().await;
        assert_eq!(app.upstream.refreshes(), 2);
        (app, foreign)
    });
    drop(dying);
    start().block_on(async {
        let survivor = another(&app, 3600);
        let request = || post("/token", &refresh_form("app", &foreign));
        let answer = send(&survivor, request()).await;
        answer.assert_refused("within the lease", 503, "temporarily_unavailable", false);
        assert_eq!(
            app.upstream.refreshes(),
            2,
            "the token is not used while another request may be using it"
        );
        survivor.clock.advance(Duration::from_secs(25));
        let token = send(&survivor, request()).await.token("after the lease");
        survivor.refresh(&token).await.token();
        assert_eq!(survivor.upstream.reuses(), 0);
    });
}

/// Another instance takes over the expired lease of an adoption, and a moment later the store
/// accepts the delayed commit.
#[tokio::test(start_paused = true)]
async fn taking_over_an_adoption_first_waits_for_the_commit() {
    let (app, foreign) = adopting().await;
    let other = another(&app, 3600);
    let claimed = Arc::new(AtomicBool::new(false));
    let mut failures = 4;
    app.store.hook({
        let claimed = Arc::clone(&claimed);
        move |_, call| {
            if !(insert(call) || done(call)) || (claimed.load(Ordering::SeqCst) && failures == 0) {
                return Plan::Pass;
            }
            failures -= usize::from(claimed.load(Ordering::SeqCst));
            Plan::Lose
        }
    });
    let first = send(&app, post("/token", &refresh_form("app", &foreign))).await;
    first.assert_refused("the store is away", 503, "temporarily_unavailable", false);
    app.clock.advance(Duration::from_secs(26));
    let request = tokio::spawn(async move { (other.refresh(&foreign).await, other) });
    settle().await;
    claimed.store(true, Ordering::SeqCst);
    let (answer, other) = request.await.unwrap();
    app.layer.drain().await;
    assert_eq!(app.upstream.refreshes(), 1, "the token was used already");
    assert_eq!(
        (app.events().last(), other.events().last()),
        (Some(&EventKind::Adopted), Some(&EventKind::Replayed))
    );
    other.refresh(&answer.token()).await.token();
    assert_eq!(app.upstream.reuses(), 0);
}

/// After a takeover that commits nothing, the lease of the adoption must still count as expired.
#[tokio::test(start_paused = true)]
async fn releasing_an_adoption_taken_over_restores_the_expired_lease() {
    let rows: [(&str, fn() -> Plan, usize); 2] = [
        ("its first claim unanswered", || Plan::LoseAnswer, 1),
        ("its second look failed", || Plan::Lose, 2),
    ];
    for (row, plan, at) in rows {
        let (app, foreign) = adopting().await;
        app.store.once(|call| *call == Call::Claim, Plan::Lose);
        assert_eq!(app.refresh(&foreign).await.status, 503, "{row}");
        let key = app
            .store
            .writes()
            .into_iter()
            .find_map(|(key, call)| placeholder(&call).then_some(key))
            .unwrap();
        let under_way = app.store.inner.get(&key).await.unwrap().unwrap().tag;
        let claim = |version: u8| {
            app.store
                .inner
                .claim(&key, &under_way, Version::new([version; 8]), LEASE)
        };
        assert_eq!(
            claim(1).await.unwrap().unwrap().lease,
            Lease::Taken,
            "{row}: an instance takes it, and dies"
        );
        app.clock.advance(Duration::from_secs(26));
        let mut claims = 0;
        app.store.hook(move |_, call| {
            claims += usize::from(*call == Call::Claim);
            if *call == Call::Claim && claims == at {
                plan()
            } else {
                Plan::Pass
            }
        });
        assert_eq!(app.refresh(&foreign).await.status, 503, "{row}");
        app.layer.drain().await;
        let next = claim(2).await.unwrap().unwrap();
        assert_eq!((next.lease, next.taken_over), (Lease::Taken, true), "{row}");
        assert_eq!(app.upstream.refreshes(), 0, "{row}");
    }
}

/// The first write of the grant was stored, but its reply was lost, and then the sessions of the
/// user were ended. The next attempt stores the grant again, as one that begins after that.
#[tokio::test(start_paused = true)]
async fn an_adoption_that_completes_late_is_listed() {
    let (app, foreign) = adopting().await;
    next_id_token(&app, r#"{"sub":"ann"}"#);
    // The tags of placeholders and indexes are constants.
    let is_constant = |tag: &ClaimTag| *tag == ClaimTag::new([tag.as_bytes()[0]; 32]);
    let inserts_grant = move |call: &Call| {
        matches!(call, Call::Swap { expected: None, change: Change::Put { entry, .. }, .. }
            if !is_constant(&entry.tag))
    };
    app.store.once(inserts_grant, Plan::LoseAnswer);
    assert_eq!(app.refresh(&foreign).await.status, 503);
    let ann = Subject::new("ann").unwrap();
    assert_eq!(app.layer.end_sessions(&ann).await.unwrap(), 1);
    app.layer.drain().await;
    assert_eq!(app.refresh(&foreign).await.status, 200);
    assert_eq!(app.layer.sessions(&ann).await.unwrap().len(), 1);
    assert_eq!(app.layer.end_sessions(&ann).await.unwrap(), 1);
    assert_eq!(app.refresh(&foreign).await.status, 400);
}
