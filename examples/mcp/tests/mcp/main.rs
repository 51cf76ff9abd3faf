//! The server, run as a process.

mod admin_page;
mod assertions;
mod authorize;
mod bodies;
mod browser;
mod callback;
mod client;
mod client_keys;
mod codes;
mod config;
mod configured_clients;
mod consent;
mod demo;
mod discovery;
mod ended_by_others;
mod id_jag;
mod identity_headers;
mod instances;
mod issuer;
mod landing;
mod metadata_documents;
mod metadata_hosts;
mod outage;
mod pages;
mod preset_users;
mod presets;
mod provider_auth;
mod rate_limits;
mod refused_users;
mod registration;
mod renewal;
mod revisions;
mod scopes;
mod server;
mod slash;
mod state;
mod step_up;
mod support;
mod token;
mod upstream;
mod upstream_refresh;
mod users;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-oauth-proxy");
