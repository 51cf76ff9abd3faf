//! The page for a user who has logged in at the provider, but may not use this server.

use axum::http::StatusCode;
use axum::response::Response;
use maud::html;
use url::Url;

use super::Page;
use super::consent::host;
use crate::app::App;
use crate::users::User;

/// Says that the user may not use this server, and whom to ask. The browser goes to the client only
/// if the user clicks the link.
pub(in crate::authorize) fn not_allowed(
    app: &App,
    user: &User,
    redirect_uri: &str,
    back: &Url,
) -> Response {
    let contact = app.provider.config().rules.contact.as_deref();
    let page = Page {
        brand: Some(&app.brand),
        ..Page::new(StatusCode::FORBIDDEN, "Your account has no access")
    };
    page.render(
        &html! {
            p class="lead" {
                "You logged in as " bdi { strong { (user.name()) } } ", but this account may not use "
                bdi { (app.issuer.authority()) } "."
            }
            h2 { "What you can do" }
            p {
                "Ask " (contact.unwrap_or("the operator of this server")) " for access. If you have another account, log out at the "
                "identity provider, return to the app, and log in with that one."
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
