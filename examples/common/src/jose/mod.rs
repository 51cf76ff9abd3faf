//! Verifies JSON Web Tokens that others sign: logout tokens, ID tokens and assertions.
//!
//! [`Jwt`] parses a token and verifies its signature with [`Keys`], which come from the discovery
//! document of an issuer, from the URL of a JSON Web Key Set (RFC 7517), or are part of a
//! configuration or a registration. The claims of a token have no meaning here: the caller checks
//! them.
//!
//! Strangers can send tokens. Therefore the algorithm must be asymmetric, no header of a token
//! names a key or a URL, a token with a header `crit` is refused, and an unknown key ID, or a token
//! without a key ID that no key verifies, causes another fetch, but only one in 30 seconds. Until
//! the next one, such a token is not refused for good, because the signer may have a new key.

mod fetch;
mod issuer;
mod jwt;
mod key_set;
mod keys;

pub use self::fetch::{FetchError, Fetcher, KeySource};
pub use self::issuer::{Issuer, TENANT, check_scheme};
pub use self::jwt::{ALGORITHMS, Audience, Jwt, JwtError};
pub use self::key_set::KeySet;
pub use self::keys::{Keys, NoKey, SharedKeys};
