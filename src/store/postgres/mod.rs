//! [`PostgresStore`]: grants in PostgreSQL.
//!
//! Each call of the store is one call of a function in the database ([`schema`]), over a pool of
//! connections ([`pool`]). The functions decide with the rules of [`decide`](super::decide), in
//! SQL.

mod builder;
mod channel;
mod error;
mod failover;
mod pool;
mod purge;
mod schema;
mod server_time;
mod servers;
mod statement;
mod store;

pub use self::builder::PostgresStoreBuilder;
pub use self::error::PostgresConnectError;
pub use self::store::PostgresStore;
