//! Parsers and writers of token requests and responses, clients, scopes and paths, and the search
//! for tokens in a response.
//!
//! They are pure: they use no store, no clock and no service.

pub(crate) mod client;
pub(crate) mod disclosure;
mod fold;
pub(crate) mod json;
pub(crate) mod jwt;
mod names;
pub mod path;
pub(crate) mod scope;
pub(crate) mod secret_str;
pub(crate) mod token_request;
pub(crate) mod token_response;
