//! A store that fails while access tokens are issued or looked up: no session is lost, no request
//! is let through, and no client gets a token that does not work.

use std::error::Error as _;
use std::time::Duration;

use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::{App, Call, Plan, settle};
use tower_oauth_refresh::store::{Change, ClaimTag, Entry, Key, Store as _, Swap, Ttl, Version};
use tower_oauth_refresh::{AccessLayer, EventKind};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns whether this call writes the record of an access token. Those records have a tag of
/// their own.
fn is_access(call: &Call) -> bool {
    matches!(call, Call::Swap { change: Change::Put { entry, .. }, .. } if entry.tag == ClaimTag::new([2; 32]))
}

fn inserts_grant(call: &Call) -> bool {
    matches!(call, Call::Swap { expected: None, .. }) && !is_access(call)
}

#[tokio::test(start_paused = true)]
async fn a_log_in_fails_if_its_access_token_cannot_be_stored() {
    for (name, form) in [
        ("with a grant", &LOG_IN[..]),
        (
            "without",
            &[("grant_type", "client_credentials"), ("client_id", "app")],
        ),
    ] {
        for plan in [|| Plan::Lose, || Plan::LoseAnswer] as [fn() -> Plan; 2] {
            let app = referencing();
            app.store
                .hook(move |_, call| if is_access(call) { plan() } else { Plan::Pass });
            let answer = app.post("/token", form).await;
            assert_eq!(
                answer.error(),
                (503, "temporarily_unavailable".into()),
                "{name}"
            );
            assert_eq!(answer.headers["retry-after"], "1", "{name}");
            assert!(
                app.events().contains(&EventKind::StoreUnavailable),
                "{name}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_in_whose_grant_cannot_be_stored_gets_a_valid_access_token() {
    for plan in [|| Plan::Lose, || Plan::LoseAnswer] as [fn() -> Plan; 2] {
        let app = referencing();
        let guarded = Guarded::new(&app);
        app.store.hook(move |_, call| {
            if inserts_grant(call) {
                plan()
            } else {
                Plan::Pass
            }
        });
        let answer = app.post("/token", &LOG_IN).await;
        assert_eq!(answer.get("refresh_token"), None, "{answer:?}");
        assert_eq!(
            Guarded::swapped(&guarded.get(&access_token(&answer)).await),
            "at-0-0"
        );
        assert_eq!(app.events(), [EventKind::StoreUnavailable]);
    }
    let app = referencing();
    // The second write of the access token detaches it from its grant.
    app.store.hook(|_, call| match call {
        Call::Swap {
            expected: Some(_), ..
        } => Plan::Lose,
        call if inserts_grant(call) => Plan::Lose,
        _ => Plan::Pass,
    });
    assert_eq!(
        app.post("/token", &LOG_IN).await.status,
        503,
        "it would not work"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rotation_waits_for_both_writes() {
    type Fault = fn(&Call) -> bool;
    let faults: [(&str, Fault); 3] = [
        ("the access token", is_access),
        ("the rotation", |call| call.is_commit()),
        ("both", |call| is_access(call) || call.is_commit()),
    ];
    for (name, fault) in faults {
        for plan in [|| Plan::Lose, || Plan::LoseAnswer] as [fn() -> Plan; 2] {
            let app = referencing();
            let guarded = Guarded::new(&app);
            let (token, _) = pair(&app.post("/token", &LOG_IN).await);
            app.events();
            app.store
                .hook(move |_, call| if fault(call) { plan() } else { Plan::Pass });
            let answer = app.refresh(&token).await;
            assert_eq!(
                answer.error(),
                (503, "temporarily_unavailable".into()),
                "{name}"
            );
            app.store.unhook();
            app.layer.drain().await;
            assert_eq!(
                app.events(),
                [EventKind::StoreUnavailable, EventKind::Rotated],
                "{name}"
            );

            let (next, access) = pair(&app.refresh(&token).await);
            assert_eq!(
                app.events(),
                [EventKind::Replayed],
                "{name}: the client retries"
            );
            assert_eq!(
                Guarded::swapped(&guarded.get(&access).await),
                "at-0-1",
                "{name}"
            );
            app.refresh(&next).await.token();
            assert_eq!(
                (app.upstream.refreshes(), app.upstream.reuses()),
                (2, 0),
                "{name}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_overtaken_by_a_revocation_leaves_no_access_token() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let (token, _) = pair(&app.post("/token", &LOG_IN).await);
    let (other, access) = (app.clone(), token.clone());
    app.store.once(
        Call::is_commit,
        Plan::after(async move {
            other.revoke(&access).await;
        }),
    );
    app.store.calls();
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    settle().await;
    assert!(
        app.store.calls().iter().any(is_access),
        "its record is stored, without a grant"
    );
    assert_eq!(guarded.resource.seen().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_adoption_waits_for_its_access_token() {
    let until = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
    let app = App::with(|builder| builder.reference_access_tokens(true).adopt_until(until));
    let guarded = Guarded::new(&app);
    let before = test_support::foreign::log_in_before(&app, "app").await;
    app.store.hook(|_, call| {
        if is_access(call) {
            Plan::Lose
        } else {
            Plan::Pass
        }
    });
    assert_eq!(app.refresh(&before).await.status, 503);
    app.store.unhook();
    app.layer.drain().await;
    let (_, access) = pair(&app.refresh(&before).await);
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_grants_no_access() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    for failing in 1..=2 {
        for (plan, status, error) in [
            (
                (|| Plan::Lose) as fn() -> Plan,
                503,
                "temporarily_unavailable",
            ),
            (|| Plan::LoseAnswer, 503, "temporarily_unavailable"),
            (|| Plan::Corrupt, 500, "server_error"),
        ] {
            let mut count = 0;
            app.store.hook(move |_, _| {
                count += 1;
                if count == failing { plan() } else { Plan::Pass }
            });
            let (answer, cause) = guarded.send(&[&format!("Bearer {access}")]).await;
            assert_eq!(answer.error(), (status, error.into()), "read {failing}");
            assert_eq!(answer.headers.get("retry-after").is_some(), status == 503);
            assert_eq!(
                answer.headers.get("www-authenticate"),
                None,
                "the token is not at fault"
            );
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert!(cause.unwrap().source().is_some(), "the cause is kept");
        }
    }
    app.store.unhook();
    assert_eq!(guarded.status(&access).await, 200, "it was not cached");
    app.store.hook(|_, _| Plan::Lose);
    assert_eq!(
        guarded.status(&access).await,
        200,
        "a cached token needs no store call"
    );
    assert_eq!(guarded.resource.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_record_is_a_server_error() {
    for (name, of_token) in [("the token's", true), ("the grant's", false)] {
        let app = referencing();
        app.store.calls();
        let (_, access) = pair(&app.post("/token", &LOG_IN).await);
        let written = app
            .store
            .writes()
            .into_iter()
            .find(|(_, call)| call.is_swap() && is_access(call) == of_token);
        let (key, _) = written.unwrap();
        let entry = app.store.get(&key).await.unwrap().unwrap();
        for at in 0..entry.value.len() {
            let mut value = entry.value.to_vec();
            value[at] ^= 0x10;
            replace(&app, &key, entry.tag, value).await;
            let answer = Guarded::new(&app).get(&access).await;
            assert_eq!(
                answer.error(),
                (500, "server_error".into()),
                "{name}, byte {at}"
            );
        }
        replace(&app, &key, entry.tag, entry.value.to_vec()).await;
        assert_eq!(Guarded::new(&app).status(&access).await, 200, "{name}");
    }
}

async fn replace(app: &App, key: &Key, tag: ClaimTag, value: Vec<u8>) {
    let found = app.store.get(key).await.unwrap().unwrap();
    let mut version = *found.version.as_bytes();
    version[0] = version[0].wrapping_add(1);
    let change = Change::Put {
        entry: Entry::new(Version::new(version), tag, value.into()),
        ttl: Ttl::Keep,
    };
    assert_eq!(
        app.store
            .swap(key, Some(found.version), change, &[])
            .await
            .unwrap(),
        Swap::Swapped
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_moved_to_another_key_grants_no_access() {
    let app = referencing();
    let (_, one) = pair(&app.post("/token", &LOG_IN).await);
    let (_, other) = pair(&app.post("/token", &LOG_IN).await);
    app.store.calls();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(Duration::ZERO));
    let mut keys = Vec::new();
    for token in [&one, &other] {
        assert_eq!(guarded.status(token).await, 200);
        keys.push(app.store.writes()[0].0);
    }
    let stolen = app.store.get(&keys[1]).await.unwrap().unwrap();
    replace(&app, &keys[0], stolen.tag, stolen.value.to_vec()).await;
    assert_eq!(guarded.status(&one).await, 500);
    assert_eq!(guarded.status(&other).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_can_be_retried_after_a_store_failure() {
    type Fault = fn(&Call) -> bool;
    let faults: [(&str, Fault, usize); 2] = [
        ("the read", |call| *call == Call::Get, 0),
        ("the removal", Call::is_swap, 1),
    ];
    for (name, fault, reached) in faults {
        let app = referencing();
        let (_, access) = pair(&app.post("/token", &LOG_IN).await);
        app.store
            .hook(move |_, call| if fault(call) { Plan::Lose } else { Plan::Pass });
        let before = app.upstream.seen().len();
        assert_eq!(app.revoke(&access).await.status, 503, "{name}");
        assert_eq!(app.upstream.seen().len() - before, reached, "{name}");
        app.store.unhook();
        assert_eq!(app.revoke(&access).await.status, 200, "{name}");
        settle().await;
        assert_eq!(Guarded::new(&app).status(&access).await, 401, "{name}");
    }
}

#[tokio::test]
async fn a_panic_in_the_store_is_handled_like_a_store_error() {
    let app = referencing();
    let token = access_token(&app.post("/token", &LOG_IN).await);
    let apart = AccessLayer::builder(app.store.clone()).clock(app.clock.clone());
    for guarded in [Guarded::new(&app), Guarded::of(apart.build().unwrap())] {
        app.store
            .hook(|_, _| Plan::after(async { panic!("the store panics") }));
        assert_eq!(guarded.status(&token).await, 503);
        app.store.unhook();
        assert_eq!(guarded.status(&token).await, 200);
    }
}
