use std::time::Duration;

use tower_oauth_refresh::{RefreshLayerBuilder, Store};

use super::{count, timeout};
use crate::listener::Limits;

/// The flags for [`Limits`].
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Most client connections that are open at the same time; at the limit, a new connection
    /// replaces the one that has been idle longest
    ///
    /// If the descriptor limit of the process (`ulimit -n`) is too low, this value is lowered and a
    /// warning is logged.
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = count)]
    max_connections: usize,

    /// Most requests that are in flight at the same time, including streamed responses; at the
    /// limit, clients get 503
    ///
    /// A quarter of this number is the limit for token, revocation and introspection requests,
    /// which may continue after their clients have disconnected. If the descriptor limit of the
    /// process (`ulimit -n`) is too low, this value is lowered and a warning is logged.
    #[arg(long, value_name = "COUNT", default_value = "4096", value_parser = count)]
    max_in_flight: usize,

    /// Memory, in bytes, for all request bodies that are held at the same time; at the limit,
    /// clients get 503
    #[arg(long, value_name = "BYTES", default_value = "67108864", value_parser = count)]
    body_memory: usize,

    /// Time in seconds after which a connection without an open request is closed; it includes the
    /// time that a request head takes to arrive
    ///
    /// Behind a load balancer that reuses connections, set it above the idle time-out of the load
    /// balancer. Otherwise the load balancer may send a request on a connection that is being
    /// closed. At most 86400.
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = timeout)]
    idle_timeout: Duration,

    /// Time in seconds in which a client must read or send at least 16 KiB of a body, or the rest
    /// of it
    ///
    /// The time runs only while the server waits for the client. If a request body takes longer,
    /// the client gets 408; if a response takes longer, it is cut off. At most 86400.
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = timeout)]
    stall_timeout: Duration,

    /// Time in seconds that open requests have to finish after SIGTERM; event streams that are
    /// still open then are ended, other requests are cut off; at most 86400
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = timeout)]
    pub shutdown_timeout: Duration,
}

impl LimitFlags {
    /// Raises the descriptor limit of the process, and lowers these flags if it is still too low.
    pub fn fit_descriptors(&mut self) {
        let fitted = self.limits(0).within_descriptors();
        self.max_connections = fitted.max_connections;
        self.max_in_flight = fitted.max_in_flight;
    }

    /// Applies the flags to the builder of a refresh layer.
    pub(super) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        builder.max_in_flight(self.limits(0).max_guarded())
    }

    /// Returns the limits for a service that holds up to `body_held` bytes of a request body.
    pub fn limits(&self, body_held: usize) -> Limits {
        Limits {
            max_connections: self.max_connections,
            max_in_flight: self.max_in_flight,
            body_memory: self.body_memory,
            body_held,
            idle_timeout: self.idle_timeout,
            stall_timeout: self.stall_timeout,
            ..Limits::default()
        }
    }
}
