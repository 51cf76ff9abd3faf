//! The routes of the app.

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::client::{self, Client};
use crate::provider::{Authorization, OAuthError, Provider, Session, Tokens, oauth_error};

/// Returns the routes of the authorization server.
pub(crate) fn oauth(provider: Provider) -> Router {
    Router::new()
        .route("/authorize", get(show_login).post(login))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .with_state(provider)
}

/// Returns the routes that need an access token.
pub(crate) fn api(provider: Provider) -> Router {
    Router::new().route("/me", get(me)).with_state(provider)
}

/// The parameters of RFC 6749 §4.1.1 and RFC 7636 §4.3, and those of the log-in page.
#[derive(Deserialize)]
struct AuthorizeForm {
    client_id: String,
    redirect_uri: String,
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
    #[serde(default)]
    scope: String,
    state: Option<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

async fn show_login(Query(form): Query<AuthorizeForm>) -> Response {
    match form.check() {
        Ok(_) => form.page(StatusCode::OK, ""),
        Err(refusal) => refusal,
    }
}

async fn login(State(provider): State<Provider>, Form(form): Form<AuthorizeForm>) -> Response {
    let client = match form.check() {
        Ok(client) => client,
        Err(refusal) => return refusal,
    };
    // Your users and your password hashes go here.
    if (form.username.as_str(), form.password.as_str()) != ("demo", "demo") {
        return form.page(StatusCode::FORBIDDEN, "Wrong user name or password.");
    }
    let scope = if form.scope.is_empty() {
        client::SCOPES.join(" ")
    } else {
        form.scope.clone()
    };
    let code = provider.issue_code(Authorization {
        session: Session {
            user: form.username.clone(),
            client_id: client.id,
            scope,
        },
        redirect_uri: form.redirect_uri.clone(),
        code_challenge: form.code_challenge.clone(),
    });
    match code {
        Ok(code) => form.redirect("code", &code),
        Err(OAuthError { error, .. }) => form.redirect("error", error),
    }
}

impl AuthorizeForm {
    /// Returns the client, or the error response. If the client or its redirect URI is invalid, the
    /// response is a page and not a redirect (RFC 6749 §4.1.2.1).
    #[expect(clippy::result_large_err, reason = "both variants are responses")]
    fn check(&self) -> Result<&'static Client, Response> {
        let client =
            client::find(&self.client_id).filter(|client| client.redirect_uri == self.redirect_uri);
        let Some(client) = client else {
            return Err(
                (StatusCode::BAD_REQUEST, "unknown client_id or redirect_uri").into_response(),
            );
        };
        if self.response_type != "code" {
            return Err(self.redirect("error", "unsupported_response_type"));
        }
        if self.code_challenge_method != "S256" || self.code_challenge.len() != 43 {
            return Err(self.redirect("error", "invalid_request"));
        }
        if !self.scope.is_empty()
            && !self
                .scope
                .split(' ')
                .all(|scope| client::SCOPES.contains(&scope))
        {
            return Err(self.redirect("error", "invalid_scope"));
        }
        Ok(client)
    }

    fn redirect(&self, name: &str, value: &str) -> Response {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(name, value);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        Redirect::to(&format!("{}?{}", self.redirect_uri, query.finish())).into_response()
    }

    fn page(&self, status: StatusCode, notice: &str) -> Response {
        let hidden: String = [
            ("client_id", self.client_id.as_str()),
            ("redirect_uri", &self.redirect_uri),
            ("response_type", &self.response_type),
            ("code_challenge", &self.code_challenge),
            ("code_challenge_method", &self.code_challenge_method),
            ("scope", &self.scope),
            ("state", self.state.as_deref().unwrap_or_default()),
        ]
        .iter()
        .map(|(name, value)| {
            format!(
                r#"<input type="hidden" name="{name}" value="{}">"#,
                escape(value)
            )
        })
        .collect();
        let page = format!(
            r#"<!doctype html><title>Log in</title><h1>Log in</h1><p>{notice}</p>
<form method="post" action="/authorize">{hidden}
<input name="username" autocomplete="username" placeholder="demo">
<input name="password" type="password" autocomplete="current-password" placeholder="demo">
<button>Log in</button></form>"#
        );
        let headers = [
            (CACHE_CONTROL, "no-store"),
            (CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        ];
        (status, headers, Html(page)).into_response()
    }
}

fn escape(value: &str) -> String {
    value
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    code_verifier: String,
    #[serde(default)]
    refresh_token: String,
    scope: Option<String>,
}

async fn token(
    State(provider): State<Provider>,
    headers: HeaderMap,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Result<([(axum::http::HeaderName, &'static str); 1], Json<Tokens>), OAuthError> {
    let Form(form) = form?;
    let client = client::authenticate(
        &headers,
        form.client_id.as_deref(),
        form.client_secret.as_deref(),
    )?;
    let tokens = match form.grant_type.as_str() {
        "authorization_code" => provider.exchange_code(
            client.id,
            &form.code,
            &form.redirect_uri,
            &form.code_verifier,
        )?,
        "refresh_token" => {
            provider.refresh(client.id, &form.refresh_token, form.scope.as_deref())?
        }
        _ => {
            return Err(oauth_error(
                "unsupported_grant_type",
                "authorization_code and refresh_token are supported",
            ));
        }
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(tokens)))
}

#[derive(Deserialize)]
struct RevokeForm {
    token: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

async fn revoke(
    State(provider): State<Provider>,
    headers: HeaderMap,
    form: Result<Form<RevokeForm>, FormRejection>,
) -> Result<StatusCode, OAuthError> {
    let Form(form) = form?;
    let client = client::authenticate(
        &headers,
        form.client_id.as_deref(),
        form.client_secret.as_deref(),
    )?;
    provider.revoke(client.id, &form.token);
    Ok(StatusCode::OK)
}

async fn me(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(bearer) = bearer else {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response();
    };
    match provider.session(bearer) {
        Some(session) => {
            Json(json!({ "user": session.user, "client_id": session.client_id })).into_response()
        }
        None => (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)],
        )
            .into_response(),
    }
}

impl From<FormRejection> for OAuthError {
    fn from(_: FormRejection) -> Self {
        oauth_error(
            "invalid_request",
            "a parameter is missing or repeated, or the body is not a form",
        )
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let Self { error, description } = self;
        let status = match error {
            "invalid_client" => StatusCode::UNAUTHORIZED,
            "server_error" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let mut response = (
            status,
            [(CACHE_CONTROL, "no-store")],
            Json(json!({ "error": error, "error_description": description })),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, client::CHALLENGE);
        }
        response
    }
}
