use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use super::cache::{Cache, Found};
use super::challenge::{AccessError, Challenges};
use super::check::{Dead, Refused, check};
use super::grant::AccessGrant;
use super::listener::Listener;
use super::present::{Presented, presented};
use super::record::AccessRecord;
use crate::client::ClientId;
use crate::clock::Clock;
use crate::error::ConfigError;
use crate::event::{self, Callback, EventKind, Subject};
use crate::scope::valid_scope;
use crate::seal::{Context, Purpose, open_behind};
use crate::shared::Shared;
use crate::store::{Key, Store, StoreError};
use crate::token::AccessToken;

/// What all services of one layer share, and of all layers made from it.
pub(crate) struct Guard<St> {
    pub(crate) store: Source<St>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) prefix: String,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) listener: Listener,
    pub(crate) on_event: Option<Callback>,
}

/// Where the store is.
pub(crate) enum Source<St> {
    Own(St),
    /// In a `RefreshLayer`.
    Shared(Arc<Shared<St>>),
}

impl<St> Source<St> {
    fn get(&self) -> &St {
        match self {
            Self::Own(store) => store,
            Self::Shared(shared) => shared.store(),
        }
    }
}

/// A token of the layer's format, and the key of its record.
pub(crate) struct Ticket {
    token: AccessToken,
    key: Key,
}

/// What can be said of a request without asking the store.
pub(crate) enum First {
    Alive(Ticket, AccessGrant),
    Unknown(Ticket),
}

impl<St: Store> Guard<St> {
    /// What memory says.
    pub(crate) fn look<B>(&self, request: &Request<B>) -> Result<First, AccessError> {
        let token = match presented(request.headers(), &self.prefix) {
            Presented::Nothing => return Err(AccessError::TokenMissing),
            Presented::Malformed => return Err(AccessError::InvalidRequest),
            Presented::Foreign => return Err(AccessError::InvalidToken),
            Presented::Token(token) => token,
        };
        let ticket = Ticket { key: token.key(), token };
        let Some(cache) = &self.cache else { return Ok(First::Unknown(ticket)) };
        self.listener.ensure(self.store.get(), cache);
        match cache.find(&ticket.key, self.clock.now()) {
            Found::Nothing => Ok(First::Unknown(ticket)),
            Found::Ended(grant) => Err(self.ended(&ticket, grant.as_ref(), Duration::ZERO)),
            Found::Alive(grant) => Ok(First::Alive(ticket, grant)),
        }
    }

    /// What the store says.
    pub(crate) async fn load(&self, ticket: &Ticket) -> Result<AccessGrant, AccessError> {
        let Ticket { token, key } = ticket;
        let started = Instant::now();
        let load = self.cache.as_ref().map(|cache| (cache, cache.begin()));
        let checked = check(self.store.get(), token, key, self.clock.now()).await;
        let told = |record: &AccessRecord| AccessGrant::new(record, record.has_grant.then(|| token.grant_key().into()));
        let alive = match checked.map_err(AccessError::Store)? {
            Ok(alive) => alive,
            Err(Refused { dead: Dead::Ended, record }) => {
                return Err(self.ended(ticket, record.as_ref().map(told).as_ref(), started.elapsed()));
            }
            Err(Refused { dead, .. }) => {
                tracing::debug!(?dead, "an access token was refused");
                return Err(AccessError::InvalidToken);
            }
        };
        let grant = told(&alive.record);
        if let Some((cache, load)) = load {
            cache.enter(load, *key, grant.clone(), &alive);
            // It may have ended while it was read.
            if cache.has_ended(key) || cache.home_has_ended(&grant) {
                return Err(self.ended(ticket, Some(&grant), started.elapsed()));
            }
        }
        Ok(grant)
    }

    /// Tells the operator that a token was presented that has ended.
    fn ended(&self, ticket: &Ticket, grant: Option<&AccessGrant>, elapsed: Duration) -> AccessError {
        let client_id = grant.and_then(|grant| ClientId::try_from(grant.client_id()).ok());
        let home = grant.and_then(AccessGrant::grant);
        let grant = home.as_ref().map(|home| (home.key(), Some(ticket.token.generation())));
        self.tell(EventKind::AccessRefused, Subject { client_id: client_id.as_ref(), grant }, elapsed);
        AccessError::InvalidToken
    }

    /// Tells the operator of what is no fault of the client.
    pub(crate) fn told(&self, error: AccessError, ticket: &Ticket, elapsed: Duration) -> AccessError {
        if let AccessError::Store(cause) = &error {
            let key = ticket.token.grant_key();
            let grant = Some((&key, Some(ticket.token.generation())));
            self.tell(EventKind::of_failure(cause), Subject { client_id: None, grant }, elapsed);
        }
        error
    }

    fn tell(&self, kind: EventKind, subject: Subject<'_>, elapsed: Duration) {
        event::tell(self.on_event.as_ref(), "access token", kind, subject, elapsed);
    }
}

impl<St> fmt::Debug for Guard<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What a token must be good for, and what becomes of the request that presents it.
#[derive(Debug)]
pub(crate) struct Rules {
    strip: bool,
    realm: String,
    scopes: Vec<String>,
    resource: Option<String>,
    metadata: Option<String>,
    challenges: Challenges,
}

impl Rules {
    pub(crate) fn new(
        strip: bool,
        realm: String,
        scopes: Vec<String>,
        resource: Option<String>,
        metadata: Option<String>,
    ) -> Result<Self, ConfigError> {
        if let Some(scope) = scopes.iter().find(|scope| !valid_scope(scope) || scope.contains(' ')) {
            return Err(ConfigError::Scope(scope.clone()));
        }
        let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
        let challenges = Challenges::new(&realm, scope.as_deref(), metadata.as_deref())?;
        Ok(Self { strip, realm, scopes, resource, metadata, challenges })
    }

    /// The same with one more scope.
    pub(crate) fn and_scope(&self, scope: String) -> Result<Self, ConfigError> {
        let mut scopes = self.scopes.clone();
        scopes.push(scope);
        Self::new(self.strip, self.realm.clone(), scopes, self.resource.clone(), self.metadata.clone())
    }

    pub(crate) const fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Makes the request fit for the inner service.
    pub(crate) fn admit<B>(
        &self,
        request: &mut Request<B>,
        ticket: &Ticket,
        grant: AccessGrant,
    ) -> Result<(), AccessError> {
        if let Some(resource) = &self.resource
            && !grant.resources().any(|known| known == resource)
        {
            tracing::debug!("an access token was refused that is for another resource");
            return Err(AccessError::InvalidToken);
        }
        if !self.scopes.iter().all(|scope| grant.has_scope(scope)) {
            return Err(AccessError::InsufficientScope);
        }
        if self.strip {
            request.headers_mut().remove(AUTHORIZATION);
        } else {
            request.headers_mut().insert(AUTHORIZATION, bearer(ticket, &grant).map_err(AccessError::Store)?);
        }
        request.extensions_mut().insert(grant);
        Ok(())
    }
}

/// The upstream's token, as the inner service expects it.
fn bearer(Ticket { token, key }: &Ticket, grant: &AccessGrant) -> Result<HeaderValue, StoreError> {
    let context = Context { purpose: Purpose::Access, key, client_id: grant.client_id() };
    let opened = open_behind(b"Bearer ", token.secret(), context, grant.sealed()).map_err(StoreError::corrupt)?;
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(opened)).map_err(StoreError::corrupt)?;
    value.set_sensitive(true);
    Ok(value)
}
