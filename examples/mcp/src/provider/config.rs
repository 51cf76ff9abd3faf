//! The settings of the provider: what the flags say, and what is in force.

use server_common::jose::Issuer;
use url::Url;

use super::credential::{AuthMethod, Credential};
use super::discovery::Document;
use super::preset::Preset;
use crate::clients::ProviderClient;

/// The flags of the provider.
#[derive(Clone, Debug)]
pub(crate) struct ProviderConfig {
    pub(crate) preset: Option<&'static Preset>,
    /// The issuer whose discovery document names the endpoints.
    pub(crate) issuer: Option<Issuer>,
    /// The endpoints of the flags, which replace those of the document and of the preset.
    pub(crate) endpoints: Endpoints,
    /// The value of `iss` in authorization responses, if no discovery document says it.
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
}

impl ProviderConfig {
    /// Returns the client that this server is at the provider.
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

/// The settings in force: a snapshot, because the discovery document may change.
#[derive(Clone, Debug)]
pub(crate) struct ProviderSettings {
    pub(crate) authorization_endpoint: Url,
    pub(crate) token_endpoint: Url,
    pub(crate) revocation_endpoint: Option<Url>,
    pub(crate) userinfo_endpoint: Option<Url>,
    pub(crate) auth_method: AuthMethod,
    pub(crate) response_issuer: Option<ResponseIssuer>,
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

impl ProviderConfig {
    /// Returns the settings that follow from the flags and the discovery document of the issuer, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// If the flags and the document do not fit together. The text names the flag.
    pub(crate) fn settings(&self, document: Option<&Document>) -> Result<ProviderSettings, String> {
        let preset = self.preset.copied().unwrap_or_default();
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
            auth_method: self.auth_method(&known, &preset)?,
            response_issuer: self.response_issuer(&known),
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
}

/// The part of an issuer that stands for the tenant of a user, at Entra ID.
pub(crate) const TENANT: &str = "{tenantid}";
