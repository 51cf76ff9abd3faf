//! Watches the access token of an open response.
//!
//! The rule is the same as for a request with this token: a read of a token is valid for the time
//! to live of the cache. The token is read again before that time is over, early enough to retry if
//! the store fails. In addition, the registry of open responses passes on every announced end.
//!
//! Most responses are sent in one piece. So the timer and the registration are created only when
//! the server polls for a second frame, or when the first frame is pending. Until then a response
//! costs one allocation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::access::body::ResponseEnded;
use crate::access_token::cache::{Cache, Confirmed};
use crate::access_token::grant::AccessGrant;
use crate::access_token::open::Registration;
use crate::clock::Timestamp;
use crate::store::Key;

/// The time for which a read is valid if the time to live of the cache is shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// The time after the start of a response in which the expiry of its token does not end it.
///
/// The token was valid when the request arrived. If it expired before a short response is sent, the
/// response would be lost together with its head, and the client could not know whether the request
/// took effect.
const EXPIRY_GRACE: Duration = Duration::from_secs(1);

/// The time limit of a read while frames wait for it.
const LONGEST_READ: Duration = Duration::from_secs(5);

/// The longest pause after a failed read.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The token that a response depends on.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) key: Key,
    /// The key of the grant with the id of the token, whether or not the store has that grant.
    pub(crate) grant_key: Key,
    pub(crate) generation: u32,
    pub(crate) grant: AccessGrant,
}

/// The result of reading a token again. The error is [`ResponseEnded::Unconfirmed`] if the store
/// failed.
pub(crate) type Reading = Pin<Box<dyn Future<Output = Result<Confirmed, ResponseEnded>> + Send>>;

/// Reads tokens again. The trait erases the store type of a layer.
pub(crate) trait Confirm: Send + Sync {
    fn now(&self) -> Timestamp;
    /// Reads a token, unless the cache has a result of a read that is younger than `max_age`.
    fn read(self: Arc<Self>, watched: Watched, max_age: Duration) -> Reading;
}

pub(crate) struct Watch {
    guard: Arc<dyn Confirm>,
    cache: Arc<Cache>,
    watched: Watched,
    /// The epoch of the cache for which `read_at` holds.
    epoch: u64,
    /// The time for which a read is valid.
    holds_for: Duration,
    /// The time until which frames may be sent without another read.
    good_until: Instant,
    read_at: Instant,
    /// The end of [`EXPIRY_GRACE`].
    grace_until: Instant,
    looked: bool,
    open: Option<Open>,
}

/// The state of a response that is not sent in one piece.
struct Open {
    registration: Registration,
    timer: Pin<Box<Sleep>>,
    reading: Option<(Reading, Instant)>,
    /// Whether the last read has failed.
    failed: bool,
}

impl Watch {
    pub(crate) fn new(
        guard: Arc<dyn Confirm>,
        cache: Arc<Cache>,
        watched: Watched,
        confirmed: Confirmed,
    ) -> Self {
        let now = Instant::now();
        let mut watch = Self {
            guard,
            watched,
            epoch: confirmed.epoch,
            holds_for: cache.ttl.max(SHORTEST),
            cache,
            good_until: now,
            read_at: now,
            grace_until: now + EXPIRY_GRACE,
            looked: false,
            open: None,
        };
        watch.confirmed(confirmed, now);
        watch
    }

    fn confirmed(&mut self, confirmed: Confirmed, now: Instant) {
        let fresh_for = self.holds_for.saturating_sub(confirmed.began.elapsed());
        let alive_for = confirmed.until.saturating_since(self.guard.now());
        self.epoch = confirmed.epoch;
        let alive_until = (now + alive_for).max(self.grace_until);
        self.good_until = (now + fresh_for).min(alive_until);
        self.read_at = (now + fresh_for.saturating_sub(self.holds_for / 4)).min(self.good_until);
    }

    /// Returns `Ready(Ok)` if the next frame may be sent, `Pending` while that depends on a read,
    /// and an error if the response must end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ResponseEnded>> {
        if self.open.is_none() && !self.looked {
            self.looked = true;
            if self.has_expired(Instant::now()) {
                return Poll::Ready(Err(ResponseEnded::TokenExpired));
            }
            if self.cache.has_ended(&self.watched.key, &self.watched.grant) {
                return Poll::Ready(Err(ResponseEnded::GrantEnded));
            }
            if Instant::now() < self.read_at {
                return Poll::Ready(Ok(()));
            }
        }
        self.wait(cx)
    }

    /// Like [`poll`](Self::poll), and wakes the task when the result changes.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ResponseEnded>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.set_up()?,
        };
        let verdict = self.advance(&mut open, cx);
        self.open = Some(open);
        verdict
    }

    fn set_up(&mut self) -> Result<Open, ResponseEnded> {
        let grant = self.watched.grant.grant().map(|grant| *grant.key());
        let registration = self.cache.open.register(self.watched.key, grant);
        // The registration comes first, so that an end between the two steps is noticed by one of
        // them.
        if self.cache.has_ended(&self.watched.key, &self.watched.grant) {
            return Err(ResponseEnded::GrantEnded);
        }
        if self.cache.open.epoch() != self.epoch {
            self.read_at = Instant::now();
        }
        Ok(Open {
            registration,
            timer: Box::pin(sleep_until(self.read_at)),
            reading: None,
            failed: false,
        })
    }

    fn has_expired(&self, now: Instant) -> bool {
        now >= self.grace_until && self.guard.now() >= self.watched.grant.expires_at()
    }

    fn advance(
        &mut self,
        open: &mut Open,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ResponseEnded>> {
        loop {
            let now = Instant::now();
            if open.registration.has_ended(cx.waker()) {
                return Poll::Ready(Err(ResponseEnded::GrantEnded));
            }
            if self.has_expired(now) {
                return Poll::Ready(Err(ResponseEnded::TokenExpired));
            }
            // Announcements may have been missed, perhaps during a read.
            let epoch = self.cache.open.epoch();
            if self.epoch != epoch {
                self.epoch = epoch;
                self.read_at = self.read_at.min(now + self.spread());
            }
            if open.reading.is_none() && open.failed && now >= self.good_until {
                return Poll::Ready(Err(ResponseEnded::Unconfirmed));
            }
            if open.reading.is_none() && now >= self.read_at {
                let give_up = self.good_until.max(now + LONGEST_READ);
                let max_age = self.holds_for - self.holds_for / 4;
                let reading = Arc::clone(&self.guard).read(self.watched.clone(), max_age);
                open.reading = Some((reading, give_up));
            }
            if let Some((reading, give_up)) = &mut open.reading {
                match reading.as_mut().poll(cx) {
                    Poll::Ready(result) => {
                        open.reading = None;
                        open.failed = matches!(result, Err(ResponseEnded::Unconfirmed));
                        self.apply(result, now)?;
                        continue;
                    }
                    Poll::Pending if now >= *give_up => {
                        return Poll::Ready(Err(ResponseEnded::Unconfirmed));
                    }
                    Poll::Pending => {}
                }
            }
            let good = now < self.good_until;
            let next = match &open.reading {
                None => self.read_at.min(self.good_until),
                Some(_) if good => self.good_until,
                Some((_, give_up)) => *give_up,
            };
            open.timer.as_mut().reset(next);
            if open.timer.as_mut().poll(cx).is_pending() {
                return if good {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
        }
    }

    /// Applies the result of a read. Returns an error if the response must end.
    fn apply(
        &mut self,
        result: Result<Confirmed, ResponseEnded>,
        now: Instant,
    ) -> Result<(), ResponseEnded> {
        match result {
            Ok(confirmed) => self.confirmed(confirmed, now),
            Err(ResponseEnded::TokenExpired) if now < self.grace_until => {
                self.good_until = self.grace_until;
                self.read_at = self.grace_until;
            }
            Err(ResponseEnded::Unconfirmed) => {
                self.read_at = now + (self.holds_for / 16).min(LONGEST_PAUSE);
            }
            Err(ended) => return Err(ended),
        }
        Ok(())
    }

    /// Returns a delay of up to a second, derived from the key. After missed announcements the
    /// token of every open response must be read again, and the delay spreads these reads.
    fn spread(&self) -> Duration {
        let [first, ..] = *self.watched.key.as_bytes();
        SHORTEST.min(self.holds_for / 4) * u32::from(first) / 256
    }
}
