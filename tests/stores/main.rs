//! The stores that need no server.

mod boxed;
mod conformance;
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
