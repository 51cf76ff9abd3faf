use std::time::Duration;

use super::{DAY, Windows};
use crate::clock::CENTURY;
use crate::error::ConfigError;

impl Default for Windows {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(60),
            recovery: DAY,
        }
    }
}

impl Windows {
    pub(crate) fn checked(
        retry: Option<Duration>,
        recovery: Option<Duration>,
        strict: bool,
    ) -> Result<Self, ConfigError> {
        let none = Self {
            retry: Duration::ZERO,
            recovery: Duration::ZERO,
        };
        if strict {
            let set = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
            return if set(retry) || set(recovery) {
                Err(ConfigError::StrictWithWindow)
            } else {
                Ok(none)
            };
        }
        let default = Self::default();
        let retry = retry.unwrap_or(default.retry);
        // A long retry window raises the default of the recovery window. Only a recovery window
        // that the application has set can contradict the retry window.
        let recovery = recovery.unwrap_or_else(|| match retry {
            Duration::ZERO => retry,
            retry => default.recovery.max(retry.saturating_mul(2)),
        });
        for (setting, window) in [("retry_window", retry), ("recovery_window", recovery)] {
            if window > CENTURY || (!window.is_zero() && window.as_millis() == 0) {
                return Err(ConfigError::Duration(setting));
            }
        }
        if !recovery.is_zero() && retry.is_zero() {
            return Err(ConfigError::RecoveryWithoutRetry);
        }
        if !recovery.is_zero() && recovery <= retry {
            return Err(ConfigError::RecoveryWithinRetry);
        }
        Ok(Self { retry, recovery })
    }
}
