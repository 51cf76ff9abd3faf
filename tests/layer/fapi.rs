//! The refresh test of FAPI 2.0, as the OpenID conformance suite runs it: a client that
//! authenticates with `private_key_jwt` refreshes, waits 30 seconds, and presents the previous
//! token again, with a fresh assertion (FAPI 2.0 Security Profile, §5.3.2.1).

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::PublicKeyData as _;
use serde::{Deserialize, Serialize};
use test_support::http::{Answer, post};
use test_support::session::infallible;
use test_support::{App, ManualClock};
use tower_oauth_refresh::{Clock as _, EventKind};

const AUDIENCE: &str = "https://as.example.com";
const LIFETIME: Duration = Duration::from_secs(60);

/// An RSA key of 2048 bits (PKCS #1), which takes too long to generate in a test.
const RSA: &[u8] = include_bytes!("fapi.der");

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    /// In seconds.
    exp: u64,
    jti: String,
}

/// The key of a client, and what the authorization server knows of it.
#[derive(Clone)]
struct Key {
    algorithm: Algorithm,
    private: EncodingKey,
    public: DecodingKey,
}

impl Key {
    fn es256() -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        Self {
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(&pair.serialize_der()),
            public: DecodingKey::from_ec_der(pair.der_bytes()),
        }
    }

    fn ps256() -> Self {
        // SEQUENCE { version 0, n, e, … }
        let (modulus, exponent) = (&RSA[12..268], &RSA[270..273]);
        Self {
            algorithm: Algorithm::PS256,
            private: EncodingKey::from_rsa_der(RSA),
            public: DecodingKey::from_rsa_raw_components(modulus, exponent),
        }
    }

    fn sign(&self, claims: &Claims) -> String {
        encode(&Header::new(self.algorithm), claims, &self.private).unwrap()
    }
}

/// Authenticates clients like an authorization server: checks the signature, the issuer, the
/// subject, the audience and the expiry of the assertion, and accepts each assertion once.
struct Authentication {
    key: Key,
    clock: ManualClock,
    accepted: Mutex<HashSet<String>>,
}

impl Authentication {
    fn accepts(&self, form: &[u8]) -> bool {
        let param = |name| {
            url::form_urlencoded::parse(form)
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let bearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        if param("client_assertion_type").as_deref() != Some(bearer) {
            return false;
        }
        let mut validation = Validation::new(self.key.algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&["app"]);
        validation.sub = Some("app".into());
        validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
        // By the clock of the test.
        validation.validate_exp = false;
        let assertion = param("client_assertion").unwrap_or_default();
        let Ok(token) = decode::<Claims>(&assertion, &self.key.public, &validation) else {
            return false;
        };
        let now = self.clock.now().as_millis() / 1000;
        token.claims.exp > now && self.accepted.lock().unwrap().insert(token.claims.jti)
    }
}

async fn authenticate(
    authentication: Arc<Authentication>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let form = to_bytes(body, 1 << 16).await.unwrap();
    if authentication.accepts(&form) {
        return next.run(Request::from_parts(head, Body::from(form))).await;
    }
    let body = r#"{"error":"invalid_client"}"#;
    let json = [("content-type", "application/json")];
    (StatusCode::UNAUTHORIZED, json, body).into_response()
}

/// A client, and the layer in front of the authorization server, over HTTP.
struct Session {
    app: App,
    key: Key,
    token_endpoint: String,
    assertions: usize,
}

impl Session {
    async fn start(key: Key) -> Self {
        let app = App::new();
        let authentication = Arc::new(Authentication {
            key: key.clone(),
            clock: app.clock.clone(),
            accepted: Mutex::default(),
        });
        let check = move |request, next| authenticate(Arc::clone(&authentication), request, next);
        let router = Router::new()
            .fallback_service(infallible::<Body>(&app.upstream))
            .layer(from_fn(check))
            .layer(app.layer.clone());
        let addr = test_support::http::serve(router).await;
        Self {
            app,
            key,
            token_endpoint: format!("http://{addr}/token"),
            assertions: 0,
        }
    }

    /// Returns the claims of a fresh assertion.
    fn claims(&mut self) -> Claims {
        self.assertions += 1;
        let end = self.app.clock.now().saturating_add(LIFETIME);
        Claims {
            iss: "app".into(),
            sub: "app".into(),
            aud: AUDIENCE.into(),
            exp: end.as_millis() / 1000,
            jti: format!("assertion {}", self.assertions),
        }
    }

    async fn post(&self, assertion: &str, form: &[(&str, &str)]) -> Answer {
        let mut form = form.to_vec();
        form.extend([
            ("client_id", "app"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
        ]);
        post(&self.token_endpoint, &form).await
    }

    async fn refresh_with(&self, token: &str, assertion: &str) -> Answer {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        self.post(assertion, &form).await
    }

    async fn refresh(&mut self, token: &str) -> Answer {
        let claims = self.claims();
        self.refresh_with(token, &self.key.sign(&claims)).await
    }

    async fn log_in(&mut self) -> String {
        let claims = self.claims();
        let form = [("grant_type", "authorization_code"), ("code", "c")];
        let answer = self.post(&self.key.sign(&claims), &form).await;
        answer.string("refresh_token")
    }
}

#[tokio::test]
async fn a_retry_after_30_seconds_with_a_fresh_assertion_succeeds() {
    for key in [Key::es256(), Key::ps256()] {
        let mut session = Session::start(key).await;
        let first = session.log_in().await;
        let lost = session.refresh(&first).await;
        assert_eq!(lost.status, StatusCode::OK);
        session.app.clock.advance(Duration::from_secs(30));
        let retried = session.refresh(&first).await;
        assert_eq!(
            retried.status,
            StatusCode::OK,
            "{:?}",
            session.key.algorithm
        );
        assert_ne!(retried.string("access_token"), lost.string("access_token"));
        // Both answers lead on, the newer one first.
        let next = session.refresh(&retried.string("refresh_token")).await;
        assert_eq!(next.status, StatusCode::OK);
        let next = session.refresh(&lost.string("refresh_token")).await;
        assert_eq!(next.status, StatusCode::OK);
        assert_eq!(session.app.upstream.reuses(), 0);
        assert_eq!(session.app.upstream.alive(), 1);
        assert!(!session.app.events().contains(&EventKind::ReuseDetected));
    }
}

#[tokio::test]
async fn a_retry_without_a_good_assertion_is_refused_and_ends_nothing() {
    for key in [Key::es256(), Key::ps256()] {
        let other = Key::es256();
        let mut session = Session::start(key).await;
        let first = session.log_in().await;
        let good = session.claims();
        let used = session.key.sign(&good);
        assert_eq!(
            session.refresh_with(&first, &used).await.status,
            StatusCode::OK
        );
        session.app.clock.advance(Duration::from_secs(30));
        let fresh = session.claims();
        let with = |change: fn(&mut Claims)| {
            let mut claims = fresh.clone();
            change(&mut claims);
            session.key.sign(&claims)
        };
        let mut damaged = with(|_| {});
        let signature = damaged.rfind('.').unwrap() + 5;
        let replacement = if &damaged[signature..=signature] == "A" {
            "B"
        } else {
            "A"
        };
        damaged.replace_range(signature..=signature, replacement);
        let rows = [
            ("used before", used),
            ("damaged signature", damaged),
            ("another key", other.sign(&fresh)),
            ("expired", with(|claims| claims.exp -= 60)),
            (
                "another audience",
                with(|claims| claims.aud = "https://other.example.com".into()),
            ),
            ("another issuer", with(|claims| claims.iss = "other".into())),
        ];
        for (name, assertion) in rows {
            let refused = session.refresh_with(&first, &assertion).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{name}");
            assert_eq!(refused.string("error"), "invalid_client", "{name}");
        }
        assert_eq!(session.refresh(&first).await.status, StatusCode::OK);
        assert_eq!(session.app.upstream.reuses(), 0);
    }
}
