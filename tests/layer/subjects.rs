//! Where the subject of a grant comes from, and that only its client can read it.

use std::collections::HashSet;
use std::time::Duration;

use test_support::access::{Guarded, pair, referencing};
use test_support::secrets::written;
use test_support::users::{id_token, next_extension, next_id_token};
use test_support::{Act, App, Call, settle};
use tower_oauth_refresh::store::Key;
use tower_oauth_refresh::{EventKind, Subject};

const ANN: &str = r#"{"iss":"https://id.example","sub":"ann"}"#;

fn ann() -> Subject {
    Subject::with_issuer("https://id.example", "ann").unwrap()
}

async fn count(app: &App, subject: &Subject) -> usize {
    app.layer.sessions(subject).await.unwrap().len()
}

#[tokio::test]
async fn the_subject_is_that_of_the_extension_then_of_the_id_token() {
    let app = App::new();
    next_id_token(&app, ANN);
    app.log_in("app").await;
    assert_eq!(count(&app, &ann()).await, 1);
    // A subject with this id and without an issuer is another user.
    assert_eq!(count(&app, &Subject::new("ann").unwrap()).await, 0);

    next_extension(&app, Subject::new("bob").unwrap());
    app.log_in("app").await;
    assert_eq!(count(&app, &Subject::new("bob").unwrap()).await, 1);

    app.log_in("app").await;
    assert_eq!(count(&app, &ann()).await, 1, "a log-in without a subject");
}

#[tokio::test]
async fn a_response_that_names_no_subject_is_no_error() {
    let signed = |claims: &str| id_token(claims);
    let odd = [
        "".to_owned(),
        "a.b".into(),
        "a.b.c".into(),
        "a.b.c.d.e".into(),
        signed("no json"),
        signed("[]"),
        signed("{}"),
        signed(r#"{"sub":7}"#),
        signed(r#"{"sub":null,"iss":"https://id.example"}"#),
    ];
    for token in odd {
        let app = App::new();
        let members = format!(r#"{{"id_token":"{token}"}}"#);
        app.upstream.then(Act::With(members.leak()));
        app.log_in("app").await;
        assert_eq!(app.events(), [EventKind::Issued], "{token}");
    }
}

#[tokio::test]
async fn an_unusable_subject_fails_the_log_in_but_no_refresh() {
    let long = "u".repeat(10_000);
    for id in ["", &long, "a\\u0000b", "a\\nb"] {
        let claims = format!(r#"{{"sub":"{id}"}}"#);
        let app = App::new();
        next_id_token(&app, &claims);
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        let refused = app.post("/token", &form).await;
        assert_eq!(refused.error(), (502, "server_error".into()));
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable]);
        let token = app.log_in("app").await;
        next_id_token(&app, &claims);
        app.refresh(&token).await.token();
    }
}

#[tokio::test]
async fn a_subject_never_changes_and_can_be_learnt_later() {
    let app = App::new();
    let token = app.log_in("app").await;
    let second = app.refresh(&token).await.token();
    next_id_token(&app, ANN);
    let third = app.refresh(&second).await.token();
    assert_eq!(count(&app, &ann()).await, 1);
    next_id_token(&app, r#"{"iss":"https://id.example","sub":"mallory"}"#);
    let fourth = app.refresh(&third).await.token();
    let mallory = Subject::with_issuer("https://id.example", "mallory").unwrap();
    assert_eq!(
        (count(&app, &ann()).await, count(&app, &mallory).await),
        (1, 0)
    );
    app.refresh(&fourth).await.token();
    assert_eq!(app.layer.end_sessions(&ann()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_response_that_begins_no_token_of_the_layer_is_passed_on() {
    let app = App::new();
    let claims = format!(r#"{{"sub":"{}"}}"#, "u".repeat(2_000));
    next_id_token(&app, &claims);
    let credentials = [("grant_type", "client_credentials"), ("client_id", "app")];
    assert_eq!(app.post("/token", &credentials).await.status, 200);
    next_id_token(&app, &claims);
    let unbound = [("grant_type", "authorization_code"), ("code", "c")];
    assert_eq!(app.post("/token", &unbound).await.status, 200);
}

#[tokio::test]
async fn a_repeated_id_token_names_nobody() {
    let app = App::new();
    let token = id_token(ANN);
    let body = format!(
        r#"{{"access_token":"a","token_type":"Bearer","refresh_token":"upstream-0-0","id_token":"{token}","id_token":"{token}"}}"#
    );
    app.upstream
        .then(Act::Answer(200, "application/json", body.leak()));
    app.log_in("app").await;
    assert_eq!(count(&app, &ann()).await, 0);
}

#[tokio::test]
async fn another_claim_can_be_the_id() {
    let app = App::with(|builder| builder.subject_claim("oid"));
    next_id_token(
        &app,
        r#"{"iss":"https://id.example","sub":"per client","oid":"ann"}"#,
    );
    app.log_in("app").await;
    assert_eq!(count(&app, &ann()).await, 1);
}

#[tokio::test]
async fn a_dump_of_the_store_names_no_user() {
    let app = App::with(|builder| builder.reference_access_tokens(true).claims(["email"]));
    for _ in 0..2 {
        next_id_token(
            &app,
            r#"{"iss":"https://id.example","sub":"ann-the-user","email":"ann@mail"}"#,
        );
        let token = app.log_in("app").await;
        app.refresh(&token).await.token();
    }
    settle().await;
    let mut grants = 0;
    for (key, call) in app.store.writes() {
        let written = written(&key, &call);
        for secret in [&b"ann-the-user"[..], b"id.example", b"ann@mail"] {
            assert!(!written.windows(secret.len()).any(|part| part == secret));
        }
        grants += usize::from(call.is_swap());
    }
    assert!(
        grants >= 8,
        "two log-ins and rotations, each with an access token: {grants}"
    );
}

/// The grant of another user is the control: what all grants have in common, such as the client id
/// and the lengths of fields, does not tell who their users are.
#[tokio::test]
async fn two_grants_of_one_user_have_no_more_in_common_than_those_of_two_users() {
    let app = App::with(|builder| builder.reference_access_tokens(true).claims(["email"]));
    let mut dumps = Vec::new();
    for user in ["ann", "ann", "bob"] {
        let claims = format!(
            r#"{{"iss":"https://id.example","sub":"{user}-the-user","email":"{user}@mail"}}"#
        );
        next_id_token(&app, &claims);
        let token = app.log_in("app").await;
        app.refresh(&token).await.token();
        settle().await;
        dumps.push(app.store.writes());
        // The four low bytes of all times change.
        app.clock.advance(Duration::from_millis(0x05e3_0a78));
    }
    let keys = |dump: &[(Key, Call)]| -> HashSet<_> { dump.iter().map(|(key, _)| *key).collect() };
    let (of_one, of_two) = (keys(&dumps[0]), keys(&dumps[1]));
    let lists: Vec<_> = of_one.intersection(&of_two).collect();
    let [list] = lists[..] else {
        panic!("the two grants share the list of the sessions of Ann: {lists:?}")
    };
    let runs = |dump: &[(Key, Call)], length| {
        let mut runs = HashSet::new();
        for (key, call) in dump.iter().filter(|(key, _)| key != list) {
            runs.extend(written(key, call).windows(length).map(<[u8]>::to_vec));
        }
        runs
    };
    let (one, two, control) = (runs(&dumps[0], 8), runs(&dumps[1], 8), runs(&dumps[2], 4));
    let common: HashSet<_> = one.intersection(&two).cloned().collect();
    // Random bytes beside a text of all grants may be equal by chance, but not eight of them.
    let is_of_all = |run: &Vec<u8>| run.windows(4).any(|part| control.contains(part));
    let telling: Vec<_> = common.iter().filter(|run| !is_of_all(run)).collect();
    assert!(telling.is_empty(), "{telling:02x?}");
    assert!(!common.is_empty(), "the client id and its surroundings");
}

#[tokio::test]
async fn claims_of_the_id_token_reach_the_route() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .claims(["email", "groups", "large", "last"])
    });
    let guarded = Guarded::new(&app);
    let large = "x".repeat(3_000);
    next_id_token(
        &app,
        &format!(
            r#"{{"sub":"ann","email":"ann@mail","groups":["a","b"],"secret":1,"large":"{large}","last":2}}"#
        ),
    );
    let (refresh, access) = pair(&app.post("/token", &test_support::access::LOG_IN).await);
    for _ in 0..2 {
        let grant = guarded.grant(&access).await.unwrap();
        assert_eq!(grant.subject().map(Subject::id), Some("ann"));
        assert_eq!(grant.claim::<String>("email").as_deref(), Some("ann@mail"));
        assert_eq!(grant.claim::<Vec<String>>("groups").unwrap(), ["a", "b"]);
        assert_eq!(grant.claim::<u32>("email"), None, "of another type");
        for name in ["secret", "large", "last", "sub"] {
            assert_eq!(grant.claim::<String>(name), None, "{name}");
        }
        assert!(!format!("{grant:?}").contains("\"ann"));
    }
    // A later ID token of the same subject has newer claims.
    next_id_token(&app, r#"{"sub":"ann","email":"ann@new"}"#);
    let (refresh, access) = pair(&app.refresh(&refresh).await);
    let email =
        |grant: Option<tower_oauth_refresh::AccessGrant>| grant.unwrap().claim::<String>("email");
    assert_eq!(
        email(guarded.grant(&access).await).as_deref(),
        Some("ann@new")
    );
    let (_, access) = pair(&app.refresh(&refresh).await);
    assert_eq!(
        email(guarded.grant(&access).await).as_deref(),
        Some("ann@new")
    );
    let unnamed = referencing();
    let access = test_support::access::access_token(
        &unnamed.post("/token", &test_support::access::LOG_IN).await,
    );
    let grant = Guarded::new(&unnamed).grant(&access).await.unwrap();
    assert_eq!(
        (grant.subject(), grant.claim::<String>("email")),
        (None, None)
    );
}
