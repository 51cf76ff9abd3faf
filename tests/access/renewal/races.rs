//! Renewals beside other requests.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http_body_util::Full;
use test_support::access::{Guarded, LOG_IN, pair};
use test_support::{Act, App, Call, SECOND, Upstream, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::store::{Change, Lease, Store as _, Version};
use tower_oauth_refresh::{ClientCredentials, EventKind};

use super::{HOUR, another, app, log_in_and_wait, with};

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_on_four_instances_share_one_refresh() {
    let app = app();
    let instances: Vec<(App, Guarded)> = (0..4)
        .map(|_| {
            let app = another(&app);
            let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
            (app, guarded)
        })
        .collect();
    let (refresh, access) = pair(&app.post("/token", &LOG_IN).await);
    for (_, guarded) in &instances {
        assert_eq!(guarded.status(&access).await, 200);
    }
    app.clock.advance(HOUR);
    app.upstream.slow_down(SECOND / 2);
    let requests = (0..1000).map(|number| instances[number % 4].1.get(&access));
    for answer in join_all(requests).await {
        assert_eq!(Guarded::swapped(&answer), "at-0-1");
    }
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (1, 0));
    assert_eq!(app.refresh(&refresh).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_and_a_renewal_take_turns() {
    for renewal_first in [true, false] {
        let app = app();
        let other = another(&app);
        let guarded = Guarded::new(&other);
        let (refresh, access) = log_in_and_wait(&app).await;
        app.upstream.slow_down(SECOND / 10);
        let rotation = async {
            if renewal_first {
                settle().await;
            }
            app.refresh(&refresh).await
        };
        let renewal = async {
            if !renewal_first {
                settle().await;
            }
            guarded.get(&access).await
        };
        let (rotated, renewed) = join(rotation, renewal).await;
        let (next, newer) = pair(&rotated);
        assert_eq!(renewed.status, 200, "{renewed:?}");
        assert_eq!(guarded.status(&newer).await, 200);
        assert_eq!(app.refresh(&next).await.status, 200);
        assert_eq!((app.upstream.reuses(), app.upstream.alive()), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_or_grant_that_ends_during_a_renewal_stays_ended() {
    for ending in 0..4 {
        let app = app();
        let other = another(&app);
        let guarded = Guarded::new(&app);
        let (refresh, access) = log_in_and_wait(&app).await;
        let gate = Arc::new(Notify::new());
        app.upstream.then(Act::Wait(Arc::clone(&gate)));
        let request = guarded.get(&access);
        let ended = async {
            settle().await;
            match ending {
                0 => assert_eq!(other.revoke(&refresh).await.status, 200),
                1 => assert_eq!(other.revoke(&access).await.status, 200),
                2 => other.layer.end_all().await.unwrap(),
                _ => {
                    let grant = other
                        .take_events()
                        .into_iter()
                        .find_map(|event| event.grant);
                    let grant = match grant {
                        Some(grant) => grant,
                        None => app.take_events()[0].grant.unwrap(),
                    };
                    assert!(other.layer.end_grant(&grant).await.unwrap());
                }
            }
            gate.notify_one();
        };
        let (answer, ()) = join(request, ended).await;
        assert_eq!(answer.status, 401, "ending {ending}");
        assert_eq!(guarded.status(&access).await, 401, "ending {ending}");
        let refreshed = app.refresh(&refresh).await.status == 200;
        assert_eq!(refreshed, ending == 1, "only the access token was revoked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_grant_has_ended_revokes_its_new_upstream_token() {
    let revoking = Upstream::new();
    let service = revoking.clone();
    let app = with(|builder| {
        builder
            .revocation_key([7; 32])
            .upstream_revocation::<_, Full<Bytes>, _>(service, ClientCredentials::public())
    });
    let guarded = Guarded::new(&app);
    let (_, access) = log_in_and_wait(&app).await;
    let grant = app.take_events()[0].grant.unwrap();
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let ended = async {
        settle().await;
        // An instance without the key.
        assert!(another(&app).layer.end_grant(&grant).await.unwrap());
        gate.notify_one();
    };
    let (answer, ()) = join(guarded.get(&access), ended).await;
    assert_eq!(answer.status, 401);
    app.layer.drain().await;
    let seen = revoking.seen();
    let tokens: Vec<_> = seen.iter().map(|seen| seen.param("token")).collect();
    assert_eq!(tokens, [Some("upstream-0-1")]);
}

#[tokio::test]
async fn the_use_of_an_access_token_does_not_show_that_its_refresh_token_was_received() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (refresh, _) = pair(&app.post("/token", &LOG_IN).await);
    let (_, access) = pair(&app.refresh(&refresh).await);
    app.clock.advance(HOUR);
    assert_eq!(guarded.status(&access).await, 200);
    // The client used the access token and died before it had stored the refresh token.
    app.clock.advance(24 * HOUR);
    assert_eq!(app.refresh(&refresh).await.status, 200);
    assert!(app.events().contains(&EventKind::Recovered));
}

/// An instance has died while it rotated. Its expired lease shows that the client has received the
/// current token, so the previous one cannot recover after the renewal that replaces the lease.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_takes_a_rotation_over_keeps_what_its_lease_shows() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (first, _) = pair(&app.post("/token", &LOG_IN).await);
    let (_, access) = pair(&app.refresh(&first).await);
    let commit = app
        .store
        .writes()
        .into_iter()
        .find(|(_, call)| call.is_commit());
    let Some((
        key,
        Call::Swap {
            change: Change::Put { entry, .. },
            ..
        },
    )) = commit
    else {
        panic!("no commit");
    };
    // The lowest bit says that the lease is one for a rotation.
    let version = Version::new([2; 8]);
    let lease = app
        .store
        .inner
        .claim(&key, &entry.tag, version, 25 * SECOND);
    assert_eq!(lease.await.unwrap().unwrap().lease, Lease::Taken);
    app.clock.advance(HOUR);
    assert_eq!(guarded.status(&access).await, 200);
    app.clock.advance(24 * HOUR);
    assert_eq!(app.refresh(&first).await.status, 400);
    assert!(app.events().contains(&EventKind::ReuseDetected));
}
