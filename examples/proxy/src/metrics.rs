//! The metrics of the proxy.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use server_common::store::{CacheLookups, OpenStore};
use tower_oauth_refresh::{Event, EventKind};

/// The interval at which the buffers of the histograms are drained.
const UPKEEP: Duration = Duration::from_secs(5);

const ROTATIONS: &str = "oauth_refresh_rotation_duration_seconds";
const CACHE_LOOKUPS: &str = "oauth_refresh_cache_lookups_total";
const STORE_CALLS: &str = "oauth_refresh_store_call_duration_seconds";

/// The kinds of events for which the client gets a token response.
const ROTATION_KINDS: [EventKind; 5] = [
    EventKind::Rotated,
    EventKind::Kept,
    EventKind::Replayed,
    EventKind::Converged,
    EventKind::Recovered,
];

/// The operations of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreOp {
    Get,
    Swap,
    Sidecar,
    Claim,
}

const STORE_OPS: [(StoreOp, &str); 4] = [
    (StoreOp::Get, "get"),
    (StoreOp::Swap, "swap"),
    (StoreOp::Sidecar, "sidecar"),
    (StoreOp::Claim, "claim"),
];

/// A recorder of metrics. Clones share their counters. The default records nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Option<Arc<Handles>>);

#[derive(Debug)]
struct Handles {
    events: Vec<(EventKind, Counter)>,
    rotations: [(EventKind, Histogram); ROTATION_KINDS.len()],
    /// In the order of [`STORE_OPS`].
    store_calls: [(Histogram, Counter); STORE_OPS.len()],
    in_flight: Gauge,
    cache: CacheCounters,
}

impl Metrics {
    /// Creates a recorder and the exporter of its metrics in the Prometheus format.
    pub(crate) fn prometheus() -> Result<(Self, Exporter), BuildError> {
        let rotations = Matcher::Full(ROTATIONS.into());
        let store_calls = Matcher::Full(STORE_CALLS.into());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                rotations,
                &[
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    30.0,
                ],
            )?
            .set_buckets_for_metric(
                store_calls,
                &[
                    0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1,
                    0.5, 1.0,
                ],
            )?
            .build_recorder();
        let handles = metrics::with_local_recorder(&recorder, || {
            describe();
            Handles {
                events: EventKind::ALL
                    .iter()
                    .map(|kind| {
                        let label = kind.as_str();
                        (
                            *kind,
                            counter!("oauth_refresh_events_total", "kind" => label),
                        )
                    })
                    .collect(),
                rotations: ROTATION_KINDS
                    .map(|kind| (kind, histogram!(ROTATIONS, "kind" => kind.as_str()))),
                store_calls: STORE_OPS.map(|(_, op)| {
                    let errors = counter!("oauth_refresh_store_call_errors_total", "op" => op);
                    (histogram!(STORE_CALLS, "op" => op), errors)
                }),
                in_flight: gauge!("proxy_requests_in_flight"),
                cache: CacheCounters {
                    hits: counter!(CACHE_LOOKUPS, "result" => "hit"),
                    misses: counter!(CACHE_LOOKUPS, "result" => "miss"),
                },
            }
        });
        handles.start_at_zero();
        let lookups = handles.cache.clone();
        Ok((
            Self(Some(Arc::new(handles))),
            Exporter {
                handle: recorder.handle(),
                lookups,
            },
        ))
    }

    pub(crate) const fn enabled(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn event(&self, event: &Event) {
        let Some(handles) = &self.0 else { return };
        if let Some((_, counter)) = handles.events.iter().find(|(kind, _)| *kind == event.kind) {
            counter.increment(1);
        }
        if let Some((_, histogram)) = handles
            .rotations
            .iter()
            .find(|(kind, _)| *kind == event.kind)
        {
            histogram.record(event.elapsed);
        }
    }

    pub(crate) fn store_call(&self, op: StoreOp, elapsed: Duration, failed: bool) {
        let Some(handles) = &self.0 else { return };
        let (calls, errors) = &handles.store_calls[op as usize];
        calls.record(elapsed);
        if failed {
            errors.increment(1);
        }
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        if let Some(handles) = &self.0 {
            handles.in_flight.increment(1.0);
        }
        InFlight(self.clone())
    }
}

impl Handles {
    /// Sets every series to zero, so that all series exist from the start.
    fn start_at_zero(&self) {
        for (_, counter) in &self.events {
            counter.absolute(0);
        }
        for (_, errors) in &self.store_calls {
            errors.absolute(0);
        }
        self.in_flight.set(0.0);
        self.cache.hits.absolute(0);
        self.cache.misses.absolute(0);
    }
}

/// A guard for a request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Metrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(handles) = &self.0.0 {
            handles.in_flight.decrement(1.0);
        }
    }
}

/// The exporter of the recorded metrics.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    handle: PrometheusHandle,
    lookups: CacheCounters,
}

impl Exporter {
    /// Adds the statistics that `store` records itself.
    pub(crate) const fn over(self, store: OpenStore) -> Scrape {
        Scrape {
            exporter: self,
            store,
        }
    }
}

/// The metrics of the recorder and of the store.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    exporter: Exporter,
    store: OpenStore,
}

impl Scrape {
    /// Renders the metrics in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        if let Some(CacheLookups { hits, misses }) = self.store.cache_lookups() {
            self.exporter.lookups.hits.absolute(hits);
            self.exporter.lookups.misses.absolute(misses);
        }
        self.exporter.handle.render()
    }
}

/// The counters of the hits and misses of the cache in front of the store.
#[derive(Clone, Debug)]
pub(crate) struct CacheCounters {
    hits: Counter,
    misses: Counter,
}

/// Drains the buffers of the histograms periodically. Never returns.
pub(crate) async fn upkeep(scrape: Scrape) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        scrape.exporter.handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!("oauth_refresh_events_total", Unit::Count, "Events, by kind");
    describe_histogram!(
        ROTATIONS,
        Unit::Seconds,
        "Time from a refresh request to its token response, by kind of event"
    );
    describe_histogram!(
        STORE_CALLS,
        Unit::Seconds,
        "Duration of store calls, by operation"
    );
    describe_counter!(
        "oauth_refresh_store_call_errors_total",
        Unit::Count,
        "Store calls that failed, by operation"
    );
    describe_counter!(
        CACHE_LOOKUPS,
        Unit::Count,
        "Lookups in the cache in front of the store, by result"
    );
    describe_gauge!(
        "proxy_requests_in_flight",
        Unit::Count,
        "Requests whose response is not finished"
    );
}
