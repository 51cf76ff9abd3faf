//! [`MemoryStore`]: grants in the memory of one process.
//!
//! Each key belongs to a [`shard`], a map behind a lock.

mod shard;
mod store;

pub use self::store::MemoryStore;
