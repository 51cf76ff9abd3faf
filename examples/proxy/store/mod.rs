//! Where grants live: which store the command line names, and how it is opened and timed.

mod any;
mod choice;
mod metered;

pub(crate) use self::any::{AnyStore, CacheLookups};
pub(crate) use self::choice::{Cache, StoreChoice};
pub(crate) use self::metered::Metered;
