//! Adoptions whose lease another request takes over.

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

use super::{done, insert, placeholder};

/// The default duration of a lease.
const LEASE: Duration = Duration::from_secs(25);

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
