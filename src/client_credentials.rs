//! [`ClientCredentials`]: how the layer authenticates at the inner service when it sends a request
//! of its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::wire::client::ClientId;

/// The client authentication of the requests that the layer itself sends to the inner service, such
/// as those of [`upstream_refresh`](crate::AccessLayerBuilder::upstream_refresh).
///
/// Such a request always names the client of the grant, but the client itself takes no part in it.
/// So the layer needs credentials of its own for clients that authenticate.
///
/// ```
/// use tower_oauth_refresh::ClientCredentials;
///
/// # fn main() -> Result<(), tower_oauth_refresh::InvalidClientId> {
/// let credentials = ClientCredentials::basic("web".parse()?, "the secret of the client");
/// assert_eq!(format!("{credentials:?}"), r#"ClientCredentials::Basic("web")"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientCredentials(Kind);

#[derive(Clone)]
enum Kind {
    Public,
    Basic(ClientId, Zeroizing<String>),
    Post(ClientId, Zeroizing<String>),
    Service,
}

impl ClientCredentials {
    /// Returns credentials for the grants of public clients only: the form has the `client_id` of
    /// the grant (RFC 6749 §3.2.1). The layer sends no request about the grant of a client that has
    /// authenticated.
    #[must_use]
    pub const fn public() -> Self {
        Self(Kind::Public)
    }

    /// Returns the credentials of one confidential client, with the secret in `Authorization`
    /// (`client_secret_basic`, RFC 6749 §2.3.1). The grants of other clients are treated as with
    /// [`public`](Self::public).
    #[must_use]
    pub fn basic(client_id: ClientId, client_secret: impl Into<String>) -> Self {
        Self(Kind::Basic(client_id, client_secret.into().into()))
    }

    /// Returns the same credentials as [`basic`](Self::basic), with the secret in the form
    /// (`client_secret_post`).
    #[must_use]
    pub fn post(client_id: ClientId, client_secret: impl Into<String>) -> Self {
        Self(Kind::Post(client_id, client_secret.into().into()))
    }

    /// Returns credentials for all grants. The form has the `client_id` of the grant, and the
    /// service that sends the request adds the authentication, for example a signed assertion or
    /// mutual TLS, or needs none because the inner service trusts the layer.
    #[must_use]
    pub const fn added_by_service() -> Self {
        Self(Kind::Service)
    }

    /// Returns whether there are credentials for this client. `authenticates` says whether it has
    /// authenticated itself.
    pub(crate) fn cover(&self, client_id: &str, authenticates: bool) -> bool {
        match &self.0 {
            Kind::Service => true,
            Kind::Basic(own, _) | Kind::Post(own, _) if own.as_str() == client_id => true,
            Kind::Public | Kind::Basic(..) | Kind::Post(..) => !authenticates,
        }
    }

    /// Returns the value of `Authorization` for a request about a grant of this client.
    pub(crate) fn header(&self, client_id: &str) -> Option<HeaderValue> {
        let secret = match &self.0 {
            Kind::Basic(own, secret) if own.as_str() == client_id => secret,
            _ => return None,
        };
        let mut pair = Zeroizing::new(encoded(client_id));
        pair.push(':');
        pair.push_str(&Zeroizing::new(encoded(secret)));
        let mut value = Zeroizing::new(String::from("Basic "));
        STANDARD.encode_string(&*pair, &mut value);
        let mut value = HeaderValue::try_from(&**value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Returns the client secret for the form of a request about a grant of this client.
    pub(crate) fn secret(&self, client_id: &str) -> Option<&str> {
        match &self.0 {
            Kind::Post(own, secret) if own.as_str() == client_id => Some(secret),
            _ => None,
        }
    }

    /// Returns whether the form names the client. With `client_secret_basic` the header does, and
    /// some servers reject a request that does both.
    pub(crate) fn names_client(&self, client_id: &str) -> bool {
        !matches!(&self.0, Kind::Basic(own, _) if own.as_str() == client_id)
    }
}

/// Encodes one half of Basic credentials (RFC 6749 §2.3.1, appendix B).
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Public => f.write_str("ClientCredentials::Public"),
            Kind::Basic(client_id, _) => write!(f, "ClientCredentials::Basic({client_id:?})"),
            Kind::Post(client_id, _) => write!(f, "ClientCredentials::Post({client_id:?})"),
            Kind::Service => f.write_str("ClientCredentials::Service"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> ClientId {
        id.parse().unwrap()
    }

    #[test]
    fn confidential_clients_need_their_own_credentials() {
        let web = || client("web");
        for (credentials, own, other) in [
            (ClientCredentials::public(), false, false),
            (ClientCredentials::basic(web(), "s"), true, false),
            (ClientCredentials::post(web(), "s"), true, false),
            (ClientCredentials::added_by_service(), true, true),
        ] {
            assert_eq!(credentials.cover("web", true), own, "{credentials:?}");
            assert_eq!(credentials.cover("app", true), other, "{credentials:?}");
            assert!(credentials.cover("app", false), "{credentials:?}");
        }
    }

    #[test]
    fn a_secret_is_sent_for_its_own_client_only() {
        let basic = ClientCredentials::basic(client("my app"), "p:s+w");
        // `my+app:p%3As%2Bw`
        assert_eq!(
            basic.header("my app").unwrap(),
            "Basic bXkrYXBwOnAlM0FzJTJCdw=="
        );
        assert!(basic.header("my app").unwrap().is_sensitive());
        assert_eq!((basic.header("app"), basic.secret("my app")), (None, None));
        assert_eq!(
            (basic.names_client("my app"), basic.names_client("app")),
            (false, true)
        );
        let post = ClientCredentials::post(client("web"), "s");
        assert_eq!((post.secret("web"), post.secret("app")), (Some("s"), None));
        assert_eq!(post.header("web"), None);
        assert!(post.names_client("web"));
    }

    #[test]
    fn debug_shows_no_secret() {
        for credentials in [
            ClientCredentials::basic(client("web"), "hush"),
            ClientCredentials::post(client("web"), "hush"),
        ] {
            assert!(!format!("{credentials:?}").contains("hush"));
        }
    }
}
