//! The sessions of a user: they are listed, and end together.

use std::sync::Arc;
use std::time::Duration;

use test_support::users::{next_extension, next_id_token};
use test_support::{App, Call, PATIENCE, Plan, SECOND, settle};
use tokio::sync::Barrier;
use tower_oauth_refresh::store::{Change, ClaimTag, Entry, Store as _, StoreError, Ttl, Version};
use tower_oauth_refresh::{ClientId, Clock as _, EventKind, SessionLabel, Subject};

fn ann() -> Subject {
    Subject::new("ann").unwrap()
}

async fn log_in(app: &App, client: &str, user: &str) -> String {
    next_id_token(app, &format!(r#"{{"sub":"{user}"}}"#));
    app.log_in(client).await
}

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

#[tokio::test]
async fn sessions_are_listed_with_what_is_known_about_them() {
    let app = App::new();
    let began = app.clock.now();
    let mut extensions = http::Extensions::new();
    extensions.insert(ann());
    extensions.insert(SessionLabel::new("Ann's phone\n, 10.0.0.1"));
    app.upstream.then(test_support::Act::Extended(extensions));
    let token = app.log_in("phone").await;
    let issued = app.take_events().remove(0).grant;
    app.clock.advance(Duration::from_secs(60));
    log_in(&app, "web", "ann").await;
    log_in(&app, "web", "bob").await;
    app.refresh_as("phone", &token).await.token();
    let sessions = app.another().layer.sessions(&ann()).await.unwrap();
    let [phone, web] = &sessions[..] else {
        panic!("{sessions:?}")
    };
    assert_eq!((phone.client_id(), web.client_id()), ("phone", "web"));
    assert_eq!((Some(phone.grant()), phone.created_at()), (issued, began));
    assert_eq!(phone.last_refreshed_at(), Some(app.clock.now()));
    assert_eq!(web.last_refreshed_at(), None);
    assert!(phone.scopes().eq(["read", "write"]));
    assert_eq!(phone.label(), Some("Ann's phone, 10.0.0.1"));
    assert_eq!(web.label(), None);
    assert!(phone.expires_at() > app.clock.now());
    let nobody = Subject::new("nobody").unwrap();
    assert!(app.layer.sessions(&nobody).await.unwrap().is_empty());
    assert_eq!(app.layer.end_sessions(&nobody).await.unwrap(), 0);
}

#[tokio::test]
async fn all_sessions_of_a_user_end_and_nothing_else() {
    let app = App::new();
    let mut tokens = Vec::new();
    for client in ["one", "two", "three"] {
        for _ in 0..17 {
            tokens.push((client, log_in(&app, client, "ann").await));
        }
    }
    let bob = log_in(&app, "one", "bob").await;
    let unnamed = app.log_in("one").await;
    app.events();
    let other = app.another();
    assert_eq!(other.layer.end_sessions(&ann()).await.unwrap(), 51);
    assert_eq!(other.events(), [EventKind::EndedByApplication; 51]);
    for (client, token) in &tokens {
        assert_eq!(app.refresh_as(client, token).await.error(), refused());
    }
    app.refresh_as("one", &bob).await.token();
    app.refresh_as("one", &unnamed).await.token();
    assert!(app.layer.sessions(&ann()).await.unwrap().is_empty());
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 0);
    log_in(&app, "one", "ann").await;
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_ended_session_leaves_the_list() {
    let app = App::new();
    let revoked = log_in(&app, "app", "ann").await;
    let ended = log_in(&app, "app", "ann").await;
    let reused = log_in(&app, "app", "ann").await;
    log_in(&app, "app", "ann").await;
    app.revoke(&revoked).await;
    let grants: Vec<_> = app.take_events().iter().map(|event| event.grant).collect();
    app.layer.end_grant(&grants[1].unwrap()).await.unwrap();
    let _ = ended;
    let second = app.refresh(&reused).await.token();
    app.refresh(&second).await.token();
    app.clock.advance(Duration::from_secs(3600));
    assert_eq!(app.refresh(&reused).await.error(), refused());
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 1);
    // The list has forgotten them: reading it again looks up the one that is left.
    app.store.calls();
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 1);
    assert_eq!(app.store.calls(), [Call::Get, Call::Get]);
    // The last one leaves no entry.
    app.layer.end_sessions(&ann()).await.unwrap();
    app.store.calls();
    app.layer.sessions(&ann()).await.unwrap();
    assert_eq!(app.store.calls(), [Call::Get]);
}

/// Logs in while the first two writes wait for each other, so they must be made at the same time.
async fn log_in_with_two_writes_at_once(app: &App) -> String {
    let both = Arc::new(Barrier::new(2));
    let mut left = 2;
    app.store.hook(move |_, call| {
        if left == 0 || !call.is_swap() {
            return Plan::Pass;
        }
        left -= 1;
        let both = Arc::clone(&both);
        Plan::after(async move {
            both.wait().await;
        })
    });
    let token = tokio::time::timeout(PATIENCE, log_in(app, "app", "ann")).await;
    app.store.unhook();
    token.expect("the grant and the list are written at the same time")
}

#[tokio::test]
async fn a_log_in_takes_at_most_one_more_trip_and_a_rotation_none() {
    let app = App::new();
    app.log_in("app").await;
    assert_eq!(app.store.calls().len(), 1, "without a subject");
    let first = log_in_with_two_writes_at_once(&app).await;
    assert_eq!(app.store.calls().len(), 2, "one trip");
    log_in_with_two_writes_at_once(&app).await;
    assert_eq!(app.store.calls().len(), 3, "the list exists: two trips");
    let second = app.refresh(&first).await.token();
    next_id_token(&app, r#"{"sub":"ann"}"#);
    app.refresh(&second).await.token();
    assert_eq!(app.store.calls().len(), 4, "two rotations");
}

#[tokio::test]
async fn a_log_in_survives_a_list_that_cannot_be_written() {
    let app = App::new();
    log_in(&app, "app", "ann").await;
    let index = app
        .store
        .writes()
        .iter()
        .map(|(key, _)| *key)
        .collect::<Vec<_>>();
    app.events();
    app.store.hook(move |key, _| match index.contains(key) {
        true => Plan::Lose,
        false => Plan::Pass,
    });
    let token = log_in(&app, "app", "ann").await;
    assert_eq!(
        app.events(),
        [EventKind::StoreUnavailable, EventKind::Issued]
    );
    app.refresh(&token).await.token();
    app.store.unhook();
    // It is listed as soon as the store is back.
    app.layer.drain().await;
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 2);
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 2);
    let damaged = log_in(&app, "app", "ann").await;
    app.events();
    app.store.hook(|_, call| match call {
        Call::Get => Plan::Corrupt,
        _ => Plan::Pass,
    });
    let error = app.layer.end_sessions(&ann()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)));
    app.store.unhook();
    app.refresh(&damaged).await.token();
}

#[tokio::test(start_paused = true)]
async fn a_session_is_unlisted_if_its_list_cannot_be_written_for_a_minute() {
    let app = App::new();
    log_in(&app, "app", "ann").await;
    let known: Vec<_> = app.store.writes().iter().map(|(key, _)| *key).collect();
    app.events();
    app.store.hook(move |key, _| match known.contains(key) {
        true => Plan::Lose,
        false => Plan::Pass,
    });
    let token = log_in(&app, "app", "ann").await;
    let begun = app.take_events();
    let kinds: Vec<_> = begun.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::StoreUnavailable, EventKind::Issued]);
    let began = tokio::time::Instant::now();
    app.layer.drain().await;
    assert_eq!(began.elapsed().as_secs(), 60);
    let [event] = &app.take_events()[..] else {
        panic!("one event")
    };
    assert_eq!(event.kind, EventKind::SessionUnlisted);
    assert_eq!(
        (event.grant, &event.client_id),
        (begun[1].grant, &begun[1].client_id)
    );
    app.store.unhook();
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 1);
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 1);
    app.refresh(&token).await.token();
}

#[tokio::test]
async fn a_session_whose_grant_is_stored_after_the_list_stays_listed() {
    let app = App::new();
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut held = false;
    app.store.hook(move |_, call| {
        let insert = matches!(
            call,
            Call::Swap {
                change: Change::Put { .. },
                ..
            }
        );
        if insert && !std::mem::replace(&mut held, true) {
            let opened = Arc::clone(&opened);
            return Plan::after(async move { opened.notified().await });
        }
        Plan::Pass
    });
    let late = app.clone();
    let login = tokio::spawn(async move { log_in(&late, "app", "ann").await });
    settle().await;
    // The list has the session, the store has no grant yet.
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 0);
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 0);
    gate.notify_one();
    let token = login.await.unwrap();
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 1);
    assert_eq!(app.refresh(&token).await.error(), refused());
}

#[tokio::test(start_paused = true)]
async fn an_epoch_ends_every_grant_that_began_before() {
    let app = App::new();
    let other = app.another();
    let (one, two) = (app.log_in("one").await, app.log_in("two").await);
    let one = other.refresh_as("one", &one).await.token();
    let one_id: ClientId = "one".parse().unwrap();
    app.layer.end_client(&one_id).await.unwrap();
    // Another instance that has read the epochs before reads them again after a second.
    let one = other.refresh_as("one", &one).await.token();
    tokio::time::advance(SECOND).await;
    assert_eq!(other.refresh_as("one", &one).await.error(), refused());
    assert_eq!(app.refresh_as("one", &one).await.error(), refused());
    let two = other.refresh_as("two", &two).await.token();
    app.clock.advance(Duration::from_millis(10));
    let again = app.log_in("one").await;
    let again = app.refresh_as("one", &again).await.token();
    app.layer.end_all().await.unwrap();
    for (client, token) in [("one", &again), ("two", &two)] {
        assert_eq!(
            app.refresh_as(client, token).await.error(),
            refused(),
            "{client}"
        );
        let answer = app
            .post("/introspect", &[("token", token), ("client_id", client)])
            .await;
        assert_eq!(answer.json()["active"], false);
    }
    app.clock.advance(Duration::from_millis(10));
    let after = app.log_in("two").await;
    app.refresh_as("two", &after).await.token();
}

#[tokio::test]
async fn a_session_in_use_is_listed_anew_before_its_listing_ends() {
    let day = Duration::from_secs(24 * 3600);
    let app = App::with(|builder| builder.idle_lifetime(day));
    let mut token = log_in(&app, "app", "ann").await;
    log_in(&app, "app", "ann").await;
    for hours in [20, 20, 20, 20, 20] {
        app.clock.advance(Duration::from_secs(hours * 3600));
        token = app.refresh(&token).await.token();
    }
    assert_eq!(app.layer.sessions(&ann()).await.unwrap().len(), 1);
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 1);
    // An index that is not used any more expires.
    log_in(&app, "app", "ann").await;
    app.clock.advance(3 * day);
    app.store.calls();
    assert!(app.layer.sessions(&ann()).await.unwrap().is_empty());
    assert_eq!(app.store.calls(), [Call::Get]);
}

#[tokio::test]
async fn a_rotation_that_outlasts_its_grant_does_not_survive_the_end_of_the_sessions() {
    let app = App::with(|builder| builder.idle_lifetime(Duration::from_secs(600)));
    let token = log_in(&app, "app", "ann").await;
    let gate = Arc::new(tokio::sync::Notify::new());
    app.clock.advance(Duration::from_secs(599));
    app.upstream
        .then(test_support::Act::Wait(Arc::clone(&gate)));
    let late = app.clone();
    let refresh = tokio::spawn(async move { late.refresh(&token).await });
    settle().await;
    app.clock.advance(Duration::from_secs(2));
    assert!(app.layer.sessions(&ann()).await.unwrap().is_empty());
    app.layer.end_sessions(&ann()).await.unwrap();
    gate.notify_one();
    assert_eq!(refresh.await.unwrap().error(), refused());
}

#[tokio::test]
async fn one_session_that_cannot_end_does_not_keep_the_others() {
    let app = App::new();
    let stuck = log_in(&app, "app", "ann").await;
    let key = *app
        .store
        .writes()
        .iter()
        .map(|(key, _)| key)
        .next()
        .unwrap();
    let free = log_in(&app, "app", "ann").await;
    app.store
        .hook(move |other, call| match (*other == key, call) {
            (true, Call::Swap { .. }) => Plan::Lose,
            _ => Plan::Pass,
        });
    assert!(app.layer.end_sessions(&ann()).await.is_err());
    app.store.unhook();
    assert_eq!(app.refresh(&free).await.error(), refused());
    app.refresh(&stuck).await.token();
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 1);
}

#[tokio::test]
async fn only_grants_end_by_their_key() {
    let app = App::new();
    log_in(&app, "app", "ann").await;
    app.layer.end_all().await.unwrap();
    let epochs = test_support::hooked::epochs_key();
    assert!(!app.layer.end_grant(&epochs.into()).await.unwrap());
    assert!(app.store.get(&epochs).await.unwrap().is_some());
}

#[tokio::test]
async fn an_epoch_empties_the_list_of_a_user() {
    let app = App::new();
    log_in(&app, "app", "ann").await;
    app.clock.advance(Duration::from_secs(1));
    app.layer.end_all().await.unwrap();
    assert!(app.layer.sessions(&ann()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_grant_is_not_used_while_the_epochs_cannot_be_read() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.hook_epochs();
    app.store.once(|call| matches!(call, Call::Get), Plan::Lose);
    assert_eq!(app.refresh(&token).await.error().0, 503);
    assert_eq!(app.upstream.refreshes(), 0);
    app.refresh(&token).await.token();
    next_extension(&app, ann());
    app.log_in("app").await;
    app.store.hook(|_, call| match call {
        Call::Get => Plan::Lose,
        _ => Plan::Pass,
    });
    assert!(app.layer.end_all().await.is_err());
    assert!(app.layer.sessions(&ann()).await.is_err());
}

#[tokio::test]
async fn damaged_epochs_refuse_every_grant_until_all_are_ended() {
    let app = App::new();
    let token = app.log_in("app").await;
    let key = test_support::hooked::epochs_key();
    let entry = Entry::new(
        Version::new([1; 8]),
        ClaimTag::new([3; 32]),
        b"Bonsense".as_slice().into(),
    );
    let ttl = Ttl::After(Duration::from_secs(60));
    let damage = Change::Put { entry, ttl };
    let _ = app.store.swap(&key, None, damage, &[]).await.unwrap();
    let (app, one) = (app.another(), "one".parse().unwrap());
    assert_eq!(app.refresh(&token).await.error().0, 500);
    assert!(app.layer.end_client(&one).await.is_err());
    app.layer.end_all().await.unwrap();
    assert_eq!(app.refresh(&token).await.error(), refused());
    app.clock.advance(Duration::from_millis(10));
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
}
