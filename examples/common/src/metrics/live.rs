//! The figures of the admin page: the last minute, and the last events.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tower_oauth_refresh::{Event, EventKind, Reuse};

use super::window::{Minute, Window};

/// The operations of the store that the page shows.
const STORE_OPS: [&str; 5] = ["get", "swap", "sidecar", "claim", "announce"];

/// The number of events that are kept.
const EVENTS: usize = 200;

/// The number of reuse alarms that are kept.
const ALARMS: usize = 20;

/// An event as the admin page shows it. It names no user and contains no token.
#[derive(Clone, Debug)]
pub struct Recent {
    pub time: SystemTime,
    pub kind: EventKind,
    pub client_id: Option<String>,
    /// The short form of the key of the grant.
    pub grant: Option<String>,
    pub generation: Option<u32>,
    pub reuse: Option<Reuse>,
    pub elapsed: Duration,
}

impl From<&Event> for Recent {
    fn from(event: &Event) -> Self {
        Self {
            time: SystemTime::now(),
            kind: event.kind,
            client_id: event.client_id.as_ref().map(|id| visible(id.as_str())),
            grant: event.grant.map(|grant| grant.short().to_string()),
            generation: event.generation,
            reuse: event.reuse,
            elapsed: event.elapsed,
        }
    }
}

/// An operation of the store that the page shows: its place in [`STORE_OPS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreOp(usize);

impl StoreOp {
    pub(super) fn named(name: &str) -> Option<Self> {
        STORE_OPS.iter().position(|op| *op == name).map(Self)
    }
}

/// The figures of one server.
#[derive(Debug)]
pub(super) struct Live {
    start: Instant,
    figures: Mutex<Figures>,
}

#[derive(Debug)]
struct Figures {
    /// In the order of [`EventKind::ALL`].
    kinds: Vec<(Window, u64)>,
    /// In the order of [`STORE_OPS`].
    store: [Window; STORE_OPS.len()],
    upstream: Window,
    events: VecDeque<Recent>,
    alarms: VecDeque<Recent>,
}

/// The events of one kind.
#[derive(Clone, Copy, Debug)]
pub struct KindFigures {
    pub kind: EventKind,
    pub minute: Minute,
    /// The number since the start of the program.
    pub total: u64,
}

/// A copy of the figures.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub uptime: Duration,
    pub kinds: Vec<KindFigures>,
    pub store: Vec<(&'static str, Minute)>,
    pub upstream: Minute,
    /// Newest first.
    pub events: Vec<Recent>,
    /// Reuse of refresh tokens, newest first.
    pub alarms: Vec<Recent>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            figures: Mutex::new(Figures {
                kinds: EventKind::ALL.iter().map(|_| Default::default()).collect(),
                store: Default::default(),
                upstream: Window::default(),
                events: VecDeque::new(),
                alarms: VecDeque::new(),
            }),
        }
    }
}

impl Live {
    fn lock(&self) -> (u64, MutexGuard<'_, Figures>) {
        let second = self.start.elapsed().as_secs();
        let figures = self.figures.lock();
        (second, figures.unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn event(&self, event: &Event) {
        let recent = Recent::from(event);
        let (second, mut figures) = self.lock();
        let at = EventKind::ALL.iter().position(|kind| *kind == event.kind);
        if let Some((window, total)) = at.and_then(|at| figures.kinds.get_mut(at)) {
            window.record(second, event.elapsed);
            *total += 1;
        }
        if event.reuse.is_some() {
            push(&mut figures.alarms, ALARMS, recent.clone());
        }
        push(&mut figures.events, EVENTS, recent);
    }

    pub(super) fn store_call(&self, op: StoreOp, elapsed: Duration) {
        let (second, mut figures) = self.lock();
        figures.store[op.0].record(second, elapsed);
    }

    pub(super) fn store_call_failed(&self, op: StoreOp) {
        let (second, mut figures) = self.lock();
        figures.store[op.0].fail(second);
    }

    pub(super) fn upstream_call(&self, elapsed: Duration, failed: bool) {
        let (second, mut figures) = self.lock();
        figures.upstream.record(second, elapsed);
        if failed {
            figures.upstream.fail(second);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (second, figures) = self.lock();
        let kinds = EventKind::ALL.iter().zip(&figures.kinds);
        let kinds = kinds.map(|(kind, (window, total))| KindFigures {
            kind: *kind,
            minute: window.minute(second),
            total: *total,
        });
        let store = STORE_OPS.iter().zip(&figures.store);
        Snapshot {
            uptime: Duration::from_secs(second),
            kinds: kinds.collect(),
            store: store
                .map(|(op, window)| (*op, window.minute(second)))
                .collect(),
            upstream: figures.upstream.minute(second),
            events: figures.events.iter().rev().cloned().collect(),
            alarms: figures.alarms.iter().rev().cloned().collect(),
        }
    }
}

fn push(queue: &mut VecDeque<Recent>, most: usize, recent: Recent) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(recent);
}

/// Escapes characters that are not printable as in Rust, because a client chooses its ID: U+202E
/// would reverse the text after it.
pub fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || (!char.is_ascii() && char.escape_debug().len() > 1) {
            visible.extend(char.escape_default());
        } else {
            visible.push(char);
        }
    }
    visible
}
