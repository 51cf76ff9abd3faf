//! The rules of the example `mcp` for client metadata and other untrusted input. This file only
//! includes the modules; each one contains its own tests.

// The tests use only a part of each module.
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
