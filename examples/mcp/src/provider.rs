//! A client for the identity provider. This server is registered there as a single OAuth client.

use std::fmt;
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use reqwest::redirect::Policy;
use server_common::flags::ClientAuth;
use server_common::metrics::Metrics;
use url::Url;

/// The time limit for a request to the provider.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum size of a response of the provider.
const MOST_BYTES: usize = 64 * 1024;

/// The endpoints of the provider, and this server's credentials there.
#[derive(Clone)]
pub(crate) struct ProviderSettings {
    pub(crate) authorization_endpoint: Url,
    pub(crate) token_endpoint: Url,
    pub(crate) revocation_endpoint: Option<Url>,
    pub(crate) userinfo_endpoint: Option<Url>,
    /// The value of `iss` in the provider's authorization responses, if it sends one (RFC 9207).
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// The method by which this server authenticates to the provider.
    pub(crate) auth: ClientAuth,
    /// Additional parameters for the authorization endpoint, such as `access_type=offline`.
    pub(crate) extra: Vec<(String, String)>,
}

impl fmt::Debug for ProviderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSettings")
            .field(
                "authorization_endpoint",
                &self.authorization_endpoint.as_str(),
            )
            .field("token_endpoint", &self.token_endpoint.as_str())
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The reason why a request to the provider failed without a usable response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("the identity provider cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the response of the identity provider is too large")]
    TooLarge,
}

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

/// A client of the provider's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    http: reqwest::Client,
    settings: ProviderSettings,
    metrics: Metrics,
}

impl Provider {
    pub(crate) fn new(
        settings: ProviderSettings,
        metrics: Metrics,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            http,
            settings,
            metrics,
        })
    }

    pub(crate) const fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// Returns the URL at which the user logs in.
    pub(crate) fn authorization_url(
        &self,
        state: &str,
        challenge: &str,
        redirect_uri: &str,
        scope: &str,
    ) -> Url {
        let mut url = self.settings.authorization_endpoint.clone();
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state)
            .append_pair("code_challenge", challenge)
            .append_pair("code_challenge_method", "S256");
        if !scope.is_empty() {
            query.append_pair("scope", scope);
        }
        query.extend_pairs(&self.settings.extra);
        drop(query);
        url
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
        self.post(&self.settings.token_endpoint, &fields).await
    }

    /// Refreshes with one of the provider's refresh tokens.
    pub(crate) async fn refresh(
        &self,
        token: &str,
        scope: Option<&str>,
    ) -> Result<ProviderAnswer, ProviderError> {
        let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        fields.extend(scope.map(|scope| ("scope", scope)));
        self.post(&self.settings.token_endpoint, &fields).await
    }

    /// Revokes one of the provider's tokens. Returns `None` if no revocation endpoint is
    /// configured.
    pub(crate) async fn revoke(
        &self,
        token: &str,
        hint: Option<&str>,
    ) -> Option<Result<ProviderAnswer, ProviderError>> {
        let endpoint = self.settings.revocation_endpoint.as_ref()?;
        let mut fields = vec![("token", token)];
        fields.extend(hint.map(|hint| ("token_type_hint", hint)));
        Some(self.post(endpoint, &fields).await)
    }

    /// Requests the user's claims with one of the provider's access tokens. Returns `None` if no
    /// userinfo endpoint is configured.
    pub(crate) async fn userinfo(
        &self,
        token: &str,
    ) -> Option<Result<ProviderAnswer, ProviderError>> {
        let endpoint = self.settings.userinfo_endpoint.as_ref()?;
        let request = self
            .http
            .get(endpoint.clone())
            .bearer_auth(token)
            .header("accept", "application/json");
        // GitHub rejects requests without a `User-Agent`.
        Some(
            self.send(request.header("user-agent", "tower-oauth-refresh"))
                .await,
        )
    }

    async fn post(
        &self,
        endpoint: &Url,
        fields: &[(&str, &str)],
    ) -> Result<ProviderAnswer, ProviderError> {
        self.send(self.request(endpoint, fields)).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<ProviderAnswer, ProviderError> {
        let is_good = |answer: &ProviderAnswer| !answer.status.is_server_error();
        self.metrics.upstream_call(send(request), is_good).await
    }

    fn request(&self, endpoint: &Url, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = self
            .http
            .post(endpoint.clone())
            .header("accept", "application/json");
        let (id, secret) = (&self.settings.client_id, &self.settings.client_secret);
        match self.settings.auth {
            ClientAuth::Post => {
                form.append_pair("client_id", id)
                    .append_pair("client_secret", secret);
            }
            // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
            ClientAuth::Basic => {
                request = request.basic_auth(form_encoded(id), Some(form_encoded(secret)))
            }
        }
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
    }
}

/// Sends a request and reads the response, up to [`MOST_BYTES`].
async fn send(request: reqwest::RequestBuilder) -> Result<ProviderAnswer, ProviderError> {
    let unreachable = |error: reqwest::Error| ProviderError::Unreachable(error.without_url());
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
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

fn form_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
