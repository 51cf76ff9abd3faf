//! The flags for lifetimes, retries and rotation.

use std::time::Duration;

use tower_oauth_refresh::{RefreshLayerBuilder, Store};

use super::{RotationFlags, seconds};

/// The longest window that the layer accepts: a hundred years.
const UNLIMITED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The flags for lifetimes and retries. The retry window is a flag of each server, because it has
/// another default in the demo of the proxy, and `mcp` also applies it to authorization codes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sessions")]
pub struct SessionFlags {
    /// Time in seconds after a rotation in which the token that was rotated away still leads to the
    /// current one, whether or not the current one was presented; at most --idle-lifetime, 0
    /// disables it [default: --retry-window]
    ///
    /// With an hour or a day, any number of processes with private copies of one token stay logged
    /// in. The price: within this window a stolen copy cannot be distinguished from a stale one,
    /// and neither ends the grant.
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub shared_window: Option<Duration>,

    /// Time in seconds after a rotation in which a client that lost the response can refresh with
    /// the previous token; `unlimited` is as long as the grant lives; 0 disables recovery [default:
    /// unlimited]
    ///
    /// Recovery is possible only as long as the current token was never presented.
    #[arg(long, value_name = "SECS|unlimited", value_parser = recovery, allow_negative_numbers = true)]
    recovery_window: Option<Duration>,

    /// Time in seconds after its last rotation at which a grant expires; shorter if the lifetime of
    /// its upstream refresh token is shorter [default: 2592000, 30 days]
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    idle_lifetime: Option<Duration>,

    /// Time in seconds after the log-in at which a grant expires, however often it is rotated; a
    /// change applies to new grants only [default: no limit]
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    absolute_lifetime: Option<Duration>,

    /// Time in seconds for which an access token of this server is valid; shorter if the upstream's
    /// access token expires earlier, except with --upstream-refresh [default: as long as the
    /// upstream's access token]
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    pub access_token_lifetime: Option<Duration>,

    /// Claim of the ID token with the id of the user, by which the sessions of a user are listed
    /// and ended; `oid` for Microsoft Entra ID [default: sub]
    #[arg(long, value_name = "NAME")]
    subject_claim: Option<String>,

    /// Time in seconds that a client waits for a refresh before it gets 503; the refresh itself may
    /// take twice this time; at most 3600
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true, default_value = "10")]
    pub rotation_timeout: Duration,

    /// Time in seconds that a client waits for a log-in before it gets 504; at most 3600 [default:
    /// 30]
    ///
    /// The risk: after a 504 the authorization code may be used up, and the user must log in again.
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    issue_timeout: Option<Duration>,

    /// Answer a log-in with 503 if its grant cannot be stored, instead of issuing an access token
    /// without a refresh token
    #[arg(long)]
    refuse_unstored_grants: bool,

    /// Set --retry-window, --shared-window and --recovery-window to 0: every use of an old refresh
    /// token ends its grant
    ///
    /// The risk: a client that loses a response must log in again.
    #[arg(long)]
    pub strict: bool,

    #[command(flatten)]
    rotation: RotationFlags,
}

/// Parses a recovery window: a number of seconds, or `unlimited`.
fn recovery(text: &str) -> Result<Duration, String> {
    match text {
        "unlimited" => Ok(UNLIMITED),
        text => seconds(text).map_err(|error| format!("{error}, nor `unlimited`")),
    }
}

impl SessionFlags {
    /// Returns the value of `refresh_token_expiration_types_supported` in the metadata of the
    /// server (draft-ietf-oauth-refresh-token-expiration §8).
    ///
    /// A client may take a lifetime of a listed type that is missing in a response for indefinite.
    /// Without an absolute lifetime, "authorization" is therefore not listed: the upstream may end
    /// authorizations without naming their lifetime.
    pub const fn expiration_types(&self) -> &'static [&'static str] {
        match self.absolute_lifetime {
            Some(_) => &["authorization", "token_timeout"],
            None => &["token_timeout"],
        }
    }

    /// Checks the rules that concern more than one value.
    pub fn check(&self) -> Result<(), String> {
        self.rotation.check()
    }

    /// Applies the flags to the builder of a refresh layer.
    pub(super) fn configure<S: Store>(
        &self,
        builder: RefreshLayerBuilder<S>,
        retry_window: Option<Duration>,
    ) -> RefreshLayerBuilder<S> {
        let mut builder = self
            .rotation
            .configure(builder)
            .rotation_timeout(self.rotation_timeout)
            .refuse_unstored_grants(self.refuse_unstored_grants)
            .strict(self.strict);
        if let Some(timeout) = self.issue_timeout {
            builder = builder.issue_timeout(timeout);
        }
        if let Some(window) = retry_window {
            builder = builder.retry_window(window);
        }
        if let Some(window) = self.shared_window {
            builder = builder.shared_token_window(window);
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
        if let Some(lifetime) = self.access_token_lifetime {
            builder = builder.access_token_lifetime(lifetime);
        }
        if let Some(claim) = &self.subject_claim {
            builder = builder.subject_claim(claim);
        }
        builder
    }
}
