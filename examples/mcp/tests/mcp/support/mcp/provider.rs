//! An identity provider without a log-in page and with a single client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use test_support::http::serve;
use url::Url;

use super::{Pairs, one};

pub(crate) const PROVIDER_CLIENT: &str = "server at provider";
pub(crate) const PROVIDER_SECRET: &str = "secret: at provider";

/// An identity provider without a log-in page and with a single client.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<ProviderState>>,
}

#[derive(Debug, Default)]
struct ProviderState {
    requests: Vec<Pairs>,
    /// The authorization requests by code.
    codes: HashMap<String, Pairs>,
    exchanged: usize,
    answer_request: Option<Pairs>,
    answer_exchange: Option<(StatusCode, String)>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(ProviderState::default()));
        let router = Router::new()
            .route("/authorize", get(provider_authorize))
            .route("/token", post(provider_token))
            .with_state(Arc::clone(&state));
        Self {
            addr: serve(router).await,
            state,
        }
    }

    /// Returns the flags that configure this provider.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = [
            (
                "--authorization-endpoint",
                format!("http://{}/authorize", self.addr),
            ),
            ("--token-endpoint", format!("http://{}/token", self.addr)),
            ("--client-id", PROVIDER_CLIENT.into()),
            ("--client-secret", PROVIDER_SECRET.into()),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// Returns all authorization requests so far.
    pub(crate) fn requests(&self) -> Vec<Pairs> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Returns the number of token requests.
    pub(crate) fn exchanged(&self) -> usize {
        self.state.lock().unwrap().exchanged
    }

    /// Makes all further authorization requests return these parameters, with their `state`,
    /// instead of a code.
    pub(crate) fn answer_requests(&self, answer: &[(&str, &str)]) {
        let answer = answer
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        self.state.lock().unwrap().answer_request = Some(answer);
    }

    /// Makes all further token requests return this response.
    pub(crate) fn answer_exchanges(&self, status: u16, body: impl Into<String>) {
        self.state.lock().unwrap().answer_exchange =
            Some((StatusCode::from_u16(status).unwrap(), body.into()));
    }

    /// Undoes the other methods: responds correctly again.
    pub(crate) fn behave(&self) {
        let mut state = self.state.lock().unwrap();
        state.answer_request = None;
        state.answer_exchange = None;
    }
}

async fn provider_authorize(
    State(state): State<Arc<Mutex<ProviderState>>>,
    RawQuery(query): RawQuery,
) -> Redirect {
    let request: Pairs = url::form_urlencoded::parse(query.unwrap().as_bytes())
        .into_owned()
        .collect();
    assert_eq!(one(&request, "response_type"), Some("code"));
    assert_eq!(one(&request, "client_id"), Some(PROVIDER_CLIENT));
    assert_eq!(one(&request, "code_challenge_method"), Some("S256"));
    let mut url = Url::parse(one(&request, "redirect_uri").unwrap()).unwrap();
    let mut state = state.lock().unwrap();
    state.requests.push(request.clone());
    let code = format!("provider-code-{}", state.requests.len());
    let answer = state
        .answer_request
        .clone()
        .unwrap_or_else(|| vec![("code".to_owned(), code.clone())]);
    url.query_pairs_mut()
        .extend_pairs(&answer)
        .append_pair("state", one(&request, "state").unwrap());
    state.codes.insert(code, request);
    Redirect::to(url.as_str())
}

async fn provider_token(
    State(state): State<Arc<Mutex<ProviderState>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form: Pairs = url::form_urlencoded::parse(&body).into_owned().collect();
    let encoded =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(PROVIDER_CLIENT), encoded(PROVIDER_SECRET));
    let basic = format!("Basic {}", STANDARD.encode(pair));
    if headers
        .get("authorization")
        .is_none_or(|value| value != basic.as_str())
    {
        return (
            StatusCode::UNAUTHORIZED,
            json!({ "error": "invalid_client" }).to_string(),
        )
            .into_response();
    }
    let mut state = state.lock().unwrap();
    state.exchanged += 1;
    if let Some(answer) = &state.answer_exchange {
        return answer.clone().into_response();
    }
    let request = one(&form, "code")
        .and_then(|code| state.codes.remove(code))
        .unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(
        one(&form, "code_verifier").unwrap_or_default(),
    ));
    if one(&form, "grant_type") != Some("authorization_code")
        || one(&request, "code_challenge") != Some(&challenge)
        || one(&request, "redirect_uri") != one(&form, "redirect_uri")
    {
        return (
            StatusCode::BAD_REQUEST,
            json!({ "error": "invalid_grant" }).to_string(),
        )
            .into_response();
    }
    let number = state.exchanged;
    let tokens = json!({
        "access_token": format!("provider-access-{number}"),
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": format!("provider-refresh-{number}"),
        "scope": one(&request, "scope"),
    });
    tokens.to_string().into_response()
}
