use std::borrow::Cow;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::issue::{Begun, begin};
use super::lease::{LONG_AGO, TAKEOVER_PAUSE};
use super::replay;
use super::request::RefreshRequest;
use super::retryable_write::{OVERRIDES, RetryableWrite, persist};
use crate::body::ResponseBody;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::state::State;
use crate::endpoint::token::mint;
use crate::endpoint::token::mint::{Terms, granted_resources};
use crate::endpoint::upstream::{Granted, Inner, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::event::Subject;
use crate::key_lock::KeyLockGuard;
use crate::seal::{Context, Purpose, Sealer, Secret};
use crate::store::{Change, ClaimTag, Entry, Key, Lease, Store, StoreError, Swap, Ttl, Version};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;
use crate::wire::scope::MAX_SCOPE;
use futures_util::future::join;
use tokio_util::task::task_tracker::TaskTrackerToken;

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
    let (config, stranger) = (
        exchange.shared.config(),
        Subject {
            client_id: Some(client_id),
            grant: None,
        },
    );
    let Some(end) = config.adopt_until else {
        return Err(unknown(exchange, stranger).into());
    };
    let foreign = Foreign::new(token, client_id);
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
    let turn = timeout_at(
        deadline,
        exchange
            .shared
            .key_lock()
            .lock(ClaimTag::new(*foreign.key.as_bytes())),
    );
    let (turn, _) = turn.await.map_err(|_| RefreshError::Busy)?;
    let placeholder = match reserve(exchange, &foreign, deadline).await? {
        Reserved::Placeholder(placeholder) => placeholder,
        Reserved::Done(sealed) => return Ok(answer_again(exchange, &foreign, ask, &sealed)?),
    };
    match exchange.refresh(upstream, body, token, stranger).await {
        Ok(Reply::Granted(granted)) => {
            complete(exchange, &foreign, (placeholder, turn), token, ask, granted)
                .await
                .map_err(Into::into)
        }
        Ok(Reply::Rejected(response)) => {
            placeholder.remove().await;
            exchange.emit(EventKind::UpstreamRejected, stranger);
            Ok(response)
        }
        Ok(Reply::Refused(response)) => {
            placeholder.remove().await;
            Ok(response)
        }
        Err(failure) => {
            placeholder.remove().await;
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
    let opened = Some(sealed)
        .filter(|_| ask.replayable())
        .and_then(|sealed| replay::open(&foreign.sealer, foreign.context(), ask, sealed, now).ok());
    let kind = if opened.is_some() {
        EventKind::Replayed
    } else {
        EventKind::Late
    };
    exchange.emit(
        kind,
        Subject {
            client_id: Some(foreign.client_id),
            grant: None,
        },
    );
    let (granted, body) = opened.ok_or(RefreshError::InvalidGrant)?;
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

    fn context(&self) -> Context<'_> {
        Context {
            purpose: Purpose::Replay,
            key: &self.key,
            client_id: self.client_id.as_str(),
        }
    }
}

enum Reserved<St: Store> {
    Placeholder(Placeholder<St>),
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
    let subject = Subject {
        client_id: Some(foreign.client_id),
        grant: None,
    };
    let failed = |error| exchange.store_failed(error, subject);
    let (key, length) = (&foreign.key, exchange.shared.config().lease());
    let mut absent = true;
    loop {
        exchange.progress.begin();
        if absent {
            let entry = Entry::new(
                Version::new(exchange.shared.random()?),
                UNDER_WAY,
                Bytes::new(),
            );
            let change = Change::Put {
                entry,
                ttl: Ttl::After(length.saturating_add(KEPT)),
            };
            let swap = exchange
                .store()
                .swap(key, None, change, None)
                .await
                .map_err(failed)?;
            if let Swap::Conflict(Some(entry)) = swap
                && entry.tag == DONE
            {
                return Ok(Reserved::Done(entry.value));
            }
        }
        let version = Version::new(exchange.shared.random()?);
        let mut placeholder = Placeholder::new(&exchange.shared, *key, version);
        let claim = || exchange.store().claim(key, &UNDER_WAY, version, length);
        let mut claimed = claim().await.map_err(failed)?;
        if claimed
            .as_ref()
            .is_some_and(|claim| claim.lease == Lease::Taken && claim.taken_over)
        {
            sleep(TAKEOVER_PAUSE).await;
            claimed = claim().await.map_err(failed)?;
        }
        if claimed
            .as_ref()
            .is_some_and(|claim| claim.lease == Lease::Taken)
        {
            placeholder.overdue = false;
            return Ok(Reserved::Placeholder(placeholder));
        }
        placeholder.into_commit();
        absent = claimed.is_none();
        if let Some(entry) = claimed
            .map(|claim| claim.entry)
            .filter(|entry| entry.tag == DONE)
        {
            return Ok(Reserved::Done(entry.value));
        }
        exchange.progress.rest();
        if exchange.progress.detached() || Instant::now() + PAUSE > deadline {
            return Err(RefreshError::Busy);
        }
        sleep(PAUSE).await;
    }
}

/// Stores the answer of the inner service, then answers the client.
async fn complete<St: Store, ResBody>(
    exchange: &RequestContext<St>,
    foreign: &Foreign<'_>,
    (placeholder, turn): (Placeholder<St>, KeyLockGuard),
    token: &str,
    ask: &RefreshRequest<'_>,
    granted: Granted,
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let (version, running) = placeholder.into_commit();
    let stranger = Subject {
        client_id: Some(foreign.client_id),
        grant: None,
    };
    let unavailable = |error: &dyn std::error::Error| {
        exchange.emit(EventKind::CommitLost, stranger);
        exchange.store_failed(StoreError::unavailable(error.to_string()), stranger)
    };
    // If the request names a scope, the answer may name only a part of what was granted. The scope
    // of the grant is then unknown.
    let granted_scope = granted
        .answer
        .scope()
        .filter(|scope| scope.len() <= MAX_SCOPE);
    let scope = if ask.scope.is_none() {
        granted_scope
    } else {
        None
    };
    let terms = Terms {
        client_id: foreign.client_id.as_str(),
        // The scope of the grant is unknown, and the inner service may have ignored the requested
        // one, so only the scope in the answer counts.
        scope: granted_scope.map(Cow::Borrowed),
        resources: granted_resources(
            exchange.shared.config(),
            &granted.answer,
            ask.resources.iter().copied(),
        ),
    };
    let upstream_token = granted.answer.refresh_token().unwrap_or(token);
    let begun = begin(
        exchange,
        foreign.client_id,
        scope,
        Vec::new(),
        upstream_token,
        &granted,
        &terms,
    )
    .map_err(|error| unavailable(&error))?;
    let (key, body) = (begun.key, begun.body.clone());
    let renewed = upstream_token != token;
    let done = answer_entry(exchange, foreign, ask, &granted, &body, renewed)
        .map_err(|error| unavailable(&*error))?;
    let mut adoption = Adoption {
        begun,
        inserted: false,
        placeholder: (foreign.key, version),
        done,
        client_id: foreign.client_id.clone(),
    };
    match adoption.attempt(&exchange.shared).await {
        Ok(()) => exchange.emit(
            EventKind::Adopted,
            adoption.begun.subject(foreign.client_id),
        ),
        Err(error) => {
            let inserted = adoption.inserted;
            adoption.settle(exchange, (running, turn));
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

/// Returns the change that replaces the placeholder.
///
/// It stores the sealed answer, for a retry of the same request. If there is nothing to replay, it
/// stores an empty value if the inner service has replaced the upstream token, because a second use
/// of the old one would end the session there. Otherwise it removes the placeholder.
fn answer_entry<St: Store>(
    exchange: &RequestContext<St>,
    foreign: &Foreign<'_>,
    ask: &RefreshRequest<'_>,
    granted: &Granted,
    body: &[u8],
    renewed: bool,
) -> Result<Change, Box<dyn std::error::Error + Send + Sync>> {
    let config = exchange.shared.config();
    let window = config.windows.retry;
    let replayed = !window.is_zero() && ask.replayable();
    if !replayed && !renewed {
        return Ok(Change::Remove);
    }
    let (nonce, version) = (
        exchange.shared.random()?,
        Version::new(exchange.shared.random()?),
    );
    let sealed = if replayed {
        replay::seal(
            &foreign.sealer,
            nonce,
            foreign.context(),
            ask,
            granted,
            body,
            exchange.shared.now(),
        )?
    } else {
        Vec::new()
    };
    let ttl = Ttl::After(if window.is_zero() {
        config.lease()
    } else {
        window
    });
    Ok(Change::Put {
        entry: Entry::new(version, DONE, sealed.into()),
        ttl,
    })
}

/// The two writes of an adoption: the grant, and the entry that replaces the placeholder.
struct Adoption {
    begun: Begun,
    inserted: bool,
    placeholder: (Key, Version),
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
        let (key, version) = self.placeholder;
        let (mut expected, answered) = (Some(version), matches!(self.done, Change::Put { .. }));
        for _ in 0..OVERRIDES {
            match shared
                .store()
                .swap(&key, expected, self.done.clone(), None)
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
    fn settle<St: Store>(mut self, exchange: &RequestContext<St>, running: impl Send + 'static) {
        let (shared, started) = (Arc::clone(&exchange.shared), exchange.started());
        let permit = shared.background();
        tokio::spawn(async move {
            let settled = match &permit {
                Some(_) => persist(&mut self, &shared).await,
                None => None,
            };
            drop(running);
            let kind = if settled.is_some() || self.inserted {
                EventKind::Adopted
            } else {
                EventKind::CommitLost
            };
            shared.tell(kind, self.begun.subject(&self.client_id), started.elapsed());
        });
    }
}

/// The lease of an adoption, and its entry. Dropping the placeholder removes both.
struct Placeholder<St: Store> {
    shared: Arc<State<St>>,
    key: Key,
    version: Version,
    /// Whether it may have replaced an expired lease, whose holder may still commit. Dropping it
    /// then leaves an expired lease behind.
    overdue: bool,
    in_flight: Option<TaskTrackerToken>,
}

impl<St: Store> Placeholder<St> {
    fn new(shared: &Arc<State<St>>, key: Key, version: Version) -> Self {
        Self {
            shared: Arc::clone(shared),
            key,
            version,
            overdue: true,
            in_flight: Some(shared.in_flight().token()),
        }
    }

    async fn remove(mut self) {
        let running = self.in_flight.take();
        remove(&self.shared, &self.key, self.version, self.overdue).await;
        drop(running);
    }

    /// Hands the placeholder to the commit. Dropping it no longer removes the entry.
    fn into_commit(mut self) -> (Version, Option<TaskTrackerToken>) {
        (self.version, mem::take(&mut self.in_flight))
    }
}

impl<St: Store> Drop for Placeholder<St> {
    fn drop(&mut self) {
        let Some(running) = self.in_flight.take() else {
            return;
        };
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        let (shared, key, version, overdue) = (
            Arc::clone(&self.shared),
            self.key,
            self.version,
            self.overdue,
        );
        handle.spawn(async move {
            remove(&shared, &key, version, overdue).await;
            drop(running);
        });
    }
}

/// Removes the placeholder. A failure is only logged, because the lease expires by itself.
async fn remove<St: Store>(shared: &State<St>, key: &Key, version: Version, overdue: bool) {
    let change = match shared.random().map(Version::new) {
        Ok(next) if overdue => {
            let entry = Entry::new(next, UNDER_WAY, Bytes::new()).with_lease(Some(LONG_AGO));
            Change::Put {
                entry,
                ttl: Ttl::Keep,
            }
        }
        Err(_) if overdue => return,
        Ok(_) | Err(_) => Change::Remove,
    };
    if let Err(error) = shared.store().swap(key, Some(version), change, None).await {
        tracing::debug!(%error, "failed to remove the placeholder of an adoption: it expires by itself");
    }
}
