//! Instances, each with its own cache, in front of one store.

use std::time::Duration;

use tower_oauth_refresh::RefreshLayerBuilder;
use tower_oauth_refresh::store::TieredStore;

use super::app::{App, TestStore};

pub type Tier = TieredStore<TestStore>;

/// Returns another instance over the store of `app`, in front of the same server. Its cache is
/// empty, and its entries do not expire during a test.
pub fn tiered(app: &App) -> App<Tier> {
    tiered_with(app, |builder| builder)
}

pub fn tiered_with(
    app: &App,
    settings: impl FnOnce(RefreshLayerBuilder<Tier>) -> RefreshLayerBuilder<Tier>,
) -> App<Tier> {
    let tier = TieredStore::builder(app.store.clone())
        .ttl(Duration::from_secs(24 * 3600))
        .build();
    App::over(app.clock.clone(), tier, app.upstream.clone(), settings)
}
