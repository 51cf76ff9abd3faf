//! The store of a server: parses `--store` and opens the store.

mod choice;
mod opened;
mod state_directory;

pub use self::choice::{Settings, StoreChoice};
pub use self::opened::{CacheState, OpenStore};
pub use self::state_directory::StateDirectory;
