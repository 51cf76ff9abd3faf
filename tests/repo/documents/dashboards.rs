//! The dashboard and the alert rules use metrics, labels and values that exist.

use std::collections::BTreeMap;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde_json::Value;
use tower_oauth_refresh::metrics::{DURATION_BUCKETS, Metrics};

use super::*;

const DASHBOARD: &str = "docs/grafana.json";
const ALERTS: &str = "docs/alerts.yml";

/// Labels that Prometheus adds to every series.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// The labels of each metric, and their values.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns what the library records from the start, and the metric of the proxy.
fn known() -> Known {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".into()),
            DURATION_BUCKETS,
        )
        .unwrap()
        .build_recorder();
    let _metrics = metrics::with_local_recorder(&recorder, Metrics::new);
    let mut known = Known::new();
    let text = recorder.handle().render();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    for series in series.filter_map(|line| line.rsplit_once(' ')) {
        let (name, matchers) = selector(series.0);
        let labels = known.entry(name.to_owned()).or_default();
        for Matched { label, value } in matchers {
            labels.entry(label).or_default().insert(value);
        }
    }
    assert!(known.len() > 8, "{known:?}");
    let gauge = "proxy_requests_in_flight";
    assert!(read("examples/proxy/src/main.rs").contains(&format!("{gauge:?}")));
    known.insert(gauge.to_owned(), BTreeMap::new());
    known
}

struct Matched {
    label: String,
    value: String,
}

/// Splits `name{label="value", …}…` into the name and the labels.
fn selector(text: &str) -> (&str, Vec<Matched>) {
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(rest) = rest.strip_prefix('{') else {
        return (name, Vec::new());
    };
    let (matchers, _) = rest.split_once('}').expect("a closing brace");
    let parts: Vec<_> = matchers.split('"').collect();
    let matched = parts.chunks_exact(2).map(|pair| Matched {
        label: pair[0].trim_matches(|c: char| !is_word(c)).to_owned(),
        value: pair[1].to_owned(),
    });
    (name, matched.collect())
}

/// Returns the name of the metric that a series belongs to.
fn without_suffix(series: &str) -> &str {
    let mut suffixes = ["_bucket", "_count", "_sum"].iter();
    let metric = suffixes.find_map(|suffix| series.strip_suffix(suffix));
    metric.unwrap_or(series)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Returns what is wrong with an expression, and adds the metrics and the kinds of events that it
/// uses to `used`.
fn check(known: &Known, expression: &str, used: &mut BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = BTreeSet::from(OF_PROMETHEUS);
    let prefixes = ["oauth", "proxy"].into_iter();
    let starts = prefixes.flat_map(|prefix| expression.match_indices(prefix));
    let starts = starts.filter(|(at, _)| !expression[..*at].ends_with(is_word));
    for (at, _) in starts {
        let (name, matched) = selector(&expression[at..]);
        let Some(of_metric) = known.get(name) else {
            wrong.push(format!("there is no metric {name}"));
            continue;
        };
        used.insert(without_suffix(name).to_owned());
        labels.extend(of_metric.keys().map(String::as_str));
        for Matched { label, value } in matched {
            if OF_PROMETHEUS.contains(&label.as_str()) {
                continue;
            }
            let Some(values) = of_metric.get(&label) else {
                wrong.push(format!("{name} has no label {label}"));
                continue;
            };
            for value in value.split('|') {
                if !values.contains(value) {
                    wrong.push(format!("{name}: {label} is never {value:?}"));
                }
                used.insert(value.to_owned());
            }
        }
    }
    for by in expression.split("by (").skip(1) {
        for label in by.split(')').next().unwrap_or_default().split(", ") {
            if !labels.contains(label) {
                wrong.push(format!("there is no label {label} in {expression}"));
            }
        }
    }
    if expression.matches(['(', '{', '[']).count() != expression.matches([')', '}', ']']).count() {
        wrong.push(format!("brackets are not closed in {expression}"));
    }
    wrong
}

/// Returns every value of a member with this name.
fn members<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    let children: Vec<_> = match value {
        Value::Array(items) => items.iter().map(|item| ("", item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.as_str(), item)).collect(),
        _ => Vec::new(),
    };
    let found = children.into_iter().flat_map(|(key, item)| {
        let mut found = members(item, name);
        found.extend((key == name).then_some(item));
        found
    });
    found.collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// Returns the alert rules: each the lines below `- alert:`.
fn alerts() -> Vec<String> {
    let text = read(ALERTS);
    let alerts = text.split("      - alert: ").skip(1);
    alerts.map(str::to_owned).collect()
}

fn field<'a>(alert: &'a str, name: &str) -> &'a str {
    let line = alert
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {alert}"))
}

#[test]
fn the_dashboard_uses_metrics_that_exist_and_shows_all() {
    let (known, dashboard) = (known(), dashboard());
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| members(panel, "targets"));
    for target in targets.flat_map(|targets| targets.as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        wrong.extend(check(&known, expression, &mut used));
        let legend = target["legendFormat"].as_str().unwrap();
        for label in legend.split("{{").skip(1) {
            let label = label.split("}}").next().unwrap();
            if !expression.contains(&format!("by ({label}")) {
                wrong.push(format!(
                    "the legend {legend} is not a label of {expression}"
                ));
            }
        }
    }
    for variable in members(&dashboard["templating"], "definition") {
        wrong.extend(check(&known, variable.as_str().unwrap(), &mut used));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let events = EventKind::ALL.iter().map(ToString::to_string);
    let missing: Vec<_> = known
        .keys()
        .map(|name| without_suffix(name).to_owned())
        .chain(events)
        .filter(|name| !used.contains(name))
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// Without this, an import asks for a data source that does not exist.
#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["name"], "datasource");
    assert_eq!(variables[0]["type"], "datasource");
    assert_eq!(variables[0]["query"], "prometheus");
    let sources = members(&dashboard, "uid");
    let sources: Vec<_> = sources
        .iter()
        .filter(|uid| **uid != "tower-oauth-refresh")
        .collect();
    assert!(sources.len() > 20, "{sources:?}");
    assert!(
        sources.iter().all(|uid| **uid == "${datasource}"),
        "{sources:?}"
    );
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: HashSet<_> = panels
        .iter()
        .map(|panel| panel["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut cells = HashSet::new();
    for panel in panels {
        let of = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in of("x")..of("x") + of("w") {
            assert!(x < 24, "{panel}");
            for y in of("y")..of("y") + of("h") {
                assert!(cells.insert((x, y)), "two panels at {x}, {y}: {panel}");
            }
        }
    }
}

#[test]
fn the_alerts_use_metrics_that_exist() {
    let known = known();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut names = HashSet::new();
    for alert in alerts() {
        wrong.extend(check(&known, field(&alert, "expr: "), &mut used));
        assert!(["critical", "warning"].contains(&field(&alert, "severity: ")));
        assert!(!field(&alert, "summary: ").is_empty());
        assert!(!field(&alert, "description: ").is_empty());
        assert!(
            names.insert(alert.lines().next().unwrap().to_owned()),
            "{alert}"
        );
        let labels = alert.split("$labels.").skip(1);
        for label in labels.filter_map(|rest| rest.split(|c| !is_word(c)).next()) {
            assert!(field(&alert, "expr: ").contains(label), "{label}: {alert}");
        }
    }
    assert!(names.len() > 7 && wrong.is_empty(), "{}", wrong.join("\n"));
    // The page of operations says for which events there are alerts.
    let page = read("docs/operations.md");
    let (_, rules) = page.split_once("- **Set an alarm for each of** ").unwrap();
    let (rules, _) = rules.split_once("The others").unwrap();
    let wanted: BTreeSet<_> = rules
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    let kinds = EventKind::ALL.iter().map(ToString::to_string);
    let alerted: BTreeSet<_> = kinds.filter(|kind| used.contains(kind)).collect();
    assert_eq!(alerted, wanted);
}

/// The table of metrics has expressions, too.
#[test]
fn the_page_of_operations_uses_metrics_that_exist() {
    let known = known();
    let page = read("docs/operations.md").replace(r"\|", "|");
    let code = page.split('`').skip(1).step_by(2);
    let expressions: Vec<_> = code
        .filter(|code| code.starts_with("increase(") || code.starts_with("rate("))
        .collect();
    assert!(expressions.len() > 1, "{expressions:?}");
    let check = |expression: &&str| check(&known, expression, &mut BTreeSet::new());
    let wrong: Vec<_> = expressions.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_expression_is_found() {
    let known = known();
    for right in [
        "sum by (job, kind) (rate(oauth_refresh_events_total{kind=~\"rotated|kept\", job=~\"$job\"}[5m]))",
        "histogram_quantile(0.99, sum by (op, le) (rate(oauth_refresh_store_call_duration_seconds_bucket[5m])))",
        "sum(proxy_requests_in_flight)",
    ] {
        assert_eq!(
            check(&known, right, &mut BTreeSet::new()),
            Vec::<String>::new()
        );
    }
    for wrong in [
        "rate(oauth_refresh_event_total[5m])",
        "rate(oauth_refresh_events_total_count[5m])",
        "rate(oauth_refresh_events_total{kind=\"rotate\"}[5m])",
        "rate(oauth_refresh_events_total{kind=~\"rotated|rotate\"}[5m])",
        "rate(oauth_refresh_events_total{op=\"get\"}[5m])",
        "sum by (op) (rate(oauth_refresh_events_total[5m]))",
        "sum(rate(oauth_refresh_events_total[5m])",
        "proxy_requests",
    ] {
        assert_eq!(
            check(&known, wrong, &mut BTreeSet::new()).len(),
            1,
            "{wrong}"
        );
    }
}
