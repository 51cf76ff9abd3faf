//! [`RedisStore`]: grants in Redis or Valkey.

mod builder;
mod channel;
mod check;
mod connect;
mod connection;
mod entry;
mod error;
mod key;
mod known;
mod managed;
mod scripts;
mod store;
mod stream;
mod target;
#[cfg_attr(not(feature = "redis-tls"), path = "no_tls.rs")]
mod tls;

pub use self::builder::RedisStoreBuilder;
pub use self::error::RedisConnectError;
pub use self::store::RedisStore;
pub use self::target::RedisUrlError;
