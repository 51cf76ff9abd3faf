//! Tests of the listener that the servers share, over real sockets and with short limits.

// Each test module uses only a part of the listener.
#![allow(dead_code, unused_imports, unused_macros)]

#[path = "../../examples/common/listener/mod.rs"]
mod listener;

mod bodies;
mod connections;
mod server;
mod streams;
