//! Reference access tokens: the stored record, the rules that decide whether a token is valid, and
//! the tokens that a process has read or knows to have ended.
//!
//! This room knows no HTTP. The token endpoint mints access tokens, and the middleware in `access`
//! checks them.

#[cfg(feature = "access")]
pub(crate) mod cache;
pub(crate) mod check;
#[cfg(feature = "access")]
pub(crate) mod grant;
#[cfg(feature = "access")]
pub(crate) mod open;
pub(crate) mod record;
pub(crate) mod renewable;
