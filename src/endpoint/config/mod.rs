//! The settings of a `RefreshLayer`, and the checks that `RefreshLayerBuilder::build` makes.
//!
//! [`Config`] holds all settings. [`Paths`] also maps the path of a request to a guarded endpoint.

mod paths;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

#[cfg(feature = "access")]
pub(crate) use self::paths::{ALLOWED, prefix};
pub(crate) use self::paths::{Paths, Target};
pub(crate) use self::windows::ChosenWindows;
use crate::clock::{CENTURY, Timestamp};
use crate::endpoint::direct::DirectService;
use crate::error::ConfigError;
use crate::grant::Windows;
use crate::revocation_key::RevocationKey;
use crate::rotation_policy::PolicyOfClient;
use crate::seal::{Context, SealError, SealNonce};
use crate::subject::SubjectKey;
use crate::wire::disclosure::Withheld;
use crate::wire::scope::valid_resource;

/// The default prefix of reference access tokens.
pub(crate) const ACCESS_PREFIX: &str = "at_";

const DAY: Duration = Duration::from_secs(24 * 3600);
const LARGEST_LIMIT: usize = 16 << 20;
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The time that a lease outlives the time limit of the inner service, so that the response can be
/// committed.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) paths: Paths,
    pub(crate) prefix: String,
    /// Whether clients get reference access tokens.
    pub(crate) reference: bool,
    pub(crate) access_prefix: String,
    /// The longest lifetime of a reference access token. `None` if only the inner service limits
    /// it.
    pub(crate) access_token_lifetime: Option<Duration>,
    /// The service at which the layer itself renews upstream access tokens. An access layer that is
    /// made from the layer sets it.
    pub(crate) upstream_refresh: OnceLock<DirectService>,
    /// The server key that upstream tokens are sealed for, to be revoked.
    pub(crate) revocation_key: Option<RevocationKey>,
    /// The service at which the layer itself revokes upstream tokens.
    pub(crate) upstream_revocation: Option<DirectService>,
    pub(crate) keep_id_token: bool,
    /// The claims of the ID token that are kept with a grant.
    pub(crate) claims: Vec<String>,
    /// The claim of the ID token that is the id of the user.
    pub(crate) subject_claim: String,
    pub(crate) subject_key: Option<SubjectKey>,
    /// Whether sessions are also found by the session at the identity provider.
    pub(crate) provider_sessions: bool,
    /// The resources that an access token is valid for if its client requests them.
    pub(crate) allowed_resources: Vec<String>,
    pub(crate) windows: Windows,
    pub(crate) rotation_policy: PolicyOfClient,
    pub(crate) idle_lifetime: Duration,
    pub(crate) absolute_lifetime: Option<Duration>,
    pub(crate) rotation_timeout: Duration,
    pub(crate) issue_timeout: Duration,
    pub(crate) request_body_timeout: Duration,
    /// Whether a log-in fails if its grant cannot be stored.
    pub(crate) refuse_unstored_grants: bool,
    pub(crate) adopt_until: Option<Timestamp>,
    pub(crate) hand_back: bool,
    pub(crate) max_request_body: usize,
    pub(crate) max_response_body: usize,
    /// The largest number of intercepted requests in progress, with or without their clients.
    pub(crate) max_in_flight: usize,
    pub(crate) invalid_grant_status: StatusCode,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: Paths::default(),
            prefix: "rt_".into(),
            reference: false,
            access_prefix: ACCESS_PREFIX.into(),
            access_token_lifetime: None,
            upstream_refresh: OnceLock::new(),
            revocation_key: None,
            upstream_revocation: None,
            keep_id_token: false,
            claims: Vec::new(),
            subject_claim: "sub".into(),
            subject_key: None,
            provider_sessions: false,
            allowed_resources: Vec::new(),
            windows: Windows::default(),
            rotation_policy: PolicyOfClient::default(),
            idle_lifetime: 30 * DAY,
            absolute_lifetime: None,
            rotation_timeout: Duration::from_secs(10),
            issue_timeout: Duration::from_secs(30),
            request_body_timeout: Duration::from_secs(10),
            refuse_unstored_grants: false,
            adopt_until: None,
            hand_back: false,
            max_request_body: 64 << 10,
            max_response_body: 256 << 10,
            max_in_flight: 4096,
            invalid_grant_status: StatusCode::BAD_REQUEST,
        }
    }
}

impl Config {
    /// Returns the time limit of the inner service for a request that rotates, revokes or
    /// introspects.
    pub(crate) fn upstream_timeout(&self) -> Duration {
        self.rotation_timeout * 2
    }

    /// Seals an upstream token for the revocation key, if there is one. `sealed` is the same token,
    /// sealed for the current token of its grant.
    pub(crate) fn seal_for_revocation(
        &self,
        nonce: SealNonce,
        context: Context<'_>,
        sealed: &[u8],
        token: &[u8],
    ) -> Result<Option<Bytes>, SealError> {
        let key = self.revocation_key.as_ref();
        key.map(|key| key.seal(nonce, context, sealed, token))
            .transpose()
    }

    /// Returns which tokens of the inner service must not reach a client.
    pub(crate) const fn withheld(&self) -> Withheld {
        if self.reference {
            Withheld::AllTokens {
                keep_id_token: self.keep_id_token,
            }
        } else {
            Withheld::RefreshTokens
        }
    }

    /// Returns the duration of a lease. It is longer than the time limit of the inner service, so
    /// that no other instance takes a grant over while its upstream token is in use.
    pub(crate) fn lease(&self) -> Duration {
        self.upstream_timeout() + LEASE_MARGIN
    }

    /// Returns for how long the entry of a token that is adopted at `now` is kept.
    ///
    /// A token that the inner service has `replaced` must not be sent there again, so the entry
    /// outlives adoption itself. Any other token may be adopted once more when its windows are
    /// over: another process with a copy of it then gets a grant of its own.
    pub(crate) fn adopted_for(&self, replaced: bool, now: Timestamp) -> Duration {
        let windows = self.windows;
        let kept = windows.retry.max(windows.shared).max(self.lease());
        if !replaced {
            return kept;
        }
        let left = self.adopt_until.map(|end| end.saturating_since(now));
        let left = left.unwrap_or_default().saturating_add(self.lease());
        kept.max(left).max(windows.recovery.min(self.idle_lifetime))
    }

    /// Returns until when an adopted token may still lead to its grant.
    pub(crate) fn adopted_until(&self) -> Option<Timestamp> {
        let end = self.adopt_until?;
        Some(end.saturating_add(self.adopted_for(true, end)))
    }

    /// Sets the service at which the layer itself renews upstream access tokens.
    #[cfg(feature = "access")]
    pub(crate) fn renew_at(&self, service: DirectService) -> Result<(), ConfigError> {
        if self.access_token_lifetime.is_none() {
            return Err(ConfigError::UpstreamRefreshWithoutLifetime);
        }
        let set = self.upstream_refresh.set(service);
        set.map_err(|_| ConfigError::UpstreamRefreshTwice)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check_prefix("token_prefix", &self.prefix)?;
        check_prefix("access_token_prefix", &self.access_prefix)?;
        if self.prefix == self.access_prefix {
            return Err(ConfigError::SamePrefix(self.prefix.clone()));
        }
        if self.keep_id_token && !self.reference {
            return Err(ConfigError::IdTokenWithoutReference);
        }
        if self.access_token_lifetime.is_some() && !self.reference {
            return Err(ConfigError::AccessTokenLifetimeWithoutReference);
        }
        if self.revocation_key.is_some() != self.upstream_revocation.is_some() {
            return Err(ConfigError::UpstreamRevocation);
        }
        if self.hand_back && self.reference {
            return Err(ConfigError::HandBack);
        }
        if let Some(uri) = self
            .allowed_resources
            .iter()
            .find(|uri| !valid_resource(uri))
        {
            return Err(ConfigError::Uri {
                setting: "allowed_resources",
                uri: uri.clone(),
            });
        }
        let durations = [
            ("idle_lifetime", Some(self.idle_lifetime)),
            ("absolute_lifetime", self.absolute_lifetime),
            ("access_token_lifetime", self.access_token_lifetime),
            ("rotation_timeout", Some(self.rotation_timeout)),
            ("issue_timeout", Some(self.issue_timeout)),
            ("request_body_timeout", Some(self.request_body_timeout)),
        ];
        for (setting, duration) in durations {
            if duration.is_some_and(|duration| duration.as_millis() == 0 || duration > CENTURY) {
                return Err(ConfigError::Duration(setting));
            }
        }
        if self.rotation_timeout > LONGEST_TIMEOUT {
            return Err(ConfigError::RotationTimeout);
        }
        for (setting, timeout) in [
            ("issue_timeout", self.issue_timeout),
            ("request_body_timeout", self.request_body_timeout),
        ] {
            if timeout > LONGEST_TIMEOUT {
                return Err(ConfigError::Timeout(setting));
            }
        }
        for (setting, limit) in [
            ("max_request_body", self.max_request_body),
            ("max_response_body", self.max_response_body),
            ("max_in_flight", self.max_in_flight),
        ] {
            if limit == 0 || limit > LARGEST_LIMIT {
                return Err(ConfigError::Limit(setting));
            }
        }
        Ok(())
    }
}

/// Rejects a prefix that is too long, or has a character that must be escaped in a form.
pub(crate) fn check_prefix(setting: &'static str, prefix: &str) -> Result<(), ConfigError> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if prefix.len() > 32 || !prefix.bytes().all(unreserved) {
        return Err(ConfigError::Prefix {
            setting,
            prefix: prefix.to_owned(),
        });
    }
    Ok(())
}
