//! The proxy, run as a process.

mod access;
mod admin;
mod client;
mod connections;
mod deaths;
mod demo;
mod discovery;
mod ended_by_others;
mod flags;
mod forwarding;
mod front_channel;
mod openapi;
mod operation;
mod paths;
mod proxy;
mod rotation;
mod stores;
mod upstream_refresh;
mod upstream_revocation;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_oauth-refresh-proxy");
