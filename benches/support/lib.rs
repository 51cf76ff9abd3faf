//! Shared parts of the benches: a token endpoint, its clients, load, statistics and plots.

mod app;
mod clients;
mod endpoint;
mod load;
mod plot;
mod process;
mod statistics;
mod stores;

pub use self::app::App;
pub use self::clients::{CLIENT, Session, field, log_in, post, refresh, send};
pub use self::endpoint::Endpoint;
pub use self::load::{Slice, Work, slice};
pub use self::plot::{Line, Panel, draw};
pub use self::process::{Process, resident};
pub use self::statistics::{grouped, median, percentile, rounded, short};
pub use self::stores::{directory, postgres_store, redis_store};
pub use test_support::postgres::PostgresServer;
pub use test_support::redis::RedisServer;

/// Returns whether to measure: `cargo test --benches` runs the benches, too.
pub fn wanted() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}
