//! The listener that the example servers share, over real sockets and with short limits.

// Each test module uses a part of this.
#![allow(dead_code, unused_imports, unused_macros)]

#[path = "../../examples/common/listener/mod.rs"]
mod listener;

mod bodies;
mod connections;
mod server;
mod streams;
