//! Shared parts of the benches: a token endpoint, its clients, load, statistics and plots.

mod app;
mod clients;
mod endpoint;
mod load;
mod plot;
mod process;
mod statistics;
mod stores;

pub(crate) use self::app::App;
pub(crate) use self::clients::{CLIENT, Session, field, log_in, post, refresh, send};
pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::load::{Slice, Work, slice};
pub(crate) use self::plot::{Line, Panel, draw};
pub(crate) use self::process::{Process, resident};
pub(crate) use self::statistics::{grouped, median, percentile, rounded, short};
pub(crate) use self::stores::{directory, redis_store};
pub(crate) use test_support::redis::RedisServer;

/// Returns whether to measure: `cargo test --benches` runs the benches, too.
pub(crate) fn wanted() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}
