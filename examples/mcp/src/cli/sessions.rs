use std::time::Duration;

use clap::builder::BoolishValueParser;
use server_common::flags::seconds;
use tower_oauth_refresh::{RefreshLayerBuilder, Store};

/// The longest time in which a repeated exchange of an authorization code gets the same response.
const CODE_WINDOW: Duration = Duration::from_secs(5);

/// The default of the layer.
const RETRY_WINDOW: Duration = Duration::from_secs(60);

/// The flags for lifetimes and retries of sessions.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub(crate) struct SessionFlags {
    /// Time in seconds after a rotation in which a repeated refresh gets the same response again;
    /// also applies to a repeated exchange of an authorization code, but for at most 5 seconds; 0
    /// disables this and recovery [default: 60]
    #[arg(long, env = "MCP_RETRY_WINDOW", value_name = "SECS", value_parser = seconds)]
    retry_window: Option<Duration>,

    /// Time in seconds after a rotation in which a client that lost the response can refresh with
    /// the previous token, as long as the current token was never presented; 0 disables recovery
    /// [default: 86400, or twice --retry-window if that is longer]
    #[arg(long, env = "MCP_RECOVERY_WINDOW", value_name = "SECS", value_parser = seconds)]
    recovery_window: Option<Duration>,

    /// Time in seconds after its last refresh at which a session expires [default: 2592000, 30
    /// days]
    #[arg(long, env = "MCP_IDLE_LIFETIME", value_name = "SECS", value_parser = seconds)]
    idle_lifetime: Option<Duration>,

    /// Time in seconds after the log-in at which a session expires, however often it is refreshed
    /// [default: no limit]
    #[arg(long, env = "MCP_ABSOLUTE_LIFETIME", value_name = "SECS", value_parser = seconds)]
    absolute_lifetime: Option<Duration>,

    /// Time in seconds that a client waits for a refresh before it gets 503; the provider may take
    /// twice this time
    #[arg(long, env = "MCP_ROTATION_TIMEOUT", value_name = "SECS", value_parser = seconds, default_value = "10")]
    pub(crate) rotation_timeout: Duration,

    /// Time in seconds that the provider may take to answer a log-in before the client gets 504
    /// [default: 30]
    #[arg(long, env = "MCP_ISSUE_TIMEOUT", value_name = "SECS", value_parser = seconds)]
    issue_timeout: Option<Duration>,

    /// Answer a log-in with 503 if its session cannot be stored, instead of issuing an access token
    /// without a refresh token
    #[arg(long, env = "MCP_REFUSE_UNSTORED_GRANTS", value_parser = BoolishValueParser::new())]
    refuse_unstored_grants: bool,

    /// Disable replay and recovery: every use of an old refresh token ends its session
    #[arg(long, env = "MCP_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
}

impl SessionFlags {
    /// Returns the time in which a repeated exchange of an authorization code gets the same
    /// response. Zero disables this.
    pub(crate) fn code_window(&self) -> Duration {
        let default = if self.strict {
            Duration::ZERO
        } else {
            RETRY_WINDOW
        };
        self.retry_window.unwrap_or(default).min(CODE_WINDOW)
    }

    /// Applies the flags to the layer.
    pub(crate) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let mut builder = builder
            .rotation_timeout(self.rotation_timeout)
            .refuse_unstored_grants(self.refuse_unstored_grants)
            .strict(self.strict);
        if let Some(timeout) = self.issue_timeout {
            builder = builder.issue_timeout(timeout);
        }
        if let Some(window) = self.retry_window {
            builder = builder.retry_window(window);
        }
        if let Some(window) = self.recovery_window {
            builder = builder.recovery_window(window);
        }
        if let Some(lifetime) = self.idle_lifetime {
            builder = builder.idle_lifetime(lifetime);
        }
        if let Some(lifetime) = self.absolute_lifetime {
            builder = builder.absolute_lifetime(lifetime);
        }
        builder
    }
}
