//! The feature `metrics`, with the exporter for Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use test_support::{Answer, App, Call, Hooked, Plan, Upstream};
use tower_oauth_refresh::metrics::{DURATION_BUCKETS, MeteredStore, Metrics};
use tower_oauth_refresh::store::Key;
use tower_oauth_refresh::{Event, EventKind, ManualClock, MemoryStore, Store, TieredStore};

const EVENTS: &str = "oauth_refresh_events_total";
const ROTATIONS: &str = "oauth_refresh_rotation_duration_seconds";
const CALLS: &str = "oauth_refresh_store_call_duration_seconds";
const ERRORS: &str = "oauth_refresh_store_call_errors_total";
const LOOKUPS: &str = "oauth_refresh_cache_lookups_total";

const WITH_RESPONSE: [&str; 5] = ["rotated", "kept", "replayed", "converged", "recovered"];
const OPS: [&str; 5] = ["get", "swap", "sidecar", "claim", "announce"];

/// Returns metrics that only the returned handle shows.
fn recorded() -> (Metrics, PrometheusHandle) {
    crate::traces::subscribe();
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".into()),
            DURATION_BUCKETS,
        )
        .unwrap()
        .build_recorder();
    let metrics = metrics::with_local_recorder(&recorder, Metrics::new);
    (metrics, recorder.handle())
}

/// Returns every series and its value.
fn series(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let text = handle.render();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Returns the series that are not zero.
fn counted(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let mut series = series(handle);
    series
        .retain(|name, value| *value > 0.0 && !name.contains("_bucket") && !name.contains("_sum"));
    series
}

fn counts<const N: usize>(expected: [(&str, &str, f64); N]) -> BTreeMap<String, f64> {
    let series = expected.iter();
    series
        .map(|(name, label, value)| (format!("{name}{{{label}}}"), *value))
        .collect()
}

/// Returns an app whose events and store calls are recorded.
fn app<S: Store + Clone>(metrics: &Metrics, clock: ManualClock, store: S) -> App<MeteredStore<S>> {
    let events = metrics.clone();
    App::over(clock, metrics.store(store), Upstream::new(), |builder| {
        builder.on_event(move |event| events.record(event))
    })
}

async fn log_in<S: Store + Clone>(app: &App<S>, client: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", client),
    ];
    app.post("/token", &form).await
}

/// Returns an event of the layer.
async fn some_event() -> Event {
    let app = App::new();
    app.log_in("app").await;
    app.take_events().remove(0)
}

#[test]
fn every_series_exists_from_the_start() {
    let (_metrics, handle) = recorded();
    let mut expected = Vec::new();
    for kind in EventKind::ALL {
        expected.push(format!("{EVENTS}{{kind=\"{kind}\"}}"));
    }
    for kind in WITH_RESPONSE {
        expected.push(format!("{ROTATIONS}_count{{kind=\"{kind}\"}}"));
    }
    for op in OPS {
        expected.push(format!("{CALLS}_count{{op=\"{op}\"}}"));
        expected.push(format!("{ERRORS}{{op=\"{op}\"}}"));
    }
    for result in ["hit", "miss"] {
        expected.push(format!("{LOOKUPS}{{result=\"{result}\"}}"));
    }
    expected.sort();
    let mut found = series(&handle);
    assert!(found.values().all(|value| *value == 0.0), "{found:?}");
    found.retain(|name, _| !name.contains("_bucket") && !name.contains("_sum"));
    assert_eq!(found.into_keys().collect::<Vec<_>>(), expected);
    let text = handle.render();
    for (name, kind) in [
        (EVENTS, "counter"),
        (ROTATIONS, "histogram"),
        (CALLS, "histogram"),
        (ERRORS, "counter"),
        (LOOKUPS, "counter"),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{text}");
        assert!(text.contains(&format!("# HELP {name} ")), "{text}");
    }
}

#[tokio::test]
async fn each_kind_of_event_has_its_own_counter() {
    let (metrics, handle) = recorded();
    let mut event = some_event().await;
    event.elapsed = Duration::from_millis(40);
    for (times, kind) in EventKind::ALL.iter().enumerate() {
        event.kind = *kind;
        for _ in 0..=times {
            metrics.record(&event);
        }
    }
    let series = series(&handle);
    for (times, kind) in EventKind::ALL.iter().enumerate() {
        let times = (times + 1) as f64;
        assert_eq!(series[&format!("{EVENTS}{{kind=\"{kind}\"}}")], times);
        let duration = format!("{ROTATIONS}_count{{kind=\"{kind}\"}}");
        let expected = WITH_RESPONSE.contains(&kind.as_str()).then_some(&times);
        assert_eq!(series.get(&duration), expected, "{kind}");
    }
    for (le, count) in [("0.025", 0.0), ("0.05", 2.0), ("30", 2.0)] {
        let bucket = format!("{ROTATIONS}_bucket{{kind=\"rotated\",le=\"{le}\"}}");
        assert_eq!(series[&bucket], count, "{bucket}");
    }
}

#[tokio::test]
async fn a_rotation_is_recorded_with_its_store_calls() {
    let (metrics, handle) = recorded();
    let clock = ManualClock::new();
    let app = app(&metrics, clock.clone(), MemoryStore::with_clock(clock));
    let token = log_in(&app, "app").await.token();
    // The first refresh also reads the epochs, which are then cached.
    let token = app.refresh(&token).await.token();
    let before = series(&handle);
    app.refresh(&token).await.token();
    let mut after = series(&handle);
    for (name, value) in &mut after {
        *value -= before[name];
    }
    after
        .retain(|name, value| *value != 0.0 && !name.contains("_bucket") && !name.contains("_sum"));
    let expected = counts([
        (EVENTS, "kind=\"rotated\"", 1.0),
        (&format!("{ROTATIONS}_count"), "kind=\"rotated\"", 1.0),
        (&format!("{CALLS}_count"), "op=\"claim\"", 1.0),
        (&format!("{CALLS}_count"), "op=\"swap\"", 1.0),
        (LOOKUPS, "result=\"miss\"", 1.0),
    ]);
    assert_eq!(after, expected);
}

#[tokio::test]
async fn calls_of_a_failing_store_are_counted_as_errors() {
    let (metrics, handle) = recorded();
    let clock = ManualClock::new();
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let app = app(&metrics, clock, store.clone());
    let token = log_in(&app, "app").await.token();
    let errors = |op: &str| series(&handle)[&format!("{ERRORS}{{op=\"{op}\"}}")];
    let calls = |op: &str| series(&handle)[&format!("{CALLS}_count{{op=\"{op}\"}}")];
    assert_eq!(OPS.map(errors), [0.0; 5]);
    store.hook(|_, _| Plan::Lose);
    assert_eq!(app.refresh(&token).await.status, 503);
    assert_eq!(errors("claim"), 1.0);
    assert_eq!(calls("claim"), 1.0, "a failed call has a duration, too");
    let failed = format!("{EVENTS}{{kind=\"store_unavailable\"}}");
    assert_eq!(series(&handle)[&failed], 1.0);
    // Each other operation fails once.
    let metered = metrics.store(store.clone());
    let key = Key::new([1; 32]);
    store.hook(|_, call| {
        if *call == Call::Get {
            Plan::Corrupt
        } else {
            Plan::Lose
        }
    });
    let before = errors("get");
    metered.get(&key).await.unwrap_err();
    assert_eq!(errors("get"), before + 1.0);
    let name = tower_oauth_refresh::store::SidecarName::new([2; 16]);
    metered.sidecar(&key, &name).await.unwrap_err();
    metered.announce(&[key]).await.unwrap_err();
    let change = tower_oauth_refresh::store::Change::Remove;
    let before = errors("swap");
    metered.swap(&key, None, change, &[]).await.unwrap_err();
    assert_eq!([errors("sidecar"), errors("announce")], [1.0; 2]);
    assert_eq!(errors("swap"), before + 1.0);
    store.unhook();
    let before = OPS.map(errors);
    app.refresh(&token).await.token();
    assert_eq!(OPS.map(errors), before);
}

#[tokio::test]
async fn hits_and_misses_of_the_cache_are_counted() {
    let (metrics, handle) = recorded();
    let clock = ManualClock::new();
    let tier = TieredStore::new(MemoryStore::with_clock(clock.clone()));
    let app = app(&metrics, clock, tier.clone());
    let token = log_in(&app, "app").await.token();
    for _ in 0..3 {
        app.refresh_as("other", &token).await;
        app.refresh(&test_support::tokens::made_up("rt_")).await;
    }
    let stats = tier.cache_stats();
    assert!(stats.hits > 0 && stats.misses > 0, "{stats:?}");
    let counted = counted(&handle);
    for (result, count) in [("hit", stats.hits), ("miss", stats.misses)] {
        let series = format!("{LOOKUPS}{{result=\"{result}\"}}");
        assert_eq!(counted[&series], count as f64, "{series}");
    }
}

/// The values of all labels are constants, so neither a client nor a user can add a series.
#[tokio::test]
async fn no_request_adds_a_series_or_shows_a_secret() {
    let (metrics, handle) = recorded();
    let names = |handle: &PrometheusHandle| series(handle).into_keys().collect::<Vec<_>>();
    let start = names(&handle);
    let clock = ManualClock::new();
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let app = app(&metrics, clock.clone(), store.clone());
    for client in ["app", "other", "app\"} 1"] {
        let mut token = log_in(&app, client).await.token();
        for _ in 0..3 {
            let answer = app.refresh_as(client, &token).await;
            app.refresh_as(client, &token).await;
            app.refresh_as("a thief", &token).await;
            token = answer.token();
        }
        app.revoke(&token).await;
        app.refresh_as(client, &token).await;
        store.hook(|_, _| Plan::Lose);
        app.refresh_as(client, &token).await;
        store.unhook();
    }
    app.post("/token", &[("grant_type", "\u{202e}")]).await;
    assert!(counted(&handle).len() > 8, "{:?}", counted(&handle));
    assert_eq!(names(&handle), start);
    assert_eq!(format!("{metrics:?}"), "Metrics { .. }");
}

#[test]
fn without_a_recorder_nothing_is_recorded() {
    let metrics = Metrics::default();
    let (_, handle) = recorded();
    let store = metrics.store(MemoryStore::new());
    assert_eq!(store.peek(&Key::new([0; 32])), None);
    assert!(counted(&handle).is_empty());
    let _: &MemoryStore = store.get_ref();
    let _: MemoryStore = store.into_inner();
}
