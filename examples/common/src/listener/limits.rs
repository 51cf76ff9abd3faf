//! The limits of the listener.

use std::time::Duration;

use super::descriptors;

/// The most streams of one HTTP/2 connection that are open at the same time.
pub(crate) const MAX_STREAMS: u32 = 64;

/// Bytes of one HTTP/2 request body that a client may send before they are read. This is the
/// default of RFC 9113 §6.9.2, so that no client can exceed it before it receives the settings.
pub(crate) const STREAM_WINDOW: u32 = 65_535;

/// Bytes of all HTTP/2 request bodies of one connection that a client may send before they are
/// read.
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;

/// The size of the read buffer of an HTTP/1 connection, in bytes, and thus of the largest head.
pub(crate) const HTTP1_BUFFER: usize = 32 << 10;

/// The limits of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections that are open at the same time.
    pub max_connections: usize,
    /// The most requests whose response is not finished.
    pub max_in_flight: usize,
    /// The most bytes of all request bodies together that are held in memory.
    pub body_memory: usize,
    /// The most bytes of one request body that the service holds at the same time.
    pub body_held: usize,
    /// The longest time that a connection may have no open request.
    pub idle_timeout: Duration,
    /// The longest time that a body may make no progress.
    pub stall_timeout: Duration,
    /// The interval between pings to an HTTP/2 client.
    pub ping_interval: Duration,
    /// The longest time that the client may take to answer a ping.
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_in_flight: 4096,
            body_memory: 64 << 20,
            body_held: usize::MAX,
            idle_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Returns the largest number of token, revocation and introspection requests in progress, with
    /// or without their clients.
    pub fn max_guarded(&self) -> usize {
        (self.max_in_flight / 4).max(1)
    }

    /// Raises the descriptor limit of the process as far as possible. If it is still too low,
    /// lowers these limits and logs a warning.
    pub fn within_descriptors(self) -> Self {
        match descriptors::raise() {
            Some(available) => self.within(available),
            None => self,
        }
    }

    /// Lowers the limits to fit the number of descriptors. A connection needs one descriptor, and a
    /// request in flight needs one more for its connection to the upstream. So do requests that
    /// continue without their client.
    pub fn within(mut self, descriptors: usize) -> Self {
        let needed = self
            .max_connections
            .saturating_add(self.max_in_flight)
            .saturating_add(self.max_guarded())
            .saturating_add(descriptors::RESERVED);
        if needed <= descriptors {
            return self;
        }
        let available = descriptors.saturating_sub(descriptors::RESERVED).max(3);
        // As many connections as requests in flight, and a quarter of that without a client.
        self.max_in_flight = self.max_in_flight.min(available.saturating_mul(4) / 9);
        let left = available - self.max_in_flight - self.max_guarded();
        self.max_connections = self.max_connections.min(left);
        let Self {
            max_connections,
            max_in_flight,
            ..
        } = self;
        tracing::warn!(
            descriptors,
            needed,
            max_connections,
            max_in_flight,
            "the descriptor limit is too low: --max-connections and --max-in-flight are lowered, raise ulimit -n"
        );
        self
    }
}
