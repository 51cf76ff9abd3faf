//! What the listener allows, and the flags that set it.

use std::time::Duration;

use super::descriptors;

/// Streams of one HTTP/2 connection that are open at the same time.
pub(crate) const MAX_STREAMS: u32 = 64;

/// Bytes of one HTTP/2 request body that a client may send before they are read: the default of RFC
/// 9113 §6.9.2, so that no client can exceed it before it has seen the settings.
pub(crate) const STREAM_WINDOW: u32 = 65_535;

/// The same limit for all streams of a connection together.
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;

/// Bytes of an HTTP/1 head at most, and of the read buffer of a connection.
pub(crate) const HTTP1_BUFFER: usize = 32 << 10;

/// The longest time-out that a flag may set.
const DAY: Duration = Duration::from_secs(86_400);

/// The limits of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Connections that are open at the same time.
    pub(crate) max_connections: usize,
    /// Requests whose response is not finished.
    pub(crate) max_in_flight: usize,
    /// Bytes of all request bodies that are held in memory.
    pub(crate) body_memory: usize,
    /// Bytes of one request body that the service holds at most; the rest is already passed on.
    pub(crate) body_held: usize,
    /// How long a connection may be without an open request.
    pub(crate) idle_timeout: Duration,
    /// How long a body may make no progress.
    pub(crate) stall_timeout: Duration,
    /// How often an HTTP/2 client is sent a ping.
    pub(crate) ping_interval: Duration,
    /// How long the client may take to answer a ping.
    pub(crate) ping_timeout: Duration,
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
    /// Raises the descriptor limit of the process as far as possible, and lowers these limits to
    /// fit.
    ///
    /// Logs a warning if they are lowered.
    pub(crate) fn within_descriptors(self) -> Self {
        match descriptors::raise() {
            Some(available) => self.within(available),
            None => self,
        }
    }

    /// Lowers the limits to fit. A connection needs a descriptor, and so does a request in flight,
    /// for its connection to the upstream.
    pub(crate) fn within(mut self, descriptors: usize) -> Self {
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
            "the descriptor limit is too low for --max-connections and --max-in-flight, which are lowered: raise ulimit -n"
        );
        self
    }
}

/// Defines `LimitFlags`, the command line of [`Limits`], whose environment variables begin with a
/// prefix.
macro_rules! limit_flags {
    ($prefix:literal) => {
        /// The resources of this server that clients may use.
        #[derive(Clone, Debug, clap::Args)]
        #[command(next_help_heading = "Limits")]
        pub(crate) struct LimitFlags {
            /// Connections that are open at the same time; beyond them a new one replaces the one
            /// that has been idle for the longest time
            ///
            /// Lowered, with a warning, to what the descriptor limit of the process (`ulimit -n`)
            /// allows.
            #[arg(long, env = concat!($prefix, "MAX_CONNECTIONS"), value_name = "COUNT", default_value = "10000",
                                                                                value_parser = crate::common::listener::count)]
            max_connections: usize,

            /// Requests that are answered at the same time, streams included; beyond them clients
            /// get 503
            ///
            /// Lowered, with a warning, to what the descriptor limit of the process (`ulimit -n`)
            /// allows.
            #[arg(long, env = concat!($prefix, "MAX_IN_FLIGHT"), value_name = "COUNT", default_value = "4096",
                                                                                value_parser = crate::common::listener::count)]
            max_in_flight: usize,

            /// Memory for the request bodies that are held at the same time, in bytes; beyond it
            /// clients get 503
            #[arg(long, env = concat!($prefix, "BODY_MEMORY"), value_name = "BYTES", default_value = "67108864",
                                                                                value_parser = crate::common::listener::count)]
            body_memory: usize,

            /// How long a connection may be without a request: until the first request head is
            /// complete, and between requests
            ///
            /// Behind a load balancer that reuses connections, set it above the idle time-out of
            /// the load balancer.
            #[arg(long, env = concat!($prefix, "IDLE_TIMEOUT"), value_name = "SECS", default_value = "30",
                                                                                value_parser = crate::common::listener::timeout)]
            idle_timeout: std::time::Duration,

            /// How long a client may read, or send, less than 16 KiB of a body that is not finished
            ///
            /// The time runs only while the server waits for the client. A request body that takes
            /// longer gets 408.
            #[arg(long, env = concat!($prefix, "STALL_TIMEOUT"), value_name = "SECS", default_value = "60",
                                                                                value_parser = crate::common::listener::timeout)]
            stall_timeout: std::time::Duration,
        }

        impl LimitFlags {
            /// Returns the limits for a service that holds up to `body_held` bytes of a request
            /// body.
            pub(crate) fn limits(&self, body_held: usize) -> crate::common::listener::Limits {
                crate::common::listener::Limits {
                    max_connections: self.max_connections,
                    max_in_flight: self.max_in_flight,
                    body_memory: self.body_memory,
                    body_held,
                    idle_timeout: self.idle_timeout,
                    stall_timeout: self.stall_timeout,
                    ..crate::common::listener::Limits::default()
                }
            }
        }
    };
}
pub(crate) use limit_flags;

/// Parses a number that is not 0.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    // A semaphore cannot count higher.
    let most = usize::MAX >> 4;
    let count = text.parse().ok().filter(|count| (1..=most).contains(count));
    count.ok_or_else(|| "not a number above 0".to_owned())
}

/// Parses a time-out in seconds, whole or not.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let timeout = seconds.filter(|timeout| !timeout.is_zero() && *timeout <= DAY);
    timeout.ok_or_else(|| "not a number of seconds above 0, and at most a day (86400)".to_owned())
}
