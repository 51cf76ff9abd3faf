//! Which client a renewal is for, and what it may ask for.

use test_support::access::{Guarded, LOG_IN, access_token};
use test_support::{Act, Answer, post, refresh_form};
use tower_oauth_refresh::ClientCredentials;

use super::{HOUR, app, lifetime, log_in_and_wait, over, refresh_request};

const WEB: [(&str, &str); 4] = [
    ("grant_type", "authorization_code"),
    ("code", "c"),
    ("client_id", "confidential-web"),
    ("client_secret", "secret of confidential-web"),
];

fn upstream_lifetime(answer: &Answer) -> bool {
    lifetime(answer) == 3600
}

#[tokio::test]
async fn a_public_client_is_named_in_the_form() {
    let app = app();
    let (_, access) = log_in_and_wait(&app).await;
    assert_eq!(Guarded::new(&app).status(&access).await, 200);
    let request = refresh_request(&app);
    let form: Vec<_> = request.form.iter().map(|(name, _)| &**name).collect();
    assert_eq!(form, ["grant_type", "refresh_token", "client_id"]);
    assert_eq!(request.param("client_id"), Some("app"));
    assert_eq!(
        (request.method.as_str(), &*request.path),
        ("POST", "/token")
    );
    let header = |name| {
        request
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(header("authorization"), None);
    assert_eq!(header("accept"), Some("application/json"));
    let form = "application/x-www-form-urlencoded";
    assert_eq!(header("content-type"), Some(form));
}

#[tokio::test]
async fn a_confidential_client_is_authenticated_with_its_own_secret() {
    let id = || "confidential-web".parse().unwrap();
    let secret = "secret of confidential-web";
    for (credentials, in_form) in [
        (ClientCredentials::basic(id(), secret), false),
        (ClientCredentials::post(id(), secret), true),
    ] {
        let app = over(&app(), credentials);
        let answer = app.post("/token", &WEB).await;
        assert!(!upstream_lifetime(&answer));
        let access = access_token(&answer);
        let (_, of_public) = log_in_and_wait(&app).await;
        let guarded = Guarded::new(&app);
        assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
        let request = refresh_request(&app);
        assert_eq!(request.param("client_secret").is_some(), in_form);
        assert_eq!(request.headers.contains_key("authorization"), !in_form);
        assert_eq!(Guarded::swapped(&guarded.get(&of_public).await), "at-1-1");
        let request = refresh_request(&app);
        assert_eq!(request.param("client_secret"), None);
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn without_credentials_a_token_ends_with_its_upstream_token() {
    let other = ClientCredentials::basic("confidential-other".parse().unwrap(), "secret");
    for credentials in [ClientCredentials::public(), other] {
        let app = over(&app(), credentials);
        let answer = app.post("/token", &WEB).await;
        assert!(upstream_lifetime(&answer));
        let access = access_token(&answer);
        app.clock.advance(HOUR);
        assert_eq!(Guarded::new(&app).status(&access).await, 401);
        assert_eq!(app.upstream.refreshes(), 0);
    }
}

#[tokio::test]
async fn a_service_that_authenticates_itself_is_for_every_client() {
    let app = over(&app(), ClientCredentials::added_by_service());
    assert!(!upstream_lifetime(&app.post("/token", &WEB).await));
    assert!(!upstream_lifetime(&app.post("/token", &LOG_IN).await));
}

#[tokio::test]
async fn tokens_that_may_be_bound_to_a_key_are_not_renewed() {
    let app = app();
    for header in ["dpop", "oauth-client-attestation"] {
        let mut request = post("/token", &LOG_IN);
        let value = "proof".parse().unwrap();
        request.headers_mut().insert(header, value);
        assert!(upstream_lifetime(&app.send(request).await.unwrap()));
    }
}

#[tokio::test]
async fn a_token_without_a_grant_is_not_renewed() {
    let app = app();
    let form = [("grant_type", "client_credentials"), ("client_id", "app")];
    assert_eq!(lifetime(&app.post("/token", &form).await), 60);
}

#[tokio::test]
async fn a_renewal_asks_for_no_more_than_the_token_had() {
    let app = app();
    let guarded = Guarded::new(&app);
    let refresh = app.log_in("app").await;
    app.upstream.then(Act::With(r#"{"scope":"read"}"#));
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &refresh),
        ("client_id", "app"),
        ("scope", "read"),
    ];
    let access = access_token(&app.post("/token", &form).await);
    app.clock.advance(HOUR);
    // The upstream ignores the scope and grants more.
    let answer = guarded.get(&access).await;
    assert_eq!(refresh_request(&app).param("scope"), Some("read"));
    assert_eq!(answer.json()["scopes"], serde_json::json!(["read"]));

    app.clock.advance(HOUR);
    app.upstream.then(Act::With(r#"{"scope":"write"}"#));
    let answer = guarded.get(&access).await;
    assert_eq!(answer.json()["scopes"], serde_json::json!([]), "less");

    // No request can ask for an empty scope.
    app.clock.advance(HOUR);
    assert_eq!(guarded.status(&access).await, 401);
}

#[tokio::test]
async fn a_token_whose_limits_are_unknown_is_not_renewed() {
    let resource = "https://api.example/";
    for (parameters, response) in [
        (&[("scope", "read")][..], r#"{"scope":null}"#),
        (&[("resource", resource)], "{}"),
        (&[("audience", "api")], "{}"),
    ] {
        let app = app();
        app.upstream.then(Act::With(r#"{"scope":null}"#));
        let refresh = app.log_in("app").await;
        let form = [&refresh_form("app", &refresh)[..], parameters].concat();
        app.upstream.then(Act::With(response));
        let answer = app.post("/token", &form).await;
        assert!(upstream_lifetime(&answer), "{parameters:?}: {answer:?}");
    }
}

#[tokio::test]
async fn the_resource_of_a_token_is_asked_for_again() {
    let resource = "https://api.example/";
    let app = super::with(|builder| builder.allowed_resources([resource]));
    let form = [&LOG_IN[..], &[("resource", resource)]].concat();
    let access = access_token(&app.post("/token", &form).await);
    app.clock.advance(HOUR);
    let answer = Guarded::new(&app).get(&access).await;
    assert_eq!(answer.json()["resources"], serde_json::json!([resource]));
    assert_eq!(refresh_request(&app).param("resource"), Some(resource));
}
