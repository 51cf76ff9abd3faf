//! `AccessGrant` as an extractor of axum.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::{any, get as on_get};
use test_support::access::{LOG_IN, access_token, referencing};
use test_support::http::{Answer, get, send, serve};
use tower_oauth_refresh::access::AccessRejection;
use tower_oauth_refresh::{AccessError, AccessGrant};

async fn required(grant: AccessGrant) -> String {
    grant.client_id().to_owned()
}

async fn optional(grant: Option<AccessGrant>) -> String {
    let client = grant.as_ref().map(AccessGrant::client_id);
    client.unwrap_or("nobody").to_owned()
}

/// Returns the reason of the rejection instead of its response.
async fn reason(grant: Result<AccessGrant, AccessRejection>) -> String {
    let rejection = grant.unwrap_err();
    let response = rejection.clone().into_response();
    let cause = response.extensions().get::<AccessError>().unwrap();
    assert_eq!(cause.to_string(), rejection.error().to_string());
    rejection.to_string()
}

fn routes() -> Router {
    Router::new()
        .route("/required", on_get(required))
        .route("/optional", on_get(optional))
        .route("/reason", on_get(reason))
}

#[track_caller]
fn rejected(answer: &Answer, status: u16, error: &str, challenge: Option<&str>) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.string("error"), error, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let found = answer.headers.get("www-authenticate");
    assert_eq!(found.map(|value| value.to_str().unwrap()), challenge);
}

#[tokio::test]
async fn a_handler_gets_the_grant_or_sends_the_challenge_of_the_layer() {
    let app = referencing();
    let token = access_token(&app.post("/token", &LOG_IN).await);
    let layer = || {
        let builder = app.layer.access().realm("shop").require_scope("read");
        builder.resource_metadata("https://shop.example/meta")
    };
    let strict = serve(routes().layer(layer().build().unwrap())).await;
    let open = routes().layer(layer().allow_anonymous(true).build().unwrap());
    let open = serve(open).await;
    let bearer = format!("Bearer {token}");
    let challenge =
        r#"Bearer realm="shop", scope="read", resource_metadata="https://shop.example/meta""#;
    for server in [strict, open] {
        for path in ["required", "optional"] {
            let url = format!("http://{server}/{path}");
            let answer = send("GET", &url, &[("authorization", &bearer)], "").await;
            assert_eq!(answer.text(), "app", "{path}");
            let answer = send("GET", &url, &[("authorization", "Bearer x")], "").await;
            assert_eq!(answer.string("error"), "invalid_token", "{path}");
        }
        let answer = get(&format!("http://{server}/required")).await;
        rejected(&answer, 401, "unauthorized", Some(challenge));
    }
    let answer = get(&format!("http://{strict}/optional")).await;
    rejected(&answer, 401, "unauthorized", Some(challenge));
    assert_eq!(
        get(&format!("http://{open}/optional")).await.text(),
        "nobody"
    );
    assert_eq!(
        get(&format!("http://{open}/reason")).await.text(),
        "an access token is required"
    );
}

#[tokio::test]
async fn a_handler_that_needs_a_grant_challenges_a_preflight() {
    let app = referencing();
    let layer = app.layer.access().pass_preflights(true).build().unwrap();
    let router = Router::new().route("/", any(required)).layer(layer);
    let url = format!("http://{}/", serve(router).await);
    let headers = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
    ];
    let answer = send("OPTIONS", &url, &headers, "").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.headers["www-authenticate"],
        r#"Bearer realm="oauth""#
    );
}

/// A 401 would make clients refresh their valid tokens.
#[tokio::test]
async fn a_handler_outside_the_layer_fails() {
    let app = referencing();
    let token = access_token(&app.post("/token", &LOG_IN).await);
    let layer = app.layer.access().open_elsewhere(true).build().unwrap();
    let bearer = format!("Bearer {token}");
    for router in [routes(), routes().layer(layer)] {
        let server = serve(router).await;
        for headers in [&[][..], &[("authorization", &*bearer)]] {
            let url = |path: &str| format!("http://{server}/{path}");
            let answer = send("GET", &url("required"), headers, "").await;
            rejected(&answer, 500, "server_error", None);
            let answer = send("GET", &url("optional"), headers, "").await;
            assert_eq!(answer.text(), "nobody");
            let answer = send("GET", &url("reason"), headers, "").await;
            assert_eq!(answer.text(), "the route is not guarded");
        }
    }
}
