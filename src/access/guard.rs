//! Decides about the requests to a resource server.
//!
//! [`Guard`] finds out whether the token of a request is valid: from the cache, or from the store.
//! [`ValidatedPolicy`] then checks its resource and scope and prepares the request for the inner service. All
//! layers made from one `AccessLayer` share the guard, and each has rules of its own.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use crate::access::bearer::{Presented, presented};
use crate::access::body::ResponseEnded;
use crate::access::challenge::{AccessError, Challenges};
use crate::access::subscriber::Subscriber;
use crate::access::watch::{Confirm, Reading, Unconfirmed, Watch, Watched};
use crate::access_token::cache::{Cache, Confirmed, Found, Load};
use crate::access_token::check::{Dead, Refused, check};
use crate::access_token::grant::AccessGrant;
use crate::access_token::record::AccessRecord;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::state::State;
use crate::error::ConfigError;
use crate::event::{self, Callback, EventKind, Subject};
use crate::seal::{Context, Purpose, open_behind};
use crate::store::{Key, Store, StoreError};
use crate::token::AccessToken;
use crate::wire::client::ClientId;
use crate::wire::scope::{valid_resource, valid_scope};

/// The state that a layer shares with its services and with the layers made from it.
pub(crate) struct Guard<St> {
    pub(crate) store: StoreHandle<St>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) prefix: String,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) listener: Subscriber,
    pub(crate) on_event: Option<Callback>,
    /// The time for which a read of a token is valid. `None` if responses do not end with their
    /// tokens.
    pub(crate) end_responses: Option<Duration>,
}

/// The owner of the store.
pub(crate) enum StoreHandle<St> {
    Own(St),
    /// A `RefreshLayer` in the same process.
    State(Arc<State<St>>),
}

impl<St> StoreHandle<St> {
    fn get(&self) -> &St {
        match self {
            Self::Own(store) => store,
            Self::State(shared) => shared.store().get_ref(),
        }
    }
}

/// A token in the format of the layer, and the key of its record.
pub(crate) struct ParsedToken {
    token: AccessToken,
    key: Key,
}

/// A token that is not valid.
struct Gone {
    dead: Dead,
    /// The grant of the token, if known.
    grant: Option<AccessGrant>,
}

/// The result of the check that needs no I/O.
pub(crate) enum Lookup {
    Alive(ParsedToken, AccessGrant, Confirmed),
    Unknown(ParsedToken),
}

impl<St: Store> Guard<St> {
    /// Parses the token of a request and looks it up in the cache.
    pub(crate) fn look<B>(&self, request: &Request<B>) -> Result<Lookup, AccessError> {
        let token = match presented(request.headers(), &self.prefix) {
            Presented::Nothing => return Err(AccessError::TokenMissing),
            Presented::Malformed => return Err(AccessError::InvalidRequest),
            Presented::Foreign => return Err(AccessError::InvalidToken),
            Presented::Token(token) => token,
        };
        let ticket = ParsedToken {
            key: token.key(),
            token,
        };
        let Some(cache) = &self.cache else {
            return Ok(Lookup::Unknown(ticket));
        };
        self.listener.ensure(self.store.get(), cache);
        match cache.find(&ticket.key, self.clock.now()) {
            Found::Nothing => Ok(Lookup::Unknown(ticket)),
            Found::Ended(grant) => Err(self.ended(&ticket, grant.as_ref(), Duration::ZERO)),
            Found::Alive(grant, confirmed) => Ok(Lookup::Alive(ticket, grant, confirmed)),
        }
    }

    /// Reads the token of a request from the store. Emits an event if it has ended.
    pub(crate) async fn load(
        &self,
        ticket: &ParsedToken,
    ) -> Result<(AccessGrant, Confirmed), AccessError> {
        let started = Instant::now();
        let fetched = self
            .fetch(&ticket.key, &ticket.token.grant_key())
            .await
            .map_err(AccessError::Store)?;
        fetched.map_err(|Gone { dead, grant }| {
            if dead == Dead::Ended {
                return self.ended(ticket, grant.as_ref(), started.elapsed());
            }
            tracing::debug!(?dead, "an access token was rejected");
            AccessError::InvalidToken
        })
    }

    /// Reads a token from the store and inserts it into the cache.
    async fn fetch(
        &self,
        key: &Key,
        grant_key: &Key,
    ) -> Result<Result<(AccessGrant, Confirmed), Gone>, StoreError> {
        let load = self
            .cache
            .as_ref()
            .map_or_else(Load::without_cache, |cache| cache.begin());
        let checked = check(self.store.get(), key, grant_key, self.clock.now()).await?;
        let granted = |record: &AccessRecord| {
            AccessGrant::new(record, record.has_grant.then(|| (*grant_key).into()))
        };
        let alive = match checked {
            Ok(alive) => alive,
            Err(Refused { dead, record }) => {
                return Ok(Err(Gone {
                    dead,
                    grant: record.as_ref().map(granted),
                }));
            }
        };
        let (grant, confirmed) = (granted(&alive.record), load.confirmed(alive.until));
        if let Some(cache) = &self.cache {
            cache.enter(*key, grant.clone(), confirmed);
            // The token may have ended during the read, and then the ended key is in the cache by
            // now.
            if cache.has_ended(key) || cache.home_has_ended(&grant) {
                return Ok(Err(Gone {
                    dead: Dead::Ended,
                    grant: Some(grant),
                }));
            }
        }
        Ok(Ok((grant, confirmed)))
    }

    /// Returns a watch on the token of a request for the time of its response, if responses end
    /// with their tokens.
    pub(crate) fn watch(
        self: &Arc<Self>,
        ticket: &ParsedToken,
        grant: &AccessGrant,
        confirmed: Confirmed,
    ) -> Option<Box<Watch>> {
        let ttl = self.end_responses?;
        let watched = Watched {
            token: ticket.key,
            grant: grant.grant().map(|grant| *grant.key()),
            grant_key: ticket.token.grant_key(),
            generation: ticket.token.generation(),
            expires_at: grant.expires_at(),
        };
        let guard: Arc<dyn Confirm> = Arc::clone(self) as _;
        Some(Box::new(Watch::new(guard, watched, confirmed, ttl)))
    }

    /// Emits the event for a token that has ended and returns the error for the client.
    fn ended(
        &self,
        ticket: &ParsedToken,
        grant: Option<&AccessGrant>,
        elapsed: Duration,
    ) -> AccessError {
        let client_id = grant.and_then(|grant| ClientId::try_from(grant.client_id()).ok());
        let home = grant.and_then(AccessGrant::grant);
        let grant = home
            .as_ref()
            .map(|home| (home.key(), Some(ticket.token.generation())));
        self.tell(
            EventKind::AccessRefused,
            Subject {
                client_id: client_id.as_ref(),
                grant,
            },
            elapsed,
            None,
        );
        AccessError::InvalidToken
    }

    /// Emits an event if the store failed. Returns the error unchanged.
    pub(crate) fn told(
        &self,
        error: AccessError,
        ticket: &ParsedToken,
        elapsed: Duration,
    ) -> AccessError {
        if let AccessError::Store(failure) = &error {
            let key = ticket.token.grant_key();
            let subject = Subject {
                client_id: None,
                grant: Some((&key, Some(ticket.token.generation()))),
            };
            self.tell(
                EventKind::of_failure(failure),
                subject,
                elapsed,
                failure.source(),
            );
        }
        error
    }

    fn tell(
        &self,
        kind: EventKind,
        subject: Subject<'_>,
        elapsed: Duration,
        cause: Option<&(dyn Error + 'static)>,
    ) {
        event::tell(
            self.on_event.as_ref(),
            "access token",
            kind,
            subject,
            elapsed,
            cause,
        );
    }
}

impl<St: Store> Confirm for Guard<St> {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn cache(&self) -> Option<&Arc<Cache>> {
        self.cache.as_ref()
    }

    fn read(self: Arc<Self>, watched: Watched, max_age: Duration) -> Reading {
        Box::pin(async move {
            if let Some(cache) = &self.cache {
                self.listener.ensure(self.store.get(), cache);
                match cache.find(&watched.token, self.clock.now()) {
                    Found::Alive(_, confirmed) if confirmed.began.elapsed() < max_age => {
                        return Ok(confirmed);
                    }
                    Found::Ended(_) => return Err(Unconfirmed::Ended(ResponseEnded::GrantEnded)),
                    Found::Alive(..) | Found::Nothing => {}
                }
            }
            let started = Instant::now();
            match self.fetch(&watched.token, &watched.grant_key).await {
                Ok(Ok((_, confirmed))) => Ok(confirmed),
                Ok(Err(Gone {
                    dead: Dead::Expired,
                    ..
                })) => Err(Unconfirmed::Ended(ResponseEnded::TokenExpired)),
                Ok(Err(Gone {
                    dead: Dead::Ended | Dead::Unknown,
                    ..
                })) => Err(Unconfirmed::Ended(ResponseEnded::GrantEnded)),
                Err(failure) => {
                    let grant = Some((&watched.grant_key, Some(watched.generation)));
                    let subject = Subject {
                        client_id: None,
                        grant,
                    };
                    self.tell(
                        EventKind::of_failure(&failure),
                        subject,
                        started.elapsed(),
                        failure.source(),
                    );
                    Err(Unconfirmed::Store)
                }
            }
        })
    }
}

impl<St> fmt::Debug for Guard<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The requirements for a token, and the changes to a request that has one.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) strip: bool,
    pub(crate) realm: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource: Option<String>,
    pub(crate) metadata: Option<String>,
}

/// Checked [`Policy`], with the challenges for requests that do not meet them.
#[derive(Debug)]
pub(crate) struct ValidatedPolicy {
    terms: Policy,
    challenges: Challenges,
}

impl ValidatedPolicy {
    pub(crate) fn new(terms: Policy) -> Result<Self, ConfigError> {
        let Policy {
            realm,
            scopes,
            resource,
            metadata,
            ..
        } = &terms;
        if realm.is_empty() || !realm.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(ConfigError::Realm(realm.clone()));
        }
        for (setting, uri) in [("resource", resource), ("resource_metadata", metadata)] {
            if let Some(uri) = uri.as_ref().filter(|uri| !valid_resource(uri)) {
                return Err(ConfigError::Uri {
                    setting,
                    uri: uri.clone(),
                });
            }
        }
        if let Some(scope) = scopes
            .iter()
            .find(|scope| !valid_scope(scope) || scope.contains(' '))
        {
            return Err(ConfigError::Scope(scope.clone()));
        }
        let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
        let challenges = Challenges::new(realm, scope.as_deref(), metadata.as_deref())?;
        Ok(Self { terms, challenges })
    }

    /// Returns a changed copy.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Policy)) -> Result<Self, ConfigError> {
        let mut terms = self.terms.clone();
        change(&mut terms);
        Self::new(terms)
    }

    pub(crate) const fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Checks the resource and the scope of a token, and prepares the request for the inner
    /// service.
    pub(crate) fn admit<B>(
        &self,
        request: &mut Request<B>,
        ticket: &ParsedToken,
        grant: AccessGrant,
    ) -> Result<(), AccessError> {
        if let Some(resource) = &self.terms.resource
            && !grant.resources().any(|known| known == resource)
        {
            tracing::debug!("an access token was rejected because it is for another resource");
            return Err(AccessError::InvalidToken);
        }
        if !self.terms.scopes.iter().all(|scope| grant.has_scope(scope)) {
            return Err(AccessError::InsufficientScope);
        }
        if self.terms.strip {
            request.headers_mut().remove(AUTHORIZATION);
        } else {
            request.headers_mut().insert(
                AUTHORIZATION,
                bearer(ticket, &grant).map_err(AccessError::Store)?,
            );
        }
        request.extensions_mut().insert(grant);
        Ok(())
    }
}

/// Returns the `Authorization` header with the upstream access token.
fn bearer(
    ParsedToken { token, key }: &ParsedToken,
    grant: &AccessGrant,
) -> Result<HeaderValue, StoreError> {
    let context = Context {
        purpose: Purpose::Access,
        key,
        client_id: grant.client_id(),
    };
    let opened = open_behind(b"Bearer ", token.secret(), context, grant.sealed())
        .map_err(StoreError::corrupt)?;
    let mut value =
        HeaderValue::from_maybe_shared(bytes::Bytes::from(opened)).map_err(StoreError::corrupt)?;
    value.set_sensitive(true);
    Ok(value)
}
