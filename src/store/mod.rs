//! Where grants live: the [`Store`] trait, what passes through it, and the stores of this crate.

mod announce;
mod contract;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "memory")]
mod slot;
#[cfg(feature = "store-tests")]
pub mod tests;
mod types;

pub use self::announce::{Announcement, Announcements, Announcer};
pub use self::contract::Store;
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
pub use self::types::{Beside, Change, Claim, Entry, Hint, Key, Lease, Name, StoreError, Swap, Tag, Ttl, Version};
