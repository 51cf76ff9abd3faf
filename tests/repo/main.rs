//! The repository: its sources, its documents, its layers, its dependencies and its public API.

mod documents;
// Lists the items of every feature.
#[cfg(all(feature = "conformance", feature = "postgres"))]
mod public_api;
mod rooms;
mod sources;
// Reads the metadata of every feature without the network.
#[cfg(all(feature = "redb", feature = "redis-tls"))]
mod supply_chain;
