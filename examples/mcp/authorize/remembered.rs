//! What a browser has agreed to before.

use std::time::Duration;

use axum::http::HeaderMap;
use tower_oauth_refresh::store::StoreError;
use url::{Host, Url};

use super::browser::Browser;
use super::request::Asked;
use crate::app::App;
use crate::clients::Client;
use crate::records::Kind;

/// How long an agreement is remembered, if the person wants that.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether an agreement may be remembered: only where nobody else can pass for the client (RFC 6749
/// §10.2, RFC 8252 §8.6).
///
/// Nobody else gets what is sent to an `https` host, or can do anything with a code that only goes
/// with a secret. Any program on a person's computer, though, can listen on a loopback address or
/// claim a scheme, and client ids are no secrets.
pub(super) fn may_be(client: &Client, redirect_uri: &str) -> bool {
    client.secret.is_some() || is_web(redirect_uri)
}

fn is_web(redirect_uri: &str) -> bool {
    let Ok(url) = Url::parse(redirect_uri) else {
        return false;
    };
    url.scheme() == "https" && !is_loopback(&url)
}

/// Whether a URL leads to a program on the person's own computer.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether a request may be answered by a remembered consent, without a page.
///
/// A page of another site can send the browser here at any time, and would start a log-in without
/// the knowledge of the user. `Sec-Fetch-Site` (Fetch Metadata §2.4) says whether a navigation
/// comes from this site, or from the user, who has typed or opened the address. A browser that does
/// not send the header gets the page.
pub(super) fn may_skip_the_page(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let (Some(site), None) = (sites.next(), sites.next()) else {
        return false;
    };
    ["same-origin", "same-site", "none"]
        .iter()
        .any(|allowed| site == allowed)
}

/// Whether the person at this browser has agreed to just that, and had it remembered.
pub(super) async fn has_agreed(
    app: &App,
    browser: &Browser,
    client: &Client,
    asked: &Asked,
) -> Result<bool, StoreError> {
    if asked.ask_again || !may_be(client, &asked.reply.redirect_uri) {
        return Ok(false);
    }
    let remembered = app
        .records
        .get::<()>(Kind::Consent, &id(browser, asked)?)
        .await?;
    Ok(remembered.is_some())
}

pub(super) async fn remember(
    app: &App,
    browser: &Browser,
    asked: &Asked,
) -> Result<(), StoreError> {
    app.records
        .put(Kind::Consent, &id(browser, asked)?, &(), KEPT)
        .await
}

/// All that was agreed to, so that any other agreement is another record.
fn id(browser: &Browser, asked: &Asked) -> Result<String, StoreError> {
    let browser = browser.token("remembered consent")?.to_string();
    let all = (
        browser,
        &asked.client_id,
        &asked.reply.redirect_uri,
        &asked.scopes,
    );
    serde_json::to_string(&all).map_err(StoreError::corrupt)
}
