//! The name, the logo and the link of the operator, on the pages for users.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use url::Url;

use crate::app::App;
use crate::clients::visible;
use crate::error::OauthError;

/// The largest logo, in bytes.
const MAX_LOGO: u64 = 256 * 1024;

/// The longest name, in characters.
const LONGEST_NAME: usize = 60;

/// An SVG image is a document. Opened by its URL, it must run no script and load nothing.
const LOGO_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// The flags for the pages.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Pages")]
pub(crate) struct BrandFlags {
    /// Name of this service on the pages for users, at most 60 characters [default: the host of
    /// --public-url]
    #[arg(long, value_name = "NAME")]
    brand_name: Option<BrandName>,

    /// Logo on these pages: a PNG or SVG file of at most 256 KiB [default: none]
    #[arg(long, value_name = "FILE")]
    brand_logo: Option<PathBuf>,

    /// Website to which the name and the logo lead, http or https [default: none]
    #[arg(long, value_name = "URL", value_parser = website)]
    pub(crate) brand_link: Option<Url>,
}

#[derive(Clone, Debug)]
struct BrandName(String);

impl FromStr for BrandName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || visible(text) != text || text.chars().count() > LONGEST_NAME {
            return Err(format!(
                "it must be one line of 1 to {LONGEST_NAME} visible characters"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

fn website(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme must be http or https".into());
    }
    Ok(url)
}

/// The brand on the pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brand {
    name: Option<String>,
    logo: Option<Logo>,
    link: Option<Url>,
}

#[derive(Clone)]
struct Logo {
    image: Bytes,
    content_type: &'static str,
}

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.content_type)
    }
}

impl BrandFlags {
    /// Returns whether the pages have something to which the link can be attached.
    pub(crate) const fn shows_something(&self) -> bool {
        self.brand_name.is_some() || self.brand_logo.is_some()
    }

    /// Reads the logo.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not allowed. The text names the flag.
    pub(crate) fn brand(&self) -> Result<Brand, String> {
        let logo = self.brand_logo.as_deref().map(|path| {
            let failed = |why: String| format!("--brand-logo {}: {why}", path.display());
            Logo::read(path).map_err(failed)
        });
        Ok(Brand {
            name: self.brand_name.as_ref().map(|name| name.0.clone()),
            logo: logo.transpose()?,
            link: self.brand_link.clone(),
        })
    }
}

impl Logo {
    fn read(path: &Path) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        if fs::metadata(path).map_err(text)?.len() > MAX_LOGO {
            return Err("it is larger than 256 KiB".into());
        }
        let image = fs::read(path).map_err(text)?;
        let is_svg = || str::from_utf8(&image).is_ok_and(|text| text.contains("<svg"));
        let content_type = if image.starts_with(b"\x89PNG\r\n\x1a\n") {
            "image/png"
        } else if is_svg() {
            "image/svg+xml"
        } else {
            return Err("it is neither a PNG nor an SVG image".into());
        };
        Ok(Self {
            image: image.into(),
            content_type,
        })
    }
}

impl Brand {
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) const fn has_logo(&self) -> bool {
        self.logo.is_some()
    }

    /// Returns a name for this server in the configuration of a client: letters, digits and
    /// hyphens.
    pub(crate) fn server_name(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default().to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            "example".to_owned()
        } else {
            words.join("-")
        }
    }

    /// Renders the head of a page.
    pub(crate) fn head(&self) -> Markup {
        let content = html! {
            @if self.has_logo() {
                img src="brand-logo" alt=(if self.name.is_none() { "Logo" } else { "" });
            }
            @if let Some(name) = &self.name { bdi { (name) } }
        };
        html! {
            @if self.has_logo() || self.name.is_some() {
                header class="brand" {
                    @match &self.link {
                        Some(link) => a href=(link) rel="noreferrer" { (content) },
                        None => (content),
                    }
                }
            }
        }
    }
}

/// `GET /brand-logo`.
pub(crate) async fn logo(State(app): State<App>) -> Response {
    match &app.brand.logo {
        Some(logo) => {
            let headers = [
                (CONTENT_TYPE, logo.content_type),
                (CACHE_CONTROL, "public, max-age=3600"),
                (CONTENT_SECURITY_POLICY, LOGO_POLICY),
            ];
            (headers, logo.image.clone()).into_response()
        }
        None => OauthError::new("not_found", "there is no logo")
            .with_status(StatusCode::NOT_FOUND)
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_clients_has_letters_digits_and_hyphens() {
        for (name, expected) in [
            ("Acme Tools", "acme-tools"),
            (" $(rm) 2 ", "rm-2"),
            ("名前", "example"),
        ] {
            let name = Some(name.to_owned());
            let brand = Brand {
                name,
                ..Brand::default()
            };
            assert_eq!(brand.server_name(), expected);
        }
    }
}
