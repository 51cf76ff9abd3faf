//! The builder of [`RefreshLayer`]. This file has the type, [`build`](RefreshLayerBuilder::build),
//! which checks the settings, and the options that replace a part of the layer. The other options
//! are in one file for each subject, with their defaults.

mod grants;
mod limits;
mod paths;
mod rotation;
mod tokens;
mod upstream;
mod users;

use std::mem;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::endpoint::config::{ChosenWindows, Config};
use crate::endpoint::state::State;
use crate::error::ConfigError;
use crate::event::Event;
use crate::random::{OsRandom, SecureRandom};
use crate::refresh::layer::RefreshLayer;
use crate::store::Store;

/// A builder for [`RefreshLayer`]. [`build`](RefreshLayerBuilder::build) checks the settings.
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
///
/// # fn main() -> Result<(), tower_oauth_refresh::ConfigError> {
/// let refresh = RefreshLayer::builder(MemoryStore::new())
///     .token_path("/oauth/token")
///     .revocation_path("/oauth/revoke")
///     .idle_lifetime(Duration::from_secs(14 * 24 * 3600))
///     .on_event(|event| tracing::info!(kind = %event.kind, "refresh token event"))
///     .build()?;
/// # drop(refresh);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct RefreshLayerBuilder<St> {
    store: St,
    config: Config,
    windows: ChosenWindows,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    on_event: Option<Arc<dyn Fn(&Event) + Send + Sync>>,
}

impl<St: Store> RefreshLayerBuilder<St> {
    pub(super) fn new(store: St) -> Self {
        Self {
            store,
            config: Config::default(),
            windows: ChosenWindows::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            on_event: None,
        }
    }

    /// Sets a callback that is called with every [`Event`]. Default: none. The callback runs within
    /// the request and must not block.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Sets the clock. Default: [`SystemClock`]. Stores use clocks of their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the random number generator for tokens, nonces and versions. Default: [`OsRandom`].
    pub fn random(mut self, random: impl SecureRandom) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is invalid or contradicts another one.
    pub fn build(self) -> Result<RefreshLayer<St>, ConfigError> {
        let mut builder = self;
        let config = &mut builder.config;
        config.paths = mem::take(&mut config.paths).checked()?;
        config.windows = builder.windows.checked()?;
        // Only a window that the application has set can contradict the idle lifetime. The default
        // may be longer than a short one.
        let shared = builder.windows.shared;
        if shared.is_some_and(|window| window > config.idle_lifetime) {
            return Err(ConfigError::SharedTokenWindow);
        }
        config.check()?;
        Ok(builder.finish())
    }

    /// Builds a layer with settings that were checked, or that are the defaults.
    pub(super) fn finish(self) -> RefreshLayer<St> {
        let shared = State::new(
            self.store,
            self.config,
            self.clock,
            self.random,
            self.on_event,
        );
        RefreshLayer {
            shared: Arc::new(shared),
        }
    }
}

redacted_debug!(self: <St> RefreshLayerBuilder { config });
