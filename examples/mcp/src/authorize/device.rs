//! The device at which a user logs in, for the label of the session.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::USER_AGENT;
use serde::{Deserialize, Serialize};
use server_common::forwarded::{self, Edge};
use tower_oauth_refresh::SessionLabel;

use crate::clients::{Client, visible};

/// The length in bytes from which the name of a browser is not kept. It is more than a label holds.
const LONGEST_BROWSER: usize = 256;

/// The address of a user, and the browser as it describes itself.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Device {
    address: String,
    browser: String,
}

impl Device {
    /// Returns the device that sent a request.
    pub(super) fn of(edge: &Arc<Edge>, peer: SocketAddr, headers: &HeaderMap) -> Self {
        let peer = forwarded::Client::new(Arc::clone(edge), peer);
        let browser = headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .filter(|value| value.len() <= LONGEST_BROWSER)
            .unwrap_or_default();
        // Every browser begins with this, and a label is short.
        let browser = browser.strip_prefix("Mozilla/5.0 ").unwrap_or(browser);
        Self {
            address: peer.real_ip(headers).to_str().unwrap_or_default().into(),
            browser: browser.into(),
        }
    }

    /// Returns the label of a session that this client began on this device. The address comes
    /// first, because the client chooses its name and could otherwise push the address out.
    pub(crate) fn label(&self, client: &Client) -> SessionLabel {
        let name = client.client_name.as_deref().map(visible);
        let parts = [&*self.address, &*name.unwrap_or_default(), &*self.browser];
        let known: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        SessionLabel::new(known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: Option<&str>) -> Client {
        Client {
            client_id: "x".into(),
            client_name: name.map(str::to_owned),
            client_uri: None,
            redirect_uris: Vec::new(),
            scope: None,
            secret: None,
            keys: None,
        }
    }

    fn label(agent: &[u8], name: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, agent.try_into().unwrap());
        let peer = "192.0.2.7:1234".parse().unwrap();
        let device = Device::of(&Arc::default(), peer, &headers);
        device.label(&client(name)).as_str().to_owned()
    }

    #[test]
    fn a_label_names_the_address_the_client_and_the_browser() {
        let agent = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        assert_eq!(
            label(agent, Some("Code")),
            "192.0.2.7, Code, (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
        );
        assert_eq!(label(b"curl/8", None), "192.0.2.7, curl/8");
        assert_eq!(label(b"\xff", None), "192.0.2.7");
        assert_eq!(label(&[b'x'; 1000], None), "192.0.2.7");
    }

    #[test]
    fn no_client_can_hide_the_address_or_make_a_label_long() {
        let hidden = label(
            b"x",
            Some(&format!("a\u{202e}\nb{}", "\u{1f600}".repeat(100))),
        );
        assert!(hidden.starts_with("192.0.2.7, a b"), "{hidden}");
        assert!(hidden.len() <= 128, "{hidden}");
        assert!(!hidden.chars().any(char::is_control), "{hidden}");
    }
}
