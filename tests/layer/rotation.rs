//! Every token is valid for one rotation, and a rotation loses no session.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use test_support::{App, Call, post, refresh_form};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_oauth_refresh::{EventKind, MemoryStore, RefreshLayer, RequestBody};

#[tokio::test]
async fn a_client_sees_and_rotates_only_tokens_of_the_layer() {
    let app = App::new();
    let mut token = app.log_in("app").await;
    for count in 1..=3 {
        assert!(token.starts_with("rt_") && token.len() == 75, "{token}");
        let answer = app.refresh(&token).await;
        let next = answer.token();
        assert_ne!(next, token);
        assert_eq!(
            answer.json(),
            serde_json::json!({
                "access_token": format!("at-0-{count}"),
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": next,
                "refresh_token_timeout": 2_592_000,
                "scope": "read write",
            })
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(
            answer.headers["x-upstream"], "yes",
            "headers of the inner service are kept"
        );
        token = next;
    }
    assert_eq!(app.upstream.refreshes(), 3);
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Rotated,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn a_rotation_takes_two_store_round_trips() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.calls();
    app.refresh(&token).await.token();
    let calls = app.store.calls();
    assert!(
        matches!(&calls[..], [Call::Claim, commit] if commit.is_commit()),
        "{calls:?}"
    );
}

/// Servers that also set a cookie, or write the token under a second name.
#[tokio::test]
async fn no_other_part_of_a_response_discloses_the_upstream_refresh_token() {
    const MEMBERS: &str = r#""refreshToken":"\u0055p-1/x","data":{"refresh_token":"Up-1/x"},"old":["Up-0/x"],"Up-1/x":1"#;
    for rotates in [true, false] {
        let inner = service_fn(
            move |request: Request<RequestBody<Full<Bytes>>>| async move {
                let form = request.into_body().collect().await.unwrap().to_bytes();
                let refreshed = form.starts_with(b"grant_type=refresh_token");
                let token = if refreshed && rotates {
                    "Up-1/x"
                } else {
                    "Up-0/x"
                };
                let body = format!(
                    r#"{{"access_token":"a","refresh_token":"{token}","session_state":"s",{MEMBERS}}}"#
                );
                let response = http::Response::builder()
                    .header("set-cookie", "old=Up-0%2Fx; HttpOnly")
                    .header("set-cookie", "new=Up-1%2Fx; HttpOnly")
                    .header("x-other", "stays");
                Ok::<_, Infallible>(response.body(Full::from(body)).unwrap())
            },
        );
        let layer = RefreshLayer::builder(MemoryStore::new()).build().unwrap();
        let service = layer.layer(inner);
        let log_in = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        let token = get(&service, &log_in).await["refresh_token"]
            .as_str()
            .unwrap()
            .to_owned();
        let answer = get(&service, &refresh_form("app", &token)).await;
        assert_eq!(answer["session_state"], "s");
        let text = answer.to_string();
        let current = if rotates { "Up-1/x" } else { "Up-0/x" };
        assert!(
            !text.contains("Up-0/x") && !text.contains(current),
            "{text}"
        );
    }
}

async fn get<S, R>(service: &S, form: &[(&str, &str)]) -> serde_json::Value
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<R>, Error = Infallible> + Clone,
    R: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let Ok(response) = service.clone().oneshot(post("/token", form)).await;
    let headers = response.headers().clone();
    assert_eq!(
        (response.status().as_u16(), &headers["x-other"]),
        (200, &"stays".parse().unwrap())
    );
    assert!(!format!("{headers:?}").contains("old=Up-0"), "{headers:?}");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
