//! Real `redis-server` processes on the loopback, and a wire on which requests are recorded and
//! changed.

mod builder;
mod certificates;
mod cluster;
mod port;
mod sentinels;
mod server;
mod wire;

pub(crate) use self::builder::Builder;
pub(crate) use self::certificates::Certificates;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::sentinels::Sentinels;
pub(crate) use self::server::RedisServer;
pub(crate) use self::wire::{Fault, Wire};
