//! The checks of assertions that are accepted once: client assertions and ID-JAGs (RFC 7523 §3).

use std::time::{Duration, SystemTime};

/// The most that two of the clocks of the signer and of the instances may differ, in seconds.
const SKEW: f64 = 60.0;

/// The longest time until an assertion expires, in seconds. The store remembers it for this long.
const LONGEST: f64 = 3600.0;

/// The maximum length of `jti`, in bytes.
const LONGEST_ID: usize = 512;

/// The claims that limit the use of an assertion. Times are in seconds since 1970 and may have
/// fractions (RFC 7519 §2).
pub(super) struct SingleUse<'a> {
    pub(super) exp: f64,
    pub(super) nbf: Option<f64>,
    pub(super) iat: Option<f64>,
    pub(super) jti: &'a str,
}

impl SingleUse<'_> {
    /// Returns the time for which the assertion must be remembered: until every instance refuses it
    /// because it has expired.
    ///
    /// # Errors
    ///
    /// The text says why the assertion is not accepted at the time `now`.
    pub(super) fn check(&self, now: f64) -> Result<Duration, &'static str> {
        if self.exp <= now - SKEW {
            return Err("it has expired");
        }
        if self.exp > now + LONGEST + SKEW {
            return Err("its exp is more than one hour ahead");
        }
        let is_ahead = |time: Option<f64>| time.is_some_and(|time| time > now + SKEW);
        if is_ahead(self.nbf) || is_ahead(self.iat) {
            return Err("it is not yet valid");
        }
        if self.jti.is_empty() || self.jti.len() > LONGEST_ID {
            return Err("its jti is empty or too long");
        }
        // The clock of another instance may be behind.
        let left = self.exp - now + 2.0 * SKEW;
        Ok(Duration::from_secs_f64(
            left.clamp(1.0, LONGEST + 3.0 * SKEW),
        ))
    }
}

/// Returns the current time in seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 1e9;

    fn expires(exp: f64) -> SingleUse<'static> {
        SingleUse {
            exp,
            nbf: None,
            iat: None,
            jti: "1",
        }
    }

    #[test]
    fn an_assertion_is_remembered_until_every_instance_refuses_it() {
        for until in [-59.0, 0.0, 1.0, 300.0, LONGEST, LONGEST + SKEW] {
            let assertion = expires(NOW + until);
            let remembered = assertion.check(NOW).unwrap().as_secs_f64();
            // On another instance, whose clock is as far behind as is tolerated.
            let elsewhere = NOW + remembered - SKEW;
            assert!(assertion.check(elsewhere).is_err(), "{until}");
        }
    }

    #[test]
    fn no_time_is_out_of_range() {
        for exp in [f64::MIN, -1.0, 0.0, f64::MAX] {
            assert!(expires(exp).check(NOW).is_err(), "{exp}");
        }
        for ahead in [Some(NOW + 61.0), Some(f64::MAX)] {
            let mut assertion = expires(NOW + 60.0);
            assertion.nbf = ahead;
            assert!(assertion.check(NOW).is_err(), "{ahead:?}");
            (assertion.nbf, assertion.iat) = (None, ahead);
            assert!(assertion.check(NOW).is_err(), "{ahead:?}");
        }
    }
}
