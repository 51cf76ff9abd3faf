use std::time::Duration;

use crate::clock::CENTURY;
use crate::error::ConfigError;
use crate::grant::Windows;

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

/// The windows that the application has set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChosenWindows {
    pub(crate) retry: Option<Duration>,
    pub(crate) shared: Option<Duration>,
    pub(crate) recovery: Option<Duration>,
    /// Whether all windows are zero.
    pub(crate) strict: bool,
}

impl ChosenWindows {
    pub(crate) fn checked(self) -> Result<Windows, ConfigError> {
        if self.strict {
            let chosen = [self.retry, self.shared, self.recovery];
            let is_set = |window: Duration| !window.is_zero();
            return match chosen.into_iter().flatten().any(is_set) {
                true => Err(ConfigError::StrictWithWindow),
                false => Ok(Windows {
                    retry: Duration::ZERO,
                    shared: Duration::ZERO,
                    recovery: Duration::ZERO,
                }),
            };
        }
        let default = Windows::default();
        let retry = self.retry.unwrap_or(default.retry);
        let windows = Windows {
            retry,
            shared: self.shared.unwrap_or(retry),
            recovery: self.recovery.unwrap_or(default.recovery),
        };
        for (setting, window) in [
            ("retry_window", windows.retry),
            ("shared_token_window", windows.shared),
            ("recovery_window", windows.recovery),
        ] {
            if window > CENTURY || (!window.is_zero() && window.as_millis() == 0) {
                return Err(ConfigError::Duration(setting));
            }
        }
        // Only a recovery window that the application has set can contradict the retry window.
        let contradicts = |recovery: Duration| !recovery.is_zero() && recovery <= retry;
        if self.recovery.is_some_and(contradicts) {
            return Err(ConfigError::RecoveryWithinRetry);
        }
        Ok(windows)
    }
}
