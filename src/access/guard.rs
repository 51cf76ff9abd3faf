//! Finds out whether the token of a request is valid: from the cache, or from the store.
//!
//! All layers made from one `AccessLayer` share the [`Guard`], and each has a policy of its own.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;

use crate::access::bearer::ParsedToken;
use crate::access::body::ResponseEnded;
use crate::access::challenge::AccessError;
use crate::access::route::Route;
use crate::access::subscriber::Subscriber;
use crate::access::watch::{Confirm, Reading, Watch, Watched};
use crate::access_token::cache::{Cache, Confirmed, Found, ValidToken};
use crate::access_token::check::{Dead, check, grant_is_over};
use crate::access_token::grant::AccessGrant;
use crate::access_token::record::AccessRecord;
use crate::access_token::renewable::UpstreamLife;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::renewals::Renewed;
use crate::endpoint::state::State;
use crate::endpoint::token::renew;
use crate::epochs::Epochs;
use crate::event::{self, Callback, Detail, EventKind, EventSubject};
use crate::store::{InstrumentedStore, Key, Store, StoreError};
use crate::subject::Profile;
use crate::wire::client::ClientId;

/// The state that a layer shares with its services and with the layers made from it.
pub(crate) struct Guard<St> {
    pub(crate) store: StoreHandle<St>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) prefix: String,
    pub(crate) cache: Arc<Cache>,
    pub(crate) epochs: Arc<Epochs>,
    /// The age from which epochs are too old for a read. Half the time to live of the cache is left
    /// for the token that is read with them; without a cache, every request reads them, too.
    pub(crate) epochs_max_age: Duration,
    /// The subscription of the cache. `None` if nothing is cached.
    pub(crate) subscriber: Option<Subscriber>,
    pub(crate) on_event: Option<Callback>,
    /// Whether responses end with their tokens.
    pub(crate) end_responses: bool,
}

/// The owner of the store.
pub(crate) enum StoreHandle<St> {
    Own(InstrumentedStore<St>),
    /// A `RefreshLayer` in the same process.
    State(Arc<State<St>>),
}

impl<St> StoreHandle<St> {
    fn get(&self) -> &InstrumentedStore<St> {
        match self {
            Self::Own(store) => store,
            Self::State(state) => state.store(),
        }
    }
}

/// The result of the check that needs no I/O.
pub(crate) enum Lookup {
    Alive(ParsedToken, ValidToken),
    Unknown(ParsedToken),
}

/// The result of reading a token from the store.
enum Fetched {
    Alive(ValidToken),
    /// With the grant of the token, if known.
    Dead(Dead, Option<AccessGrant>),
}

impl<St: Store> Guard<St> {
    /// Parses the token of a request and looks it up in the cache.
    pub(crate) fn look<B>(&self, request: &Request<B>) -> Result<Lookup, AccessError> {
        let parsed = ParsedToken::read(request.headers(), &self.prefix)?;
        match self.find(&parsed.key) {
            Found::Nothing => Ok(Lookup::Unknown(parsed)),
            Found::Ended(grant) => Err(self.ended(&parsed, grant.as_ref(), Duration::ZERO)),
            Found::Alive(valid) if self.due(&valid).is_some() => Ok(Lookup::Unknown(parsed)),
            Found::Alive(valid) => Ok(Lookup::Alive(parsed, valid)),
        }
    }

    /// Looks up a token in the cache, after making sure that the cache is subscribed to
    /// announcements.
    fn find(&self, key: &Key) -> Found {
        if let Some(subscriber) = &self.subscriber {
            subscriber.ensure(self.store.get(), &self.cache, &self.epochs);
        }
        self.cache.find(key, self.clock.now())
    }

    /// Reads the token of a request from the store, and renews its upstream access token if that is
    /// due. Emits an event if the token has ended.
    pub(crate) async fn load(&self, parsed: &ParsedToken) -> Result<ValidToken, AccessError> {
        let valid = self.read(parsed).await?;
        match self.due(&valid) {
            // Boxed because it is rare, and unboxed it would enlarge the future of every request.
            Some(life) => Box::pin(self.renew(parsed, valid, life)).await,
            None => Ok(valid),
        }
    }

    /// Returns the life of the upstream access token, if it must be renewed now.
    fn due(&self, valid: &ValidToken) -> Option<UpstreamLife> {
        let life = valid.grant.upstream_life()?;
        life.is_due(self.clock.now()).then_some(life)
    }

    async fn renew(
        &self,
        parsed: &ParsedToken,
        valid: ValidToken,
        life: UpstreamLife,
    ) -> Result<ValidToken, AccessError> {
        let renewed = match &self.store {
            StoreHandle::Own(_) => Renewed::Impossible,
            StoreHandle::State(state) => {
                let patience = life.patience(state.config().rotation_timeout, self.clock.now());
                renew(state, &parsed.token, parsed.key, patience).await
            }
        };
        match renewed {
            Renewed::Done | Renewed::Ended => {
                let valid = self.read(parsed).await?;
                let life = valid.grant.upstream_life();
                // An upstream access token that has ended is never sent on, whatever was read.
                match life.is_some_and(|life| life.has_ended(self.clock.now())) {
                    true => Err(AccessError::UpstreamUnavailable),
                    false => Ok(valid),
                }
            }
            _ if !life.has_ended(self.clock.now()) => Ok(valid),
            Renewed::Impossible => Err(AccessError::InvalidToken),
            Renewed::Unavailable | Renewed::Refused => Err(AccessError::UpstreamUnavailable),
        }
    }

    async fn read(&self, parsed: &ParsedToken) -> Result<ValidToken, AccessError> {
        let started = Instant::now();
        let open_profile = |record: &AccessRecord| {
            let opened = record.open_profile(&parsed.token, &parsed.key)?;
            Ok(opened.map(Arc::new))
        };
        let fetched = self
            .fetch(&parsed.key, &parsed.token.grant_key(), open_profile)
            .await;
        match fetched.map_err(AccessError::Store)? {
            Fetched::Alive(valid) => Ok(valid),
            Fetched::Dead(Dead::Ended, grant) => {
                Err(self.ended(parsed, grant.as_ref(), started.elapsed()))
            }
            Fetched::Dead(dead, _) => {
                tracing::debug!(?dead, "an access token was rejected");
                Err(AccessError::InvalidToken)
            }
        }
    }

    /// Reads a token from the store and inserts it into the cache.
    async fn fetch(
        &self,
        key: &Key,
        grant_key: &Key,
        open_profile: impl FnOnce(&AccessRecord) -> Result<Option<Arc<Profile>>, StoreError>,
    ) -> Result<Fetched, StoreError> {
        let began = Instant::now();
        let epoch = self.cache.open.epoch();
        let Some(checked) = check(
            self.store.get(),
            key,
            grant_key,
            self.clock.now(),
            &self.epochs,
            self.epochs_max_age,
        )
        .await?
        else {
            return Ok(Fetched::Dead(Dead::Unknown, None));
        };
        let record = &checked.record;
        let grant = record.has_grant.then(|| (*grant_key).into());
        let until = match checked.until {
            Ok(until) => until,
            Err(dead) => {
                let grant = AccessGrant::new(record, grant, None);
                return Ok(Fetched::Dead(dead, Some(grant)));
            }
        };
        let valid = ValidToken {
            grant: AccessGrant::new(record, grant, open_profile(record)?),
            confirmed: Confirmed::new(began, checked.epochs_age, epoch, until),
        };
        self.cache.enter(*key, valid.clone());
        // The token may have ended during the read, and then the ended key is in the cache by now.
        if self.cache.has_ended(key, &valid.grant) {
            return Ok(Fetched::Dead(Dead::Ended, Some(valid.grant)));
        }
        Ok(Fetched::Alive(valid))
    }

    /// Checks a route's requirements for a request with a valid token. Returns the watch for its
    /// response, if responses end with their tokens.
    pub(crate) fn admit<B>(
        self: &Arc<Self>,
        route: &Route,
        request: &mut Request<B>,
        parsed: &ParsedToken,
        valid: ValidToken,
    ) -> Result<Option<Box<Watch>>, AccessError> {
        let watch = self.watch(parsed, &valid);
        route.admit(request, parsed, valid.grant)?;
        Ok(watch)
    }

    fn watch(self: &Arc<Self>, parsed: &ParsedToken, valid: &ValidToken) -> Option<Box<Watch>> {
        if !self.end_responses {
            return None;
        }
        let cache = Arc::clone(&self.cache);
        let watched = Watched {
            key: parsed.key,
            grant_key: parsed.token.grant_key(),
            generation: parsed.token.generation(),
            grant: valid.grant.clone(),
        };
        let guard: Arc<dyn Confirm> = Arc::clone(self) as _;
        Some(Box::new(Watch::new(guard, cache, watched, valid.confirmed)))
    }

    /// Emits the event for a token that has ended and returns the error for the client.
    fn ended(
        &self,
        parsed: &ParsedToken,
        grant: Option<&AccessGrant>,
        elapsed: Duration,
    ) -> AccessError {
        let client_id = grant.and_then(|grant| ClientId::try_from(grant.client_id()).ok());
        let grant_key = grant.and_then(AccessGrant::grant);
        let subject = EventSubject {
            client_id: client_id.as_ref(),
            grant: grant_key
                .as_ref()
                .map(|grant| (grant.key(), Some(parsed.token.generation()))),
        };
        self.emit(
            EventKind::AccessRefused,
            subject,
            elapsed,
            Detail::default(),
        );
        AccessError::InvalidToken
    }

    /// Emits an event if the error is a failure of the store.
    pub(crate) fn report(&self, error: &AccessError, parsed: &ParsedToken, elapsed: Duration) {
        if let AccessError::Store(failure) = error {
            let grant_key = parsed.token.grant_key();
            self.store_failed(failure, &grant_key, parsed.token.generation(), elapsed);
        }
    }

    fn store_failed(
        &self,
        failure: &StoreError,
        grant_key: &Key,
        generation: u32,
        elapsed: Duration,
    ) {
        let subject = EventSubject::grant(None, grant_key, Some(generation));
        let detail = Detail {
            cause: failure.source(),
            ..Detail::default()
        };
        self.emit(EventKind::of_failure(failure), subject, elapsed, detail);
    }

    fn emit(
        &self,
        kind: EventKind,
        subject: EventSubject<'_>,
        elapsed: Duration,
        detail: Detail<'_>,
    ) {
        let callback = self.on_event.as_ref();
        event::emit(callback, "access token", kind, subject, elapsed, detail);
    }

    /// Reads the token of an open response from the store.
    async fn read_again(&self, watched: &Watched) -> Result<Confirmed, ResponseEnded> {
        let started = Instant::now();
        let unconfirmed = |failure: StoreError| {
            let elapsed = started.elapsed();
            self.store_failed(&failure, &watched.grant_key, watched.generation, elapsed);
            ResponseEnded::Unconfirmed
        };
        let profile = |_: &AccessRecord| Ok(watched.grant.profile());
        let fetched = self.fetch(&watched.key, &watched.grant_key, profile).await;
        let dead = match fetched.map_err(unconfirmed)? {
            Fetched::Alive(valid) => return Ok(valid.confirmed),
            Fetched::Dead(dead, _) => dead,
        };
        let now = self.clock.now();
        // The store may have removed a token that has expired.
        let has_expired =
            dead == Dead::Expired || dead == Dead::Unknown && now >= watched.grant.expires_at();
        if !has_expired {
            return Err(ResponseEnded::GrantEnded);
        }
        if let Some(grant) = watched.grant.grant() {
            let is_over = grant_is_over(self.store.get(), grant.key(), now, &self.epochs).await;
            if is_over.map_err(unconfirmed)? {
                return Err(ResponseEnded::GrantEnded);
            }
        }
        Err(ResponseEnded::TokenExpired)
    }
}

impl<St: Store> Confirm for Guard<St> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn read(self: Arc<Self>, watched: Watched, max_age: Duration) -> Reading {
        Box::pin(async move {
            match self.find(&watched.key) {
                Found::Alive(valid) if valid.confirmed.began.elapsed() < max_age => {
                    Ok(valid.confirmed)
                }
                Found::Ended(_) => Err(ResponseEnded::GrantEnded),
                Found::Alive(_) | Found::Nothing => self.read_again(&watched).await,
            }
        })
    }
}

redacted_debug!(self: <St> Guard { prefix });
