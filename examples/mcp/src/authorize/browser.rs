//! Identifies browsers: a log-in continues only in the browser in which it began.

use std::time::Duration;

use axum::http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use axum::response::Response;
use server_common::cookie;
use tower_oauth_refresh::store::StoreError;

use crate::issuer::Issuer;
use crate::records::Handle;

/// A browser, identified by the random handle in its cookie.
pub(super) struct Browser(Handle);

impl Browser {
    /// Returns the browser that sent these headers, if it has the cookie.
    pub(super) fn find(headers: &HeaderMap, issuer: &Issuer) -> Option<Self> {
        cookie::only(headers, &cookie_name(issuer))?
            .parse()
            .ok()
            .map(Self)
    }

    pub(super) fn new() -> Result<Self, StoreError> {
        Handle::random().map(Self)
    }

    /// Returns a hash that may be stored. It does not allow anyone to impersonate the browser.
    pub(super) fn name(&self) -> [u8; 32] {
        self.0.name()
    }

    /// Returns a token for a form or a record, which other sites cannot forge.
    pub(super) fn token(&self, purpose: &str) -> Result<Handle, StoreError> {
        self.0.derive(purpose)
    }

    /// Adds the cookie to a response. It expires after `keep`, or when the browser is closed.
    pub(super) fn set_cookie(
        &self,
        issuer: &Issuer,
        keep: Option<Duration>,
        response: &mut Response,
    ) {
        let (name, secure) = (
            cookie_name(issuer),
            if issuer.is_https() { "; Secure" } else { "" },
        );
        let keep = keep
            .map(|keep| format!("; Max-Age={}", keep.as_secs()))
            .unwrap_or_default();
        // `Lax`, because the browser must send the cookie when the provider redirects it back.
        let cookie = format!(
            "{name}={}; Path=/; HttpOnly; SameSite=Lax{secure}{keep}",
            self.0
        );
        if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
            cookie.set_sensitive(true);
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}

/// The name of the cookie, without its prefix.
pub(crate) const COOKIE_NAME: &str = "mcp-browser";

/// Returns the name of the cookie. With the prefix, browsers accept the cookie only over TLS and
/// only from this host (RFC 6265bis §4.1.3.2). Over plain HTTP, for local tests, the prefix is
/// omitted because some browsers reject such a cookie.
fn cookie_name(issuer: &Issuer) -> String {
    format!(
        "{}{COOKIE_NAME}",
        if issuer.is_https() { "__Host-" } else { "" }
    )
}
