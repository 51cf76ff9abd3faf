//! The metrics of a server, for Prometheus and for the admin page.
//!
//! The library records them ([`tower_oauth_refresh::metrics`]). This module exports them, and keeps
//! the figures that only the admin page shows.

mod live;
mod tee;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Gauge, Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tower_oauth_refresh::Event;
use tower_oauth_refresh::metrics::{DURATION_BUCKETS, Metrics as LayerMetrics};
use tower_oauth_refresh::store::BoxStore;

use self::live::Live;
pub use self::live::{KindFigures, Recent, Snapshot, visible};
use self::tee::Tee;
pub use self::window::Minute;
use crate::store::{CacheState, OpenStore};

/// The interval at which the buffers of the histograms are drained.
const UPKEEP: Duration = Duration::from_secs(5);

/// A recorder of metrics. Clones share their counters. The default records nothing.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Option<Arc<Handles>>);

#[derive(Debug)]
struct Handles {
    layer: LayerMetrics,
    in_flight: Option<Gauge>,
    live: Arc<Live>,
}

impl Metrics {
    /// Creates a recorder and the exporter of its metrics in the Prometheus format. `in_flight` is
    /// the name of the metric for requests in flight, if the server counts them.
    pub fn prometheus(in_flight: Option<&'static str>) -> Result<(Self, Exporter), BuildError> {
        let exporter = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Suffix("_duration_seconds".into()),
                DURATION_BUCKETS,
            )?
            .build_recorder();
        let handle = exporter.handle();
        let live = Arc::new(Live::default());
        let tee = Tee {
            exporter,
            live: Arc::clone(&live),
        };
        let handles = metrics::with_local_recorder(&tee, || Handles {
            layer: LayerMetrics::new(),
            in_flight: in_flight.map(|name| {
                describe_gauge!(name, Unit::Count, "Requests whose response is not finished");
                gauge!(name)
            }),
            live,
        });
        Ok((Self(Some(Arc::new(handles))), Exporter(handle)))
    }

    /// Returns `store` with its calls measured, if metrics are recorded.
    pub fn store(&self, store: BoxStore) -> BoxStore {
        match &self.0 {
            Some(handles) => BoxStore::new(handles.layer.store(store)),
            None => store,
        }
    }

    /// Records an event of the layer.
    pub fn event(&self, event: &Event) {
        let Some(handles) = &self.0 else { return };
        handles.layer.record(event);
        handles.live.event(event);
    }

    /// Measures the time from a request to the upstream to the head of its response. The call
    /// counts as failed if there is no response, or if `is_good` returns `false` for it.
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
        let guard = InFlight(self.clone());
        if let Some(gauge) = guard.gauge() {
            gauge.increment(1.0);
        }
        guard
    }
}

/// A guard for a request in flight.
#[derive(Debug)]
pub struct InFlight(Metrics);

impl InFlight {
    fn gauge(&self) -> Option<&Gauge> {
        self.0.0.as_ref()?.in_flight.as_ref()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(gauge) = self.gauge() {
            gauge.decrement(1.0);
        }
    }
}

/// The exporter of the recorded metrics.
#[derive(Clone, Debug)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Adds the state of the cache of `store`.
    pub const fn over(self, store: OpenStore) -> Scrape {
        Scrape {
            exporter: self,
            store,
        }
    }
}

/// The metrics of the recorder and the state of the store.
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
        self.exporter.0.render()
    }
}

/// Drains the buffers of the histograms periodically. Never returns.
pub async fn upkeep(scrape: Scrape) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        scrape.exporter.0.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use test_support::{App, Hooked, Plan};
    use tower_oauth_refresh::store::{Key, Store as _};
    use tower_oauth_refresh::{EventKind, MemoryStore};

    use super::*;

    #[tokio::test]
    async fn store_calls_reach_the_exporter_and_the_admin_page() {
        let (metrics, exporter) = Metrics::prometheus(None).unwrap();
        let hooked = Hooked::new(MemoryStore::new());
        let store = metrics.store(BoxStore::new(hooked.clone()));
        store.get(&Key::new([0; 32])).await.unwrap();
        store.announce(&[Key::new([0; 32])]).await.unwrap();
        hooked.hook(|_, _| Plan::Lose);
        store.get(&Key::new([0; 32])).await.unwrap_err();
        let figures = metrics.snapshot().unwrap().store;
        let counts: Vec<_> = figures
            .iter()
            .map(|(op, minute)| (*op, minute.count, minute.errors))
            .collect();
        let expected = [
            ("get", 2, 1),
            ("swap", 0, 0),
            ("sidecar", 0, 0),
            ("claim", 0, 0),
            ("announce", 1, 0),
        ];
        assert_eq!(counts, expected);
        let text = exporter.over(OpenStore::plain(hooked)).render();
        for line in [
            "oauth_refresh_store_call_duration_seconds_count{op=\"get\"} 2\n",
            "oauth_refresh_store_call_errors_total{op=\"get\"} 1\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[tokio::test]
    async fn the_last_200_events_and_20_reuse_alarms_are_kept() {
        let (metrics, _exporter) = Metrics::prometheus(None).unwrap();
        let app = App::with(|builder| builder.strict(true));
        for number in 0..21 {
            let client = format!("reused-{number}");
            let first = app.log_in(&client).await;
            app.refresh_as(&client, &first).await.token();
            assert_eq!(app.refresh_as(&client, &first).await.status, 400);
        }
        for number in 63..201 {
            app.log_in(&format!("client-{number}")).await;
        }
        let events = app.take_events();
        assert_eq!(events.len(), 201);
        for event in &events {
            metrics.event(event);
        }
        let page = metrics.snapshot().unwrap();
        let clients = |recent: &[Recent]| -> Vec<_> {
            let clients = recent.iter().map(|event| event.client_id.clone().unwrap());
            clients.collect()
        };
        let kept = events.iter().skip(1).rev();
        let kept: Vec<_> = kept
            .map(|event| event.client_id.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(clients(&page.events), kept);
        let reused: Vec<_> = (1..21)
            .rev()
            .map(|number| format!("reused-{number}"))
            .collect();
        assert_eq!(clients(&page.alarms), reused);
        let total = |kind| {
            let mut kinds = page.kinds.iter();
            kinds.find(|row| row.kind == kind).unwrap().total
        };
        assert_eq!(total(EventKind::Issued), 159);
        assert_eq!(total(EventKind::ReuseDetected), 21);
    }

    #[tokio::test]
    async fn calls_of_the_upstream_and_their_errors_reach_the_admin_page() {
        let (metrics, _exporter) = Metrics::prometheus(None).unwrap();
        for result in [Ok(200), Ok(500), Err("no response")] {
            let call = metrics.upstream_call(async { result }, |status| *status < 500);
            assert_eq!(call.await, result);
        }
        let upstream = metrics.snapshot().unwrap().upstream;
        assert_eq!((upstream.count, upstream.errors), (3, 2));
    }

    #[test]
    fn without_a_recorder_a_store_is_not_wrapped() {
        let metrics = Metrics::default();
        let store = BoxStore::new(MemoryStore::new());
        let same = metrics.store(store.clone());
        assert_eq!(format!("{same:?}"), format!("{store:?}"));
        assert!(metrics.snapshot().is_none());
    }
}
