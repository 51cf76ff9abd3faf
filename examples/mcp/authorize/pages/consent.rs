//! The page that asks a person whether a client may go on.

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use url::Url;

use super::{page, tame};
use crate::app::App;
use crate::authorize::login::Login;
use crate::authorize::remembered::{self, is_loopback};
use crate::clients::Client;
use crate::records::Handle;

pub(in crate::authorize) fn consent(
    app: &App,
    login: &Login,
    handle: &Handle,
    token: &Handle,
) -> Response {
    let (client, asked) = (&login.client, &login.asked);
    let name = Name::of(client, &asked.reply.redirect_uri);
    let here = app.issuer.authority();
    let provider = &app.provider.settings().authorization_endpoint;
    let provider = host(provider.as_str()).unwrap_or_default();
    page(
        StatusCode::OK,
        "Allow access?",
        &html! {
            p class="lead" { (name) " wants to use " bdi { strong { (here) } } " in your name." }
            (name.proof())
            dl {
                @if let Some(site) = client.client_uri.as_deref().and_then(host) {
                    dt { "Website, by its own account" }
                    dd { bdi { (site) } }
                }
                dt { "You will be sent to" }
                dd { (target(&asked.reply.redirect_uri)) }
                dt { "It will be allowed" }
                dd {
                    @if asked.scopes.is_empty() {
                        "what your account allows"
                    } @else {
                        ul { @for scope in &asked.scopes { li { code { (scope) } } } }
                    }
                }
            }
            p { "If you approve, you log in at " bdi { strong { (provider) } } " next." }
            p class="warning" {
                "Approve only if you have just begun this yourself, in a program that you trust. If somebody sent you a link to "
                "this page, deny."
            }
            form method="post" action="consent" {
                input type="hidden" name="login" value=(handle);
                input type="hidden" name="token" value=(token);
                @if remembered::may_be(client, &asked.reply.redirect_uri) {
                    p class="remember" {
                        input type="checkbox" id="remember" name="remember" value="yes";
                        label for="remember" { "Do not ask again in this browser for 30 days, unless another website sends you here" }
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

/// What a client is called, and whether that is known to be true.
pub(super) enum Name {
    /// The host that its document lies on: only who runs that host can have put it there.
    Host {
        host: String,
        says: Option<String>,
    },
    /// The same of a client that is answered on the person's device, where any program can name
    /// this document.
    Claimed(String),
    /// What it says itself.
    Own(String),
    None,
}

impl Name {
    pub(super) fn of(client: &Client, redirect_uri: &str) -> Self {
        let says = client
            .client_name
            .as_deref()
            .map(tame)
            .filter(|name| !name.is_empty());
        match (host(&client.client_id), says) {
            (Some(host), says) if remembered::may_be(client, redirect_uri) => {
                Self::Host { host, says }
            }
            (Some(host), _) => Self::Claimed(host),
            (None, Some(says)) => Self::Own(says),
            (None, None) => Self::None,
        }
    }

    pub(super) fn proof(&self) -> Markup {
        html! {
            p {
                @match self {
                    Self::Host { host, says } => {
                        "The program is published by " bdi { (host) } "."
                        @if let Some(says) = says { " It calls itself “" bdi { (says) } "”." }
                    }
                    Self::Claimed(_) => "There is such a program, but any program on this device can pass itself off as it.",
                    Self::Own(_) => "That is what the program calls itself. Nobody has checked it.",
                    Self::None => "It has not said what it is called.",
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
                Self::Claimed(host) => { "A program that says it comes from " bdi { strong { (host) } } },
                Self::Own(name) => { "A program that calls itself “" bdi { strong { (name) } } "”" },
                Self::None => "A program without a name",
            }
        }
    }
}

/// The host of a web address: in full, with its port, and foreign letters in the form that tells
/// them apart.
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

pub(super) fn target(redirect_uri: &str) -> Markup {
    let url = Url::parse(redirect_uri).ok();
    let loopback = url.as_ref().is_some_and(is_loopback);
    let scheme = url.as_ref().map(Url::scheme).unwrap_or_default();
    html! {
        @match host(redirect_uri) {
            Some(host) if loopback => { "a program on this computer (" bdi { (host) } ")" },
            Some(host) => bdi { strong { (host) } },
            None => { "the program on this device that opens links which begin with " bdi { code { (scheme) ":" } } },
        }
    }
}
