//! The store of a server: parses `--store` and opens the store.

mod choice;
mod opened;

pub(crate) use self::choice::{OpenError, Settings, StoreChoice};
pub(crate) use self::opened::{CacheLookups, OpenStore};
