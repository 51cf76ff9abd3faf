//! Where the examples keep what they know: which store a command line names, and how it is opened.

mod choice;
mod opened;

pub(crate) use self::choice::{OpenError, Settings, StoreChoice};
pub(crate) use self::opened::{CacheLookups, OpenStore};
