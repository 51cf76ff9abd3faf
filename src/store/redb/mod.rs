//! [`RedbStore`]: grants in one file, for one process.
//!
//! Two threads do the disk I/O, so that no thread of a runtime is blocked:
//!
//! - The [`writer`] decides claims and swaps. It takes a batch of jobs at a time and makes one
//!   commit for all swaps of the batch.
//! - The [`reader`] answers reads from the committed data, so a read never waits for a commit.
//!
//! Leases are only kept in memory ([`leases`]), because no other process has the file open. So a
//! claim writes nothing, and a lease ends with its process.

mod builder;
mod error;
mod file;
mod leases;
mod reader;
mod record;
mod removal;
mod store;
mod tables;
mod worker;
mod writer;

pub use self::builder::RedbStoreBuilder;
pub use self::error::RedbOpenError;
pub use self::store::RedbStore;
