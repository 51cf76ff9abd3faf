//! The repository: its documents, its layers and its dependencies.

mod documents;
mod rooms;
// Reads the metadata of every feature without the network.
#[cfg(all(feature = "redb", feature = "redis-tls"))]
mod supply_chain;
