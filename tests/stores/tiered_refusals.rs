//! A request that an instance knows to be invalid is rejected without a store call. Every other
//! request is decided with the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use test_support::requests::forged;
use test_support::tiered::{Tier, tiered, tiered_with};
use test_support::{Act, App, Call, Plan, refresh_form};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Entry, Key, Store as _, Swap, Ttl, Version};

const HOUR: Duration = Duration::from_secs(3600);

type Tiered = App<Tier>;

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

/// Returns the tokens of a grant that was issued on this instance, in order.
async fn grant(app: &Tiered, rotations: usize) -> Vec<String> {
    let mut tokens = vec![app.log_in("app").await];
    for _ in 0..rotations {
        let next = app.refresh(tokens.last().unwrap()).await.token();
        tokens.push(next);
    }
    app.events();
    tokens
}

/// Returns how many calls have reached the store since the last call of this function.
fn trips(app: &Tiered) -> usize {
    app.store.get_ref().calls().len()
}

/// Returns the only key that was requested from the store since the last call.
fn key(app: &Tiered) -> Key {
    app.store.get_ref().writes().last().unwrap().0
}

#[tokio::test]
async fn a_wrong_client_of_a_known_grant_makes_no_store_call() {
    let base = App::new();
    let (app, other) = (tiered(&base), tiered(&base));
    let tokens = grant(&app, 2).await;
    trips(&app);
    for token in tokens
        .iter()
        .chain([&forged(&tokens[2], 2), &forged(&tokens[2], 9)])
    {
        for _ in 0..10 {
            assert_eq!(app.refresh_as("thief", token).await.error(), refused());
            let answer = app
                .post("/revoke", &[("token", token), ("client_id", "thief")])
                .await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        }
    }
    assert_eq!(trips(&app), 0);
    assert_eq!(
        app.events(),
        [EventKind::ClientMismatch; 100],
        "each emits an event"
    );
    app.refresh(&tokens[2]).await.token();
    assert_eq!(trips(&app), 2, "a rotation makes its usual calls");

    for _ in 0..10 {
        assert_eq!(
            other.refresh_as("thief", &tokens[2]).await.error(),
            refused()
        );
    }
    assert_eq!(
        trips(&other),
        1,
        "an instance that does not know the grant looks it up once"
    );
}

#[tokio::test]
async fn a_refusal_but_no_rotation_makes_the_grant_known_to_its_instance() {
    let base = App::new();
    let (one, two) = (tiered(&base), tiered(&base));
    let old = one.log_in("app").await;
    let token = two.refresh(&old).await.token();
    trips(&two);
    for (name, instance, token) in [
        ("the current token, where it was rotated", &two, &token),
        ("the current token", &tiered(&base), &token),
        ("an old token", &tiered(&base), &old),
    ] {
        assert_eq!(
            instance.refresh_as("thief", token).await.error(),
            refused(),
            "{name}"
        );
        assert!(trips(instance) > 0, "{name}");
        for _ in 0..10 {
            assert_eq!(
                instance.refresh_as("thief", token).await.error(),
                refused(),
                "{name}"
            );
        }
        assert_eq!(trips(instance), 0, "{name}");
    }
    two.refresh(&token).await.token();
}

#[tokio::test]
async fn tokens_of_an_ended_grant_make_no_store_call() {
    type End = fn(Tiered, Vec<String>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;
    let rows: [(&str, End); 4] = [
        ("revoked", |app, tokens| {
            Box::pin(async move {
                app.revoke(&tokens[2]).await;
            })
        }),
        ("ended by reuse", |app, tokens| {
            Box::pin(async move {
                app.clock.advance(Duration::from_secs(61));
                app.refresh(&tokens[0]).await;
                assert_eq!(app.events(), [EventKind::ReuseDetected]);
            })
        }),
        ("rejected by the inner service", |app, tokens| {
            Box::pin(async move {
                app.upstream.then(Act::Answer(
                    400,
                    "application/json",
                    r#"{"error":"invalid_grant"}"#,
                ));
                app.refresh(&tokens[2]).await;
            })
        }),
        ("found to have expired", |app, tokens| {
            Box::pin(async move {
                app.clock.advance(Duration::from_secs(31 * 24 * 3600));
                app.refresh(&tokens[2]).await;
            })
        }),
    ];
    for (name, end) in rows {
        let base = App::new();
        let (app, other) = (tiered(&base), tiered(&base));
        let mut tokens = grant(&app, 2).await;
        end(app.clone(), tokens.clone()).await;
        tokens.push(forged(&tokens[0], 1));
        for (instance, expected) in [(&app, 0), (&other, 1)] {
            instance.events();
            trips(instance);
            for token in &tokens {
                for client in ["app", "thief"] {
                    assert_eq!(
                        instance.refresh_as(client, token).await.error(),
                        refused(),
                        "{name}"
                    );
                    let answer = instance
                        .post("/revoke", &[("token", token), ("client_id", client)])
                        .await;
                    assert_eq!(
                        (answer.status.as_u16(), answer.body.len()),
                        (200, 0),
                        "{name}"
                    );
                }
            }
            assert_eq!(trips(instance), expected, "{name}");
            assert_eq!(instance.events(), [EventKind::Unknown; 16], "{name}");
        }
    }
}

#[tokio::test]
async fn the_absolute_expiry_of_a_grant_is_cached() {
    let base = App::new();
    let app = tiered_with(&base, |builder| builder.absolute_lifetime(HOUR));
    let tokens = grant(&app, 1).await;
    trips(&app);
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&tokens[1]).await.error(), refused());
    assert_eq!(app.revoke(&tokens[1]).await.status, 200);
    assert_eq!(
        (trips(&app), app.events()),
        (0, vec![EventKind::Expired; 2])
    );
}

#[tokio::test]
async fn an_outdated_cached_expiry_rejects_no_request() {
    let base = App::new();
    let (app, other) = (tiered(&base), tiered(&base));
    let mut token = app.log_in("app").await;
    for _ in 0..5 {
        base.clock.advance(20 * 24 * HOUR);
        token = other.refresh(&token).await.token();
    }
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn reuse_is_detected_despite_a_scope_or_resource_beyond_the_grant() {
    for beyond in [("scope", "admin"), ("resource", "https://other.example/")] {
        let app = tiered(&App::new());
        let log_in = [
            ("grant_type", "password"),
            ("client_id", "app"),
            ("scope", "read write"),
            ("resource", "https://api.example/"),
        ];
        let first = app.post("/token", &log_in).await.token();
        let second = app.refresh(&first).await.token();
        let third = app.refresh(&second).await.token();
        app.clock.advance(Duration::from_secs(61));
        app.events();

        let call = async |token: &str| {
            app.post(
                "/token",
                &[&refresh_form("app", token)[..], &[beyond]].concat(),
            )
            .await
        };
        let error = if beyond.0 == "scope" {
            "invalid_scope"
        } else {
            "invalid_target"
        };
        assert_eq!(call(&third).await.error(), (400, error.into()));
        assert_eq!(
            app.refresh(&second).await.error(),
            refused(),
            "its successor was presented"
        );
        assert_eq!(app.events(), [EventKind::ReuseDetected], "{beyond:?}");

        let first = app.post("/token", &log_in).await.token();
        let second = app.refresh(&first).await.token();
        app.refresh(&second).await.token();
        app.clock.advance(Duration::from_secs(61));
        app.events();
        assert_eq!(call(&first).await.error(), refused());
        assert_eq!(app.events(), [EventKind::ReuseDetected], "{beyond:?}");
    }
}

#[tokio::test]
async fn a_corrupt_record_is_never_treated_as_a_refusal() {
    let app = tiered(&App::new());
    let token = app.log_in("app").await;
    let (key, store) = (key(&app), app.store.get_ref().inner.clone());
    let entry = store.get(&key).await.unwrap().unwrap();
    let mut value = entry.value.to_vec();
    let at = value.windows(3).position(|bytes| bytes == b"app").unwrap();
    value[at] = b'b';
    let damaged = Entry::new(Version::new([9; 8]), entry.tag, Bytes::from(value));
    let change = Change::Put {
        entry: damaged,
        ttl: Ttl::Keep,
    };
    assert_eq!(
        store
            .swap(&key, Some(entry.version), change, &[])
            .await
            .unwrap(),
        Swap::Swapped
    );
    app.store.get(&key).await.unwrap();
    app.events();
    for client in ["app", "bpp", "thief"] {
        assert_eq!(
            app.refresh_as(client, &token).await.error(),
            (500, "server_error".into()),
            "{client}"
        );
        assert_eq!(app.events(), [EventKind::StoreCorrupt], "{client}");
        let answer = app
            .post("/revoke", &[("token", &token), ("client_id", client)])
            .await;
        assert_eq!(answer.error(), (500, "server_error".into()), "{client}");
        assert_eq!(app.events(), [EventKind::StoreCorrupt], "{client}");
    }
}

#[tokio::test]
async fn a_pending_revocation_can_be_retried() {
    let app = tiered(&App::new());
    let token = app.log_in("app").await;
    app.upstream.then(Act::Answer(500, "text/plain", "down"));
    assert_eq!(
        app.revoke(&token).await.error(),
        (503, "temporarily_unavailable".into())
    );
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.upstream.alive(), 1);
    assert_eq!(app.revoke(&token).await.status, 200);
    assert_eq!(app.upstream.alive(), 0, "the inner service has confirmed");
}

#[tokio::test]
async fn without_the_store_only_known_refusals_are_answered() {
    let app = tiered(&App::new());
    let (dead, alive) = (grant(&app, 1).await, grant(&app, 1).await);
    app.revoke(&dead[1]).await;
    app.store.get_ref().hook(|_, _| Plan::Lose);
    assert_eq!(app.refresh(&dead[1]).await.error(), refused());
    assert_eq!(app.refresh_as("thief", &alive[1]).await.error(), refused());
    assert_eq!(
        app.refresh(&alive[1]).await.error(),
        (503, "temporarily_unavailable".into())
    );
    app.store.get_ref().unhook();
    app.layer.drain().await;
    app.refresh(&alive[1]).await.token();
}

/// Returns the dead tokens of one grant, and an instance that does not know yet that it has ended.
async fn dead(tokens: usize) -> (Tiered, Vec<String>) {
    let base = App::new();
    let app = tiered(&base);
    // On a busy machine, 256 requests that wait for each other take longer than the default.
    let other = tiered_with(&base, |builder| builder.rotation_timeout(HOUR));
    let tokens = grant(&app, tokens - 1).await;
    app.revoke(tokens.last().unwrap()).await;
    trips(&app);
    (other, tokens)
}

#[tokio::test]
async fn sequential_requests_with_dead_tokens_make_one_store_call() {
    for tokens in [1, 8] {
        let (app, tokens) = dead(tokens).await;
        for n in 0..10_000 {
            assert_eq!(
                app.refresh(&tokens[n % tokens.len()]).await.error(),
                refused()
            );
        }
        assert_eq!(trips(&app), 1, "{} tokens", tokens.len());
        assert_eq!(app.events(), vec![EventKind::Unknown; 10_000]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_dead_tokens_make_at_most_one_call_per_token() {
    const AT_ONCE: usize = 256;
    const THREADS: usize = 2;
    for (tokens, slow) in [(1, true), (8, true), (1, false), (8, false)] {
        let (app, tokens) = dead(tokens).await;
        let tokens = Arc::new(tokens);
        if slow {
            let pause = || Plan::before(tokio::time::sleep(Duration::from_millis(50)));
            app.store.get_ref().hook(move |_, call| {
                if *call == Call::Claim {
                    pause()
                } else {
                    Plan::Pass
                }
            });
        }
        let mut storm = JoinSet::new();
        for n in 0..AT_ONCE {
            let (app, tokens) = (app.clone(), Arc::clone(&tokens));
            storm.spawn(async move {
                for round in 0..40 {
                    assert_eq!(
                        app.refresh(&tokens[(n + round) % tokens.len()])
                            .await
                            .error(),
                        refused()
                    );
                }
            });
        }
        storm.join_all().await;
        // A request that checked the cache before the end was known, and did not have to wait in
        // the queue, calls the store too: one for each thread.
        let trips = trips(&app);
        assert!(
            (1..=tokens.len() + THREADS).contains(&trips),
            "{} tokens: {trips} trips",
            tokens.len()
        );
        assert_eq!(app.events(), vec![EventKind::Unknown; AT_ONCE * 40]);
    }
}
