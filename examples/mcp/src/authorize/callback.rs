//! `GET /callback`: the provider redirects the browser back, and the client gets its code.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};
use server_common::causes::causes;

use super::browser::Browser;
use super::code::{CODE_LIFETIME, Code, CodeBinding, Fresh};
use super::device::Device;
use super::granted::Granted;
use super::login::AtProvider;
use super::pages::{self, Problem};
use super::reply;
use crate::app::App;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::provider::Occasion;
use crate::records::{Handle, Kind};
use crate::users::User;

pub(super) async fn callback(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes());
    let state = query
        .one("state")
        .ok()
        .flatten()
        .and_then(|state| state.parse().ok());
    let state: Handle = state.ok_or_else(Problem::login_is_over)?;
    let browser = Browser::find(&headers, &app.issuer);
    // The record is removed even if the log-in fails: a log-in is answered only once.
    let login = AtProvider::take(&app, browser.as_ref(), &state).await?;
    let client = login.asked.reply.clone();
    let device = Device::of(&app.edge, peer, &headers);
    match code(&app, &query, login, device).await {
        Ok(code) => Ok(reply::send(&client.code(&app.issuer, &code)?)),
        Err(Failed::Error(error)) => Ok(reply::send(&client.error(&app.issuer, &error)?)),
        Err(Failed::NotAllowed(user)) => {
            tracing::info!("the log-in failed: no --allow-… rule names the user");
            let error = OauthError::new("access_denied", "the user may not use this server");
            let back = client.error(&app.issuer, &error)?;
            Ok(pages::not_allowed(&app, &user, &client.redirect_uri, &back))
        }
    }
}

/// The reason why there is no code for the client.
enum Failed {
    /// The client gets an error.
    Error(OauthError),
    /// The user gets a page.
    NotAllowed(User),
}

impl<E: Into<OauthError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Exchanges the provider's code, and creates a code for the client.
async fn code(
    app: &App,
    query: &Parameters,
    login: AtProvider,
    device: Device,
) -> Result<Handle, Failed> {
    let occasion = Occasion::LogIn {
        nonce: login.nonce.as_deref(),
        began: login.began(),
    };
    let (granted, received_at) = exchange(app, provider_code(app, query)?, &login.verifier).await?;
    let mut answer = granted.answer;
    let user = identify(app, &mut answer, occasion).await?;
    let asked = login.asked;
    if let Some(user) = &user
        && !app.provider.config().rules.admit(user)
    {
        app.provider.discard(&answer);
        return Err(Failed::NotAllowed(user.clone()));
    }
    app.clients.keep(&asked.client_id).await?;
    let scope = asked.scope();
    let granted = granted.scope.as_deref();
    let granted = granted.map(|granted| app.provider.config().granted_scope(granted, &scope));
    let fresh = Fresh {
        scope: granted.unwrap_or(scope),
        binding: CodeBinding {
            client_id: asked.client_id,
            redirect_uri: asked.reply.redirect_uri,
            code_challenge: asked.code_challenge,
        },
        resource: asked.resource,
        answer: Value::Object(answer).to_string(),
        user,
        device,
        received_at,
    };
    let code = Handle::random()?;
    app.records
        .seal(Kind::Code, &code, &Code::Fresh(fresh), CODE_LIFETIME)
        .await?;
    Ok(code)
}

/// Returns the user who has logged in, if the provider says it.
async fn identify(
    app: &App,
    answer: &mut Map<String, Value>,
    occasion: Occasion<'_>,
) -> Result<Option<User>, OauthError> {
    let identified = app.provider.identify(answer, occasion);
    identified.await.map_err(|error| {
        tracing::error!(
            error = causes(&error),
            "the log-in failed: the provider did not identify the user"
        );
        at_provider(if error.is_temporary() {
            "temporarily_unavailable"
        } else {
            "server_error"
        })
    })
}

/// Returns the code from the provider's authorization response after checking the response.
fn provider_code<'a>(app: &App, query: &'a Parameters) -> Result<&'a str, OauthError> {
    if query.repeat(&[]) {
        tracing::warn!("the log-in failed: the identity provider repeated a response parameter");
        return Err(at_provider("server_error"));
    }
    let get = |name| query.all(name).next();
    // RFC 9207 §2.4: protects against mix-up attacks with another authorization server.
    let settings = app.provider.settings()?;
    if let Some(expected) = &settings.response_issuer
        && !expected.accepts(get("iss"))
    {
        tracing::warn!(
            expected = expected.issuer,
            "the log-in failed: iss in the authorization response is missing or differs"
        );
        return Err(at_provider("server_error"));
    }
    match (get("error"), get("code")) {
        (None, Some(code)) => Ok(code),
        (Some("access_denied"), _) => Err(OauthError::new(
            "access_denied",
            "the log-in was denied at the identity provider",
        )),
        (error, _) => {
            tracing::warn!(
                error = error.map(shortened),
                "the log-in failed: the identity provider returned an error or no code"
            );
            Err(at_provider(match error {
                Some("temporarily_unavailable") => "temporarily_unavailable",
                Some("invalid_scope") => "invalid_scope",
                _ => "server_error",
            }))
        }
    }
}

/// Exchanges the provider's code for tokens. Returns them with the time of the request.
async fn exchange(app: &App, code: &str, verifier: &str) -> Result<(Granted, u64), OauthError> {
    // Lifetimes start at the response. Counting from the request makes sure that no lifetime is
    // overestimated.
    let asked_at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let asked_at = u64::try_from(asked_at.as_millis()).unwrap_or(u64::MAX);
    let answer = app
        .provider
        .exchange(code, verifier, &app.issuer.join("/callback"))
        .await
        .map_err(|error| {
            tracing::error!(
                error = causes(&error),
                "the log-in failed: no tokens from the identity provider"
            );
            at_provider("temporarily_unavailable")
        })?;
    let granted = Granted::read(&answer).map_err(|error| {
        let code = error.code.as_deref().map(shortened);
        tracing::error!(
            status = answer.status.as_u16(),
            error = code,
            "the log-in failed: no tokens from the identity provider: {error}"
        );
        at_provider(if answer.status.is_server_error() {
            "temporarily_unavailable"
        } else {
            "server_error"
        })
    })?;
    Ok((granted, asked_at))
}

/// Returns the error that the client gets. It contains no text of the provider.
fn at_provider(code: &'static str) -> OauthError {
    let why = match code {
        "temporarily_unavailable" => {
            "the identity provider is unavailable for the moment: log in again later"
        }
        _ => "the log-in failed at the identity provider",
    };
    OauthError::new(code, why)
}

/// Limits the length of a value from the provider in the log. The log escapes special characters.
fn shortened(text: &str) -> &str {
    if text.len() <= 64 { text } else { "(too long)" }
}
