//! Clients that the operator configured: the file of `--clients`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use server_common::flags::{parse_key, read_toml};
use server_common::jose::Keys;
use tower_oauth_refresh::ClientId;

use super::client::{Client, KeyLocation, SecretHash};
use super::rules::{Metadata, Origin, Rules};

/// The clients of the file, by their IDs.
#[derive(Clone, Debug, Default)]
pub(super) struct Configured(Arc<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    client: Client,
    /// Keys that are at a `jwks_uri`. The operator chose it, so it may lead to any address.
    keys: Option<Arc<Keys>>,
}

/// The client that this server is at the provider. A client may use its ID and its secret here,
/// too.
#[derive(Clone, Copy)]
pub(crate) struct ProviderClient<'a> {
    pub(crate) id: &'a str,
    pub(crate) secret: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<toml::Table>,
}

/// A client of the file. The names are those of client metadata (RFC 7591 §2), and what is
/// serialized is client metadata.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Members {
    #[serde(skip_serializing)]
    client_id: Option<String>,
    /// Whether the ID and the secret are those of this server at the provider.
    #[serde(default, skip_serializing)]
    provider: bool,
    #[serde(skip_serializing)]
    client_secret: Option<String>,
    #[serde(skip_serializing)]
    client_secret_sha256: Option<String>,
    client_name: Option<String>,
    client_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    scope: Option<String>,
    application_type: Option<String>,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
    token_endpoint_auth_signing_alg: Option<String>,
    #[serde(skip_deserializing)]
    token_endpoint_auth_method: &'static str,
}

impl Configured {
    /// Reads the file. The error names it and the client, and contains no secret.
    pub(super) fn read(
        path: &Path,
        rules: &Rules,
        provider: ProviderClient<'_>,
    ) -> Result<Self, String> {
        let failed = |why: &str| format!("--clients {}: {why}", path.display());
        let (table, others_can_read) = read_toml(path).map_err(|why| failed(&why))?;
        let file = File::deserialize(table).map_err(|error| failed(&without_value(&error)))?;
        // A file can name only what the server supports.
        let rules = Rules {
            scopes: rules.scopes.strict(),
            fetches_keys: true,
            ..rules.clone()
        };
        let mut clients = HashMap::new();
        let mut has_secrets = false;
        for (number, table) in (1..).zip(file.client) {
            let name = table.get("client_id").and_then(toml::Value::as_str);
            let name =
                name.map_or_else(|| format!("client {number}"), |id| format!("client `{id}`"));
            let failed = |why: &str| failed(&format!("{name}: {why}"));
            let members = Members::deserialize(table);
            let members = members.map_err(|error| failed(&without_value(&error)))?;
            has_secrets |= members.client_secret.is_some();
            let entry = members
                .check(&rules, provider)
                .map_err(|why| failed(&why))?;
            let id = entry.client.client_id.clone();
            if clients.insert(id, entry).is_some() {
                return Err(failed("another client has the same ID"));
            }
        }
        if has_secrets && others_can_read {
            tracing::warn!(
                file = %path.display(),
                "the file of --clients has secrets, and other users can read it: change its mode"
            );
        }
        Ok(Self(Arc::new(clients)))
    }

    pub(super) fn find(&self, client_id: &str) -> Option<Client> {
        Some(self.0.get(client_id)?.client.clone())
    }

    pub(super) fn keys(&self, client_id: &str) -> Option<Arc<Keys>> {
        self.0.get(client_id)?.keys.clone()
    }
}

/// Returns the message of an error. A type error has the value in it, which may be a secret.
fn without_value(error: &toml::de::Error) -> String {
    let message = error.message();
    if !message.starts_with("invalid ") {
        return message.to_owned();
    }
    let expected = message.rsplit_once(", expected ");
    let expected = expected.map_or_else(String::new, |(_, expected)| {
        format!(": expected {expected}")
    });
    format!("a value has the wrong type{expected}")
}

impl Members {
    fn check(mut self, rules: &Rules, provider: ProviderClient<'_>) -> Result<Entry, String> {
        let client_id = match (self.client_id.take(), self.provider) {
            (Some(id), false) => id,
            (None, true) => provider.id.to_owned(),
            (Some(_), true) => return Err("provider = true replaces client_id".into()),
            (None, false) => return Err("it needs client_id or provider = true".into()),
        };
        ClientId::try_from(client_id.as_str()).map_err(|error| format!("client_id: {error}"))?;
        let secret = self.secret(provider)?;
        let has_keys = self.jwks.is_some() || self.jwks_uri.is_some();
        self.token_endpoint_auth_method = match (&secret, has_keys) {
            (Some(_), true) => return Err("it has both a secret and keys".into()),
            (Some(_), false) => "client_secret_basic",
            (None, true) => "private_key_jwt",
            (None, false) => "none",
        };
        let metadata = serde_json::to_vec(&self).map_err(|error| error.to_string())?;
        let metadata = Metadata::parse(&metadata, Origin::Registration, rules);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let location = metadata.auth.keys.as_ref().map(|keys| &keys.location);
        let keys = match location {
            Some(KeyLocation::JwksUri(uri)) => {
                let url = uri.parse().map_err(|error| format!("jwks_uri: {error}"))?;
                let keys = Keys::at(url).map_err(|error| format!("jwks_uri: {error}"))?;
                Some(Arc::new(keys))
            }
            Some(KeyLocation::Jwks(_)) | None => None,
        };
        Ok(Entry {
            client: Client {
                client_id,
                client_name: metadata.client_name,
                client_uri: metadata.client_uri,
                redirect_uris: metadata.redirect_uris,
                scope: metadata.scope,
                secret,
                keys: metadata.auth.keys,
            },
            keys,
        })
    }

    fn secret(&self, provider: ProviderClient<'_>) -> Result<Option<SecretHash>, String> {
        let plain = match (&self.client_secret, &self.client_secret_sha256) {
            (Some(_), Some(_)) => {
                return Err("it has both client_secret and client_secret_sha256".into());
            }
            (None, Some(hash)) => {
                let hash = (hash.len() == 64).then(|| parse_key(hash)).flatten();
                let hash = hash.ok_or("client_secret_sha256 must be 64 hexadecimal digits")?;
                return Ok(Some(SecretHash::plain(hash)));
            }
            (Some(secret), None) => Some(secret.as_str()),
            (None, None) if self.provider && provider.secret.is_none() => {
                return Err("provider = true needs --client-secret".into());
            }
            (None, None) if self.provider => provider.secret,
            (None, None) => None,
        };
        match plain {
            Some("") => Err("client_secret is empty".into()),
            secret => Ok(secret.map(SecretHash::of)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::clients::rules::AllowedRedirects;
    use crate::scopes::{Scopes, UnknownScopes};

    fn read(text: &str) -> Result<Configured, String> {
        read_with(text, Some("of provider"))
    }

    fn read_with(text: &str, secret: Option<&str>) -> Result<Configured, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients.toml");
        fs::write(&path, text).unwrap();
        let rules = Rules {
            redirects: AllowedRedirects::default(),
            scopes: Scopes::new(vec!["openid".into()], UnknownScopes::Drop),
            fetches_keys: false,
        };
        let provider = ProviderClient {
            id: "at provider",
            secret,
        };
        Configured::read(&path, &rules, provider)
    }

    #[test]
    fn each_client_authenticates_as_it_is_configured() {
        let clients = read(
            r#"
            [[client]]
            client_id = "public"
            client_name = "A program"
            redirect_uris = ["http://localhost/cb"]
            scope = "openid"
            [[client]]
            client_id = "plain"
            client_secret = "plain secret"
            redirect_uris = ["https://a.example/cb"]
            [[client]]
            client_id = "hashed"
            client_secret_sha256 = "1a06df824ed741b53c785079a6347f00eec5af82f9850775409ca69dff4068a6"
            redirect_uris = ["https://a.example/cb"]
            [[client]]
            provider = true
            redirect_uris = ["https://a.example/cb"]
            [[client]]
            client_id = "signed"
            jwks_uri = "https://a.example/jwks"
            redirect_uris = ["https://a.example/cb"]
            "#,
        );
        let clients = clients.unwrap();
        let public = clients.find("public").unwrap();
        assert!(public.is_public());
        assert_eq!(public.client_name.as_deref(), Some("A program"));
        assert!(clients.find("plain").unwrap().verify_secret("plain secret"));
        let provider = clients.find("at provider").unwrap();
        assert!(provider.verify_secret("of provider") && !provider.is_public());
        let hashed = clients.find("hashed").unwrap();
        assert!(hashed.verify_secret("hashed") && !hashed.verify_secret("other"));
        assert!(!clients.find("signed").unwrap().is_public());
        assert!(clients.keys("signed").is_some() && clients.keys("plain").is_none());
        assert!(clients.find("other").is_none());
        assert!(read("").unwrap().find("x").is_none());
    }

    #[test]
    fn an_error_names_the_file_and_the_client() {
        let with = |members: &str| {
            format!(
                "[[client]]\nclient_id = \"a\"\nredirect_uris = [\"https://a.example/\"]\n{members}"
            )
        };
        let rows = [
            ("x = [".to_owned(), "clients.toml: line 1"),
            ("[[clients]]".to_owned(), "unknown field `clients`"),
            ("[[client]]".to_owned(), "client 1: it needs client_id"),
            (with("secret = \"x\""), "client `a`: unknown field `secret`"),
            (with("client_secret = \"\""), "client_secret is empty"),
            (
                with("client_secret_sha256 = \"x\""),
                "64 hexadecimal digits",
            ),
            (with("provider = true"), "replaces client_id"),
            (
                with("scope = \"openid admin\""),
                "scope must contain nothing but",
            ),
            (
                with("application_type = \"web\"\njwks_uri = \"http://a.example\""),
                "jwks_uri must be an https URL",
            ),
            (
                with("client_secret = \"x\"\njwks_uri = \"https://a.example/\""),
                "both a secret and keys",
            ),
            (
                "[[client]]\nclient_id = \"a\"".to_owned(),
                "client `a`: redirect_uris must contain",
            ),
            (
                "[[client]]\nclient_id = \"a\"\nredirect_uris = [\"http://a.example/\"]".to_owned(),
                "client `a`: redirect URI 1 is invalid",
            ),
            (
                format!("{0}\n{0}", with("")),
                "another client has the same ID",
            ),
            ("[[client]]\nclient_id = \"\"".to_owned(), "client_id:"),
        ];
        for (text, words) in rows {
            let error = read(&text).unwrap_err();
            assert!(
                error.contains("--clients ") && error.contains(words),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn an_error_contains_no_secret() {
        for text in [
            "[[client]]\nclient_secret = \"hunter2",
            "[[client]]\nclient_secret = [\"hunter2\"]",
            "[[client]]\nclient_id = \"a\"\nprovider = \"hunter2, expected x\"",
            "client = \"hunter2\"",
        ] {
            let error = read(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
        let error = read("[[client]]\nclient_id = \"a\"\nclient_secret = 123456").unwrap_err();
        let words = "client `a`: a value has the wrong type: expected a string";
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn the_client_of_the_provider_is_never_public() {
        let text = "[[client]]\nprovider = true\nredirect_uris = [\"https://a.example/cb\"]";
        let error = read_with(text, None).unwrap_err();
        assert!(error.contains("needs --client-secret"), "{error}");
        // The values of its own replace the secret.
        let own = format!("{text}\njwks_uri = \"https://a.example/jwks\"");
        assert!(read_with(&own, None).is_err());
        let own = format!("{text}\nclient_secret = \"x\"");
        assert!(read_with(&own, None).is_ok());
    }
}
