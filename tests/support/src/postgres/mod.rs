//! Real PostgreSQL servers on the loopback, and PgBouncer or a network in front of them.

mod pooler;
mod programs;
mod relay;
mod server;

pub use self::pooler::PgBouncer;
pub use self::relay::Relay;
pub use self::server::{PostgresServer, Session};
