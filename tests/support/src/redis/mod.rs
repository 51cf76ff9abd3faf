//! Real Redis servers on the loopback, and a wire on which requests are recorded and changed.

mod builder;
mod certificates;
mod cluster;
mod sentinels;
mod server;
mod wire;

pub use self::builder::Builder;
pub use self::certificates::Certificates;
pub use self::cluster::Cluster;
pub use self::sentinels::Sentinels;
pub use self::server::RedisServer;
pub use self::wire::{Fault, Wire};
