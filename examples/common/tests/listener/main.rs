//! Tests of the listener that the servers share, over real sockets and with short limits.

mod bodies;
mod connections;
mod server;
mod streams;
