//! Remembered consents.

use std::time::Duration;

use axum::http::HeaderMap;
use tower_oauth_refresh::store::StoreError;
use url::{Host, Url};

use super::browser::Browser;
use super::request::Asked;
use crate::app::App;
use crate::clients::Client;
use crate::records::Kind;

/// The lifetime of a remembered consent.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Returns whether a consent to this client may be remembered: only if no other app can impersonate
/// the client (RFC 6749 §10.2, RFC 8252 §8.6).
///
/// Only the client receives what is sent to its `https` host, and a code that requires a client
/// secret or a signature is useless to others. On the user's computer, however, any app can listen
/// on a loopback address or register a private-use scheme, and client IDs are not secret.
pub(super) fn may_be(client: &Client, redirect_uri: &str) -> bool {
    !client.is_public() || is_web(redirect_uri)
}

fn is_web(redirect_uri: &str) -> bool {
    let Ok(url) = Url::parse(redirect_uri) else {
        return false;
    };
    url.scheme() == "https" && !is_loopback(&url)
}

/// Returns whether a URL leads to an app on the user's own computer.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether a remembered consent may replace the consent page for this request.
///
/// A page of another site can send the browser here at any time, and would start a log-in without
/// the knowledge of the user. `Sec-Fetch-Site` (Fetch Metadata §2.4) shows whether a navigation
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

/// Returns whether the user of this browser has approved exactly this request before and chose to
/// remember it.
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

/// Returns the ID of the record. It covers everything that the user approved, so that a consent to
/// anything else has another ID.
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
