//! The limits of the listener, and the flags that set them.

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

/// The longest time-out that a flag may set.
const DAY: Duration = Duration::from_secs(86_400);

/// The limits of a listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections that are open at the same time.
    pub max_connections: usize,
    /// The most requests whose response is not finished.
    pub max_in_flight: usize,
    /// The most bytes of all request bodies together that are held in memory.
    pub body_memory: usize,
    /// The most bytes of one request body that the service holds; it has passed the rest on.
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
    /// Raises the descriptor limit of the process as far as possible. If it is still too low,
    /// lowers these limits and logs a warning.
    pub fn within_descriptors(self) -> Self {
        match descriptors::raise() {
            Some(available) => self.within(available),
            None => self,
        }
    }

    /// Lowers the limits to fit the number of descriptors. A connection needs one descriptor, and a
    /// request in flight needs one more for its connection to the upstream.
    pub fn within(mut self, descriptors: usize) -> Self {
        let needed = self
            .max_connections
            .saturating_add(self.max_in_flight)
            .saturating_add(descriptors::RESERVED);
        if needed <= descriptors {
            return self;
        }
        let available = descriptors.saturating_sub(descriptors::RESERVED).max(2);
        self.max_in_flight = self.max_in_flight.min(available / 2);
        self.max_connections = self.max_connections.min(available - self.max_in_flight);
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

/// Defines `LimitFlags`, the command-line flags of [`Limits`]. Their environment variables begin
/// with the prefix.
#[macro_export]
macro_rules! limit_flags {
    ($prefix:literal) => {
        /// Limits on the resources that clients may use.
        #[derive(Clone, Debug, clap::Args)]
        #[command(next_help_heading = "Limits")]
        pub(crate) struct LimitFlags {
            /// Most client connections that are open at the same time; at the limit, a new
            /// connection replaces the one that has been idle longest
            ///
            /// If the descriptor limit of the process (`ulimit -n`) is too low, this value is
            /// lowered and a warning is logged.
            #[arg(long, env = concat!($prefix, "MAX_CONNECTIONS"), value_name = "COUNT", default_value = "10000",
                                                                                value_parser = $crate::listener::count)]
            max_connections: usize,

            /// Most requests that are in flight at the same time, including streamed responses;
            /// at the limit, clients get 503
            ///
            /// If the descriptor limit of the process (`ulimit -n`) is too low, this value is
            /// lowered and a warning is logged.
            #[arg(long, env = concat!($prefix, "MAX_IN_FLIGHT"), value_name = "COUNT", default_value = "4096",
                                                                                value_parser = $crate::listener::count)]
            max_in_flight: usize,

            /// Memory, in bytes, for all request bodies that are held at the same time; at the
            /// limit, clients get 503
            #[arg(long, env = concat!($prefix, "BODY_MEMORY"), value_name = "BYTES", default_value = "67108864",
                                                                                value_parser = $crate::listener::count)]
            body_memory: usize,

            /// Time in seconds after which a connection without an open request is closed; it
            /// includes the time that a request head takes to arrive
            ///
            /// Behind a load balancer that reuses connections, set it above the idle time-out of
            /// the load balancer. Otherwise the load balancer may send a request on a connection
            /// that is being closed. At most 86400.
            #[arg(long, env = concat!($prefix, "IDLE_TIMEOUT"), value_name = "SECS", default_value = "30",
                                                                                value_parser = $crate::listener::timeout)]
            idle_timeout: std::time::Duration,

            /// Time in seconds in which a client must read or send at least 16 KiB of a body, or
            /// the rest of it
            ///
            /// The time runs only while the server waits for the client. If a request body takes
            /// longer, the client gets 408; if a response takes longer, it is cut off. At most
            /// 86400.
            #[arg(long, env = concat!($prefix, "STALL_TIMEOUT"), value_name = "SECS", default_value = "60",
                                                                                value_parser = $crate::listener::timeout)]
            stall_timeout: std::time::Duration,
        }

        impl LimitFlags {
            /// Returns the limits for a service that holds up to `body_held` bytes of a request
            /// body.
            pub(crate) fn limits(&self, body_held: usize) -> $crate::listener::Limits {
                $crate::listener::Limits {
                    max_connections: self.max_connections,
                    max_in_flight: self.max_in_flight,
                    body_memory: self.body_memory,
                    body_held,
                    idle_timeout: self.idle_timeout,
                    stall_timeout: self.stall_timeout,
                    ..$crate::listener::Limits::default()
                }
            }
        }
    };
}

/// Parses a number above 0.
pub fn count(text: &str) -> Result<usize, String> {
    // The most permits of a semaphore.
    let most = usize::MAX >> 4;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| "not a number above 0".to_owned())
}

/// Parses a time-out in seconds; fractions are allowed.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let timeout = seconds.filter(|timeout| !timeout.is_zero() && *timeout <= DAY);
    timeout.ok_or_else(|| "not a number of seconds above 0 and at most 86400 (a day)".to_owned())
}
