//! A store that fails, and keys that are published late, while the provider logs a user out.

use std::time::Duration;

use axum::extract::Request;
use axum::routing::any;
use axum::{Router, body};
use serde_json::json;
use test_support::http::{Answer, post, send, serve};
use test_support::openid::OpenId;
use test_support::users::{next_extension, next_id_token};
use test_support::{App, Call, Plan};
use tokio::time::{advance, pause, resume};
use tower_oauth_refresh::store::BoxStore;
use tower_oauth_refresh::{GrantKey, Subject};

use super::Logout;
use crate::bearer::BearerToken;
use crate::receivers::{LOGOUT_PATH, REVOCATION_PATH, Receivers};
use crate::sessions::Sessions;

/// The endpoints of a server whose store a test can make fail.
struct Server {
    app: App,
    provider: OpenId,
    url: String,
}

const TOKEN: &str = "a-token-of-another-server-0123456789";

impl Server {
    async fn start() -> Self {
        let provider = OpenId::start().await;
        let issuer = provider.issuer();
        Self::with(provider, issuer).await
    }

    async fn with(provider: OpenId, issuer: String) -> Self {
        let app = App::new();
        let sessions = Sessions::of(app.layer.clone(), Some(issuer.clone()));
        let audience = vec!["app".into()];
        let store = BoxStore::new(app.store.clone());
        let logout = Logout::new(issuer.parse().unwrap(), audience, store).unwrap();
        let token: BearerToken = TOKEN.parse().unwrap();
        let receivers = Receivers::new(sessions, Some(logout), Some(token));
        let answer =
            any(async move |request: Request| receivers.answer(request).await.map(body::Body::new));
        let addr = serve(Router::new().fallback(answer)).await;
        Self {
            app,
            provider,
            url: format!("http://{addr}"),
        }
    }

    fn ada(&self) -> Subject {
        Subject::with_issuer(self.provider.issuer(), "ada").unwrap()
    }

    async fn log_in(&self) {
        let issuer = self.provider.issuer();
        next_id_token(&self.app, &format!(r#"{{"iss":"{issuer}","sub":"ada"}}"#));
        self.app.log_in("app").await;
    }

    async fn sessions(&self) -> usize {
        self.app.layer.sessions(&self.ada()).await.unwrap().len()
    }

    async fn log_out(&self, token: &str) -> Answer {
        let url = format!("{}{LOGOUT_PATH}", self.url);
        post(&url, &[("logout_token", token)]).await
    }

    /// Makes the store fail from this call on.
    fn fail_from(&self, first: usize) {
        let mut number = 0;
        self.app.store.hook(move |_, _| {
            number += 1;
            if number > first {
                Plan::Lose
            } else {
                Plan::Pass
            }
        });
    }
}

#[tokio::test]
async fn a_logout_that_the_store_has_failed_can_be_repeated_with_the_same_token() {
    let mut failures = 0;
    loop {
        let server = Server::start().await;
        server.log_in().await;
        server.log_in().await;
        let token = server.provider.logout_token("ada");
        server.fail_from(failures);
        let answer = server.log_out(&token).await;
        server.app.store.unhook();
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "call {failures}");
        let answer = server.log_out(&token).await;
        assert_eq!(answer.status, 200, "call {failures}: {answer:?}");
        assert_eq!(server.sessions().await, 0, "call {failures}");
        server.log_in().await;
        assert_eq!(server.log_out(&token).await.status, 400, "replayed");
        assert_eq!(server.sessions().await, 1);
        failures += 1;
    }
    assert!(failures >= 5, "only {failures} calls of the store");
}

#[tokio::test]
async fn two_deliveries_of_a_logout_token_at_the_same_time_are_one_logout() {
    let server = Server::start().await;
    server.log_in().await;
    let token = server.provider.logout_token("ada");
    let (one, two) = tokio::join!(server.log_out(&token), server.log_out(&token));
    let mut both = [one.status.as_u16(), two.status.as_u16()];
    both.sort_unstable();
    assert_eq!(both, [200, 400]);
    assert_eq!(server.sessions().await, 0);
}

#[tokio::test]
async fn a_logout_token_whose_key_is_published_late_can_be_sent_again() {
    let server = Server::start().await;
    server.log_in().await;
    let provider = &server.provider;
    provider.freeze_keys(true);
    provider.rotate("new");
    let token = provider.logout_token("ada");
    // The first fetch, the one for an unknown key, and the pause after that.
    for fetched in [1, 2, 2] {
        let answer = server.log_out(&token).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(provider.fetched(), fetched);
    }
    assert_eq!(server.sessions().await, 1);
    provider.freeze_keys(false);
    pause();
    advance(Duration::from_secs(30)).await;
    resume();
    let answer = server.log_out(&token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.sessions().await, 0);
}

#[tokio::test]
async fn a_failure_for_one_subject_does_not_keep_the_sessions_of_the_next() {
    let server = Server::start().await;
    let app = &server.app;
    // The subject without an issuer and the one of the provider may both be the user.
    let unnamed = Subject::new("ada").unwrap();
    next_extension(app, unnamed.clone());
    app.log_in("app").await;
    let stuck = app.take_events().remove(0).grant.unwrap();
    server.log_in().await;
    app.store.hook(move |key, call| match call {
        Call::Swap { .. } if GrantKey::from(*key) == stuck => Plan::Lose,
        _ => Plan::Pass,
    });
    let revoke = async || {
        let url = format!("{}{REVOCATION_PATH}", server.url);
        let headers = [
            ("authorization", &*format!("Bearer {TOKEN}")),
            ("content-type", "application/json"),
        ];
        let body = json!({ "sub_id": { "format": "opaque", "id": "ada" } });
        send("POST", &url, &headers, body.to_string()).await.status
    };
    assert_eq!(revoke().await, 503);
    app.store.unhook();
    let left = app.layer.sessions(&unnamed).await.unwrap().len();
    assert_eq!((left, server.sessions().await), (1, 0));
    assert_eq!(revoke().await, 204);
    assert!(app.layer.sessions(&unnamed).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tenant_logs_out_its_own_users() {
    let provider = OpenId::start().await;
    let of = |tenant: &str| format!("{}/{tenant}/v2.0", provider.issuer());
    provider.publish_at("/common/v2.0/.well-known/openid-configuration");
    provider.pretend(&of("{tenantid}"));
    let server = Server::with(provider.clone(), of("common")).await;
    for tenant in ["a", "b"] {
        let claims = json!({ "iss": of(tenant), "sub": "ada" });
        next_id_token(&server.app, &claims.to_string());
        server.app.log_in("app").await;
    }
    let mut claims = provider.logout("ada");
    for (tenant, status) in [("a/b", 400), ("a", 200)] {
        claims.insert("iss".into(), of(tenant).into());
        let answer = server.log_out(&provider.sign(&claims)).await;
        assert_eq!(answer.status, status, "{tenant}: {answer:?}");
    }
    for (tenant, left) in [("a", 0), ("b", 1)] {
        let ada = Subject::with_issuer(of(tenant), "ada").unwrap();
        let sessions = server.app.layer.sessions(&ada).await.unwrap();
        assert_eq!(sessions.len(), left, "{tenant}");
    }
}
