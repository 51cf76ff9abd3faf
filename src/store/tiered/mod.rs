//! [`TieredStore`]: a cache in front of another store.
//!
//! [`facts`] decides what may be remembered about a key, and keeps it. [`store`] learns facts from
//! the calls that pass through it.

mod facts;
mod store;

pub use self::store::{CacheStats, TieredStore, TieredStoreBuilder};
