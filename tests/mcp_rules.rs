//! The rules of the example `mcp` for what strangers tell it, without a server: each is tested where it stands.

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
#[path = "../examples/mcp/clients/rules/mod.rs"]
mod rules;
