//! What is counted and timed.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tower_oauth_refresh::{Event, EventKind};

use crate::store::{CacheLookups, OpenStore};

/// How often what was recorded is taken out of the buffers that it lies in.
const UPKEEP: Duration = Duration::from_secs(5);

const ROTATIONS: &str = "oauth_refresh_rotation_duration_seconds";
const CACHE_LOOKUPS: &str = "oauth_refresh_cache_lookups_total";
const STORE_CALLS: &str = "oauth_refresh_store_call_duration_seconds";

const KINDS: [EventKind; 23] = [
    EventKind::Issued,
    EventKind::Rotated,
    EventKind::Replayed,
    EventKind::Recovered,
    EventKind::Late,
    EventKind::ReuseDetected,
    EventKind::ClientMismatch,
    EventKind::Expired,
    EventKind::Unknown,
    EventKind::Revoked,
    EventKind::AccessRevoked,
    EventKind::Ended,
    EventKind::AccessRefused,
    EventKind::Adopted,
    EventKind::UpstreamRejected,
    EventKind::UpstreamUnreadable,
    EventKind::UpstreamTimeout,
    EventKind::StoreUnavailable,
    EventKind::StoreCorrupt,
    EventKind::CommitLost,
    EventKind::Ahead,
    EventKind::Forged,
    EventKind::Unbound,
];

/// Those that end with a token answer.
const ROTATION_KINDS: [EventKind; 3] = [
    EventKind::Rotated,
    EventKind::Replayed,
    EventKind::Recovered,
];

/// The operations of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoreOp {
    Get,
    Swap,
    Beside,
    Claim,
}

const STORE_OPS: [(StoreOp, &str); 4] = [
    (StoreOp::Get, "get"),
    (StoreOp::Swap, "swap"),
    (StoreOp::Beside, "beside"),
    (StoreOp::Claim, "claim"),
];

/// Where to count; clones count together. The default counts nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Option<Arc<Handles>>);

#[derive(Debug)]
struct Handles {
    events: [(EventKind, Counter); KINDS.len()],
    rotations: [(EventKind, Histogram); ROTATION_KINDS.len()],
    /// In the order of [`STORE_OPS`].
    store_calls: [(Histogram, Counter); STORE_OPS.len()],
    in_flight: Gauge,
    cache: CacheCounters,
}

impl Metrics {
    /// Counts, and gives out what was counted.
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
                events: KINDS.map(|kind| {
                    (
                        kind,
                        counter!("oauth_refresh_events_total", "kind" => kind.as_str()),
                    )
                }),
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

    /// Counts a request as under way until what is returned is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        if let Some(handles) = &self.0 {
            handles.in_flight.increment(1.0);
        }
        InFlight(self.clone())
    }
}

impl Handles {
    /// So that every series is there before anything has happened.
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

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight(Metrics);

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(handles) = &self.0.0 {
            handles.in_flight.decrement(1.0);
        }
    }
}

/// What gives out what was counted.
#[derive(Clone, Debug)]
pub(crate) struct Exporter {
    handle: PrometheusHandle,
    lookups: CacheCounters,
}

impl Exporter {
    /// Also what `store` has counted by itself.
    pub(crate) const fn over(self, store: OpenStore) -> Scrape {
        Scrape {
            exporter: self,
            store,
        }
    }
}

/// What is given out at each scrape.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    exporter: Exporter,
    store: OpenStore,
}

impl Scrape {
    /// In the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        if let Some(CacheLookups { hits, misses }) = self.store.cache_lookups() {
            self.exporter.lookups.hits.absolute(hits);
            self.exporter.lookups.misses.absolute(misses);
        }
        self.exporter.handle.render()
    }
}

/// How often the cache in front of the store knew something, and how often nothing.
#[derive(Clone, Debug)]
pub(crate) struct CacheCounters {
    hits: Counter,
    misses: Counter,
}

/// Empties the buffers of the histograms from time to time; for ever.
pub(crate) async fn upkeep(scrape: Scrape) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        scrape.exporter.handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!(
        "oauth_refresh_events_total",
        Unit::Count,
        "What happened to grants, by kind"
    );
    describe_histogram!(
        ROTATIONS,
        Unit::Seconds,
        "From a refresh request to its answer, by how it was answered"
    );
    describe_histogram!(
        STORE_CALLS,
        Unit::Seconds,
        "How long the store took, by operation"
    );
    describe_counter!(
        "oauth_refresh_store_call_errors_total",
        Unit::Count,
        "Calls of the store that failed"
    );
    describe_counter!(
        CACHE_LOOKUPS,
        Unit::Count,
        "Whether the cache in front of the store knew something of a grant"
    );
    describe_gauge!(
        "proxy_requests_in_flight",
        Unit::Count,
        "Requests whose answer is not at its end"
    );
}
