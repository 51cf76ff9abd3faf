//! A recorder for two readers: Prometheus, and the admin page.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tower_oauth_refresh::metrics::{STORE_CALL_DURATION, STORE_CALL_ERRORS};

use super::live::{Live, StoreOp};

/// Passes everything on to `exporter`, and the figures of store calls also to the admin page.
pub(super) struct Tee<R> {
    pub(super) exporter: R,
    pub(super) live: Arc<Live>,
}

/// A metric of one operation of the store.
struct OfStore<M> {
    exported: M,
    live: Arc<Live>,
    op: StoreOp,
}

impl<R> Tee<R> {
    /// Returns the metric of an operation that the admin page shows, or else `exported` itself.
    fn of_store<M>(&self, key: &Key, exported: M) -> Result<Arc<OfStore<M>>, M> {
        let op = key.labels().find(|label| label.key() == "op");
        match op.and_then(|label| StoreOp::named(label.value())) {
            Some(op) => Ok(Arc::new(OfStore {
                exported,
                live: Arc::clone(&self.live),
                op,
            })),
            None => Err(exported),
        }
    }
}

impl CounterFn for OfStore<Counter> {
    fn increment(&self, value: u64) {
        self.exported.increment(value);
        self.live.store_call_failed(self.op);
    }

    fn absolute(&self, value: u64) {
        self.exported.absolute(value);
    }
}

impl HistogramFn for OfStore<Histogram> {
    fn record(&self, seconds: f64) {
        self.exported.record(seconds);
        let duration = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.live.store_call(self.op, duration);
    }
}

impl<R: Recorder> Recorder for Tee<R> {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.exporter.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.exporter.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.exporter.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let counter = self.exporter.register_counter(key, metadata);
        if key.name() != STORE_CALL_ERRORS {
            return counter;
        }
        self.of_store(key, counter)
            .map_or_else(|counter| counter, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let histogram = self.exporter.register_histogram(key, metadata);
        if key.name() != STORE_CALL_DURATION {
            return histogram;
        }
        self.of_store(key, histogram)
            .map_or_else(|histogram| histogram, Histogram::from_arc)
    }
}
