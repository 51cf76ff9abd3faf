//! The metrics of a server, for Prometheus and for the admin page.

mod live;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::store::{CacheState, OpenStore};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tower_oauth_refresh::{Event, EventKind};

use self::live::Live;
pub use self::live::{KindFigures, Recent, Snapshot, visible};
pub use self::window::Minute;

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
pub enum StoreOp {
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
pub struct Metrics(Option<Arc<Handles>>);

#[derive(Debug)]
struct Handles {
    events: Vec<(EventKind, Counter)>,
    rotations: [(EventKind, Histogram); ROTATION_KINDS.len()],
    /// In the order of [`STORE_OPS`].
    store_calls: [(Histogram, Counter); STORE_OPS.len()],
    in_flight: Option<Gauge>,
    cache: CacheCounters,
    live: Live,
}

impl Metrics {
    /// Creates a recorder and the exporter of its metrics in the Prometheus format. `in_flight` is
    /// the name of the metric for requests in flight, if the server counts them.
    pub fn prometheus(in_flight: Option<&'static str>) -> Result<(Self, Exporter), BuildError> {
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
            describe(in_flight);
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
                in_flight: in_flight.map(|name| gauge!(name)),
                cache: CacheCounters {
                    hits: counter!(CACHE_LOOKUPS, "result" => "hit"),
                    misses: counter!(CACHE_LOOKUPS, "result" => "miss"),
                },
                live: Live::default(),
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

    pub const fn enabled(&self) -> bool {
        self.0.is_some()
    }

    pub fn event(&self, event: &Event) {
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
        handles.live.event(event);
    }

    pub fn store_call(&self, op: StoreOp, elapsed: Duration, failed: bool) {
        let Some(handles) = &self.0 else { return };
        let (calls, errors) = &handles.store_calls[op as usize];
        calls.record(elapsed);
        if failed {
            errors.increment(1);
        }
        handles.live.store_call(op, elapsed, failed);
    }

    /// Measures a request to the upstream, to the head of its response. It fails if there is no
    /// response, or none that is good.
    pub async fn upstream_call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, E> {
        let Some(handles) = &self.0 else {
            return call.await;
        };
        let start = Instant::now();
        let result = call.await;
        let failed = !result.as_ref().is_ok_and(is_good);
        handles.live.upstream_call(start.elapsed(), failed);
        result
    }

    /// Returns the figures for the admin page; `None` if nothing is recorded.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.0.as_ref().map(|handles| handles.live.snapshot())
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        if let Some(in_flight) = self
            .0
            .as_ref()
            .and_then(|handles| handles.in_flight.as_ref())
        {
            in_flight.increment(1.0);
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
        if let Some(in_flight) = &self.in_flight {
            in_flight.set(0.0);
        }
        self.cache.hits.absolute(0);
        self.cache.misses.absolute(0);
    }
}

/// A guard for a request in flight.
#[derive(Debug)]
pub struct InFlight(Metrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        let handles = self.0.0.as_ref();
        if let Some(in_flight) = handles.and_then(|handles| handles.in_flight.as_ref()) {
            in_flight.decrement(1.0);
        }
    }
}

/// The exporter of the recorded metrics.
#[derive(Clone, Debug)]
pub struct Exporter {
    handle: PrometheusHandle,
    lookups: CacheCounters,
}

impl Exporter {
    /// Adds the statistics that `store` records itself.
    pub const fn over(self, store: OpenStore) -> Scrape {
        Scrape {
            exporter: self,
            store,
        }
    }
}

/// The metrics of the recorder and of the store.
#[derive(Clone, Debug)]
pub struct Scrape {
    exporter: Exporter,
    store: OpenStore,
}

impl Scrape {
    /// Returns the state of the cache in front of the store, if there is one.
    pub fn cache(&self) -> Option<CacheState> {
        self.store.cache()
    }

    /// Renders the metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        if let Some(CacheState { hits, misses, .. }) = self.cache() {
            self.exporter.lookups.hits.absolute(hits);
            self.exporter.lookups.misses.absolute(misses);
        }
        self.exporter.handle.render()
    }
}

/// The counters of the hits and misses of the cache in front of the store.
#[derive(Clone, Debug)]
pub struct CacheCounters {
    hits: Counter,
    misses: Counter,
}

/// Drains the buffers of the histograms periodically. Never returns.
pub async fn upkeep(scrape: Scrape) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        scrape.exporter.handle.run_upkeep();
    }
}

fn describe(in_flight: Option<&'static str>) {
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
    if let Some(name) = in_flight {
        describe_gauge!(name, Unit::Count, "Requests whose response is not finished");
    }
}
