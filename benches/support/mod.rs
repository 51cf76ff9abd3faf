//! Shared parts of the benches: a token endpoint, its clients, load, statistics and plots.

#[cfg(feature = "redis")]
mod app;
mod clients;
mod endpoint;
mod load;
mod plot;
mod process;
#[cfg(feature = "redis")]
#[path = "../../tests/support/redis/mod.rs"]
mod servers;
mod statistics;
#[cfg(feature = "redis")]
mod stores;

#[cfg(feature = "redis")]
pub(crate) use self::app::App;
pub(crate) use self::clients::{CLIENT, Session, field, log_in, post, refresh, send};
pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::load::{Slice, Work, slice};
pub(crate) use self::plot::{Line, Panel, draw};
pub(crate) use self::process::{Process, resident};
#[cfg(feature = "redis")]
pub(crate) use self::servers::RedisServer;
pub(crate) use self::statistics::{grouped, median, percentile, rounded, short};
#[cfg(feature = "redis")]
pub(crate) use self::stores::{directory, redis_store};

/// Returns whether to measure: `cargo test --benches` runs the benches, too.
pub(crate) fn wanted() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}
