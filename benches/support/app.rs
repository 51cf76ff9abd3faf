//! The token endpoint of a typical app.

use std::convert::Infallible;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use rcgen::{KeyPair, SigningKey as _};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tower::Service;

use super::RedisServer;

/// Reads the form and responds with 1 KB of JSON. Any client gets a token.
#[derive(Clone, Default)]
pub struct App {
    signer: Option<Signer>,
    tokens: Option<MultiplexedConnection>,
}

/// The key that signs access tokens, and the name of its algorithm in JWTs.
#[derive(Clone)]
struct Signer {
    key: Arc<KeyPair>,
    algorithm: &'static str,
}

const MONTH: u32 = 30 * 24 * 3600;

impl App {
    /// Signs access tokens with ES256.
    pub fn signing_es256(mut self) -> Self {
        self.signer = Some(Signer {
            key: Arc::new(KeyPair::generate().expect("a key")),
            algorithm: "ES256",
        });
        self
    }

    /// Signs access tokens with RS256 and a key of 2,048 bits, which every OpenID provider must
    /// support.
    pub fn signing_rs256(mut self) -> Self {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ]);
        let made = String::from_utf8(openssl.output().expect("openssl").stdout).expect("PEM");
        let key = KeyPair::from_pem(&made).expect("a key");
        self.signer = Some(Signer {
            key: Arc::new(key),
            algorithm: "RS256",
        });
        self
    }

    /// Keeps refresh tokens in this server, each for one use, as an app with several instances
    /// must.
    pub async fn keeping_tokens(mut self, server: &RedisServer) -> Self {
        let client = redis::Client::open(server.url()).expect("an address");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let connected = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        self.tokens = Some(connected.expect("a connection"));
        self
    }

    async fn answer<B: Body>(mut self, request: Request<B>) -> Response<Full<Bytes>> {
        let Ok(body) = request.into_body().collect().await else {
            return refuse("invalid_request");
        };
        let body = body.to_bytes();
        let (mut client, mut code, mut refresh_token) = (None, None, None);
        for (name, value) in form_urlencoded::parse(&body) {
            match &*name {
                "client_id" => client = Some(value),
                "code" => code = Some(value),
                "refresh_token" => refresh_token = Some(value),
                _ => {}
            }
        }
        let Some(client) = client else {
            return refuse("invalid_client");
        };
        if code.is_none() && refresh_token.is_none() {
            return refuse("invalid_request");
        }
        let next = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        if !self
            .replace_token(&client, refresh_token.as_deref(), &next)
            .await
        {
            return refuse("invalid_grant");
        }
        answer(
            StatusCode::OK,
            &json!({
                "access_token": self.access_token(&client),
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": next,
                "scope": "openid profile email offline_access",
            }),
        )
    }

    /// Returns whether the old token was valid. From now on the next one is.
    async fn replace_token(&mut self, client: &str, old: Option<&str>, next: &str) -> bool {
        let Some(connection) = &mut self.tokens else {
            return true;
        };
        let session = json!({ "client_id": client, "sub": "0123456789", "scope": "openid profile email offline_access" });
        let mut commands = redis::pipe();
        commands
            .cmd("SET")
            .arg(format!("app:{next}"))
            .arg(session.to_string())
            .arg("EX")
            .arg(MONTH)
            .ignore();
        let Some(old) = old else {
            return commands.query_async::<()>(connection).await.is_ok();
        };
        commands.cmd("GETDEL").arg(format!("app:{old}"));
        matches!(
            commands.query_async::<(Option<String>,)>(connection).await,
            Ok((Some(_),))
        )
    }

    /// Returns a JWT of the usual size.
    fn access_token(&self, client: &str) -> String {
        let claims = json!({
            "iss": "https://login.example.com/",
            "aud": "https://api.example.com/",
            "sub": "0123456789",
            "client_id": client,
            "jti": URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            "permissions": "orders:read ".repeat(28),
        });
        let algorithm = self
            .signer
            .as_ref()
            .map_or("none", |signer| signer.algorithm);
        let header = json!({ "alg": algorithm, "kid": "0123456789abcdef", "typ": "at+jwt" });
        let mut token = [header, claims]
            .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
            .join(".");
        let signature = match &self.signer {
            Some(signer) => signer.key.sign(token.as_bytes()).expect("a signature"),
            None => vec![0; 64],
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

fn refuse(error: &str) -> Response<Full<Bytes>> {
    answer(StatusCode::BAD_REQUEST, &json!({ "error": error }))
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<B> Service<Request<B>> for App
where
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.answer(request).await) })
    }
}
