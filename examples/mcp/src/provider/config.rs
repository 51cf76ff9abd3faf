//! The settings of the provider, from the flags and from the discovery document.

use std::sync::Arc;
use std::time::Duration;

use server_common::jose::{ALGORITHMS, Issuer, Keys, TENANT};
use url::Url;

use super::credential::{AuthMethod, Credential};
use super::discovery::Document;
use super::preset::{GOOGLE, NONE, PRESETS, Preset};
use crate::clients::ProviderClient;
use crate::users::{ClaimNames, Rules};

/// The parameter of authorization requests that limits the age of the log-in at the provider
/// (OpenID Connect Core §3.1.2.1).
pub(crate) const MAX_AGE: &str = "max_age";

/// The flags of the provider.
#[derive(Clone, Debug)]
pub(crate) struct ProviderConfig {
    pub(crate) preset: Option<&'static Preset>,
    /// The issuer whose discovery document names the endpoints.
    pub(crate) issuer: Option<Issuer>,
    /// The endpoints of the flags, which replace those of the document and of the preset.
    pub(crate) endpoints: Endpoints,
    /// The value of `iss` in authorization responses, for a provider without a discovery document.
    pub(crate) response_issuer: Option<String>,
    pub(crate) client_id: String,
    pub(crate) credential: Credential,
    /// The method of client authentication; `None` selects one that the provider supports.
    pub(crate) auth_method: Option<AuthMethod>,
    /// Additional parameters for the authorization endpoint, such as `access_type=offline`.
    pub(crate) authorization_params: Vec<(String, String)>,
    /// Additional parameters for the token endpoint.
    pub(crate) token_params: Vec<(String, String)>,
    /// Whether requests name the URL of the MCP endpoint as `resource` (RFC 8707).
    pub(crate) forward_resource: bool,
    /// The scopes of this server.
    pub(crate) scopes: Vec<String>,
    /// The rules that say who may log in.
    pub(crate) rules: Rules,
    /// Whether the MCP server learns the addresses and groups of users.
    pub(crate) forwards_users: bool,
    /// The claim with the groups of a user, if it is not that of the preset.
    pub(crate) groups_claim: Option<String>,
}

impl ProviderConfig {
    /// Returns this server's own client at the provider.
    pub(crate) fn as_client(&self) -> ProviderClient<'_> {
        ProviderClient {
            id: &self.client_id,
            secret: match &self.credential {
                Credential::Secret(secret) => Some(secret),
                Credential::None | Credential::Key(_) => None,
            },
        }
    }
}

/// The endpoints of the flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    pub(crate) authorization: Option<Url>,
    pub(crate) token: Option<Url>,
    pub(crate) revocation: Option<Url>,
    pub(crate) userinfo: Option<Url>,
}

/// The settings that requests use. A snapshot, because the discovery document may change.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSettings {
    pub(crate) authorization_endpoint: Url,
    pub(crate) token_endpoint: Url,
    pub(crate) revocation_endpoint: Option<Url>,
    pub(crate) userinfo_endpoint: Option<Url>,
    pub(crate) auth_method: AuthMethod,
    pub(crate) response_issuer: Option<ResponseIssuer>,
    pub(crate) id_tokens: IdTokens,
}

/// The issuer that an authorization response names in `iss` (RFC 9207).
#[derive(Clone, Debug)]
pub(crate) struct ResponseIssuer {
    pub(crate) issuer: String,
    /// Whether every response has an `iss`.
    pub(crate) is_required: bool,
}

impl ResponseIssuer {
    /// Returns whether a response with this `iss` may come from the issuer.
    pub(crate) fn accepts(&self, iss: Option<&str>) -> bool {
        match iss {
            Some(iss) => self.issuer == iss,
            None => !self.is_required,
        }
    }
}

/// The settings by which ID tokens are verified.
#[derive(Clone, Debug)]
pub(crate) struct IdTokens {
    /// The `iss` of ID tokens, if it is known. It may contain [`TENANT`].
    pub(crate) issuer: Option<String>,
    /// Without keys, the TLS connection to the token endpoint vouches for ID tokens (OpenID Connect
    /// Core §3.1.3.7, point 6).
    pub(crate) keys: Option<PublishedKeys>,
}

/// The keys of the provider.
#[derive(Clone, Debug)]
pub(crate) struct PublishedKeys {
    jwks_uri: Url,
    /// The algorithms of ID tokens in the discovery document.
    algorithms: Option<Vec<String>>,
    pub(crate) keys: Arc<Keys>,
}

impl PublishedKeys {
    /// Returns whether the provider may sign ID tokens with this algorithm.
    pub(crate) fn sign_with(&self, algorithm: &str) -> bool {
        let all = self.algorithms.as_ref();
        all.is_none_or(|all| all.iter().any(|name| name == algorithm))
    }
}

impl ProviderConfig {
    /// Returns the preset, or one without any property.
    pub(crate) fn preset(&self) -> &'static Preset {
        self.preset.unwrap_or(&NONE)
    }

    /// Returns the names of the claims that describe a user.
    pub(crate) fn claim_names(&self) -> &'static ClaimNames {
        let issuer = self.issuer.as_ref().map(Issuer::as_str);
        // An e-mail address at Google proves less than one elsewhere. So Google's claim names apply
        // even if its preset is not selected.
        let of_google = Preset::find("google").filter(|_| issuer == Some(GOOGLE));
        &self.preset.or(of_google).unwrap_or(&NONE).claims
    }

    /// Returns the name of the claim with the groups of a user.
    pub(crate) fn groups_claim(&self) -> &str {
        let named = self.groups_claim.as_deref();
        named.unwrap_or(self.claim_names().groups)
    }

    /// Returns the value of `max_age` in authorization requests, the smallest if there are several.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        let params = self.authorization_params.iter();
        let ages = params.filter(|(name, _)| name == MAX_AGE);
        let ages = ages.filter_map(|(_, value)| value.parse().ok());
        ages.min().map(Duration::from_secs)
    }

    /// Returns an error if the rules for users, or the age of their log-ins, cannot be checked.
    pub(crate) fn check(&self) -> Result<(), String> {
        let preset = self.preset();
        if self.max_age().is_some() && !self.has_scope("openid") {
            return Err("--authorization-param max_age needs openid in --scope: only an ID token says when the user has logged in".into());
        }
        if preset.has_no_groups && !self.rules.groups.is_empty() && self.groups_claim.is_none() {
            return Err(format!(
                "--allow-group: --provider {} does not name the groups of users, so no user could log in",
                preset.name
            ));
        }
        if self.rules.are_empty() || self.has_scope("openid") {
            return Ok(());
        }
        let userinfo = preset.userinfo_endpoint.is_some();
        if self.issuer.is_none() && (userinfo || self.endpoints.userinfo.is_some()) {
            return Ok(());
        }
        Err("--allow-user, --allow-email-domain and --allow-group need openid in --scope, or a --userinfo-endpoint without --issuer".into())
    }

    /// Returns whether accounts at the provider are open to the public.
    pub(crate) fn is_public(&self) -> bool {
        let issuer = self.issuer.as_ref().map_or("", |issuer| issuer.as_str());
        let is_meant = |preset: &&Preset| match self.preset {
            Some(named) => named.name == preset.name,
            None => preset.issuer == Some(issuer) || preset.issuer_form.is_some(),
        };
        let public = PRESETS
            .iter()
            .filter(is_meant)
            .flat_map(|preset| preset.public);
        public.into_iter().any(|public| issuer.starts_with(public))
    }

    /// Returns the settings that follow from the flags and the discovery document of the issuer, if
    /// there is one. `before` are the earlier settings, whose keys are kept if their URL is the
    /// same.
    ///
    /// # Errors
    ///
    /// If the flags contradict the document or the document lacks something. The text names the
    /// flag.
    pub(crate) fn settings(
        &self,
        document: Option<&Document>,
        before: Option<&ProviderSettings>,
    ) -> Result<ProviderSettings, String> {
        let preset = self.preset();
        let known = document.cloned().unwrap_or_default();
        if let Some(issuer) = &self.issuer {
            known.check(issuer)?;
        }
        let endpoint = |flag: &Option<Url>, found: Option<Url>, preset: Option<&str>| {
            let preset = || preset.and_then(|url| Url::parse(url).ok());
            flag.clone().or(found).or_else(preset)
        };
        let Endpoints {
            authorization,
            token,
            revocation,
            userinfo,
        } = &self.endpoints;
        let missing = |flag: &str| match document {
            Some(_) => {
                format!("--issuer: the discovery document has no endpoint for {flag}: set it")
            }
            None => format!("--client-id needs {flag}, --issuer or --provider"),
        };
        let authorization_endpoint = endpoint(
            authorization,
            known.authorization_endpoint.clone(),
            preset.authorization_endpoint,
        );
        let token_endpoint = endpoint(token, known.token_endpoint.clone(), preset.token_endpoint);
        Ok(ProviderSettings {
            authorization_endpoint: authorization_endpoint
                .ok_or_else(|| missing("--authorization-endpoint"))?,
            token_endpoint: token_endpoint.ok_or_else(|| missing("--token-endpoint"))?,
            revocation_endpoint: endpoint(
                revocation,
                known.revocation_endpoint.clone(),
                preset.revocation_endpoint,
            ),
            userinfo_endpoint: endpoint(
                userinfo,
                known.userinfo_endpoint.clone(),
                preset.userinfo_endpoint,
            ),
            auth_method: self.auth_method(&known, preset)?,
            response_issuer: self.response_issuer(&known),
            id_tokens: IdTokens {
                issuer: Some(known.issuer.clone())
                    .filter(|issuer| !issuer.is_empty())
                    .or_else(|| self.response_issuer.clone()),
                keys: self.keys(&known, before)?,
            },
        })
    }

    /// Returns the method of client authentication: that of the flag, or the first one that this
    /// server and the provider have.
    fn auth_method(&self, known: &Document, preset: &Preset) -> Result<AuthMethod, String> {
        if let Some(method) = self.auth_method.or(preset.auth_method) {
            return Ok(method);
        }
        let methods = self.credential.methods();
        let Some(supported) = &known.token_endpoint_auth_methods_supported else {
            // OpenID Connect Discovery §3: the default is `client_secret_basic`.
            return Ok(methods[0]);
        };
        let has = |method: &&AuthMethod| supported.iter().any(|name| name == method.name());
        match methods.iter().find(has) {
            Some(method) => Ok(*method),
            // Many providers have public clients and do not list `none`.
            None if methods == [AuthMethod::None] => Ok(AuthMethod::None),
            None => Err(format!(
                "--issuer: the token endpoint supports only the authentication methods {}: set --client-secret, --client-key or --client-auth accordingly",
                supported.join(", ")
            )),
        }
    }

    fn response_issuer(&self, known: &Document) -> Option<ResponseIssuer> {
        if let Some(issuer) = &self.response_issuer {
            return Some(ResponseIssuer {
                issuer: issuer.clone(),
                is_required: true,
            });
        }
        // A provider with tenants names the issuer of the tenant, which is not known here.
        let issuer = known.issuer.clone();
        (!issuer.is_empty() && !issuer.contains(TENANT)).then_some(ResponseIssuer {
            issuer,
            is_required: known.authorization_response_iss_parameter_supported,
        })
    }

    /// Returns the keys that verify ID tokens, if the issuer is known and issues them.
    fn keys(
        &self,
        known: &Document,
        before: Option<&ProviderSettings>,
    ) -> Result<Option<PublishedKeys>, String> {
        if self.issuer.is_none() || !self.has_scope("openid") {
            return Ok(None);
        }
        let missing = "--issuer: the discovery document has no jwks_uri, without which ID tokens cannot be verified: leave openid out of --scope";
        let jwks_uri = known.jwks_uri.clone().ok_or(missing)?;
        let algorithms = &known.id_token_signing_alg_values_supported;
        let is_known = |name: &String| ALGORITHMS.contains(&name.as_str());
        if let Some(algorithms) = algorithms
            && !algorithms.iter().any(is_known)
        {
            return Err(format!(
                "--issuer: ID tokens are signed with {} only, none of which is supported: leave openid out of --scope",
                algorithms.join(", ")
            ));
        }
        let before = before.and_then(|before| before.id_tokens.keys.as_ref());
        let keys = match before.filter(|before| before.jwks_uri == jwks_uri) {
            Some(before) => Arc::clone(&before.keys),
            None => {
                let keys = Keys::at(jwks_uri.clone());
                Arc::new(keys.map_err(|error| format!("--issuer: {error}"))?)
            }
        };
        Ok(Some(PublishedKeys {
            jwks_uri,
            algorithms: algorithms.clone(),
            keys,
        }))
    }
}

#[cfg(test)]
impl ProviderConfig {
    /// Returns the settings of a public client at a provider.
    pub(super) fn of(issuer: &str) -> Self {
        Self {
            preset: None,
            issuer: Some(issuer.parse().unwrap()),
            endpoints: Endpoints::default(),
            response_issuer: None,
            client_id: "me".into(),
            credential: Credential::None,
            auth_method: None,
            authorization_params: Vec::new(),
            token_params: Vec::new(),
            forward_resource: false,
            scopes: vec!["openid".into()],
            rules: Rules::default(),
            forwards_users: false,
            groups_claim: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_whose_accounts_are_open_to_the_public_are_known() {
        const ENTRA: &str = "https://login.microsoftonline.com";
        let entra = |tenant: &str| format!("{ENTRA}/{tenant}/v2.0");
        for (preset, issuer, is_public) in [
            ("github", None, true),
            ("discord", None, true),
            ("google", Some(GOOGLE.to_owned()), true),
            ("", Some(GOOGLE.to_owned()), true),
            ("entra", Some(entra("common")), true),
            ("entra", Some(entra("organizations")), true),
            ("entra", Some(entra("consumers")), true),
            ("", Some(entra("common")), true),
            ("entra", Some(entra("0-a-1")), false),
            ("gitlab", Some("https://gitlab.com".into()), true),
            ("gitlab", Some("https://gitlab.example.com".into()), false),
            ("okta", Some("https://a.okta.com".into()), false),
            ("", Some("https://id.example".into()), false),
        ] {
            let config = ProviderConfig {
                preset: Preset::find(preset),
                issuer: issuer.as_ref().map(|issuer| issuer.parse().unwrap()),
                ..ProviderConfig::of(GOOGLE)
            };
            assert_eq!(config.is_public(), is_public, "{preset} {issuer:?}");
        }
    }
}
