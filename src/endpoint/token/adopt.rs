use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::Response;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;
use zeroize::Zeroizing;

use super::begin::{Begun, NewGrant};
use super::entropy::{Entropy, Minted};
use super::lease::{LeaseGuard, TAKEOVER_PAUSE};
use super::mint::{self, MintError, Terms, granted_resources};
use super::replay;
use super::request::RefreshRequest;
use super::retryable_write::{OVERRIDES, RetryableWrite, persist};
use crate::body::ResponseBody;
use crate::endpoint::config::Config;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::state::State;
use crate::endpoint::upstream::{Granted, Inner, Reply};
use crate::error::RefreshError;
use crate::event::{EventKind, Subject};
use crate::key_lock::KeyLockGuard;
use crate::seal::{Context, Purpose, Sealer, Secret};
use crate::store::{
    Change, Claim, ClaimTag, Entry, Key, Lease, Store, StoreError, Swap, Ttl, Version,
};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;
use crate::wire::scope::MAX_SCOPE;

/// The tags of the entry of an adoption: in progress, or done with the sealed answer as the value.
const UNDER_WAY: ClaimTag = ClaimTag::new([0; 32]);
const DONE: ClaimTag = ClaimTag::new([1; 32]);

/// The time for which the entry of an adoption in progress is kept after its lease has expired. It
/// is longer than a commit is retried in the background, so that a request that takes the lease
/// over finds out that another request had held it.
const KEPT: Duration = Duration::from_secs(3600);

/// The first input of the hash that is the key of an adoption. It is longer than the id of a grant,
/// so an adoption never has the key of a grant.
const ADOPT: &str = "tower-oauth-refresh adopt key";
const ADOPT_SECRET: &str = "tower-oauth-refresh adopt secret";

/// Handles a refresh with a token that is not in the layer's format: adopts its grant, if adoption
/// is configured and has not ended.
pub(crate) async fn adopt<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    token: &str,
    client_id: &ClientId,
    ask: &RefreshRequest<'_>,
) -> Outcome<I::ResBody, I::Error> {
    let config = exchange.shared.config();
    let foreign = Foreign::new(token, client_id);
    let stranger = foreign.subject();
    let Some(end) = config.adopt_until else {
        return Err(unknown(exchange, stranger).into());
    };
    if exchange.shared.now() >= end {
        // Adoption has ended, but the answer of an adoption that was made shortly before may still
        // be replayed.
        let late =
            exchange.shared.now() < end.saturating_add(config.lease() + config.windows.retry);
        let found = if late {
            exchange.store().get(&foreign.key).await
        } else {
            Ok(None)
        };
        let found = found.map_err(|error| exchange.store_failed(error, stranger))?;
        let Some(done) = found.filter(|entry| entry.tag == DONE) else {
            return Err(unknown(exchange, stranger).into());
        };
        return Ok(answer_again(exchange, &foreign, ask, &done.value)?);
    }
    let deadline = exchange.deadline();
    let tag = ClaimTag::new(*foreign.key.as_bytes());
    let turn = timeout_at(deadline, exchange.shared.key_lock().lock(tag)).await;
    let (turn, _) = turn.map_err(|_| RefreshError::Busy)?;
    // Drawn before the upstream token is used, as in a rotation.
    let entropy = Entropy::new(&exchange.shared)?;
    let version = Version::new(exchange.shared.random()?);
    let lease = match reserve(exchange, &foreign, deadline).await? {
        Reserved::Lease(lease) => lease,
        Reserved::Done(sealed) => return Ok(answer_again(exchange, &foreign, ask, &sealed)?),
    };
    match exchange.refresh(upstream, body, token, stranger).await {
        Ok(Reply::Granted(granted)) => {
            let adopted = Adopted {
                foreign: &foreign,
                ask,
                token,
                minted: entropy.first(),
                version,
            };
            adopted
                .complete(exchange, lease, turn, granted)
                .await
                .map_err(Into::into)
        }
        Ok(Reply::Rejected(response)) => {
            lease.release().await;
            exchange.emit(EventKind::UpstreamRejected, stranger);
            Ok(response)
        }
        Ok(Reply::Refused(response)) => {
            lease.release().await;
            Ok(response)
        }
        Err(failure) => {
            lease.release().await;
            Err(failure)
        }
    }
}

fn unknown<St: Store>(exchange: &RequestContext<St>, stranger: Subject<'_>) -> RefreshError {
    exchange.emit(EventKind::Unknown, stranger);
    RefreshError::InvalidGrant
}

/// Replays the answer of an adoption, but only to the same request.
fn answer_again<St: Store, ResBody>(
    exchange: &RequestContext<St>,
    foreign: &Foreign<'_>,
    ask: &RefreshRequest<'_>,
    sealed: &[u8],
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let now = exchange.shared.now();
    let opened = if ask.replayable() {
        replay::open(&foreign.sealer, foreign.context(), ask, sealed, now).ok()
    } else {
        None
    };
    let Some((granted, body)) = opened else {
        exchange.emit(EventKind::Late, foreign.subject());
        return Err(RefreshError::InvalidGrant);
    };
    exchange.emit(EventKind::Replayed, foreign.subject());
    let given = granted.answer.refresh_token();
    match given.and_then(|token| RefreshToken::parse(&exchange.shared.config().prefix, token)) {
        Some(token) => Ok(granted.respond_for(&token.key(), body)),
        None => Ok(granted.respond(body)),
    }
}

/// An upstream token that a client received before the layer was installed.
struct Foreign<'a> {
    client_id: &'a ClientId,
    key: Key,
    sealer: Sealer,
}

impl<'a> Foreign<'a> {
    fn new(token: &str, client_id: &'a ClientId) -> Self {
        let key = Key::new(
            Sha256::new()
                .chain_update(ADOPT)
                .chain_update(token)
                .finalize()
                .into(),
        );
        // Unlike the layer's own secrets, this token is not uniformly random. Its hash is a key
        // that is as hard to guess as the token.
        let mut secret = Zeroizing::new([0; 32]);
        Sha256::new()
            .chain_update(ADOPT_SECRET)
            .chain_update(token)
            .finalize_into((&mut *secret).into());
        Self {
            client_id,
            key,
            sealer: Sealer::new(Secret::new(&secret)),
        }
    }

    fn subject(&self) -> Subject<'a> {
        Subject {
            client_id: Some(self.client_id),
            grant: None,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            purpose: Purpose::Replay,
            key: &self.key,
            client_id: self.client_id.as_str(),
        }
    }
}

enum Reserved<St: Store> {
    Lease(LeaseGuard<St>),
    /// Another request has adopted the grant. The value is its sealed answer.
    Done(Bytes),
}

/// Takes the lease of an adoption, so that no other request uses the same upstream token. A lease
/// needs an entry, so a placeholder is written first.
///
/// As in a rotation, a lease that replaced an expired one is used only after [`TAKEOVER_PAUSE`] and
/// a second claim: the previous holder may have the answer already and only be waiting for the
/// store.
async fn reserve<St: Store>(
    exchange: &RequestContext<St>,
    foreign: &Foreign<'_>,
    deadline: Instant,
) -> Result<Reserved<St>, RefreshError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let failed = |error| exchange.store_failed(error, foreign.subject());
    let shared = &exchange.shared;
    let mut absent = true;
    loop {
        exchange.progress.begin();
        if absent {
            let version = Version::new(shared.random()?);
            let change = Change::Put {
                entry: Entry::new(version, UNDER_WAY, Bytes::new()),
                ttl: Ttl::After(shared.config().lease().saturating_add(KEPT)),
            };
            let swap = exchange.store().swap(&foreign.key, None, change, None);
            if let Swap::Conflict(Some(entry)) = swap.await.map_err(failed)?
                && entry.tag == DONE
            {
                return Ok(Reserved::Done(entry.value));
            }
        }
        let version = Version::new(shared.random()?);
        let mut lease = LeaseGuard::new(shared, foreign.key, version);
        let mut claim = lease.claim(&UNDER_WAY).await.map_err(failed)?;
        let taken_over = |claim: &Claim| claim.lease == Lease::Taken && claim.taken_over;
        if claim.as_ref().is_some_and(taken_over) {
            sleep(TAKEOVER_PAUSE).await;
            claim = lease.claim(&UNDER_WAY).await.map_err(failed)?;
        }
        absent = claim.is_none();
        match claim {
            Some(claim) if claim.lease == Lease::Taken => {
                lease.confirm_on_placeholder();
                return Ok(Reserved::Lease(lease));
            }
            Some(claim) if claim.entry.tag == DONE => {
                return Ok(Reserved::Done(claim.entry.value));
            }
            Some(_) | None => lease.release().await,
        }
        exchange.progress.rest();
        if exchange.progress.detached() || Instant::now() + PAUSE > deadline {
            return Err(RefreshError::Busy);
        }
        sleep(PAUSE).await;
    }
}

/// An adoption that the inner service has granted.
struct Adopted<'a> {
    foreign: &'a Foreign<'a>,
    ask: &'a RefreshRequest<'a>,
    /// The upstream token that was presented.
    token: &'a str,
    minted: Minted,
    /// The version of the entry that replaces the placeholder.
    version: Version,
}

impl Adopted<'_> {
    /// Stores the answer of the inner service, then answers the client.
    async fn complete<St: Store, ResBody>(
        self,
        exchange: &RequestContext<St>,
        lease: LeaseGuard<St>,
        turn: KeyLockGuard,
        granted: Granted,
    ) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
        let Self {
            foreign,
            ask,
            token,
            ..
        } = self;
        let (expected, in_flight) = lease.into_commit();
        let stranger = foreign.subject();
        let failed = |error: MintError| {
            exchange.emit(EventKind::CommitLost, stranger);
            exchange.store_failed(StoreError::unavailable(error), stranger)
        };
        // If the request names a scope, the answer may name only a part of what was granted. The
        // scope of the grant is then unknown.
        let granted_scope = granted
            .answer
            .scope()
            .filter(|scope| scope.len() <= MAX_SCOPE);
        let scope = if ask.scope.is_none() {
            granted_scope
        } else {
            None
        };
        let upstream_token = granted.answer.refresh_token().unwrap_or(token);
        let grant = NewGrant {
            client_id: foreign.client_id,
            scope,
            resources: Vec::new(),
            upstream_token,
            access: Terms {
                client_id: foreign.client_id.as_str(),
                // The scope of the grant is unknown, and the inner service may have ignored the
                // requested one, so only the scope in the answer counts.
                scope: granted_scope.map(Cow::Borrowed),
                resources: granted_resources(
                    exchange.shared.config(),
                    &granted.answer,
                    ask.resources.iter().copied(),
                ),
            },
        };
        let [.., nonce] = self.minted.nonces;
        let begun = grant
            .begin(&exchange.shared, self.minted, &granted)
            .map_err(failed)?;
        let key = begun.key;
        let body = begun.body.clone();
        let sealed = if ask.replayable() && !exchange.shared.config().windows.retry.is_zero() {
            let now = exchange.shared.now();
            let sealer = &foreign.sealer;
            let sealed = replay::seal(sealer, nonce, foreign.context(), ask, &granted, &body, now);
            Some(sealed.map_err(|error| failed(error.into()))?)
        } else {
            None
        };
        let renewed = upstream_token != token;
        let change = done_change(exchange.shared.config(), self.version, sealed, renewed);
        let mut adoption = Adoption {
            begun,
            inserted: false,
            key: foreign.key,
            expected,
            done: change,
            client_id: foreign.client_id.clone(),
        };
        match adoption.attempt(&exchange.shared).await {
            Ok(()) => exchange.emit(
                EventKind::Adopted,
                adoption.begun.subject(foreign.client_id),
            ),
            Err(error) => {
                let inserted = adoption.inserted;
                adoption.settle(exchange, in_flight, turn);
                let error = exchange.store_failed(error, stranger);
                // The grant is stored. Only the replay for a retry with the upstream token is still
                // missing.
                if !inserted {
                    return Err(error);
                }
            }
        }
        Ok(granted.respond_for(&key, body))
    }
}

/// Returns the change that replaces the placeholder.
///
/// It stores the sealed answer, for a retry of the same request. If there is nothing to replay, it
/// stores an empty value if the inner service has replaced the upstream token, because a second use
/// of the old one would end the session there. Otherwise it removes the placeholder.
fn done_change(
    config: &Config,
    version: Version,
    sealed: Option<Vec<u8>>,
    renewed: bool,
) -> Change {
    if sealed.is_none() && !renewed {
        return Change::Remove;
    }
    let window = config.windows.retry;
    Change::Put {
        entry: Entry::new(version, DONE, sealed.unwrap_or_default().into()),
        ttl: Ttl::After(if window.is_zero() {
            config.lease()
        } else {
            window
        }),
    }
}

/// The two writes of an adoption: the grant, and the entry that replaces the placeholder.
struct Adoption {
    begun: Begun,
    inserted: bool,
    /// The key of the placeholder, and the version that it had when it was claimed.
    key: Key,
    expected: Version,
    done: Change,
    client_id: ClientId,
}

impl RetryableWrite for Adoption {
    type Done = ();

    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<(), StoreError> {
        if !self.inserted {
            let access = mint::insert(self.begun.access_write(), shared);
            let (grant, access) =
                join(self.begun.insert(shared.store(), shared.now()), access).await;
            grant?;
            access?;
            self.inserted = true;
        }
        let mut expected = Some(self.expected);
        let answered = matches!(self.done, Change::Put { .. });
        for _ in 0..OVERRIDES {
            match shared
                .store()
                .swap(&self.key, expected, self.done.clone(), None)
                .await?
            {
                // Another request has taken the lease over. Override it, so that it does not use
                // the upstream token a second time.
                Swap::Conflict(Some(found)) if answered && found.tag == UNDER_WAY => {
                    expected = Some(found.version)
                }
                Swap::Conflict(None) => expected = None,
                // After a conflict: another adoption of the same token was faster. The grant is
                // stored, only its replay is not.
                Swap::Swapped | Swap::Conflict(Some(_)) => return Ok(()),
            }
        }
        Err(StoreError::unavailable(
            "failed to write the entry: other requests changed it during each of 32 attempts",
        ))
    }
}

impl Adoption {
    /// Retries the writes in a background task, and emits the event of the result. The next request
    /// with this token on this instance waits for `turn`.
    fn settle<St: Store>(
        mut self,
        exchange: &RequestContext<St>,
        in_flight: Option<TaskTrackerToken>,
        turn: KeyLockGuard,
    ) {
        let shared = Arc::clone(&exchange.shared);
        let started = exchange.started();
        let permit = shared.background();
        tokio::spawn(async move {
            let settled = match &permit {
                Some(_) => persist(&mut self, &shared).await,
                None => None,
            };
            drop(in_flight);
            drop(turn);
            let kind = if settled.is_some() || self.inserted {
                EventKind::Adopted
            } else {
                EventKind::CommitLost
            };
            shared.tell(kind, self.begun.subject(&self.client_id), started.elapsed());
        });
    }
}
