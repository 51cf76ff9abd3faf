//! Which browser it is: a log-in goes on in the one that it was begun in.

use std::time::Duration;

use axum::http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use axum::response::Response;
use tower_oauth_refresh::store::StoreError;

use crate::issuer::Issuer;
use crate::records::Handle;

/// A browser, by the random handle in its cookie.
pub(super) struct Browser(Handle);

impl Browser {
    /// The browser that sends these headers, if it has been here before.
    pub(super) fn find(headers: &HeaderMap, issuer: &Issuer) -> Option<Self> {
        let name = cookie_name(issuer);
        let lines = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok());
        let cookies = lines
            .flat_map(|line| line.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='));
        let mut values = cookies
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        // Where there are two, one has been planted.
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        value.parse().ok().map(Self)
    }

    pub(super) fn new() -> Result<Self, StoreError> {
        Handle::random().map(Self)
    }

    /// What may be written down of it: nobody can pass for the browser with that.
    pub(super) fn name(&self) -> [u8; 32] {
        self.0.name()
    }

    /// What a form has to hold for this purpose, so that no other site can have made it up.
    pub(super) fn token(&self, purpose: &str) -> Result<Handle, StoreError> {
        self.0.derive(purpose)
    }

    /// Adds the cookie to a response: to be kept for so long, or until the browser is closed.
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
        // `Lax`: it has to come along when the provider sends the browser back.
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

/// The name of the cookie, without a prefix.
pub(crate) const COOKIE_NAME: &str = "mcp-browser";

/// The prefix has browsers take the cookie over TLS from this very host alone (RFC 6265bis
/// §4.1.3.2). In plain HTTP, as to try things out, some take no cookie of that name.
fn cookie_name(issuer: &Issuer) -> String {
    format!(
        "{}{COOKIE_NAME}",
        if issuer.is_https() { "__Host-" } else { "" }
    )
}
