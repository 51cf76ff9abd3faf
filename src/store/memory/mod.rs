//! [`MemoryStore`]: grants in the memory of one process.
//!
//! An entry with its sidecars is a `Slot` behind a lock. A concurrent cache maps keys to slots, and
//! frees the memory of expired ones.

mod slot;
mod store;

pub use self::store::MemoryStore;
