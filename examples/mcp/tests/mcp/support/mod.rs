//! Fixtures of these tests.

pub(crate) mod chromium;
pub(crate) mod client_key;
pub(crate) mod documents;
pub(crate) mod fixture;
pub(crate) mod identity;
pub(crate) mod idp;
pub(crate) mod mcp;
pub(crate) mod mcp_client;
