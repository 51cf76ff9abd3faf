//! The discovery document of the provider (OpenID Connect Discovery §3, RFC 8414 §2).

use std::time::Duration;

use serde::Deserialize;
use server_common::causes::causes;
use server_common::jose::{Fetcher, Issuer};
use tokio::time::{sleep, timeout};
use url::Url;

use super::{Provider, ProviderConfig};

/// The time after which the document is read again.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// The first and the longest pause after a failure. Each pause is twice as long as the one before.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

/// The time limit for one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The members of the document that this server uses.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Document {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Option<Url>,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) jwks_uri: Option<Url>,
    pub(super) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    pub(super) id_token_signing_alg_values_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl Document {
    /// Returns an error if the document is that of another issuer (RFC 8414 §3.3), or if an
    /// endpoint is not protected by TLS although the issuer is.
    pub(super) fn check(&self, issuer: &Issuer) -> Result<(), String> {
        if !issuer.is_described_by(&self.issuer) {
            return Err(format!(
                "--issuer: the discovery document of {issuer} is that of `{}`, and both must be spelled the same",
                self.issuer
            ));
        }
        let urls = [
            &self.authorization_endpoint,
            &self.token_endpoint,
            &self.revocation_endpoint,
            &self.userinfo_endpoint,
            &self.jwks_uri,
        ];
        match urls.into_iter().flatten().find(|url| !issuer.trusts(url)) {
            Some(url) => Err(format!(
                "--issuer: the discovery document names {url}, which is not https"
            )),
            None => Ok(()),
        }
    }
}

/// The reason why there are no settings.
#[derive(Debug)]
pub(crate) enum DiscoveryError {
    /// A later attempt may succeed.
    Unavailable(String),
    /// The document and the flags do not fit together. The text names the flag.
    Contradiction(String),
}

impl Provider {
    /// Reads the document once, and then again and again in the background: after a day, or after a
    /// short time if it could not be read. Until it could be read, the provider has no settings.
    ///
    /// # Errors
    ///
    /// If the document contradicts the flags.
    pub(crate) async fn discover(&self) -> Result<(), String> {
        let Some(issuer) = self.config().issuer.clone() else {
            return Ok(());
        };
        let fetcher = Fetcher::new(issuer.is_https());
        let fetcher = fetcher.map_err(|error| format!("--issuer {issuer}: {error}"))?;
        let failed = match self.read(&fetcher, &issuer).await {
            Ok(()) => false,
            Err(DiscoveryError::Contradiction(why)) => return Err(why),
            Err(DiscoveryError::Unavailable(why)) => {
                tracing::error!(
                    error = why,
                    %issuer,
                    "cannot read the discovery document of --issuer: log-ins get 503 until it can be read"
                );
                true
            }
        };
        let provider = self.clone();
        tokio::spawn(async move {
            let [first, longest] = PAUSES;
            let mut pause = if failed { first } else { AGE };
            loop {
                sleep(pause).await;
                pause = match provider.read(&fetcher, &issuer).await {
                    Ok(()) => {
                        tracing::info!(%issuer, "read the discovery document of --issuer");
                        AGE
                    }
                    Err(DiscoveryError::Unavailable(why) | DiscoveryError::Contradiction(why)) => {
                        tracing::warn!(
                            error = why,
                            %issuer,
                            "cannot read the discovery document of --issuer: trying again, with the earlier settings if there are any"
                        );
                        if pause == AGE {
                            first
                        } else {
                            (pause * 2).min(longest)
                        }
                    }
                };
            }
        });
        Ok(())
    }

    async fn read(&self, fetcher: &Fetcher, issuer: &Issuer) -> Result<(), DiscoveryError> {
        let fetched = timeout(TIMEOUT, fetcher.discover::<Document>(issuer)).await;
        let document = match fetched {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => return Err(DiscoveryError::Unavailable(causes(&error))),
            Err(_) => {
                let why = "the provider did not respond in time";
                return Err(DiscoveryError::Unavailable(why.into()));
            }
        };
        let before = self.settings().ok();
        let config: &ProviderConfig = self.config();
        let settings = config
            .settings(Some(&document), before.as_deref())
            .map_err(DiscoveryError::Contradiction)?;
        self.replace(settings);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::get;
    use serde_json::{Value, json};
    use server_common::metrics::Metrics;
    use test_support::http::serve;
    use tokio::task::yield_now;
    use tokio::time::{advance, pause, resume};

    use super::*;

    /// Lets time pass while nothing waits for the network.
    async fn pass(time: Duration) {
        pause();
        advance(time).await;
        resume();
    }

    #[tokio::test]
    async fn the_document_is_read_every_day_and_kept_while_it_cannot_be() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let document: Arc<Mutex<Option<Value>>> = Arc::default();
        let served = Arc::clone(&document);
        let answer = async move || match &*served.lock().unwrap() {
            Some(document) => Ok(document.to_string()),
            None => Err(StatusCode::BAD_GATEWAY),
        };
        let path = "/.well-known/openid-configuration";
        let addr = serve(Router::new().route(path, get(answer))).await;
        let issuer = format!("http://{addr}");
        let publish = |token: &str| {
            *document.lock().unwrap() = Some(json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/{token}"),
                "jwks_uri": format!("{issuer}/jwks"),
            }));
        };
        let provider = Provider::new(
            ProviderConfig::of(&issuer),
            String::new(),
            Metrics::default(),
        )
        .unwrap();
        let token = || {
            let settings = provider.settings().ok()?;
            Some(settings.token_endpoint.path().to_owned())
        };
        let becomes = async |path: &str| {
            while token().as_deref() != Some(path) {
                sleep(Duration::from_millis(5)).await;
            }
        };

        provider.discover().await.unwrap();
        assert_eq!(token(), None);
        publish("one");
        pass(PAUSES[0]).await;
        becomes("/one").await;
        publish("two");
        pass(AGE / 2).await;
        assert_eq!(token().as_deref(), Some("/one"));
        pass(AGE).await;
        becomes("/two").await;
        *document.lock().unwrap() = None;
        pass(AGE).await;
        assert_eq!(token().as_deref(), Some("/two"));
        publish("three");
        pass(PAUSES[1]).await;
        becomes("/three").await;
    }

    #[tokio::test]
    async fn a_document_without_keys_replaces_nothing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let served = Arc::new(Mutex::new((0, true)));
        let state = Arc::clone(&served);
        let answer = async move |headers: HeaderMap| {
            let mut state = state.lock().unwrap();
            state.0 += 1;
            let issuer = format!("http://{}", headers["host"].to_str().unwrap());
            let mut document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/{}", state.0),
            });
            if state.1 {
                document["jwks_uri"] = format!("{issuer}/jwks").into();
            }
            document.to_string()
        };
        let path = "/.well-known/openid-configuration";
        let addr = serve(Router::new().route(path, get(answer))).await;
        let config = ProviderConfig::of(&format!("http://{addr}"));
        let provider = Provider::new(config, String::new(), Metrics::default()).unwrap();
        provider.discover().await.unwrap();
        served.lock().unwrap().1 = false;
        // The background task begins its pause.
        yield_now().await;
        let is_read = async |times: u32| {
            while served.lock().unwrap().0 < times {
                sleep(Duration::from_millis(5)).await;
            }
        };
        pass(AGE).await;
        is_read(2).await;
        // It is read again after the settings of the second time were refused.
        pass(PAUSES[0]).await;
        is_read(3).await;
        let settings = provider.settings().unwrap();
        assert_eq!(settings.token_endpoint.path(), "/1");
        assert!(settings.id_tokens.keys.is_some());
    }

    #[tokio::test]
    async fn the_path_of_rfc_8414_is_for_providers_without_the_other_one() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for (status, is_found) in [(404, true), (400, false), (403, false), (429, false)] {
            let status = StatusCode::from_u16(status).unwrap();
            let document = async |headers: HeaderMap| {
                let issuer = format!("http://{}", headers["host"].to_str().unwrap());
                let document = json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/jwks"),
                });
                document.to_string()
            };
            let router = Router::new()
                .route("/.well-known/oauth-authorization-server", get(document))
                .fallback(async move || status);
            let config = ProviderConfig::of(&format!("http://{}", serve(router).await));
            let provider = Provider::new(config, String::new(), Metrics::default()).unwrap();
            provider.discover().await.unwrap();
            assert_eq!(provider.settings().is_ok(), is_found, "{status}");
        }
    }
}
