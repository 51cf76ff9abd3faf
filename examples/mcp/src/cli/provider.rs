//! The flags of the identity provider.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use server_common::jose::{Issuer, check_scheme};
use url::Url;

use super::users::UserFlags;
use crate::provider::{
    AuthMethod, Credential, Endpoints, MAX_AGE, PRESETS, Preset, ProviderConfig,
};
use crate::signing::SigningKey;

/// The flags of the identity provider.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Identity provider")]
pub(crate) struct ProviderFlags {
    /// Kind of the provider: fills what its discovery document does not say
    #[arg(long, value_name = "NAME", value_parser = presets())]
    pub(super) provider: Option<&'static Preset>,

    /// Issuer identifier of the provider, spelled as in its tokens: its endpoints and keys are read
    /// from its discovery document, at start and every day [default: that of --provider, if all its
    /// users have the same]
    #[arg(long, value_name = "URL")]
    pub(super) issuer: Option<Issuer>,

    /// Authorization endpoint of the provider, instead of the one of --issuer
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    authorization_endpoint: Option<Url>,

    /// Token endpoint of the provider, instead of the one of --issuer
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    token_endpoint: Option<Url>,

    /// Revocation endpoint of the provider, instead of the one of --issuer
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    revocation_endpoint: Option<Url>,

    /// Userinfo endpoint of the provider, instead of the one of --issuer
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    userinfo_endpoint: Option<Url>,

    /// Value of `iss` in the authorization responses of a provider without a discovery document
    /// (RFC 9207); not with --issuer
    #[arg(long, value_name = "URL")]
    pub(super) provider_issuer: Option<String>,

    /// Additional parameter for the provider's authorization endpoint, such as access_type=offline
    /// for Google; may be repeated, in the environment one in each line
    ///
    /// With max_age, a log-in also needs an ID token whose auth_time is at most that old.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = authorization_pair)]
    authorization_param: Vec<(String, String)>,

    /// Additional parameter for the provider's token endpoint; may be repeated, in the environment
    /// one in each line
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = '\n', value_parser = pair)]
    token_param: Vec<(String, String)>,

    /// Send the URL of the MCP endpoint to the provider as `resource` (RFC 8707)
    #[arg(long)]
    forward_resource: bool,

    /// Client ID of this server at the provider
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,

    /// Client secret of this server at the provider; set it in the environment to keep it out of
    /// process lists
    #[arg(long, value_name = "SECRET", hide_env_values = true)]
    client_secret: Option<String>,

    /// Method of client authentication at the provider [default: one that the provider and this
    /// server have]
    #[arg(long, value_enum, value_name = "METHOD")]
    client_auth: Option<AuthMethod>,

    /// File with the private key of this server at the provider, in PEM, P-256 or RSA, instead of
    /// --client-secret: this server authenticates with private_key_jwt (RFC 7523)
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,

    /// ID of --client-key at the provider [default: the thumbprint of RFC 7638]
    #[arg(long, value_name = "ID")]
    client_key_id: Option<String>,
}

/// The parameters that this server sends by itself.
const OWN_PARAMETERS: [&str; 17] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "grant_type",
    "code",
    "code_verifier",
    "refresh_token",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "request",
    "request_uri",
];

impl ProviderFlags {
    /// Returns the settings of the provider; `None` selects the demo provider.
    pub(super) fn config(
        &self,
        scopes: Vec<String>,
        users: &UserFlags,
    ) -> Result<Option<ProviderConfig>, String> {
        let Some(client_id) = self.client_id.clone() else {
            return match self.first_set() {
                Some(flag) => Err(format!("{flag} needs --client-id")),
                None => Ok(None),
            };
        };
        let issuer = self.issuer()?;
        if issuer.is_some() && self.provider_issuer.is_some() {
            return Err("--provider-issuer cannot be combined with --issuer".into());
        }
        let credential = self.credential()?;
        if let Some(method) = self.client_auth
            && !credential.methods().contains(&method)
        {
            return Err(match method {
                AuthMethod::None => {
                    "--client-auth none cannot be combined with --client-secret or --client-key"
                        .into()
                }
                AuthMethod::PrivateKeyJwt => {
                    "--client-auth private_key_jwt needs --client-key".into()
                }
                method => format!("--client-auth {} needs --client-secret", method.name()),
            });
        }
        let mut authorization_params = self.authorization_param.clone();
        let known = self
            .provider
            .map_or(&[][..], |preset| preset.authorization_params);
        for (name, value) in known {
            if !authorization_params.iter().any(|(other, _)| other == name) {
                authorization_params.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        let config = ProviderConfig {
            preset: self.provider,
            issuer,
            endpoints: Endpoints {
                authorization: self.authorization_endpoint.clone(),
                token: self.token_endpoint.clone(),
                revocation: self.revocation_endpoint.clone(),
                userinfo: self.userinfo_endpoint.clone(),
            },
            response_issuer: self.provider_issuer.clone(),
            client_id,
            credential,
            auth_method: self.client_auth,
            authorization_params,
            token_params: self.token_param.clone(),
            forward_resource: self.forward_resource,
            scopes,
            rules: users.rules()?,
            forwards_users: false,
            groups_claim: users.groups_claim.clone(),
        };
        if config.issuer.is_none() {
            // Shows at start what is missing.
            config.settings(None, None)?;
        }
        config.check()?;
        Ok(Some(config))
    }

    /// Returns the issuer whose discovery document is read.
    pub(super) fn issuer(&self) -> Result<Option<Issuer>, String> {
        let Some(preset) = self.provider else {
            return Ok(self.issuer.clone());
        };
        match (&self.issuer, preset.issuer, preset.issuer_form) {
            (Some(issuer), ..) => Ok(Some(issuer.clone())),
            (None, Some(issuer), _) => issuer.parse().map(Some),
            (None, None, Some(form)) => Err(format!(
                "--provider {} needs --issuer, such as {form}",
                preset.name
            )),
            (None, None, None) => Ok(None),
        }
    }

    /// Returns the first flag that has no effect without `--client-id`.
    fn first_set(&self) -> Option<&'static str> {
        let flags = [
            ("--provider", self.provider.is_some()),
            ("--issuer", self.issuer.is_some()),
            (
                "--authorization-endpoint",
                self.authorization_endpoint.is_some(),
            ),
            ("--token-endpoint", self.token_endpoint.is_some()),
            ("--revocation-endpoint", self.revocation_endpoint.is_some()),
            ("--userinfo-endpoint", self.userinfo_endpoint.is_some()),
            ("--provider-issuer", self.provider_issuer.is_some()),
            (
                "--authorization-param",
                !self.authorization_param.is_empty(),
            ),
            ("--token-param", !self.token_param.is_empty()),
            ("--forward-resource", self.forward_resource),
            ("--client-secret", self.client_secret.is_some()),
            ("--client-auth", self.client_auth.is_some()),
            ("--client-key", self.client_key.is_some()),
            ("--client-key-id", self.client_key_id.is_some()),
        ];
        let mut set = flags.into_iter().filter(|(_, is_set)| *is_set);
        set.next().map(|(flag, _)| flag)
    }

    fn credential(&self) -> Result<Credential, String> {
        if self.client_key_id.is_some() && self.client_key.is_none() {
            return Err("--client-key-id needs --client-key".into());
        }
        match (&self.client_secret, &self.client_key) {
            (Some(_), Some(_)) => {
                Err("--client-secret cannot be combined with --client-key".into())
            }
            (Some(secret), None) => Ok(Credential::Secret(secret.clone())),
            (None, Some(path)) => {
                let kid = self.client_key_id.as_deref();
                SigningKey::read("--client-key", path, kid).map(Credential::Key)
            }
            (None, None) if self.client_auth == Some(AuthMethod::None) => Ok(Credential::None),
            (None, None) => {
                Err("--client-id needs --client-secret, --client-key or --client-auth none".into())
            }
        }
    }
}

fn presets() -> impl clap::builder::TypedValueParser<Value = &'static Preset> {
    let names = PRESETS.iter().map(|preset| preset.name);
    PossibleValuesParser::new(names)
        .try_map(|name| Preset::find(&name).ok_or_else(|| "no such provider".to_owned()))
}

/// Parses the URL of an endpoint, to which this server sends secrets or users.
fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    check_scheme(&url).map(|()| url)
}

fn authorization_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = pair(text)?;
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u64>().is_ok();
    if name == MAX_AGE && !is_number {
        return Err("max_age must be a whole number of seconds".into());
    }
    Ok((name, value))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    if OWN_PARAMETERS.contains(&name) {
        return Err(format!("this server itself sends `{name}`"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
