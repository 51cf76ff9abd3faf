//! Who the client is.

use std::fmt;
use std::sync::Arc;

/// The identifier of an OAuth client (RFC 6749 §2.2): what a grant is bound to.
///
/// Put one into the extensions of a request, in a layer outside of this one, where the program knows the client by other
/// means (mutual TLS, a gateway); it then counts before whatever the request says.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// The identifier as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ClientId {
    type Error = InvalidClientId;

    fn try_from(id: &str) -> Result<Self, InvalidClientId> {
        if id.is_empty() || id.len() > 2048 || id.chars().any(char::is_control) {
            return Err(InvalidClientId);
        }
        Ok(Self(id.into()))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client identifier is empty, longer than 2048 bytes, or has control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client identifier must have 1 to 2048 bytes and no control characters")]
pub struct InvalidClientId;
