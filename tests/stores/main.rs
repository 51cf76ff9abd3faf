//! The stores that need no server.

mod boxed;
mod conformance;
#[allow(dead_code, unreachable_pub)]
#[path = "../../examples/custom_store.rs"]
mod custom_store;
mod memory;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redb")]
mod redb_faults;
#[cfg(feature = "redb")]
mod redb_file;
#[cfg(feature = "redb")]
mod redb_support;
mod tiered;
mod tiered_model;
mod tiered_refusals;
