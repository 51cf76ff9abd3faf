//! The consent page, which asks the user whether to grant a client access.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use url::Url;

use super::{Page, tame};
use crate::app::App;
use crate::authorize::login::Login;
use crate::authorize::remembered::{self, is_loopback};
use crate::clients::Client;
use crate::records::Handle;

/// Returns the consent page for a log-in. `token` protects its form against requests of other
/// websites.
pub(in crate::authorize) fn consent(
    app: &App,
    login: &Login,
    handle: &Handle,
    token: &Handle,
) -> Response {
    let (client, asked) = (&login.client, &login.asked);
    let name = Name::of(client, &asked.reply.redirect_uri);
    let this_server = app.issuer.authority();
    let provider = app.provider.settings().ok();
    let provider = provider.and_then(|provider| host(provider.authorization_endpoint.as_str()));
    let provider = provider.as_deref().unwrap_or("the identity provider");
    let page = Page {
        brand: Some(&app.brand),
        ..Page::new(StatusCode::OK, "Allow access?")
    };
    page.render(
        &html! {
            p class="lead" { (name) " wants to access " bdi { strong { (this_server) } } " with your account." }
            (name.verification())
            dl {
                @if let Some(site) = client.client_uri.as_deref().and_then(host) {
                    dt { "Website (not verified)" }
                    dd { bdi { (site) } }
                }
                dt { "After the log-in, you will be redirected to" }
                dd { (target(&asked.reply.redirect_uri)) }
                dt { "Requested permissions" }
                dd {
                    @if asked.scopes.is_empty() {
                        "Default access to your account"
                    } @else {
                        ul {
                            @for scope in &asked.scopes {
                                li {
                                    @match description(app, scope) {
                                        Some(text) => (text),
                                        None => code { (scope) },
                                    }
                                }
                            }
                        }
                    }
                }
            }
            p { "If you approve, you continue to " bdi { strong { (provider) } } " to log in. If you deny, you return to the app." }
            p class="warning" {
                "Approve only if you started this yourself, in an app that you trust. If someone sent you a link to this page, "
                "choose Deny."
            }
            form method="post" action="consent" {
                input type="hidden" name="login" value=(handle);
                input type="hidden" name="token" value=(token);
                @if remembered::may_be(client, &asked.reply.redirect_uri) {
                    p class="remember" {
                        input type="checkbox" id="remember" name="remember" value="yes";
                        label for="remember" { "Do not ask me again in this browser for 30 days, unless another website sends me here" }
                    }
                }
                p class="choice" {
                    button name="decision" value="approve" class="approve" { "Approve" }
                    button name="decision" value="deny" { "Deny" }
                }
            }
        },
    )
}

/// Returns the text for a scope: that of the operator, or one for a standard scope of OpenID
/// Connect.
fn description<'a>(app: &'a App, scope: &str) -> Option<&'a str> {
    let standard = || match scope {
        "openid" => Some("Know who you are"),
        "profile" => Some("See your profile, such as your name"),
        "email" => Some("See your e-mail address"),
        "address" => Some("See your postal address"),
        "phone" => Some("See your telephone number"),
        "offline_access" => Some("Stay connected while you do not use the app"),
        _ => None,
    };
    let own = app.scope_descriptions.get(scope).map(String::as_str);
    own.or_else(standard)
}

/// The name of a client on a page, and whether it is verified.
pub(super) enum Name {
    /// The host of the client metadata document. It is verified: only the operator of the host
    /// can publish the document.
    Host {
        host: String,
        /// The name in the document.
        name: Option<String>,
    },
    /// The host of the metadata document of a client on the user's device. It is not verified,
    /// because any app on the device can use the document's URL as its client ID.
    Claimed(String),
    /// The name that the client registered. It is not verified.
    Own(String),
    None,
}

impl Name {
    pub(super) fn of(client: &Client, redirect_uri: &str) -> Self {
        let own = client
            .client_name
            .as_deref()
            .map(tame)
            .filter(|name| !name.is_empty());
        match (host(&client.client_id), own) {
            (Some(host), name) if remembered::may_be(client, redirect_uri) => {
                Self::Host { host, name }
            }
            (Some(host), _) => Self::Claimed(host),
            (None, Some(name)) => Self::Own(name),
            (None, None) => Self::None,
        }
    }

    /// Says whether the name is verified, and why.
    pub(super) fn verification(&self) -> Markup {
        html! {
            p {
                @match self {
                    Self::Host { host, name } => {
                        "This app is published by " bdi { (host) } "."
                        @if let Some(name) = name { " It calls itself “" bdi { (name) } "”." }
                    }
                    Self::Claimed(_) => "This cannot be verified, because any app on this device can make the same claim.",
                    Self::Own(_) => "The app chose this name. It has not been verified.",
                    Self::None => "The app did not provide a name.",
                }
            }
        }
    }
}

impl maud::Render for Name {
    fn render(&self) -> Markup {
        html! {
            @match self {
                Self::Host { host, .. } => bdi { strong { (host) } },
                Self::Claimed(host) => { "An app that claims to be from " bdi { strong { (host) } } },
                Self::Own(name) => { "An app that calls itself “" bdi { strong { (name) } } "”" },
                Self::None => "An app without a name",
            }
        }
    }
}

/// Returns the whole host of a web address, with its port unless that is the default one of the
/// scheme. Internationalized names are in Punycode, so that similar names can be told apart.
/// Returns `None` if it is not an `http` or `https` URL.
pub(super) fn host(url: &str) -> Option<String> {
    let url = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}

/// Describes the destination of a redirect.
pub(super) fn target(redirect_uri: &str) -> Markup {
    let url = Url::parse(redirect_uri).ok();
    let loopback = url.as_ref().is_some_and(is_loopback);
    let scheme = url.as_ref().map(Url::scheme).unwrap_or_default();
    html! {
        @match host(redirect_uri) {
            Some(host) if loopback => { "an app on this computer (" bdi { (host) } ")" },
            Some(host) => bdi { strong { (host) } },
            None => { "the app on this device that opens links starting with " bdi { code { (scheme) ":" } } },
        }
    }
}
