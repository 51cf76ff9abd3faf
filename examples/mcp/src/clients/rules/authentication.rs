//! The methods of client authentication, and the keys of clients, in client metadata (RFC 7591 §2).

use serde::Deserialize;
use serde_json::Value;
use server_common::jose::{ALGORITHMS, KeySet};
use url::Url;

use super::metadata::{InvalidMetadata, wrong};
use crate::clients::client::{ClientKeys, KeyLocation};

/// The method of public clients.
const NONE: &str = "none";

const PRIVATE_KEY_JWT: &str = "private_key_jwt";

/// Returns whether clients with this method have a secret.
pub(in crate::clients) fn has_secret(method: &str) -> bool {
    method.starts_with("client_secret_")
}

/// The supported methods of client authentication.
pub(crate) const AUTH_METHODS: [&str; 4] = [
    NONE,
    "client_secret_basic",
    "client_secret_post",
    PRIVATE_KEY_JWT,
];

/// The methods of clients with a metadata document. Anyone can read the document, so it cannot hold
/// a secret.
const DOCUMENT_METHODS: [&str; 2] = [NONE, PRIVATE_KEY_JWT];

/// The maximum length of a `jwks_uri`, in bytes.
const LONGEST_URL: usize = 2048;

/// The place from which client metadata comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A registration request, to which this server can answer with a secret.
    Registration,
    /// A client ID metadata document.
    Document,
}

impl Origin {
    const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Registration => &AUTH_METHODS,
            Self::Document => &DOCUMENT_METHODS,
        }
    }
}

/// The authentication of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authentication {
    /// One of [`AUTH_METHODS`].
    pub(crate) method: &'static str,
    pub(crate) keys: Option<ClientKeys>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

/// The members of metadata that concern authentication.
#[derive(Deserialize)]
struct Members {
    token_endpoint_auth_method: Option<OneOrSeveral>,
    /// A member of server metadata, in which some documents list the methods of the client.
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg: Option<String>,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
}

impl Authentication {
    /// Takes the first method in the metadata that works. `fetches` is whether this server fetches
    /// the keys at a `jwks_uri`.
    ///
    /// The default is `none`, a public client. The default of RFC 7591 §2 is `client_secret_basic`,
    /// but the server may choose, and a client that can keep a secret can request one.
    pub(super) fn parse(
        json: &[u8],
        origin: Origin,
        fetches: bool,
    ) -> Result<Self, InvalidMetadata> {
        let members: Members = serde_json::from_slice(json)?;
        let mut methods = match &members.token_endpoint_auth_method {
            None => Vec::new(),
            Some(OneOrSeveral::One(method)) => vec![method.as_str()],
            Some(OneOrSeveral::Several(methods)) => methods.iter().map(String::as_str).collect(),
        };
        let more = members.token_endpoint_auth_methods_supported.iter();
        let more = more.flatten().map(String::as_str);
        // A method that is only supported does not make another one optional.
        let required = match methods.as_slice() {
            [] => !more.clone().any(|method| method == NONE),
            stated => !stated.contains(&NONE),
        };
        methods.extend(more);
        if methods.is_empty() {
            methods.push(NONE);
        }
        let may_sign = methods.contains(&PRIVATE_KEY_JWT);
        let keys = if may_sign {
            keys(&members, required, fetches)
        } else {
            Ok(None)
        };
        let works = |known: &&&str| match **known {
            PRIVATE_KEY_JWT => matches!(keys, Ok(Some(_))),
            _ => true,
        };
        let known = |method: &&str| origin.methods().iter().find(|known| *known == method);
        let taken = methods.iter().filter_map(known).find(works);
        if let Some(method) = taken {
            let keys = keys.ok().flatten();
            return Ok(Self { method, keys });
        }
        if may_sign {
            keys?;
            let why = "private_key_jwt needs the member jwks or jwks_uri";
            return Err(wrong("token_endpoint_auth_method", why));
        }
        let could_register = |method: &&str| has_secret(method) && AUTH_METHODS.contains(method);
        if origin == Origin::Document && methods.iter().any(could_register) {
            return Err(InvalidMetadata::NeedsSecret);
        }
        let all = origin.methods().join(", ");
        let why = format!("must be one of: {all}");
        Err(wrong("token_endpoint_auth_method", why))
    }
}

/// Returns the keys in the metadata, if there are any.
fn keys(
    members: &Members,
    required: bool,
    fetches: bool,
) -> Result<Option<ClientKeys>, InvalidMetadata> {
    let location = match (&members.jwks, &members.jwks_uri) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(wrong("jwks", "must not occur together with jwks_uri")),
        (Some(jwks), None) => {
            check_jwks(jwks)?;
            KeyLocation::Jwks(jwks.clone())
        }
        (None, Some(_)) if !fetches => {
            return Err(wrong(
                "jwks_uri",
                "is not fetched by this server: use jwks instead",
            ));
        }
        (None, Some(uri)) => KeyLocation::JwksUri(jwks_uri(uri)?.into()),
    };
    let algorithm = members.token_endpoint_auth_signing_alg.clone();
    if let Some(algorithm) = &algorithm
        && !ALGORITHMS.contains(&algorithm.as_str())
    {
        let why = format!("must be one of: {}", ALGORITHMS.join(", "));
        return Err(wrong("token_endpoint_auth_signing_alg", why));
    }
    Ok(Some(ClientKeys {
        location,
        algorithm,
        required,
    }))
}

fn check_jwks(jwks: &Value) -> Result<(), InvalidMetadata> {
    let keys = jwks["keys"].as_array().map(Vec::as_slice);
    let is_private = |key: &Value| ["d", "k"].iter().any(|name| key.get(name).is_some());
    if keys.unwrap_or_default().iter().any(is_private) {
        return Err(wrong("jwks", "must not contain private or symmetric keys"));
    }
    if KeySet::deserialize(jwks).is_ok_and(|keys| keys.is_usable()) {
        return Ok(());
    }
    let why = format!(
        "must be a JSON Web Key Set with a key for one of: {}",
        ALGORITHMS.join(", ")
    );
    Err(wrong("jwks", why))
}

fn jwks_uri(uri: &str) -> Result<Url, InvalidMetadata> {
    let is_plain = |url: &Url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        url.scheme() == "https" && !has_user && url.fragment().is_none()
    };
    let url = Url::parse(uri).ok().filter(is_plain);
    url.filter(|url| url.as_str().len() <= LONGEST_URL)
        .ok_or_else(|| {
            wrong(
                "jwks_uri",
                "must be an https URL without a user and a fragment",
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn parse(metadata: &Value, origin: Origin) -> Result<Authentication, InvalidMetadata> {
        Authentication::parse(metadata.to_string().as_bytes(), origin, true)
    }

    #[test]
    fn the_first_method_that_works_is_taken() {
        let uri = "https://client.example/jwks.json";
        let rows = [
            (json!({}), "none", "none", None),
            (json!({ "jwks_uri": uri }), "none", "none", None),
            (
                json!({ "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": uri }),
                "private_key_jwt",
                "private_key_jwt",
                Some(true),
            ),
            (
                json!({
                    "token_endpoint_auth_method": "private_key_jwt",
                    "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
                    "jwks_uri": uri,
                }),
                "private_key_jwt",
                "private_key_jwt",
                Some(true),
            ),
            (
                json!({ "token_endpoint_auth_method": ["private_key_jwt", "none"], "jwks_uri": uri }),
                "private_key_jwt",
                "private_key_jwt",
                Some(false),
            ),
            (
                json!({
                    "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
                    "jwks_uri": uri,
                }),
                "private_key_jwt",
                "private_key_jwt",
                Some(false),
            ),
            (
                json!({ "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_methods_supported": ["none"] }),
                "none",
                "none",
                None,
            ),
            (
                json!({ "token_endpoint_auth_method": ["tls_client_auth", "client_secret_post", "none"] }),
                "client_secret_post",
                "none",
                None,
            ),
        ];
        for (metadata, registered, of_document, required) in rows {
            for (origin, method) in [
                (Origin::Registration, registered),
                (Origin::Document, of_document),
            ] {
                let parsed = parse(&metadata, origin).unwrap();
                assert_eq!(parsed.method, method, "{metadata} {origin:?}");
                let keys = parsed.keys.map(|keys| keys.required);
                assert_eq!(keys, required, "{metadata} {origin:?}");
            }
        }
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let signed = |member: &str, value: Value| json!({ "token_endpoint_auth_method": "private_key_jwt", member: value });
        let key = json!({ "kty": "EC", "crv": "P-256", "x": X, "y": Y });
        let with = |name: &str, value: &str| {
            let mut key = key.clone();
            key[name] = value.into();
            json!({ "keys": [key] })
        };
        let rows = [
            (
                json!({ "token_endpoint_auth_method": "private_key_jwt" }),
                "needs the member jwks or jwks_uri",
            ),
            (
                json!({ "token_endpoint_auth_method": "tls_client_auth" }),
                "must be one of: none, private_key_jwt",
            ),
            (
                json!({ "token_endpoint_auth_method": "client_secret_jwt" }),
                "must be one of: none, private_key_jwt",
            ),
            (
                json!({ "token_endpoint_auth_method": ["client_secret_jwt", "client_secret_post"] }),
                "requires a client secret",
            ),
            (
                signed("jwks_uri", json!("http://client.example/jwks")),
                "jwks_uri must be an https URL",
            ),
            (
                signed("jwks_uri", json!("https://a@client.example/jwks")),
                "jwks_uri must be an https URL",
            ),
            (
                signed("jwks", json!({ "keys": [] })),
                "must be a JSON Web Key Set",
            ),
            (signed("jwks", json!([])), "must be a JSON Web Key Set"),
            (
                signed("jwks", with("use", "enc")),
                "must be a JSON Web Key Set",
            ),
            (signed("jwks", with("d", "x")), "must not contain private"),
            (
                json!({
                    "token_endpoint_auth_method": "private_key_jwt",
                    "jwks": { "keys": [key] },
                    "jwks_uri": "https://client.example/jwks",
                }),
                "must not occur together",
            ),
            (
                json!({
                    "token_endpoint_auth_method": "private_key_jwt",
                    "token_endpoint_auth_signing_alg": "HS256",
                    "jwks": { "keys": [key] },
                }),
                "token_endpoint_auth_signing_alg must be one of: RS256",
            ),
        ];
        for (metadata, words) in rows {
            let error = parse(&metadata, Origin::Document).unwrap_err().to_string();
            assert!(error.contains(words), "{metadata}: {error}");
        }
        assert!(parse(&signed("jwks", json!({ "keys": [key] })), Origin::Document).is_ok());
        let uri = signed("jwks_uri", json!("https://client.example/jwks"));
        let json = uri.to_string();
        let refused = Authentication::parse(json.as_bytes(), Origin::Registration, false);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("use jwks instead"), "{error}");
    }
}
