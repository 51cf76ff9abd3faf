use std::time::Duration;

use super::Windows;
use crate::clock::CENTURY;
use crate::error::ConfigError;

const RETRY: Duration = Duration::from_secs(60);

impl Default for Windows {
    fn default() -> Self {
        Self {
            retry: RETRY,
            shared: RETRY,
            recovery: CENTURY,
        }
    }
}

impl Windows {
    pub(crate) fn checked(
        retry: Option<Duration>,
        shared: Option<Duration>,
        recovery: Option<Duration>,
        strict: bool,
    ) -> Result<Self, ConfigError> {
        let none = Self {
            retry: Duration::ZERO,
            shared: Duration::ZERO,
            recovery: Duration::ZERO,
        };
        if strict {
            let set = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
            return if set(retry) || set(shared) || set(recovery) {
                Err(ConfigError::StrictWithWindow)
            } else {
                Ok(none)
            };
        }
        let default = Self::default();
        let retry = retry.unwrap_or(default.retry);
        let shared = shared.unwrap_or(retry);
        let set = recovery;
        let recovery = recovery.unwrap_or(default.recovery);
        for (setting, window) in [
            ("retry_window", retry),
            ("shared_token_window", shared),
            ("recovery_window", recovery),
        ] {
            if window > CENTURY || (!window.is_zero() && window.as_millis() == 0) {
                return Err(ConfigError::Duration(setting));
            }
        }
        // Only a recovery window that the application has set can contradict the retry window.
        let contradicts = |recovery: Duration| !recovery.is_zero() && recovery <= retry;
        if set.is_some_and(contradicts) {
            return Err(ConfigError::RecoveryWithinRetry);
        }
        Ok(Self {
            retry,
            shared,
            recovery,
        })
    }
}
