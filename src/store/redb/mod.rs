//! One file, one process. Two threads stand between the callers and the disk, so that no thread of
//! a runtime waits for it: the [`writer`] decides claims and swaps, a batch at a time with one
//! commit for all of them, the [`reader`] answers from what is committed, so that nothing that is
//! only read waits for a commit.
//!
//! Leases are held in memory ([`leases`]), for nobody else has the file open: a claim writes
//! nothing, and a process that died holds none.

mod builder;
mod error;
mod file;
mod leases;
mod reader;
mod record;
mod store;
mod sweeper;
mod tables;
mod threads;
mod writer;

pub use self::builder::RedbStoreBuilder;
pub use self::error::RedbOpenError;
pub use self::store::RedbStore;
