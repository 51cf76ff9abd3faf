use std::time::Duration;

use clap::builder::BoolishValueParser;
use tower_oauth_refresh::{RefreshLayerBuilder, Store};

use crate::flags::seconds;

/// How long a repeated exchange of an authorization code gets the same answer, at most.
const CODE_WINDOW: Duration = Duration::from_secs(5);

/// The default of the layer.
const RETRY_WINDOW: Duration = Duration::from_secs(60);

/// How long sessions live, and how forgiving they are.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub(crate) struct SessionFlags {
    /// How long a repeated refresh gets the same answer again, and, for 5 seconds at most, a
    /// repeated exchange of an authorization code; 0: never [default: 60]
    #[arg(long, env = "MCP_RETRY_WINDOW", value_name = "SECS", value_parser = seconds)]
    retry_window: Option<Duration>,

    /// How long a client that lost the answer can refresh with its old token; 0: never
    /// [default: 86400]
    #[arg(long, env = "MCP_RECOVERY_WINDOW", value_name = "SECS", value_parser = seconds)]
    recovery_window: Option<Duration>,

    /// How long a session lives without a refresh [default: 2592000, 30 days]
    #[arg(long, env = "MCP_IDLE_LIFETIME", value_name = "SECS", value_parser = seconds)]
    idle_lifetime: Option<Duration>,

    /// How long a session lives from its log-in, however often it is refreshed
    /// [default: no such end]
    #[arg(long, env = "MCP_ABSOLUTE_LIFETIME", value_name = "SECS", value_parser = seconds)]
    absolute_lifetime: Option<Duration>,

    /// How long a client waits for a refresh before it gets 503; the provider has twice this time
    #[arg(long, env = "MCP_ROTATION_TIMEOUT", value_name = "SECS", value_parser = seconds, default_value = "10")]
    pub(crate) rotation_timeout: Duration,

    /// How long the provider may take to answer a log-in before the client gets 504 [default: 30]
    #[arg(long, env = "MCP_ISSUE_TIMEOUT", value_name = "SECS", value_parser = seconds)]
    issue_timeout: Option<Duration>,

    /// Answer 503 to a log-in whose session cannot be stored, instead of issuing an access token
    /// without a refresh token
    #[arg(long, env = "MCP_REFUSE_UNSTORED_GRANTS", value_parser = BoolishValueParser::new())]
    refuse_unstored_grants: bool,

    /// Neither repeated answers nor recovery: any old token ends its session
    #[arg(long, env = "MCP_STRICT", value_parser = BoolishValueParser::new())]
    strict: bool,
}

impl SessionFlags {
    /// Returns how long a repeated exchange of an authorization code gets the same answer; zero:
    /// never.
    pub(crate) fn code_window(&self) -> Duration {
        let default = if self.strict {
            Duration::ZERO
        } else {
            RETRY_WINDOW
        };
        self.retry_window.unwrap_or(default).min(CODE_WINDOW)
    }

    /// Makes these the settings of the layer.
    pub(crate) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
    ) -> RefreshLayerBuilder<S> {
        let mut builder = builder
            .rotation_timeout(self.rotation_timeout)
            .refuse_unstored_grants(self.refuse_unstored_grants);
        if let Some(timeout) = self.issue_timeout {
            builder = builder.issue_timeout(timeout);
        }
        if self.strict {
            builder = builder.strict();
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
