//! The page for an invalid authorization request of a known client.

use axum::response::Response;
use maud::html;
use url::Url;

use super::Page;
use super::consent::{Name, host, target};
use crate::brand::Brand;
use crate::clients::Client;
use crate::error::OauthError;

/// Explains the error in the request, and offers a link that returns the user to the client with
/// the error.
///
/// The browser goes to the client only if the user clicks the link.
pub(in crate::authorize) fn refused(
    brand: &Brand,
    client: &Client,
    redirect_uri: &str,
    error: &OauthError,
    back: &Url,
) -> Response {
    let name = Name::of(client, redirect_uri);
    let page = Page {
        brand: Some(brand),
        ..Page::new(error.status, "Invalid request")
    };
    page.render(
        &html! {
            p class="lead" { (name) " sent you here with a request that this server cannot accept." }
            (name.verification())
            dl {
                dt { "Error" }
                dd { code { (error.code) } ": " (error.description) }
                dt { "You will be redirected to" }
                dd { (target(redirect_uri)) }
            }
            p class="warning" {
                "Return to the app only if you started this yourself, in an app that you trust. If someone sent you a link to this "
                "page, close it."
            }
            p {
                a class="button" rel="noreferrer" href=(back) {
                    "Return to "
                    @match host(redirect_uri) {
                        Some(host) => bdi { (host) },
                        None => "the app",
                    }
                }
            }
        },
    )
}
