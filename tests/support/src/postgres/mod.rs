//! Real PostgreSQL servers on the loopback, and PgBouncer in front of them.

mod pooler;
mod server;

pub use self::pooler::PgBouncer;
pub use self::server::{PostgresServer, Session};
