//! What each response states.

use super::*;

/// A name, the members of the inner service's answers, the absolute lifetime, the lifetimes that a
/// client sees: of its refresh token, and of its grant at the log-in and after a rotation 100 s
/// later.
type Row = (
    &'static str,
    &'static str,
    Option<u64>,
    u64,
    Option<(u64, u64)>,
);

const ROWS: [Row; 22] = [
    ("none", "{}", None, IDLE, None),
    (
        "none, with an absolute end",
        "{}",
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "of Keycloak",
        r#"{"refresh_expires_in":1000}"#,
        None,
        1000,
        None,
    ),
    (
        "of others, in a string",
        r#"{"refresh_token_expires_in":"1000"}"#,
        None,
        1000,
        None,
    ),
    (
        "of the draft",
        r#"{"refresh_token_timeout":1000}"#,
        None,
        1000,
        None,
    ),
    (
        "longer than the idle lifetime",
        r#"{"refresh_token_timeout":100000}"#,
        None,
        IDLE,
        None,
    ),
    (
        "the authorization",
        r#"{"authorization_expires_in":5000}"#,
        None,
        5000,
        Some((5000, 5000)),
    ),
    (
        "the authorization, longer than the idle lifetime",
        r#"{"authorization_expires_in":"9000"}"#,
        None,
        IDLE,
        Some((9000, 9000)),
    ),
    (
        "the authorization, longer than the absolute lifetime",
        r#"{"authorization_expires_in":20000}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "the authorization, shorter than the absolute lifetime",
        r#"{"authorization_expires_in":8000}"#,
        Some(10_000),
        IDLE,
        Some((8000, 8000)),
    ),
    (
        "all four",
        r#"{"refresh_expires_in":4000,"refresh_token_expires_in":3000,"refresh_token_timeout":2000,"authorization_expires_in":5000}"#,
        None,
        2000,
        Some((5000, 5000)),
    ),
    (
        "a token that outlives the authorization",
        r#"{"refresh_token_timeout":5000,"authorization_expires_in":1000}"#,
        None,
        1000,
        Some((1000, 1000)),
    ),
    (
        "zero",
        r#"{"refresh_expires_in":0,"refresh_token_timeout":0,"authorization_expires_in":0}"#,
        None,
        IDLE,
        None,
    ),
    (
        "zero, with an absolute end",
        r#"{"refresh_expires_in":0,"refresh_token_timeout":0,"authorization_expires_in":0}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "negative numbers",
        r#"{"refresh_token_expires_in":-1,"refresh_token_timeout":-1,"authorization_expires_in":-1}"#,
        None,
        IDLE,
        None,
    ),
    (
        "fractions",
        r#"{"refresh_token_timeout":1000.9,"authorization_expires_in":2000.9}"#,
        None,
        1000,
        Some((2000, 2000)),
    ),
    (
        "words",
        r#"{"refresh_token_timeout":"soon","authorization_expires_in":"never"}"#,
        None,
        IDLE,
        None,
    ),
    (
        "signs and spaces in strings",
        r#"{"refresh_token_timeout":"+60","authorization_expires_in":" 60"}"#,
        None,
        IDLE,
        None,
    ),
    (
        "null",
        r#"{"refresh_token_timeout":null,"authorization_expires_in":null}"#,
        None,
        IDLE,
        None,
    ),
    (
        "other types",
        r#"{"refresh_expires_in":true,"refresh_token_timeout":[60],"authorization_expires_in":{"a":60}}"#,
        None,
        IDLE,
        None,
    ),
    (
        "beyond 64 bits",
        r#"{"refresh_token_timeout":1e40,"authorization_expires_in":"99999999999999999999"}"#,
        None,
        IDLE,
        Some((CENTURY, CENTURY)),
    ),
    (
        "beyond 64 bits, with an absolute end",
        r#"{"authorization_expires_in":1e40}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
];

#[tokio::test]
async fn every_response_states_the_ends_of_the_layer() {
    for (name, members, absolute, timeout, ends) in ROWS {
        let server = Served::start(absolute).await;
        let begun = ends.map(|(begun, _)| begun);
        let later = ends.map(|(_, later)| later);

        let issued = server.log_in(members).await;
        assert_states(name, &issued, members, timeout, begun);
        server.pass(100);
        let token = &issued["refresh_token"];
        let rotated = server.refresh(token, Act::With(members)).await;
        assert_states(name, &rotated, members, timeout, later);
        server.pass(30);
        let replayed = server.again(token).await;
        let left = later.map(|left| left - 30);
        assert_states(name, &replayed, members, timeout - 30, left);
        assert_eq!(replayed["refresh_token"], rotated["refresh_token"]);

        let foreign = json!(log_in_before(&server.app, "app").await);
        let adopted = server.refresh(&foreign, Act::With(members)).await;
        assert_states(name, &adopted, members, timeout, begun);
        server.pass(30);
        let replayed = server.again(&foreign).await;
        let left = begun.map(|left| left - 30);
        assert_states(name, &replayed, members, timeout - 30, left);
        assert_eq!(replayed["refresh_token"], adopted["refresh_token"]);
        assert_eq!(
            server.app.events(),
            [
                EventKind::Issued,
                EventKind::Rotated,
                EventKind::Replayed,
                EventKind::Adopted,
                EventKind::Replayed
            ],
            "{name}"
        );
    }
}

/// Each response is sent 100 s after the log-in, like that of the rotation above.
#[tokio::test]
async fn a_convergence_a_recovery_and_a_kept_token_state_the_ends_of_the_layer() {
    for (name, members, absolute, timeout, ends) in ROWS {
        let left = ends.map(|(_, later)| later);
        let after = |time: u64| (timeout - time, left.map(|left| left - time));
        let server = Served::start(absolute).await;
        let first = server.log_in(members).await["refresh_token"].clone();
        server.pass(50);
        let rotated = server.refresh(&first, Act::With(members)).await;
        server.pass(50);
        // The stored answer is not for this request.
        let narrower = [
            &refresh_form("app", first.as_str().unwrap())[..],
            &[("scope", "read")],
        ]
        .concat();
        server.app.upstream.then(Act::With(members));
        let converged = server.granted(&narrower).await;
        assert_eq!(converged["refresh_token"], rotated["refresh_token"]);
        assert_states(name, &converged, members, timeout, left);
        server.pass(5);
        let replayed = server.granted(&narrower).await;
        let (timeout_then, left_then) = after(5);
        assert_states(name, &replayed, members, timeout_then, left_then);

        let first = server.log_in(members).await["refresh_token"].clone();
        server.pass(20);
        let lost = server.refresh(&first, Act::With(members)).await;
        server.pass(80);
        let recovered = server.refresh(&first, Act::With(members)).await;
        assert_ne!(recovered["refresh_token"], lost["refresh_token"]);
        assert_states(name, &recovered, members, timeout, left);
        let events = [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Converged,
            EventKind::Replayed,
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Recovered,
        ];
        assert_eq!(server.app.events(), events, "{name}");

        let server = Served::with(absolute, RotationPolicy::Never).await;
        let token = server.log_in(members).await["refresh_token"].clone();
        server.pass(100);
        let kept = server.refresh(&token, Act::With(members)).await;
        assert_eq!(kept["refresh_token"], token);
        assert_states(name, &kept, members, timeout, left);
        server.pass(30);
        let replayed = server.again(&token).await;
        let (timeout_then, left_then) = after(30);
        assert_states(name, &replayed, members, timeout_then, left_then);
        let events = [EventKind::Issued, EventKind::Kept, EventKind::Replayed];
        assert_eq!(server.app.events(), events, "{name}");
    }
}

#[tokio::test]
async fn a_response_without_a_refresh_token_states_no_lifetime() {
    let server = Served::start(Some(10_000)).await;
    server.app.upstream.then(Act::With(
        r#"{"refresh_expires_in":60,"refresh_token_timeout":60,"authorization_expires_in":60}"#,
    ));
    let answer = server
        .granted(&[("grant_type", "authorization_code")])
        .await;
    assert_eq!(server.app.events(), [EventKind::Unbound]);
    for member in ["refresh_token", "authorization_expires_in"]
        .iter()
        .chain(&TIMEOUTS)
    {
        assert_eq!(answer.get(member), None, "{answer}");
    }
    // A response that begins no grant is that of the inner service.
    let body = r#"{"access_token":"a","refresh_expires_in":0,"authorization_expires_in":60}"#;
    server
        .app
        .upstream
        .then(Act::Answer(200, "application/json", body));
    let form = [("grant_type", "client_credentials"), ("client_id", "app")];
    let answer = server.granted(&form).await;
    assert_eq!(answer, serde_json::from_str::<Value>(body).unwrap());
}

#[tokio::test]
async fn introspection_states_the_ends_of_a_refresh_token() {
    let rows = [
        ("{}", None, IDLE, None),
        ("{}", Some(10_000), IDLE, Some(9900)),
        (
            r#"{"authorization_expires_in":2000}"#,
            None,
            1900,
            Some(1900),
        ),
    ];
    for (members, absolute, timeout, left) in rows {
        let server = Served::start(absolute).await;
        let issued = server.log_in(members).await;
        server.pass(100);
        let lies = r#"{"refresh_token_timeout":9,"authorization_expires_in":"9"}"#;
        let introspect = async |token: &str| {
            server.app.upstream.then(Act::With(lies));
            let form = [("token", token), ("client_id", "app")];
            server.app.post("/introspect", &form).await.json()
        };
        let token = issued["refresh_token"].as_str().unwrap();
        let answer = introspect(token).await;
        let timeout = timeout.min(IDLE - 100);
        assert_eq!(answer["refresh_token_timeout"], timeout, "{answer}");
        assert_eq!(
            answer.get("authorization_expires_in"),
            left.map(|left: u64| json!(left)).as_ref(),
            "{answer}"
        );
        let now = server.app.clock.now().as_millis() / 1000;
        assert_eq!(answer["exp"], now + timeout, "{answer}");
    }
}

#[tokio::test]
async fn the_stated_ends_are_the_real_ones() {
    for (name, members, absolute, timeout, _) in ROWS {
        for (passed, status) in [(timeout - 1, 200), (timeout, 400)] {
            let server = Served::start(absolute).await;
            let issued = server.log_in(members).await;
            server.pass(passed);
            let form = refresh_form("app", issued["refresh_token"].as_str().unwrap());
            assert_eq!(server.post(&form).await.0, status, "{name}: {passed} s");
        }
    }
}
