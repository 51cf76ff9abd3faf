//! The page for an authorization request that its client must correct.

use axum::response::Response;
use maud::html;
use url::Url;

use super::consent::{Name, host, target};
use super::page;
use crate::clients::Client;
use crate::error::OauthError;

/// Explains what is wrong with the request of a client, and offers to return to the client with the
/// error.
///
/// Only a click on the link sends the browser there.
pub(in crate::authorize) fn refused(
    client: &Client,
    redirect_uri: &str,
    error: &OauthError,
    back: &Url,
) -> Response {
    let name = Name::of(client, redirect_uri);
    page(
        error.status,
        "This request is not in order",
        &html! {
            p class="lead" { (name) " has sent you here with a request that this server does not accept." }
            (name.proof())
            dl {
                dt { "What is wrong" }
                dd { code { (error.code) } ": " (error.description) }
                dt { "The program is answered at" }
                dd { (target(redirect_uri)) }
            }
            p class="warning" {
                "Return only if you have just begun this yourself, in a program that you trust. If somebody sent you a link to this "
                "page, close it."
            }
            p {
                a class="button" rel="noreferrer" href=(back) {
                    "Return to "
                    @match host(redirect_uri) {
                        Some(host) => bdi { (host) },
                        None => "the program",
                    }
                }
            }
        },
    )
}
