//! The rules of the example `mcp` for what strangers tell it, without a server: each is tested
//! where it stands.

// Of each, what its tests use.
#![allow(dead_code, unused_imports)]

#[path = "../examples/mcp/clients/document/address.rs"]
mod address;
#[path = "../examples/mcp/clients/document/age.rs"]
mod age;
#[path = "../examples/mcp/clients/client.rs"]
mod client;
#[path = "../examples/mcp/clients/document/client_id.rs"]
mod client_id;
#[path = "../examples/mcp/clients/document/flights.rs"]
mod flights;
#[path = "../examples/mcp/mcp/host.rs"]
mod host;
#[path = "../examples/mcp/clients/document/limits.rs"]
mod limits;
#[path = "../examples/mcp/cli/origin.rs"]
mod origin;
#[path = "../examples/mcp/clients/rules/mod.rs"]
mod rules;
