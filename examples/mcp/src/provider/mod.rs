//! A client for the identity provider. This server is registered there as a single OAuth client.

mod config;
mod credential;
mod discovery;
mod error;
mod id_token;
mod identify;
mod preset;
mod scope;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use reqwest::redirect::Policy;
use serde_json::{Map, Value};
use server_common::causes::causes;
use server_common::metrics::Metrics;
use server_common::program::Failure;
use url::Url;

pub(crate) use self::config::{Endpoints, MAX_AGE, ProviderConfig, ProviderSettings};
use self::credential::Basic;
pub(crate) use self::credential::{AuthMethod, Credential};
pub(crate) use self::error::ProviderError;
pub(crate) use self::identify::Occasion;
pub(crate) use self::preset::{PRESETS, Preset};

/// The time limit for a request to the provider.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum size of a response of the provider.
const MOST_BYTES: usize = 64 * 1024;

/// A response of the provider.
#[derive(Clone)]
pub(crate) struct ProviderAnswer {
    pub(crate) status: StatusCode,
    /// Usually JSON.
    pub(crate) body: Bytes,
}

impl ProviderAnswer {
    /// Returns the error code in the body (RFC 6749 §5.2).
    pub(crate) fn error(&self) -> Option<String> {
        let body = serde_json::from_slice::<serde_json::Value>(&self.body).ok()?;
        body.get("error")?.as_str().map(str::to_owned)
    }
}

impl fmt::Debug for ProviderAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderAnswer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A client of the provider's endpoints. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Provider(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    config: ProviderConfig,
    /// The settings in force; `None` until the discovery document could be read.
    settings: RwLock<Option<Arc<ProviderSettings>>>,
    /// The value of `resource` in requests (RFC 8707), if they have it.
    resource: Option<String>,
    metrics: Metrics,
}

/// An authorization request to the provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthorizationRequest<'a> {
    pub(crate) state: &'a str,
    /// The PKCE code challenge.
    pub(crate) challenge: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) scope: &'a str,
    /// The nonce for the ID token, if there is one.
    pub(crate) nonce: Option<&'a str>,
}

impl Provider {
    /// Creates the client. If an issuer is configured, it has no settings before
    /// [`discover`](Self::discover). `resource` is the URL of the MCP endpoint.
    pub(crate) fn new(
        config: ProviderConfig,
        resource: String,
        metrics: Metrics,
    ) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        let settings = match &config.issuer {
            Some(_) => None,
            None => Some(Arc::new(
                config.settings(None, None).map_err(Failure::Usage)?,
            )),
        };
        Ok(Self(Arc::new(Inner {
            http,
            resource: config.forward_resource.then_some(resource),
            config,
            settings: RwLock::new(settings),
            metrics,
        })))
    }

    pub(crate) fn config(&self) -> &ProviderConfig {
        &self.0.config
    }

    /// Returns the settings in force. A request keeps those with which it began.
    pub(crate) fn settings(&self) -> Result<Arc<ProviderSettings>, ProviderError> {
        let settings = self.0.settings.read();
        let settings = settings.unwrap_or_else(PoisonError::into_inner);
        settings.clone().ok_or(ProviderError::NotReady)
    }

    fn replace(&self, settings: ProviderSettings) {
        let mut current = self
            .0
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(settings));
    }

    /// Returns the URL at which the user logs in.
    pub(crate) fn authorization_url(
        &self,
        request: &AuthorizationRequest<'_>,
    ) -> Result<Url, ProviderError> {
        let Inner {
            config, resource, ..
        } = &*self.0;
        let mut url = self.settings()?.authorization_endpoint.clone();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &config.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("state", request.state)
            .append_pair("code_challenge", request.challenge)
            .append_pair("code_challenge_method", "S256");
        if !request.scope.is_empty() {
            query.append_pair("scope", request.scope);
        }
        if let Some(nonce) = request.nonce {
            query.append_pair("nonce", nonce);
        }
        if let Some(resource) = resource {
            query.append_pair("resource", resource);
        }
        query.extend_pairs(&config.authorization_params);
        drop(query);
        Ok(url)
    }

    /// Exchanges one of the provider's authorization codes.
    pub(crate) async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<ProviderAnswer, ProviderError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.token(&fields).await
    }

    /// Refreshes with one of the provider's refresh tokens.
    pub(crate) async fn refresh(
        &self,
        token: &str,
        scope: Option<&str>,
    ) -> Result<ProviderAnswer, ProviderError> {
        let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        fields.extend(scope.map(|scope| ("scope", scope)));
        self.token(&fields).await
    }

    /// Sends a request to the token endpoint.
    async fn token(&self, fields: &[(&str, &str)]) -> Result<ProviderAnswer, ProviderError> {
        let mut fields = fields.to_vec();
        if let Some(resource) = &self.0.resource {
            fields.push(("resource", resource));
        }
        let more = &self.0.config.token_params;
        fields.extend(more.iter().map(|(name, value)| (&**name, &**value)));
        let settings = self.settings()?;
        self.post(&settings, &settings.token_endpoint, &fields)
            .await
    }

    /// Revokes one of the provider's tokens. Returns `None` if the provider has no revocation
    /// endpoint.
    pub(crate) async fn revoke(
        &self,
        token: &str,
        hint: Option<&str>,
    ) -> Option<Result<ProviderAnswer, ProviderError>> {
        let settings = match self.settings() {
            Ok(settings) => settings,
            Err(error) => return Some(Err(error)),
        };
        let endpoint = settings.revocation_endpoint.as_ref()?;
        let mut fields = vec![("token", token)];
        fields.extend(hint.map(|hint| ("token_type_hint", hint)));
        Some(self.post(&settings, endpoint, &fields).await)
    }

    /// Revokes the newest token of a response in the background, because no session uses it. If the
    /// provider has no revocation endpoint, its tokens stay valid there.
    pub(crate) fn discard(&self, answer: &Map<String, Value>) {
        let token = |name| Some((answer.get(name)?.as_str()?.to_owned(), name));
        let Some((token, hint)) = token("refresh_token").or_else(|| token("access_token")) else {
            return;
        };
        let provider = self.clone();
        tokio::spawn(async move {
            let error = match provider.revoke(&token, Some(hint)).await {
                Some(Ok(answer)) if !answer.status.is_success() => answer.status.to_string(),
                Some(Err(error)) => causes(&error),
                _ => return,
            };
            tracing::warn!(
                error,
                "the token of a refused user could not be revoked: it stays valid at the provider"
            );
        });
    }

    /// Requests the user's claims with one of the provider's access tokens. Returns `None` if the
    /// provider has no userinfo endpoint.
    pub(crate) async fn userinfo(
        &self,
        token: &str,
    ) -> Option<Result<ProviderAnswer, ProviderError>> {
        let settings = match self.settings() {
            Ok(settings) => settings,
            Err(error) => return Some(Err(error)),
        };
        let endpoint = settings.userinfo_endpoint.as_ref()?;
        Some(self.get(endpoint.as_str(), token).await)
    }

    /// Requests the addresses of a user, which GitHub lists apart. Returns the verified primary
    /// address, or `None` if the user has none or the token may not read addresses.
    pub(crate) async fn primary_email(&self, token: &str) -> Result<Option<String>, ProviderError> {
        #[derive(serde::Deserialize)]
        struct Address {
            email: String,
            verified: bool,
            primary: bool,
        }
        let settings = self.settings()?;
        let Some(userinfo) = &settings.userinfo_endpoint else {
            return Ok(None);
        };
        let answer = self.get(&format!("{userinfo}/emails"), token).await?;
        match answer.status {
            // An OAuth app without the scope `user:email`, and a GitHub App without the permission.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => return Ok(None),
            status if !status.is_success() => return Err(ProviderError::Status(status)),
            _ => {}
        }
        let addresses: Result<Vec<Address>, _> = serde_json::from_slice(&answer.body);
        let mut addresses = addresses.map_err(|_| ProviderError::Malformed)?.into_iter();
        let address = addresses.find(|address| address.verified && address.primary);
        Ok(address.map(|address| address.email))
    }

    async fn get(&self, url: &str, token: &str) -> Result<ProviderAnswer, ProviderError> {
        let request = self
            .0
            .http
            .get(url)
            .bearer_auth(token)
            .header("accept", "application/json")
            // GitHub rejects requests without a `User-Agent`.
            .header("user-agent", "tower-oauth-refresh");
        self.send(request).await
    }

    async fn post(
        &self,
        settings: &ProviderSettings,
        endpoint: &Url,
        fields: &[(&str, &str)],
    ) -> Result<ProviderAnswer, ProviderError> {
        self.send(self.request(settings, endpoint, fields)?).await
    }

    /// Returns a request with the authentication of this server.
    fn request(
        &self,
        settings: &ProviderSettings,
        endpoint: &Url,
        fields: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder, ProviderError> {
        let ProviderConfig {
            client_id,
            credential,
            ..
        } = &self.0.config;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let audience = settings.token_endpoint.as_str();
        let basic = credential
            .authenticate(settings.auth_method, client_id, audience, &mut form)
            .map_err(ProviderError::NotSigned)?;
        let request = self
            .0
            .http
            .post(endpoint.clone())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish());
        Ok(match basic {
            Some(Basic { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        })
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<ProviderAnswer, ProviderError> {
        let is_good = |answer: &ProviderAnswer| !answer.status.is_server_error();
        self.0.metrics.upstream_call(send(request), is_good).await
    }
}

/// Sends a request and reads the response, up to [`MOST_BYTES`].
async fn send(request: reqwest::RequestBuilder) -> Result<ProviderAnswer, ProviderError> {
    let unreachable = |error: reqwest::Error| ProviderError::Unreachable(error.without_url());
    let mut response = request.send().await.map_err(unreachable)?;
    let mut status = response.status();
    if status == StatusCode::FORBIDDEN && is_limited(response.headers()) {
        status = StatusCode::TOO_MANY_REQUESTS;
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(ProviderError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(ProviderAnswer {
        status,
        body: body.into(),
    })
}

/// Returns whether a response says that there were too many requests, which GitHub also does with
/// status 403.
fn is_limited(headers: &HeaderMap) -> bool {
    let left = headers.get("x-ratelimit-remaining");
    headers.contains_key("retry-after") || left.is_some_and(|left| left == "0")
}
