//! Helpers for tests of the example `mcp`: the server, an identity provider, and a browser.

use std::collections::{BTreeMap, HashMap};
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
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::http::{Answer, post as post_form, send, serve};
use test_support::process::Example;
use url::Url;

use crate::PROGRAM;

/// The PKCE pair of RFC 7636, appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub(crate) const PROVIDER_CLIENT: &str = "server at provider";
pub(crate) const PROVIDER_SECRET: &str = "secret: at provider";

pub(crate) type Pairs = Vec<(String, String)>;

/// Returns the value of a parameter. Panics if it is repeated.
pub(crate) fn one<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    let mut values = pairs
        .iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.as_str());
    let value = values.next();
    assert!(values.next().is_none(), "{name} is repeated: {pairs:?}");
    value
}

pub(crate) fn query(url: &str) -> Pairs {
    Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

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

/// Starts the example with these flags on a free port. The default store is in memory, because the
/// default of the program is a file that tests would share. By default, requests are not limited,
/// because all of them come from one address.
pub(crate) async fn start(flags: &[String]) -> Example {
    let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    if !flags.iter().any(|flag| flag == "--store") {
        args.extend(["--store", "memory"].map(str::to_owned));
    }
    let limits = ["registrations", "authorizations", "token-failures"];
    for flag in limits.map(|limit| format!("--limit-{limit}")) {
        if !flags.contains(&flag) {
            args.extend([flag, "0".to_owned()]);
        }
    }
    args.extend_from_slice(flags);
    tokio::task::spawn_blocking(move || Example::start::<_, &str, &str>(PROGRAM, &args, &[]))
        .await
        .unwrap()
}

/// Registers a client. Returns the response.
pub(crate) async fn register(server: &Example, metadata: &Value) -> Value {
    register_at(&server.url("/register"), metadata).await
}

pub(crate) async fn register_at(endpoint: &str, metadata: &Value) -> Value {
    let answer = send(
        "POST",
        endpoint,
        &[("content-type", "application/json")],
        metadata.to_string(),
    )
    .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

/// Registers a public client with this redirect URI. Returns its ID.
pub(crate) async fn register_public(server: &Example, name: &str, redirect_uri: &str) -> String {
    let metadata = json!({ "client_name": name, "redirect_uris": [redirect_uri], "token_endpoint_auth_method": "none" });
    register(server, &metadata).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Returns a valid authorization request with these changes. A parameter with an empty value is
/// omitted.
pub(crate) fn request(
    server: &Example,
    client_id: &str,
    redirect_uri: &str,
    changes: &[(&str, &str)],
) -> String {
    let usual = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("state", "the client's"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
    let parameters = usual
        .into_iter()
        .filter(|(name, _)| !changed(name))
        .chain(changes.iter().copied());
    let parameters = parameters.filter(|(_, value)| !value.is_empty());
    Url::parse_with_params(&server.url("/authorize"), parameters)
        .unwrap()
        .into()
}

/// Exchanges the code for a request of a public client. Returns the token response.
pub(crate) async fn exchange(server: &Example, request: &str, code: &str) -> Answer {
    let request = query(request);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", one(&request, "client_id").unwrap()),
        ("redirect_uri", one(&request, "redirect_uri").unwrap()),
        ("code_verifier", VERIFIER),
        ("code", code),
    ];
    post_form(&server.url("/token"), &form).await
}

/// Asserts the headers and the elements that all pages have in common.
pub(crate) fn assert_is_page(answer: &Answer) {
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    for directive in [
        "default-src 'none'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(
            policy.split("; ").any(|other| other == directive),
            "{policy}"
        );
    }
    assert!(
        policy.contains("form-action ") && !policy.contains("unsafe"),
        "{policy}"
    );
    let page = answer.text();
    // A script runs only if the policy has its hash.
    let scripts = page.matches("<script").count();
    assert_eq!(
        scripts,
        policy.matches("script-src 'sha256-").count(),
        "{policy}: {page}"
    );
    for needed in [
        "<!DOCTYPE html>",
        "<html lang=\"en\">",
        "<title>",
        "name=\"viewport\"",
        "<main>",
        "<h1>",
    ] {
        assert!(page.contains(needed), "{needed}: {page}");
    }
    for banned in ["<style", " style=", " onclick="] {
        assert!(!page.contains(banned), "{banned}: {page}");
    }
}

/// A browser that only handles cookies. It does not follow redirects by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: BTreeMap<String, String>,
    /// Requests to the first URL are sent to the second.
    pub(crate) through: Option<(String, String)>,
}

impl Browser {
    pub(crate) async fn get(&mut self, url: &str) -> Answer {
        self.send("GET", url, &[], "").await
    }

    /// Posts a form as if from a page of the same origin.
    pub(crate) async fn post(&mut self, url: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.send("POST", url, &headers, body).await
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut url = url.to_owned();
        if let Some((public, local)) = &self.through
            && let Some(rest) = url.strip_prefix(public.as_str())
        {
            url = format!("{local}{rest}");
        }
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers = headers.to_vec();
        headers.push(("user-agent", "Mozilla/5.0 (Test) Browser/1.0"));
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let answer = send(method, &url, &headers, body).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    /// Follows redirects until one leads to a URL that begins with `target`. Returns that URL.
    pub(crate) async fn follow(&mut self, answer: Answer, target: &str) -> String {
        let mut url = onward(&answer);
        for _ in 0..10 {
            if url.starts_with(target) {
                return url;
            }
            url = onward(&self.get(&url).await);
        }
        panic!("{target} was not reached: {url}");
    }

    /// Approves on the consent page to which the response leads. Returns the next response.
    pub(crate) async fn approve(&mut self, answer: &Answer) -> Answer {
        self.decide(answer, &[("decision", "approve")]).await
    }

    pub(crate) async fn decide(&mut self, answer: &Answer, fields: &[(&str, &str)]) -> Answer {
        let url = onward(answer);
        let page = self.get(&url).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        self.submit(&url, &page, fields).await
    }

    /// Submits the form of a page with its hidden fields and these fields.
    pub(crate) async fn submit(
        &mut self,
        url: &str,
        page: &Answer,
        fields: &[(&str, &str)],
    ) -> Answer {
        let (action, mut form) = form(page);
        form.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let action = Url::parse(url).unwrap().join(&action).unwrap();
        self.post(action.as_str(), &form).await
    }

    /// Logs in at the test's provider. Returns the URL to which the client is redirected.
    pub(crate) async fn log_in(&mut self, request: &str, redirect_uri: &str) -> String {
        let answer = self.get(request).await;
        let answer = self.approve(&answer).await;
        self.follow(answer, redirect_uri).await
    }
}

/// Returns the URL to which a response redirects the browser, with a redirect or a page.
pub(crate) fn onward(answer: &Answer) -> String {
    let header = |name| {
        answer
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    match (header("location"), header("refresh")) {
        (Some(location), None) => {
            assert_eq!(answer.status, StatusCode::SEE_OTHER);
            location.to_owned()
        }
        (None, Some(refresh)) => refresh.strip_prefix("0;url=").unwrap().to_owned(),
        _ => panic!(
            "the response is not a redirect: {} {}",
            answer.status,
            answer.text()
        ),
    }
}

/// Returns the action and the hidden fields of the only form of a page.
pub(crate) fn form(page: &Answer) -> (String, Pairs) {
    let page = page.text();
    let attribute = |tag: &str, name: &str| {
        let (_, value) = tag.split_once(&format!("{name}=\""))?;
        Some(unescaped(value.split_once('"')?.0))
    };
    let (_, rest) = page.split_once("<form").expect("a form");
    let (tag, rest) = rest.split_once('>').unwrap();
    let inputs = rest
        .split("<input")
        .skip(1)
        .map(|input| input.split_once('>').unwrap().0);
    let hidden = inputs.filter(|input| input.contains("type=\"hidden\""));
    let fields = hidden
        .map(|input| {
            (
                attribute(input, "name").unwrap(),
                attribute(input, "value").unwrap(),
            )
        })
        .collect();
    (attribute(tag, "action").unwrap(), fields)
}

/// Decodes the value of an HTML attribute.
fn unescaped(value: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    pairs
        .iter()
        .fold(value.to_owned(), |value, (escape, character)| {
            value.replace(escape, character)
        })
}
