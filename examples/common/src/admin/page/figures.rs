//! The figures of the overview.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maud::{Markup, html};
use tower_oauth_refresh::EventKind;

use super::super::Console;
use crate::metrics::{KindFigures, Recent, Scrape, Snapshot};

/// The kinds that are shown first: those with a token response.
const GOOD: [EventKind; 7] = [
    EventKind::Issued,
    EventKind::Adopted,
    EventKind::Rotated,
    EventKind::Kept,
    EventKind::Replayed,
    EventKind::Converged,
    EventKind::Recovered,
];

/// The kinds of refused requests: the reasons.
const REFUSED: [EventKind; 12] = [
    EventKind::Late,
    EventKind::ReuseDetected,
    EventKind::ReuseUnproven,
    EventKind::ClientMismatch,
    EventKind::Expired,
    EventKind::Unknown,
    EventKind::Ahead,
    EventKind::Forged,
    EventKind::LinkInvalid,
    EventKind::TooFarBehind,
    EventKind::AccessRefused,
    EventKind::UpstreamRejected,
];

/// Renders all figures.
pub(super) fn figures(console: &Console, scrape: &Scrape) -> Markup {
    let Some(snapshot) = console.metrics.snapshot() else {
        return html! {};
    };
    let of = |wanted: &[EventKind]| -> Vec<KindFigures> {
        let kinds = snapshot.kinds.iter();
        kinds
            .filter(|row| wanted.contains(&row.kind))
            .copied()
            .collect()
    };
    let rest: Vec<_> = snapshot
        .kinds
        .iter()
        .filter(|row| !GOOD.contains(&row.kind) && !REFUSED.contains(&row.kind))
        .copied()
        .collect();
    html! {
        p class="quiet" { "Running for " (length(snapshot.uptime)) ". Rates are of the last minute." }
        h2 { "Reuse alarms" }
        @if snapshot.alarms.is_empty() {
            p { "None since the start." }
        } @else {
            (alarms(&snapshot.alarms))
        }
        section class="columns" {
            (kinds("Answered", &of(&GOOD)))
            (kinds("Other events", &rest))
            (kinds("Refused, by reason", &of(&REFUSED)))
            section { (latencies(&snapshot)) }
            section { (store(console, scrape, &snapshot)) }
        }
        h2 { "Last events" }
        (events(&snapshot.events))
    }
}

fn kinds(title: &str, rows: &[KindFigures]) -> Markup {
    html! {
        section {
            h2 { (title) }
            table class="numbers" {
                thead { tr { th { "Event" } th { "/ min" } th { "total" } } }
                tbody {
                    @for row in rows {
                        tr class=[(row.kind.is_warning() && row.minute.count > 0).then_some("alarm")] {
                            td { (row.kind) }
                            td { (row.minute.count) }
                            td { (row.total) }
                        }
                    }
                }
            }
        }
    }
}

fn latencies(snapshot: &Snapshot) -> Markup {
    let store = snapshot.store.iter().map(|(op, minute)| (*op, minute));
    let rows = store.chain([("upstream", &snapshot.upstream)]);
    html! {
        h2 { "Calls of the store and the upstream" }
        table class="numbers" {
            thead { tr { th { "Call" } th { "/ min" } th { "median" } th { "p99" } th { "errors" } } }
            tbody {
                @for (name, minute) in rows {
                    tr class=[(minute.errors > 0).then_some("alarm")] {
                        td { (name) }
                        td { (minute.count) }
                        td { (bound(minute.median)) }
                        td { (bound(minute.p99)) }
                        td { (minute.errors) }
                    }
                }
            }
        }
    }
}

fn store(console: &Console, scrape: &Scrape, snapshot: &Snapshot) -> Markup {
    let errors: u64 = snapshot.store.iter().map(|(_, minute)| minute.errors).sum();
    let calls: u64 = snapshot.store.iter().map(|(_, minute)| minute.count).sum();
    let state = match (errors, calls) {
        (0, 0) => "no calls in the last minute",
        (0, _) => "available",
        (errors, calls) if errors == calls => "unavailable",
        _ => "some calls fail",
    };
    html! {
        h2 { "Store" }
        table class="numbers" {
            tbody {
                tr class=[(errors > 0).then_some("alarm")] { td { (console.store) } td { (state) } }
                @if let Some(cache) = scrape.cache() {
                    tr { td { "cache" } td { (cache.entries) " entries, " (cache.bytes / 1024) " KiB" } }
                    tr { td { "cache lookups" } td { (cache.hits) " hits, " (cache.misses) " misses" } }
                } @else {
                    tr { td { "cache" } td { "none" } }
                }
            }
        }
    }
}

fn alarms(alarms: &[Recent]) -> Markup {
    html! {
        table {
            thead {
                tr { th { "Time" } th { "Event" } th { "Client" } th { "Session" } th { "Generations behind" } th { "Rotated away" } th { "Client proof" } }
            }
            tbody {
                @for alarm in alarms {
                    @let reuse = alarm.reuse;
                    tr class="alarm" {
                        td data-label="Time" { (clock(alarm.time)) }
                        td data-label="Event" { (alarm.kind) }
                        td data-label="Client" { bdi { (alarm.client_id.as_deref().unwrap_or("–")) } }
                        td data-label="Session" { code { (alarm.grant.as_deref().unwrap_or("–")) } }
                        td data-label="Generations behind" { @if let Some(reuse) = reuse { (reuse.generations_behind) } }
                        td data-label="Rotated away" { @if let Some(reuse) = reuse { (length(reuse.rotated_away_for)) " ago" } }
                        td data-label="Client proof" { @if let Some(reuse) = reuse { (reuse.client_proof.as_str()) } }
                    }
                }
            }
        }
    }
}

fn events(events: &[Recent]) -> Markup {
    if events.is_empty() {
        return html! { p { "None since the start." } };
    }
    html! {
        table {
            thead {
                tr { th { "Time" } th { "Event" } th { "Client" } th { "Session" } th { "Generation" } th { "Took" } }
            }
            tbody {
                @for event in events {
                    tr class=[event.kind.is_warning().then_some("alarm")] {
                        td data-label="Time" { (clock(event.time)) }
                        td data-label="Event" { (event.kind) }
                        td data-label="Client" { bdi { (event.client_id.as_deref().unwrap_or("–")) } }
                        td data-label="Session" { code { (event.grant.as_deref().unwrap_or("–")) } }
                        td data-label="Generation" { @if let Some(generation) = event.generation { (generation) } }
                        td data-label="Took" { (short(event.elapsed)) }
                    }
                }
            }
        }
    }
}

/// Writes a time of the day in UTC.
fn clock(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}Z")
}

/// Writes the upper bound of a duration.
fn bound(duration: Option<Duration>) -> String {
    duration.map_or_else(
        || "–".to_owned(),
        |duration| format!("< {}", short(duration)),
    )
}

fn short(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
