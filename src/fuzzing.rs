//! The private items that the fuzz targets in `fuzz/` check.
//!
//! This module exists only with `--cfg fuzzing`, and is not part of the API. It can export the
//! items because they are declared `pub`, although their modules are private.

pub use crate::access_token::record::AccessRecord;
pub use crate::codec::{DecodeError, with_checksum};
pub use crate::grant::{Binding, Record};
pub use crate::token::{AccessToken, RefreshToken};
pub use crate::wire::client::{Client, ClientError, Credential, identify};
pub use crate::wire::disclosure::Withheld;
pub use crate::wire::token_request::{FormError, Param, TokenRequest, names_a_param};
pub use crate::wire::token_response::{TokenResponse, TokenResponseError};

/// The encoding of entries in Redis. The fuzz targets are built without the Redis client.
#[cfg(not(feature = "redis"))]
pub mod redis_entry {
    pub use crate::store::redis::entry::{beginning, claimed, decode, encode};
}
