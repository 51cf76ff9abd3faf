//! Counters and histograms, recorded through the [`metrics`] facade (feature `metrics`).
//!
//! [`Metrics`] records the events of a layer and the calls of its store. Any exporter of the facade
//! can publish them:
//!
//! ```
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//! use tower_oauth_refresh::metrics::{DURATION_BUCKETS, Metrics};
//! use tower_oauth_refresh::{MemoryStore, RefreshLayer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exporter = PrometheusBuilder::new()
//!     .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), DURATION_BUCKETS)?
//!     .install_recorder()?;
//!
//! let metrics = Metrics::new();
//! let layer = RefreshLayer::builder(metrics.store(MemoryStore::new()))
//!     .on_event(move |event| metrics.record(event))
//!     .build()?;
//!
//! assert!(exporter.render().contains("oauth_refresh_events_total{kind=\"rotated\"} 0"));
//! # drop(layer);
//! # Ok(())
//! # }
//! ```
//!
//! | metric | type | labels | meaning |
//! | --- | --- | --- | --- |
//! | [`EVENTS`] | counter | `kind`: [`EventKind::as_str`] | events |
//! | [`ROTATION_DURATION`] | histogram, seconds | `kind`: `rotated`, `kept`, `replayed`, `converged`, `recovered` | [`Event::elapsed`] of events whose client gets a token response |
//! | [`STORE_CALL_DURATION`] | histogram, seconds | `op`: `get`, `swap`, `sidecar`, `claim`, `announce` | duration of store calls, including those that fail |
//! | [`STORE_CALL_ERRORS`] | counter | `op` | store calls that failed |
//! | [`CACHE_LOOKUPS`] | counter | `result`: `hit`, `miss` | whether [`Store::peek`] returned a hint |
//!
//! 1. **Install the exporter first.** [`Metrics::new`] registers every metric with the recorder
//!    that is current at that time. Without a recorder, nothing is recorded, even if one is
//!    installed later.
//! 2. **Every series exists from the start**, so that an alert on an increase sees the first event.
//! 3. **Labels are bounded.** Their values are constants of this crate. No metric names a client, a
//!    user, a grant or a token.
//! 4. **Recording is cheap.** It allocates nothing, and reads the clock twice for each store call.
//! 5. **Set the buckets**, as in the example. The default buckets of most exporters are too coarse
//!    for store calls, which take microseconds. Without buckets, the Prometheus exporter publishes
//!    summaries, which cannot be aggregated.
//! 6. **Run the upkeep of the exporter.** The handle that `install_recorder` returns keeps every
//!    duration in memory until it is rendered or its `run_upkeep` is called. Call that every few
//!    seconds, in case nothing scrapes the program. `PrometheusBuilder::install` does so by itself.
//!
//! `docs/` in the package has a dashboard for Grafana and alert rules for Prometheus that use these
//! names.

mod store;

use std::sync::Arc;

use ::metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram,
};

pub use self::store::MeteredStore;
use crate::event::{Event, EventKind};
#[cfg(doc)]
use crate::store::Store;

/// The counter of events, by `kind`.
pub const EVENTS: &str = "oauth_refresh_events_total";

/// The histogram of the time from a refresh request to its token response, by `kind` of event.
pub const ROTATION_DURATION: &str = "oauth_refresh_rotation_duration_seconds";

/// The histogram of the duration of store calls, by `op`.
pub const STORE_CALL_DURATION: &str = "oauth_refresh_store_call_duration_seconds";

/// The counter of store calls that failed, by `op`.
pub const STORE_CALL_ERRORS: &str = "oauth_refresh_store_call_errors_total";

/// The counter of lookups in the cache in front of the store, by `result`.
pub const CACHE_LOOKUPS: &str = "oauth_refresh_cache_lookups_total";

/// Upper bounds of buckets for both histograms, in seconds: from a call of a store in memory to a
/// rotation whose inner service times out.
pub const DURATION_BUCKETS: &[f64] = &[
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// The metrics of a layer and its store. See the [module](self).
///
/// Clones share the metrics. Several instances in one program add to the same series.
#[derive(Clone)]
pub struct Metrics(Arc<Handles>);

struct Handles {
    /// Indexed by the number of the [`EventKind`].
    events: Vec<EventHandles>,
    get: StoreCallHandles,
    swap: StoreCallHandles,
    sidecar: StoreCallHandles,
    claim: StoreCallHandles,
    announce: StoreCallHandles,
    hits: Counter,
    misses: Counter,
}

struct EventHandles {
    count: Counter,
    duration: Option<Histogram>,
}

/// The metrics of one operation of a store.
struct StoreCallHandles {
    duration: Histogram,
    errors: Counter,
}

impl StoreCallHandles {
    fn new(op: &'static str) -> Self {
        Self {
            duration: histogram!(STORE_CALL_DURATION, "op" => op),
            errors: counter!(STORE_CALL_ERRORS, "op" => op),
        }
    }
}

impl Metrics {
    /// Describes the metrics and registers their series at the current recorder: that of
    /// [`with_local_recorder`](::metrics::with_local_recorder), otherwise the global one.
    #[must_use]
    pub fn new() -> Self {
        describe();
        // `ALL` has the kinds in the order of their numbers.
        let events = EventKind::ALL.iter().map(|kind| EventHandles {
            count: counter!(EVENTS, "kind" => kind.as_str()),
            duration: has_token_response(*kind)
                .then(|| histogram!(ROTATION_DURATION, "kind" => kind.as_str())),
        });
        Self(Arc::new(Handles {
            events: events.collect(),
            get: StoreCallHandles::new("get"),
            swap: StoreCallHandles::new("swap"),
            sidecar: StoreCallHandles::new("sidecar"),
            claim: StoreCallHandles::new("claim"),
            announce: StoreCallHandles::new("announce"),
            hits: counter!(CACHE_LOOKUPS, "result" => "hit"),
            misses: counter!(CACHE_LOOKUPS, "result" => "miss"),
        }))
    }

    /// Records an event. Pass it to [`on_event`](crate::RefreshLayerBuilder::on_event), alone or
    /// with other things that the callback does.
    pub fn record(&self, event: &Event) {
        let handles = &self.0.events[event.kind as usize];
        handles.count.increment(1);
        if let Some(duration) = &handles.duration {
            duration.record(event.elapsed);
        }
    }

    /// Returns `store` with its calls measured. To count the lookups in a
    /// [`TieredStore`](crate::TieredStore), too, pass the `TieredStore`, not the store behind it.
    #[must_use]
    pub fn store<S>(&self, store: S) -> MeteredStore<S> {
        MeteredStore {
            inner: store,
            metrics: self.clone(),
        }
    }
}

impl Default for Metrics {
    /// Calls [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

redacted_debug!(self: Metrics {});

/// Returns whether the event is that of a refresh whose client gets a token response.
const fn has_token_response(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Rotated
            | EventKind::Kept
            | EventKind::Replayed
            | EventKind::Converged
            | EventKind::Recovered
    )
}

fn describe() {
    for (name, description) in [
        (EVENTS, "Events, by kind"),
        (STORE_CALL_ERRORS, "Store calls that failed, by operation"),
        (
            CACHE_LOOKUPS,
            "Lookups in the cache in front of the store, by result",
        ),
    ] {
        describe_counter!(name, Unit::Count, description);
    }
    for (name, description) in [
        (
            ROTATION_DURATION,
            "Time from a refresh request to its token response, by kind of event",
        ),
        (STORE_CALL_DURATION, "Duration of store calls, by operation"),
    ] {
        describe_histogram!(name, Unit::Seconds, description);
    }
}
