//! The repository: its documents and its dependencies.

mod documents;
// Reads the metadata of every feature without the network.
#[cfg(all(feature = "redb", feature = "redis-tls"))]
mod supply_chain;
