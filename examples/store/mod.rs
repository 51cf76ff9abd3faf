//! Where the examples keep what they know: which store a command line names, and how it is opened.

mod any;
mod choice;

pub(crate) use self::any::{AnyStore, CacheLookups};
pub(crate) use self::choice::{OpenError, Settings, StoreChoice};
