//! The identity provider and other servers end the sessions of a user at the proxy.

mod revocation;

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};
use test_support::http::{Answer, get, post, send};
use test_support::openid::{OpenId, sign_hmac, sign_rsa};
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::refresh_form;

use crate::proxy;

const TOKEN: &str = "a-token-of-another-server-0123456789";

/// Starts a proxy in front of the provider, which may end sessions.
async fn start(provider: &OpenId, flags: &[&str]) -> Example {
    let issuer = provider.issuer();
    let own = [
        "--backchannel-logout-issuer",
        &issuer,
        "--backchannel-logout-audience",
        "other,app",
        "--global-revocation-token",
        TOKEN,
        "--log-level",
        "trace",
    ];
    proxy::start(&issuer, &[&own, flags].concat()).await
}

/// Logs a user in with the client `app`. Returns the refresh token.
async fn log_in(proxy: &Example, user: &str) -> String {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", user),
        ("client_id", "app"),
    ];
    let answer = post(&proxy.url("/token"), &form).await;
    answer.string("refresh_token")
}

/// Returns the next refresh token, if the session is alive.
async fn refresh(proxy: &Example, token: &str) -> Option<String> {
    let answer = post(&proxy.url("/token"), &refresh_form("app", token)).await;
    match answer.status {
        StatusCode::OK => Some(answer.string("refresh_token")),
        status => {
            assert_eq!(status, StatusCode::BAD_REQUEST, "{}", answer.text());
            assert_eq!(answer.string("error"), "invalid_grant");
            None
        }
    }
}

async fn log_out(proxy: &Example, token: &str) -> Answer {
    post(
        &proxy.url("/backchannel-logout"),
        &[("logout_token", token)],
    )
    .await
}

fn assert_refused(answer: &Answer, why: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{why}: {answer:?}");
    assert_eq!(answer.string("error"), "invalid_request", "{why}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{why}");
}

#[tokio::test]
async fn a_logout_token_ends_all_sessions_of_its_user() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    for rsa in [false, true] {
        let ada = [log_in(&proxy, "ada").await, log_in(&proxy, "ada").await];
        let bob = log_in(&proxy, "bob").await;
        let claims = provider.logout("ada");
        let token = if rsa {
            sign_rsa(Algorithm::RS256, &claims)
        } else {
            provider.sign(&claims)
        };
        let answer = log_out(&proxy, &token).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, ""));
        assert_eq!(answer.headers["cache-control"], "no-store");
        for token in &ada {
            assert_eq!(refresh(&proxy, token).await, None);
        }
        assert!(refresh(&proxy, &bob).await.is_some());
        let again = log_in(&proxy, "ada").await;
        assert!(refresh(&proxy, &again).await.is_some());
    }
    let nobody = provider.logout_token("nobody");
    assert_eq!(log_out(&proxy, &nobody).await.status, StatusCode::OK);
    assert_eq!(provider.fetched(), 1, "the keys are cached");
    let log = proxy.stderr();
    assert!(!proxy::names(&log, "ada"), "a user is in the log: {log}");
}

#[tokio::test]
async fn a_logout_token_with_a_sid_ends_the_sessions_of_one_log_in_at_the_provider() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    for sub in [json!("ada"), Value::Null] {
        let phone = [log_in(&proxy, "ada/1").await, log_in(&proxy, "ada/1").await];
        let laptop = log_in(&proxy, "ada/2").await;
        let unknown = log_in(&proxy, "ada").await;
        let changes = json!({ "sub": sub, "sid": "1" });
        let token = provider.sign(&but(&provider.logout("ada"), changes));
        assert_eq!(log_out(&proxy, &token).await.status, StatusCode::OK);
        for token in &phone {
            assert_eq!(refresh(&proxy, token).await, None, "{sub}");
        }
        assert!(refresh(&proxy, &laptop).await.is_some(), "{sub}");
        let ended = refresh(&proxy, &unknown).await.is_none();
        assert_eq!(ended, sub.is_string(), "its session may be any of the user");
        assert_refused(&log_out(&proxy, &token).await, "replayed");
    }
    let changes = json!({ "sub": null, "sid": "unknown" });
    let token = provider.sign(&but(&provider.logout("ada"), changes));
    assert_eq!(log_out(&proxy, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_sid_finds_a_user_who_is_known_by_another_claim() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &["--subject-claim", "iss"]).await;
    let ada = log_in(&proxy, "ada/1").await;
    let changes = json!({ "sid": "1" });
    let token = provider.sign(&but(&provider.logout("ada"), changes));
    assert_eq!(log_out(&proxy, &token).await.status, StatusCode::OK);
    assert_eq!(refresh(&proxy, &ada).await, None);
}

/// Returns the claims with some replaced; `null` removes one.
fn but(claims: &Map<String, Value>, changes: Value) -> Map<String, Value> {
    let mut claims = claims.clone();
    let Value::Object(changes) = changes else {
        unreachable!()
    };
    for (name, value) in changes {
        if value == Value::Null {
            claims.remove(&name);
        } else {
            claims.insert(name, value);
        }
    }
    claims
}

fn unsigned(algorithm: &str, claims: &Map<String, Value>) -> String {
    let encoded = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": algorithm, "typ": "logout+jwt", "kid": "ec" });
    let claims = Value::Object(claims.clone());
    format!(
        "{}.{}.",
        encoded(header.to_string()),
        encoded(claims.to_string())
    )
}

#[tokio::test]
async fn the_times_of_a_logout_token_are_any_numbers() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    for changes in [
        json!({ "exp": u64::MAX }),
        json!({ "iat": now.floor() - 0.5, "exp": now.floor() + 60.5 }),
    ] {
        let ada = log_in(&proxy, "ada").await;
        let token = provider.sign(&but(&provider.logout("ada"), changes));
        assert_eq!(log_out(&proxy, &token).await.status, 200);
        assert_eq!(refresh(&proxy, &ada).await, None);
    }
}

#[tokio::test]
async fn a_forged_or_unsuitable_logout_token_ends_nothing() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let mut ada = log_in(&proxy, "ada").await;
    let good = provider.logout("ada");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for changes in [
        json!({ "iss": "https://other.example" }),
        json!({ "iss": format!("{}/", provider.issuer()) }),
        json!({ "iss": null }),
        json!({ "aud": "a stranger" }),
        json!({ "aud": ["a", "b"] }),
        json!({ "aud": [] }),
        json!({ "aud": null }),
        json!({ "iat": now - 3600 }),
        json!({ "iat": now + 3600 }),
        json!({ "iat": now.to_string() }),
        json!({ "iat": null }),
        json!({ "iat": u64::MAX }),
        json!({ "exp": now - 300 }),
        json!({ "exp": "never" }),
        json!({ "exp": null }),
        json!({ "events": null }),
        json!({ "events": {} }),
        json!({ "events": { event: true } }),
        json!({ "events": [event] }),
        json!({ "nonce": "n" }),
        json!({ "jti": null }),
        json!({ "jti": "" }),
        json!({ "jti": 7 }),
        json!({ "sub": null }),
        json!({ "sub": null, "sid": "" }),
        json!({ "sub": null, "sid": "x".repeat(256) }),
        json!({ "sid": "" }),
        json!({ "sid": 7 }),
        json!({ "sub": "" }),
        json!({ "sub": "x".repeat(2000) }),
    ] {
        let token = provider.sign(&but(&good, changes.clone()));
        assert_refused(&log_out(&proxy, &token).await, &changes.to_string());
    }
    let null = Map::from_iter([("nonce".to_owned(), Value::Null)]);
    let mut with_null = good.clone();
    with_null.extend(null);
    let token = provider.sign(&with_null);
    assert_refused(&log_out(&proxy, &token).await, "a nonce of null");

    let stranger = OpenId::start().await;
    let valid = provider.sign(&good);
    let [head, body, signature] = *valid.split('.').collect::<Vec<_>>() else {
        unreachable!()
    };
    let other = provider.sign(&provider.logout("bob"));
    let other_body = other.split('.').nth(1).unwrap();
    let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"ec","crit":["x"],"x":1}"#);
    for (why, token) in [
        ("a key of another provider", stranger.sign(&good)),
        ("no signature", unsigned("none", &good)),
        ("an empty signature", unsigned("ES256", &good)),
        ("a secret instead of a key", sign_hmac(&good)),
        ("other claims", format!("{head}.{other_body}.{signature}")),
        (
            "a critical header",
            format!("{critical}.{body}.{signature}"),
        ),
        ("a part too few", format!("{head}.{body}")),
        ("a part too many", format!("{valid}.x")),
        ("an id_token", provider.id_token("ada")),
        ("no token", String::new()),
        ("not a token", "x".into()),
    ] {
        assert_refused(&log_out(&proxy, &token).await, why);
    }
    let url = proxy.url("/backchannel-logout");
    let twice = [("logout_token", &*valid), ("logout_token", &valid)];
    assert_refused(&post(&url, &twice).await, "two tokens");
    assert_refused(&post(&url, &[("token", &valid)]).await, "another name");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = format!("logout_token={valid}");
    let json = ("content-type", "application/json");
    for (method, header, body, status) in [
        ("GET", form, "", 405),
        ("PUT", form, &*body, 405),
        ("POST", json, &body, 415),
        ("POST", form, &"x".repeat(17 << 10), 413),
    ] {
        let answer = send(method, &url, &[header], body.to_owned()).await;
        assert_eq!(answer.status, status, "{method} {header:?}");
    }
    // A key that does not have this algorithm is unknown. It makes the proxy fetch the keys again,
    // but not for every token.
    for _ in 0..3 {
        let answer = log_out(&proxy, &sign_rsa(Algorithm::RS512, &good)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(provider.fetched(), 2);

    ada = refresh(&proxy, &ada).await.expect("nothing has ended");
    assert_eq!(log_out(&proxy, &valid).await.status, StatusCode::OK);
    assert_eq!(refresh(&proxy, &ada).await, None);
}

#[tokio::test]
async fn a_logout_token_is_accepted_once_by_all_instances() {
    let redis = RedisServer::start().await;
    let provider = OpenId::start().await;
    let store = ["--store", &redis.url()];
    let first = start(&provider, &store).await;
    let second = start(&provider, &store).await;
    let ada = log_in(&first, "ada").await;
    let token = provider.logout_token("ada");
    assert_eq!(log_out(&first, &token).await.status, StatusCode::OK);
    assert_eq!(refresh(&second, &ada).await, None);
    let again = log_in(&second, "ada").await;
    for instance in [&first, &second] {
        assert_refused(&log_out(instance, &token).await, "replayed");
    }
    assert!(refresh(&first, &again).await.is_some());
}

#[tokio::test]
async fn without_the_keys_of_the_provider_a_logout_is_refused_for_now() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let ada = log_in(&proxy, "ada").await;
    provider.fail(true);
    let answer = log_out(&proxy, &provider.logout_token("ada")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(refresh(&proxy, &ada).await.is_some());
    proxy.wait_for("cannot fetch keys: tokens that are signed with them are refused");

    let other = OpenId::start().await;
    let proxy = start(&other, &[]).await;
    other.pretend("https://other.example");
    let answer = log_out(&proxy, &other.logout_token("ada")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    proxy.wait_for("the discovery document is that of another issuer");
}

#[tokio::test]
async fn a_logout_token_of_a_new_key_is_accepted_or_refused_for_now() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let nobody = provider.logout_token("nobody");
    assert_eq!(log_out(&proxy, &nobody).await.status, StatusCode::OK);
    // Right after the keys were fetched.
    let ada = log_in(&proxy, "ada").await;
    provider.rotate("new");
    let answer = log_out(&proxy, &provider.logout_token("ada")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(refresh(&proxy, &ada).await, None);
    // Right after they were fetched for an unknown key.
    let ada = log_in(&proxy, "ada").await;
    provider.rotate("newer");
    let answer = log_out(&proxy, &provider.logout_token("ada")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(refresh(&proxy, &ada).await.is_some());
}

#[tokio::test]
async fn without_flags_the_upstream_has_the_paths() {
    let upstream = test_support::http::Recorder::start(|_| "from the upstream").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    for path in ["/backchannel-logout", "/global-token-revocation"] {
        assert_eq!(get(&proxy.url(path)).await.text(), "from the upstream");
    }
}
