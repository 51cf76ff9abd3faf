//! Client metadata, from a registration or a metadata document (RFC 7591 §2).

use serde::Deserialize;
use url::Url;

use super::allowed::AllowedRedirects;
use super::authentication::{Authentication, Origin};
use super::name::visible;
use super::redirect::{InvalidRedirectUri, RedirectUri};
use crate::scopes::{InvalidScope, Scopes};

/// The maximum length of a client's name, in characters.
const LONGEST_NAME: usize = 100;

/// The maximum number of redirect URIs of a client.
const MOST_REDIRECT_URIS: usize = 20;

/// The maximum size of the stored metadata as JSON, in bytes. The rest of 4 KiB is for the fields
/// that this server adds.
const LARGEST: usize = 3584;

/// The supported grant types.
pub(crate) const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];

/// The supported response types.
pub(crate) const RESPONSE_TYPES: [&str; 1] = ["code"];

/// The known values of `application_type` (OpenID Connect Dynamic Client Registration §2).
const APPLICATION_TYPES: [&str; 2] = ["web", "native"];

/// The configuration against which client metadata is checked.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) redirects: AllowedRedirects,
    pub(crate) scopes: Scopes,
    /// Whether this server fetches the keys at a `jwks_uri`.
    pub(crate) fetches_keys: bool,
}

/// Valid client metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) client_name: Option<String>,
    pub(crate) client_uri: Option<String>,
    pub(crate) redirect_uris: Vec<String>,
    /// The requested scopes that this server supports; `None` if the client requested none.
    pub(crate) scope: Option<String>,
    pub(crate) auth: Authentication,
    /// One of [`APPLICATION_TYPES`].
    pub(crate) application_type: Option<&'static str>,
}

/// The reason why client metadata is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidMetadata {
    #[error("the metadata must be a JSON object")]
    NoObject,
    #[error("the metadata is not valid JSON or has a member of the wrong type: {0}")]
    Json(#[from] serde_json::Error),
    #[error("redirect_uris must contain at least one URI")]
    NoRedirectUri,
    #[error("redirect_uris must not contain more than {MOST_REDIRECT_URIS} URIs")]
    TooManyRedirectUris,
    #[error("redirect URI {number} is invalid: {error}")]
    RedirectUri {
        number: usize,
        error: InvalidRedirectUri,
    },
    #[error("redirect URI {number} is not allowed by this server")]
    RedirectUriNotAllowed { number: usize },
    #[error("redirect URI {number} must be https, because application_type is web")]
    RedirectUriOfWeb { number: usize },
    #[error(
        "client_name, client_uri, redirect_uris, scope and jwks together must not be longer than {LARGEST} bytes"
    )]
    TooLarge,
    /// The metadata comes from a document.
    #[error("it requires a client secret: register the client instead")]
    NeedsSecret,
    #[error("{field} {why}")]
    Field { field: &'static str, why: String },
}

impl InvalidMetadata {
    /// Returns the error code of RFC 7591 §3.2.2.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoRedirectUri
            | Self::TooManyRedirectUris
            | Self::RedirectUri { .. }
            | Self::RedirectUriNotAllowed { .. }
            | Self::RedirectUriOfWeb { .. } => "invalid_redirect_uri",
            Self::NoObject
            | Self::Json(_)
            | Self::TooLarge
            | Self::NeedsSecret
            | Self::Field { .. } => "invalid_client_metadata",
        }
    }
}

/// The supported members. Others are ignored (RFC 7591 §2), repeated ones are an error.
#[derive(Deserialize)]
struct Members {
    redirect_uris: Option<Vec<String>>,
    client_name: Option<String>,
    client_uri: Option<String>,
    scope: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    application_type: Option<String>,
}

impl Metadata {
    pub(crate) fn parse(
        json: &[u8],
        origin: Origin,
        rules: &Rules,
    ) -> Result<Self, InvalidMetadata> {
        // Serde would accept an array instead of an object.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(InvalidMetadata::NoObject);
        }
        let members: Members = serde_json::from_slice(json)?;
        let redirect_uris = redirect_uris(members.redirect_uris.unwrap_or_default(), rules)?;
        // A client may request more than is supported (RFC 7591 §2): some list every grant type
        // that they implement.
        must_hold(
            "grant_types",
            members.grant_types.as_deref(),
            GRANT_TYPES[0],
        )?;
        must_hold(
            "response_types",
            members.response_types.as_deref(),
            RESPONSE_TYPES[0],
        )?;
        let application_type =
            application_type(members.application_type.as_deref(), &redirect_uris)?;
        let metadata = Self {
            application_type,
            client_name: members
                .client_name
                .map(name)
                .transpose()?
                .filter(|name| !name.is_empty()),
            client_uri: members.client_uri.map(web_page).transpose()?,
            redirect_uris,
            scope: match &members.scope {
                Some(scope) => known_scopes(scope, rules)?,
                None => None,
            },
            auth: Authentication::parse(json, origin, rules.fetches_keys)?,
        };
        if metadata.size()? > LARGEST {
            Err(InvalidMetadata::TooLarge)
        } else {
            Ok(metadata)
        }
    }

    /// Returns the size of the stored metadata as JSON, in bytes.
    fn size(&self) -> Result<usize, InvalidMetadata> {
        let all = (
            &self.client_name,
            &self.client_uri,
            &self.redirect_uris,
            &self.scope,
            &self.auth.keys,
        );
        Ok(serde_json::to_vec(&all)?.len())
    }
}

pub(super) fn wrong(field: &'static str, why: impl Into<String>) -> InvalidMetadata {
    InvalidMetadata::Field {
        field,
        why: why.into(),
    }
}

fn redirect_uris(uris: Vec<String>, rules: &Rules) -> Result<Vec<String>, InvalidMetadata> {
    match uris.len() {
        0 => return Err(InvalidMetadata::NoRedirectUri),
        1..=MOST_REDIRECT_URIS => {}
        _ => return Err(InvalidMetadata::TooManyRedirectUris),
    }
    for (number, uri) in (1..).zip(&uris) {
        let uri = RedirectUri::parse(uri)
            .map_err(|error| InvalidMetadata::RedirectUri { number, error })?;
        if !rules.redirects.contains(&uri) {
            return Err(InvalidMetadata::RedirectUriNotAllowed { number });
        }
    }
    Ok(uris)
}

/// Returns the type of the client. Web applications have https URLs only. Native ones may have
/// them, too (RFC 8252 §7.2): Visual Studio Code does.
fn application_type(
    name: Option<&str>,
    redirect_uris: &[String],
) -> Result<Option<&'static str>, InvalidMetadata> {
    let known = |known: &&str| name == Some(*known);
    let found = APPLICATION_TYPES.into_iter().find(known);
    let is_web = |uri: &&String| uri.starts_with("https:");
    if found == Some("web") && !redirect_uris.iter().all(|uri| is_web(&uri)) {
        let number = redirect_uris.iter().take_while(is_web).count() + 1;
        return Err(InvalidMetadata::RedirectUriOfWeb { number });
    }
    Ok(found)
}

fn must_hold(
    field: &'static str,
    values: Option<&[String]>,
    needed: &str,
) -> Result<(), InvalidMetadata> {
    match values {
        Some(values) if !values.iter().any(|value| value == needed) => {
            Err(wrong(field, format!("must contain {needed}")))
        }
        _ => Ok(()),
    }
}

/// Checks the name that the user sees on the consent page. It must not reorder the text around it,
/// nor look like another name because of hidden characters: line breaks and changes of direction
/// are rejected, other invisible characters are removed.
fn name(name: String) -> Result<String, InvalidMetadata> {
    if name.chars().count() > LONGEST_NAME {
        return Err(wrong(
            "client_name",
            format!("must not be longer than {LONGEST_NAME} characters"),
        ));
    }
    if name.chars().any(|c| c.is_control() || is_format(c)) {
        return Err(wrong("client_name", "must not contain control characters"));
    }
    Ok(visible(&name))
}

/// Returns whether a character separates lines or changes the direction of text.
const fn is_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn web_page(uri: String) -> Result<String, InvalidMetadata> {
    let url = Url::parse(&uri)
        .ok()
        .filter(|url| url.scheme() == "https" && uri.len() <= 2048);
    match url {
        Some(url) if url.username().is_empty() && url.password().is_none() => Ok(url.into()),
        _ => Err(wrong("client_uri", "must be an https URL without a user")),
    }
}

/// Returns the supported ones of the requested scopes, or `None` if no scope is supported.
fn known_scopes(scope: &str, rules: &Rules) -> Result<Option<String>, InvalidMetadata> {
    let known = rules.scopes.read(scope).map_err(|error| {
        let what = match error {
            InvalidScope::Unknown => "must contain nothing but",
            InvalidScope::NoneKnown => "must contain at least one of",
        };
        wrong(
            "scope",
            format!("{what}: {}", rules.scopes.accepted().join(" ")),
        )
    })?;
    Ok((!known.is_empty()).then(|| known.join(" ")))
}

#[cfg(test)]
mod tests;
