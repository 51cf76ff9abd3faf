use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The length of a window for counting fetches.
const WINDOW: Duration = Duration::from_secs(60);

/// The maximum number of fetches that begin within [`WINDOW`]: in total, and per host. For what was
/// valid before, it is twice as high.
const MOST: [u32; 2] = [600, 60];

/// The maximum number of fetches in flight: in total, and per host.
const MOST_AT_ONCE: [usize; 2] = [32, 4];

/// Limits on the fetches that unauthenticated requests cause. The total limit bounds the cost for
/// this server; the limit per host bounds the traffic that an attacker can direct at a host. A part
/// of both is reserved for what was valid before: a client cannot be locked out by fetches of other
/// documents, which do not exist.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    all: Arc<Semaphore>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// The start of the current window of all hosts, and the number of fetches since.
    all: Option<(Instant, u32)>,
    hosts: HashMap<String, Host>,
    /// The hosts, ordered by the start of their windows, so that finding an expired one is O(1). It
    /// has one entry for each entry of `hosts`, and at most as many as there are fetches in two
    /// windows.
    by_age: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Host {
    fetches: u32,
    permits: Arc<Semaphore>,
}

/// The knowledge about a document before it is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::clients) enum Seen {
    Never,
    Valid,
}

/// A permit to fetch one document.
#[derive(Debug)]
pub(super) struct Permit(
    #[expect(dead_code, reason = "dropping it releases the permits")] [OwnedSemaphorePermit; 2],
);

/// A limit on fetches was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Default for Limits {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST_AT_ONCE[0])),
            counts: Arc::default(),
        }
    }
}

impl Limits {
    /// Waits for a permit to fetch from `host`, for at most `patience`.
    pub(super) async fn acquire(
        &self,
        host: &str,
        seen: Seen,
        patience: Duration,
    ) -> Result<Permit, TooMany> {
        let permits = self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(host, seen, Instant::now())?;
        let both = async {
            // The permit of the host is acquired first, so that a request that waits for a busy
            // host holds no permit that others need.
            let own = permits.acquire_owned().await.map_err(|_| TooMany)?;
            let all = Arc::clone(&self.all)
                .acquire_owned()
                .await
                .map_err(|_| TooMany)?;
            Ok(Permit([own, all]))
        };
        timeout(patience, both).await.map_err(|_| TooMany)?
    }
}

impl Counts {
    /// Counts a fetch, unless a limit is exceeded.
    fn count(&mut self, host: &str, seen: Seen, now: Instant) -> Result<Arc<Semaphore>, TooMany> {
        self.forget(now);
        // A trailing dot does not make another host.
        let name = host.trim_end_matches('.');
        let [most, most_of_host] = match seen {
            Seen::Never => MOST,
            Seen::Valid => MOST.map(|most| 2 * most),
        };
        let all = self
            .all
            .filter(|(began, _)| now.saturating_duration_since(*began) < WINDOW)
            .unwrap_or((now, 0));
        self.all = Some(all);
        if all.1 >= most
            || self
                .hosts
                .get(name)
                .is_some_and(|host| host.fetches >= most_of_host)
        {
            return Err(TooMany);
        }
        self.all = Some((all.0, all.1 + 1));
        if !self.hosts.contains_key(name) {
            self.by_age.push_back((now, name.to_owned()));
        }
        let host = self.hosts.entry(name.to_owned()).or_insert_with(|| Host {
            fetches: 0,
            permits: Arc::new(Semaphore::new(MOST_AT_ONCE[1])),
        });
        host.fetches += 1;
        Ok(Arc::clone(&host.permits))
    }

    /// Removes hosts whose window has ended. A host with a fetch in flight begins another window
    /// instead.
    fn forget(&mut self, now: Instant) {
        while let Some((began, _)) = self.by_age.front()
            && now.saturating_duration_since(*began) >= WINDOW
            && let Some((_, name)) = self.by_age.pop_front()
        {
            let Some(host) = self.hosts.get_mut(&name) else {
                continue;
            };
            // Permits and requests that wait for one hold a reference to the semaphore.
            if Arc::strong_count(&host.permits) > 1 {
                host.fetches = 0;
                self.by_age.push_back((now, name));
            } else {
                self.hosts.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn fetches_are_limited_per_host_and_in_total() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        for _ in 0..MOST[1] {
            counts.count("a.example", Seen::Never, start).unwrap();
        }
        for host in ["a.example", "a.example."] {
            let refused = counts.count(host, Seen::Never, start).err();
            assert_eq!(refused, Some(TooMany), "{host}");
        }
        for number in MOST[1]..MOST[0] {
            let host = format!("{number}.example");
            counts.count(&host, Seen::Never, start).unwrap();
        }
        let refused = counts.count("b.example", Seen::Never, start).err();
        assert_eq!(refused, Some(TooMany));
        for _ in 0..MOST[1] {
            counts.count("a.example", Seen::Valid, start).unwrap();
        }
        let refused = counts.count("a.example", Seen::Valid, start).err();
        assert_eq!(refused, Some(TooMany));
        counts.count("b.example", Seen::Valid, start).unwrap();
        let later = start + WINDOW;
        counts.count("a.example", Seen::Never, later).unwrap();
        assert_eq!(
            (counts.hosts.len(), counts.by_age.len()),
            (1, 1),
            "expired hosts are removed"
        );
    }

    #[test]
    fn a_host_with_a_fetch_in_flight_is_not_removed() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        let used = counts.count("a.example", Seen::Never, start).unwrap();
        let again = counts
            .count("a.example", Seen::Never, start + WINDOW)
            .unwrap();
        assert!(Arc::ptr_eq(&used, &again));
        drop((used, again));
        counts
            .count("b.example", Seen::Never, start + WINDOW * 2)
            .unwrap();
        assert_eq!(counts.hosts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_host_does_not_delay_other_hosts() {
        let limits = Limits::default();
        let mut held = Vec::new();
        for _ in 0..MOST_AT_ONCE[1] {
            held.push(
                limits
                    .acquire("a.example", Seen::Never, LONG)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(
            limits.acquire("a.example", Seen::Never, LONG).await.err(),
            Some(TooMany)
        );
        for number in 0..MOST_AT_ONCE[0] - MOST_AT_ONCE[1] {
            held.push(
                limits
                    .acquire(&format!("{number}.example"), Seen::Never, LONG)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(
            limits.acquire("b.example", Seen::Never, LONG).await.err(),
            Some(TooMany),
            "the total limit is reached"
        );
        held.pop();
        limits
            .acquire("b.example", Seen::Never, LONG)
            .await
            .unwrap();
    }
}
