//! The records of log-ins between the authorization request and the authorization response.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::StoreError;
use url::Url;

use super::browser::Browser;
use super::pages::Problem;
use super::request::Asked;
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::provider::AuthorizationRequest;
use crate::records::{Handle, Kind, Stored};

/// The time limit for the consent page, and again for the log-in at the provider.
const LOGIN_LIFETIME: Duration = Duration::from_secs(600);

/// A log-in at the consent page, sealed under the handle in the URL of the page.
#[derive(Serialize, Deserialize)]
pub(super) struct Login {
    /// The hash of the browser in which the log-in began.
    browser: [u8; 32],
    pub(super) client: Client,
    pub(super) asked: Asked,
    /// The URL to which the browser was sent after the user's decision, which is final.
    pub(super) answered: Option<Url>,
}

impl Login {
    /// Stores a new log-in. Returns its handle.
    pub(super) async fn begin(
        app: &App,
        browser: &Browser,
        client: Client,
        asked: Asked,
    ) -> Result<Handle, StoreError> {
        let handle = Handle::random()?;
        let login = Self {
            browser: browser.name(),
            client,
            asked,
            answered: None,
        };
        app.records
            .seal(Kind::Login, &handle, &login, LOGIN_LIFETIME)
            .await?;
        Ok(handle)
    }

    /// Returns the log-in with this handle if it belongs to this browser.
    pub(super) async fn find(
        app: &App,
        browser: Option<&Browser>,
        handle: &Handle,
    ) -> Result<Stored<Self>, Problem> {
        let login: Option<Stored<Self>> = app.records.open(Kind::Login, handle).await?;
        let login = login.ok_or_else(Problem::login_is_over)?;
        if browser.is_none_or(|browser| browser.name() != login.value.browser) {
            return Err(Problem::other_browser());
        }
        Ok(login)
    }

    /// Stores the URL to which the user's decision leads. Returns the stored URL, which is an
    /// earlier one if the user has already decided.
    pub(super) async fn answer(
        app: &App,
        browser: &Browser,
        handle: &Handle,
        mut login: Stored<Self>,
        url: Url,
    ) -> Result<Url, Problem> {
        login.value.answered = Some(url.clone());
        if app
            .records
            .reseal(Kind::Login, handle, &login, &login.value, LOGIN_LIFETIME)
            .await?
        {
            return Ok(url);
        }
        let login = Self::find(app, Some(browser), handle).await?;
        login.value.answered.ok_or_else(Problem::login_is_over)
    }
}

/// Returns whether the response will have an ID token (OpenID Connect Core §3.1.2.1).
fn is_openid(scope: &str) -> bool {
    scope.split(' ').any(|scope| scope == "openid")
}

/// A log-in at the provider, sealed under the `state` that was sent there.
#[derive(Serialize, Deserialize)]
pub(super) struct AtProvider {
    browser: [u8; 32],
    pub(super) asked: Asked,
    /// The PKCE code verifier for the provider's code.
    pub(super) verifier: String,
    /// The nonce that the ID token must have, if one is requested.
    #[serde(default)]
    pub(super) nonce: Option<String>,
    /// The time of the authorization request, in seconds since 1970. A record of an earlier version
    /// has none.
    #[serde(default = "now")]
    began: u64,
}

fn now() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap_or_default().as_secs()
}

impl AtProvider {
    /// Stores a new log-in. Returns the URL of the provider at which it continues.
    pub(super) async fn begin(
        app: &App,
        browser: &Browser,
        asked: Asked,
    ) -> Result<Url, OauthError> {
        let state = Handle::random()?;
        let verifier = Handle::random()?.to_string();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let scope = app
            .provider
            .config()
            .whole_scope(asked.scopes.iter().map(String::as_str));
        let nonce = match is_openid(&scope) {
            true => Some(Handle::random()?.to_string()),
            false => None,
        };
        let login = Self {
            browser: browser.name(),
            asked,
            verifier,
            nonce,
            began: now(),
        };
        app.records
            .seal(Kind::AtProvider, &state, &login, LOGIN_LIFETIME)
            .await?;
        Ok(app.provider.authorization_url(&AuthorizationRequest {
            state: &state.to_string(),
            challenge: &challenge,
            redirect_uri: &app.issuer.join("/callback"),
            scope: &scope,
            nonce: login.nonce.as_deref(),
        })?)
    }

    /// Returns the time of the authorization request, since 1970.
    pub(super) const fn began(&self) -> Duration {
        Duration::from_secs(self.began)
    }

    /// Removes and returns the log-in with this state if it belongs to this browser.
    pub(super) async fn take(
        app: &App,
        browser: Option<&Browser>,
        state: &Handle,
    ) -> Result<Self, Problem> {
        let login: Option<Stored<Self>> = app.records.open(Kind::AtProvider, state).await?;
        let login = login.ok_or_else(Problem::login_is_over)?;
        if browser.is_none_or(|browser| browser.name() != login.value.browser) {
            return Err(Problem::other_browser());
        }
        if !app.records.take(Kind::AtProvider, state, &login).await? {
            return Err(Problem::login_is_over());
        }
        Ok(login.value)
    }
}
