//! Sessions that end with the session at the identity provider in which they began.

use std::time::Duration;

use test_support::users::{next_extension, next_id_token};
use test_support::{App, TestStore, settle};
use tower_oauth_refresh::{RefreshLayerBuilder, Subject};

const ISSUER: &str = "https://id.example";

fn ann() -> Subject {
    Subject::with_issuer(ISSUER, "ann").unwrap()
}

fn listing(builder: RefreshLayerBuilder<TestStore>) -> RefreshLayerBuilder<TestStore> {
    builder.provider_sessions(true)
}

/// Makes the next ID token have these claims besides the issuer.
fn next(app: &App, claims: &str) {
    next_id_token(app, &format!(r#"{{"iss":"{ISSUER}",{claims}}}"#));
}

async fn log_in(app: &App, user: &str, sid: &str) -> String {
    next(app, &format!(r#""sub":"{user}","sid":"{sid}""#));
    app.log_in("app").await
}

async fn is_alive(app: &App, token: &str) -> bool {
    app.refresh(token).await.status == 200
}

async fn sids(app: &App) -> Vec<Option<String>> {
    let sessions = app.layer.sessions(&ann()).await.unwrap();
    let sids = sessions.iter();
    sids.map(|session| session.sid().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn the_sessions_of_a_user_in_one_session_at_the_provider_end() {
    let app = App::new();
    let (one, again) = (
        log_in(&app, "ann", "1").await,
        log_in(&app, "ann", "1").await,
    );
    let two = log_in(&app, "ann", "2").await;
    let of_bob = log_in(&app, "bob", "1").await;
    let sid = |sid: &str| Some(sid.to_owned());
    assert_eq!(sids(&app).await, [sid("1"), sid("1"), sid("2")]);
    let other = app.another();
    let ended = other.layer.end_sessions_of(&ann(), "1").await.unwrap();
    assert_eq!(ended, 2);
    assert!(!is_alive(&app, &one).await && !is_alive(&app, &again).await);
    assert!(is_alive(&app, &two).await && is_alive(&app, &of_bob).await);
    assert_eq!(sids(&app).await, [sid("2")]);
    let unknown = app.layer.end_sessions_of(&ann(), "3").await.unwrap();
    assert_eq!(unknown, 0);
}

#[tokio::test]
async fn a_session_whose_sid_is_unknown_ends_with_any_of_its_user() {
    let long = format!(r#""sub":"ann","sid":"{}""#, "x".repeat(256));
    for claims in [
        r#""sub":"ann""#,
        r#""sub":"ann","sid":7"#,
        r#""sub":"ann","sid":"""#,
        &long,
    ] {
        let app = App::with(listing);
        next(&app, claims);
        let token = app.log_in("app").await;
        assert_eq!(sids(&app).await, [None], "{claims}");
        assert_eq!(app.layer.end_sessions_of(&ann(), "1").await.unwrap(), 1);
        assert!(!is_alive(&app, &token).await, "{claims}");
    }
    let app = App::new();
    let longest = "x".repeat(255);
    log_in(&app, "ann", &longest).await;
    assert_eq!(sids(&app).await, [Some(longest)]);
}

#[tokio::test]
async fn a_session_at_the_provider_ends_without_the_name_of_its_user() {
    let app = App::with(listing);
    let (ann_one, bob_one) = (
        log_in(&app, "ann", "1").await,
        log_in(&app, "bob", "1").await,
    );
    let two = log_in(&app, "ann", "2").await;
    let end = async |issuer, sid| app.layer.end_provider_session(issuer, sid).await.unwrap();
    assert_eq!(end("https://other.example", "1").await, 0);
    assert_eq!(end(ISSUER, "ann").await, 0);
    assert_eq!(end(ISSUER, "1").await, 2);
    assert_eq!(end(ISSUER, "1").await, 0);
    assert!(!is_alive(&app, &ann_one).await && !is_alive(&app, &bob_one).await);
    assert!(is_alive(&app, &two).await);
}

#[tokio::test]
async fn an_id_token_of_another_issuer_than_the_user_has_no_sid() {
    let app = App::with(listing);
    next_extension(&app, Subject::with_issuer(ISSUER, "ann").unwrap());
    app.log_in("app").await;
    next_id_token(
        &app,
        r#"{"iss":"https://other.example","sub":"ann","sid":"1"}"#,
    );
    app.log_in("app").await;
    next_id_token(&app, r#"{"sub":"ann","sid":"1"}"#);
    app.log_in("app").await;
    assert_eq!(sids(&app).await, [None]);
    let ended = app.layer.end_provider_session(ISSUER, "1").await;
    assert_eq!(ended.unwrap(), 0);
}

#[tokio::test]
async fn only_a_layer_that_lists_them_pays_for_sessions_at_the_provider() {
    for (settings, calls) in [(false, 2), (true, 3)] {
        let app = App::with(|builder| builder.provider_sessions(settings));
        log_in(&app, "ann", "1").await;
        assert_eq!(app.store.calls().len(), calls, "{settings}");
        next(&app, r#""sub":"bob""#);
        app.log_in("app").await;
        assert_eq!(app.store.calls().len(), 2, "without a sid");
    }
}

#[tokio::test]
async fn a_session_in_use_keeps_its_sid() {
    let day = Duration::from_secs(24 * 3600);
    let app = App::with(|builder| listing(builder).idle_lifetime(day));
    let mut token = log_in(&app, "ann", "1").await;
    for _ in 0..5 {
        app.clock.advance(Duration::from_secs(20 * 3600));
        token = app.refresh(&token).await.token();
        app.layer.drain().await;
        settle().await;
    }
    assert_eq!(sids(&app).await, [Some("1".into())]);
    let ended = app.layer.end_provider_session(ISSUER, "1").await;
    assert_eq!(ended.unwrap(), 1);
    assert!(!is_alive(&app, &token).await);
}

#[tokio::test]
async fn a_dump_of_the_store_names_no_session_at_the_provider() {
    let app = App::with(listing);
    let token = log_in(&app, "ann", "the-session-at-the-provider").await;
    app.refresh(&token).await.token();
    let mut writes = 0;
    for (key, call) in app.store.writes() {
        let written = test_support::secrets::written(&key, &call);
        let sid = b"the-session-at-the-provider";
        assert!(!written.windows(sid.len()).any(|part| part == sid));
        writes += usize::from(call.is_swap());
    }
    assert!(writes >= 4, "{writes}");
}
