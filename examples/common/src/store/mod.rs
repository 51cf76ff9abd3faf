//! The store of a server: parses `--store` and opens the store.

mod choice;
mod opened;

pub use self::choice::{Settings, StoreChoice};
pub use self::opened::{CacheState, OpenStore};
