//! Sessions come in by adoption and leave by hand-back, over several instances with one Redis.

use std::time::{Duration, UNIX_EPOCH};

use test_support::Upstream;
use test_support::redis::RedisServer;
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;

use crate::faults::{count, events, patient_with, refresh_patiently};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_come_in_by_adoption_and_leave_by_hand_back() {
    const SESSIONS: usize = 1000;
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let url = server.url();
    let until = UNIX_EPOCH + Duration::from_secs(1 << 32);
    let adopting = [patient_with(&url, &upstream, |builder| builder.adopt_until(until)).await];
    let leave = async || patient_with(&url, &upstream, |builder| builder.hand_back(true)).await;
    let leaving = [leave().await, leave().await];
    // Long enough for the two tabs of a session to meet.
    upstream.slow_down(Duration::from_millis(50));

    let mut sessions = JoinSet::new();
    for session in 0..SESSIONS {
        let (adopting, leaving) = (adopting.clone(), leaving.clone());
        sessions.spawn(async move {
            // Without adoption, the layer passes a log-in and its tokens on.
            let foreign = leaving[session % 2].log_in("app").await;
            assert!(foreign.starts_with("upstream-"), "{foreign}");
            let (one, other) = tokio::join!(
                refresh_patiently(&adopting, 0, &foreign),
                refresh_patiently(&adopting, 0, &foreign)
            );
            assert_eq!(one.body, other.body);
            let token = one.token();
            let token = refresh_patiently(&adopting, 0, &token).await.token();
            // Two tabs leave at once, at two instances, and one of them retries.
            let (one, other) = tokio::join!(
                refresh_patiently(&leaving, 0, &token),
                refresh_patiently(&leaving, 1, &token)
            );
            let own = one.token();
            assert_eq!(other.token(), own);
            let again = refresh_patiently(&leaving, session, &token).await;
            assert_eq!(again.token(), own);
            refresh_patiently(&leaving, session, &own).await.token()
        });
    }
    for token in sessions.join_all().await {
        assert!(token.starts_with("upstream-"), "{token}");
    }
    assert_eq!((upstream.alive(), upstream.reuses()), (SESSIONS, 0));
    let adopted = events(&adopting);
    assert_eq!(
        [EventKind::Adopted, EventKind::Replayed, EventKind::Rotated]
            .map(|kind| count(&adopted, kind)),
        [SESSIONS; 3]
    );
    let left = events(&leaving);
    assert_eq!(
        [EventKind::HandedBack, EventKind::Replayed].map(|kind| count(&left, kind)),
        [SESSIONS, 2 * SESSIONS]
    );
    // Each session: adopted, rotated, handed back, and refreshed without the layer.
    assert_eq!(upstream.refreshes(), 4 * SESSIONS);
}
