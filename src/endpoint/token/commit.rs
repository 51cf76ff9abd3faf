use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use zeroize::Zeroizing;

use super::entropy::Minted;
use super::lease::{LeaseGuard, Purpose as LeasePurpose};
use super::replay;
use super::request::RefreshRequest;
use super::retryable_write::{OVERRIDES, RetryableWrite, persist};
use crate::body::ResponseBody;
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::endpoint::config::Config;
use crate::endpoint::context::{Failure, Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::{refuse, refuse_and_end_on_reuse, unreadable};
use crate::endpoint::state::State;
use crate::endpoint::token::mint::{AccessWrite, MintError, Owner, Terms, granted_resources, mint};
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::event::Subject;
use crate::grant::{Previous, Proceed, Record, Refusal, Rotated, Standing, Verdict, decide};
use crate::key_lock::KeyLockGuard;
use crate::seal::{Purpose, Sealer};
use crate::store::{Change, ClaimTag, Entry, Key, Sidecar, Store, StoreError, Swap, Ttl, Version};
use crate::wire::client::ClientId;
use crate::wire::scope::common_scope;
use crate::wire::token_response::GrantedScope;
use futures_util::future::join;

/// A rotation that the inner service has granted.
pub(crate) struct Rotation<'a> {
    pub(crate) presentation: &'a PresentedToken<'a>,
    pub(crate) ask: &'a RefreshRequest<'a>,
    pub(crate) sealer: Sealer,
    pub(crate) record: Record,
    pub(crate) claimed: ClaimTag,
    pub(crate) purpose: LeasePurpose,
    /// The upstream token that was sent to the inner service.
    pub(crate) token: Zeroizing<String>,
    pub(crate) minted: Minted,
}

impl Rotation<'_> {
    /// Stores the rotation, then answers the client.
    pub(crate) async fn commit<St: Store, ResBody, E>(
        self,
        exchange: &RequestContext<St>,
        lease: LeaseGuard<St>,
        turn: KeyLockGuard,
        granted: Granted,
    ) -> Outcome<ResBody, E> {
        let (expected, running) = lease.into_commit();
        let (presentation, ask, event) = (self.presentation, self.ask, self.event());
        let subject = presentation.subject();
        let (mut commit, body) =
            self.prepare(&exchange.shared, expected, &granted)
                .map_err(|error| {
                    exchange.emit(EventKind::CommitLost, subject);
                    exchange.store_failed(StoreError::unavailable(error), subject)
                })?;
        match commit.attempt(&exchange.shared).await {
            Ok(Committed::Stored) => {
                exchange.emit(event, subject);
                Ok(granted.respond_for(&presentation.key, body))
            }
            Ok(Committed::Gone) => Err(refuse(exchange, presentation, Refusal::Ended).into()),
            Ok(Committed::Overtaken(found)) => {
                Ok(Box::pin(decide_again(exchange, presentation, ask, found)).await?)
            }
            Err(error) => {
                let client_id = presentation.client_id.clone();
                let generation = presentation.token.generation();
                let background = Background {
                    commit,
                    kind: event,
                    client_id,
                    generation,
                };
                // The next request with this token on this instance waits for the commit.
                background.settle(exchange, (running, turn));
                Err(Failure::Refused(exchange.store_failed(error, subject)))
            }
        }
    }

    fn event(&self) -> EventKind {
        match self.purpose {
            LeasePurpose::Rotation => EventKind::Rotated,
            LeasePurpose::Recovery => EventKind::Recovered,
        }
    }

    /// Returns the write to be made, and the body of the answer to the client.
    fn prepare<St>(
        self,
        shared: &State<St>,
        expected: Version,
        granted: &Granted,
    ) -> Result<(Commit, Bytes), MintError> {
        let (config, now) = (shared.config(), self.record.time(shared.now()));
        let Minted {
            token: next,
            nonces: [nonce, previous_nonce, replay_nonce],
            version,
            access,
        } = self.minted;
        let presentation = self.presentation;
        let hash = next.hash();
        let brought = granted.answer.refresh_token();
        let renewed = brought.is_some_and(|token| token != self.token.as_str());
        let token = brought.unwrap_or(&self.token).as_bytes();
        let sealed = Sealer::new(next.secret()).seal(
            nonce,
            presentation.context(Purpose::Current),
            &[],
            token,
        )?;
        let windows = config.windows;
        let for_previous = (!windows.retry.is_zero())
            .then(|| {
                self.sealer.seal(
                    previous_nonce,
                    presentation.context(Purpose::Previous),
                    &[],
                    token,
                )
            })
            .transpose()?;
        let record = self.record.rotated(Rotated {
            now,
            generation: next.generation(),
            sealed: sealed.into(),
            previous: Previous::new(
                presentation.hash,
                now,
                windows,
                for_previous.map(Bytes::from),
            ),
            idle_lifetime: config.idle_lifetime,
            renewed,
            upstream_lifetime: granted.answer.refresh_lifetime(),
        });
        let lifetime = record.time_to_live(now);
        let terms = access_terms(config, &self.record, self.ask, presentation, granted);
        let home = Owner::Grant(next.access_id(), next.generation());
        let reference = mint(shared, now, home, access, &terms, &granted.answer)?;
        let answer = reference
            .as_ref()
            .map_or(&granted.answer, |reference| &reference.answer);
        let body = answer.with_refresh_token(&next.encode(&config.prefix), lifetime);
        let also = if windows.retry.is_zero() || !self.ask.replayable() {
            None
        } else {
            let context = presentation.context(Purpose::Replay);
            let sealed = replay::seal(
                &self.sealer,
                replay_nonce,
                context,
                self.ask,
                granted,
                &body,
                now,
            )?;
            Some(Sidecar::new(
                replay::name(&hash),
                sealed.into(),
                windows.retry.min(lifetime),
            ))
        };
        let key = presentation.key;
        let entry = Entry::new(version, hash, record.encode(&key, &hash));
        let access = reference.map(|reference| reference.write);
        let claimed = self.claimed;
        let stored = false;
        let prepared_at = shared.now();
        Ok((
            Commit {
                key,
                expected,
                claimed,
                record,
                entry,
                also,
                access,
                stored,
                prepared_at,
            },
            body,
        ))
    }
}

/// Returns the scope and the resources of the access token in this answer. Both are taken from the
/// answer, otherwise from the request, otherwise from the grant (RFC 6749 §6, RFC 8707 §2.2).
///
/// Of the requested scope, only the part that is known to be granted counts; `offline_access` may
/// be requested without being granted. If the scope of the grant is unknown, no requested scope
/// counts, because the inner service may have ignored the request.
fn access_terms<'a>(
    config: &Config,
    record: &'a Record,
    ask: &'a RefreshRequest<'_>,
    presentation: &'a PresentedToken<'_>,
    granted: &'a Granted,
) -> Terms<'a> {
    let binding = &record.binding;
    let scope = match granted.answer.granted_scope() {
        GrantedScope::Named(scope) => Some(Cow::Borrowed(scope)),
        GrantedScope::Unreadable => None,
        GrantedScope::Omitted => match (binding.scope.as_ref().map(Utf8::as_str), ask.scope) {
            (Some(known), Some(asked)) => Some(Cow::Owned(common_scope(asked, known))),
            (known, _) => known.map(Cow::Borrowed),
        },
    };
    let resources = match ask.resources.as_slice() {
        [] => granted_resources(
            config,
            &granted.answer,
            binding.resources.iter().map(Utf8::as_str),
        ),
        asked => granted_resources(config, &granted.answer, asked.iter().copied()),
    };
    Terms {
        client_id: presentation.client_id.as_str(),
        scope,
        resources,
    }
}

/// Decides again, against the new record, because another request has rotated the grant.
///
/// The presented token was valid when the request arrived, so this request counts as one that has
/// waited: the token can be replayed or is late, but it is never reuse.
pub(crate) async fn decide_again<St: Store, ResBody>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    ask: &RefreshRequest<'_>,
    entry: Entry,
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let now = exchange.shared.now();
    let record = Record::decode(&presentation.key, &entry.tag, &entry.value)
        .map_err(|error| unreadable(exchange, presentation, error))?
        .at(now);
    let verdict = decide(
        Some((&record, &entry.tag)),
        presentation.presented(),
        Standing::Free,
        true,
        now,
    );
    tracing::trace!(?verdict, grant = ?presentation.key, "decided again");
    match verdict {
        Verdict::Proceed(Proceed::Replay) => {
            replay::replay(exchange, presentation, ask, &entry.tag).await
        }
        // The grant has just been rotated, so the client has to ask again.
        Verdict::Proceed(_) => Err(RefreshError::Busy),
        Verdict::Refuse(refusal) => {
            Err(refuse_and_end_on_reuse(exchange, presentation, refusal, entry).await)
        }
    }
}

/// The write of a rotation. It is retried until it reaches the store, because the inner service may
/// already have replaced the upstream token that the stored record contains.
#[derive(Debug)]
pub(crate) struct Commit {
    key: Key,
    expected: Version,
    claimed: ClaimTag,
    record: Record,
    entry: Entry,
    also: Option<Sidecar>,
    /// The record of the access token; `None` once it is stored.
    access: Option<AccessWrite>,
    /// Whether the rotation is stored. Its access token may still be missing.
    stored: bool,
    prepared_at: Timestamp,
}

/// The result of a commit.
#[derive(Debug)]
pub(crate) enum Committed {
    Stored,
    /// The grant has ended in the meantime. Revocation wins over rotation.
    Gone,
    /// Another request has rotated the grant in the meantime.
    Overtaken(Entry),
}

impl RetryableWrite for Commit {
    type Done = Committed;

    /// Writes the rotation and its access token, two entries, at the same time. The client gets its
    /// answer when both are stored. If the rotation fails, its access token was never sent to a
    /// client.
    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<Committed, StoreError> {
        let Some(access) = self.access.take() else {
            return self.swap(shared).await;
        };
        // Boxed because few rotations mint an access token, and unboxed these would enlarge the
        // future of every rotation.
        let insert = Box::pin(access.insert(shared.store(), shared.now()));
        let (committed, inserted) = join(Box::pin(self.swap(shared)), insert).await;
        if inserted.is_err() {
            self.access = Some(access);
        }
        match committed? {
            Committed::Stored => inserted.map(|()| Committed::Stored),
            overtaken => Ok(overtaken),
        }
    }
}

impl Commit {
    /// Writes the rotation. It overrides the lease of another request, but never another rotation.
    ///
    /// Invariant: the write succeeds only on an entry whose tag is `claimed`, the token that this
    /// rotation started from. The tag changes with every rotation, and the version with every
    /// write:
    ///
    /// - A conflict with the same tag means that only the lease has changed, usually because
    ///   another request has taken it over, or that the current token was marked as presented. The
    ///   write is repeated against the new version. If it gave way, the other request would send
    ///   the upstream token in the record, which the inner service has already replaced, and the
    ///   session would end there.
    /// - A conflict with another tag means that another request has rotated the grant. The write
    ///   must not be repeated: it would invalidate a token that a client has already received. If
    ///   the token of this write is the current or the previous token of the stored record, an
    ///   earlier attempt was stored and only its reply was lost.
    /// - A missing entry, or a record with a pending revocation, means that the grant has ended.
    ///   The write must not restore it.
    async fn swap<St: Store>(&mut self, shared: &State<St>) -> Result<Committed, StoreError> {
        if self.stored {
            return Ok(Committed::Stored);
        }
        self.renew_windows(shared);
        for _ in 0..OVERRIDES {
            let ttl = Ttl::After(self.record.kept(shared.now()));
            let change = Change::Put {
                entry: self.entry.clone(),
                ttl,
            };
            let found = match shared
                .store()
                .swap(&self.key, Some(self.expected), change, self.also.clone())
                .await?
            {
                Swap::Swapped => {
                    self.stored = true;
                    return Ok(Committed::Stored);
                }
                Swap::Conflict(None) => return Ok(Committed::Gone),
                Swap::Conflict(Some(found)) => found,
            };
            let record =
                Record::decode(&self.key, &found.tag, &found.value).map_err(StoreError::corrupt)?;
            if record.ended {
                return Ok(Committed::Gone);
            }
            if found.tag != self.claimed {
                self.stored = self.precedes(&found, &record);
                return Ok(if self.stored {
                    Committed::Stored
                } else {
                    Committed::Overtaken(found)
                });
            }
            self.expected = found.version;
        }
        Err(StoreError::unavailable(
            "failed to write the entry: other requests changed it during each of 32 attempts",
        ))
    }

    /// Returns whether an earlier attempt was stored although its reply was lost: the token of this
    /// write is the current or the previous token.
    fn precedes(&self, found: &Entry, record: &Record) -> bool {
        let previous = record.previous.as_ref().map(|previous| &previous.hash);
        [Some(&found.tag), previous].contains(&Some(&self.entry.tag))
    }

    /// Returns whether the grant is at least two generations beyond this write.
    fn is_history_of(&self, found: &Entry) -> bool {
        let next = self.record.generation.saturating_add(1);
        Record::decode(&self.key, &found.tag, &found.value)
            .is_ok_and(|found| found.generation > next)
    }

    /// Restarts the windows of the previous token, unless they were computed less than a second
    /// ago. The client can receive its answer only when the write is stored, which may be long
    /// after the rotation if the store was unavailable.
    fn renew_windows<St>(&mut self, shared: &State<St>) {
        let now = shared.now();
        if now.saturating_since(self.prepared_at) < Duration::from_secs(1) {
            return;
        }
        self.prepared_at = now;
        let time = self.record.time(now);
        if let Some(previous) = &mut self.record.previous {
            previous.begin(time, shared.config().windows);
        }
        self.entry.value = self.record.encode(&self.key, &self.entry.tag);
    }
}

/// A commit that the store has not accepted yet. It exists only in the memory of this process.
struct Background {
    commit: Commit,
    kind: EventKind,
    client_id: ClientId,
    generation: u32,
}

impl Background {
    /// Retries the commit for up to a minute in a background task, and emits the event of the
    /// result.
    fn settle<St: Store>(mut self, exchange: &RequestContext<St>, running: impl Send + 'static) {
        let shared = Arc::clone(&exchange.shared);
        let started = exchange.started();
        let Some(permit) = shared.background() else {
            self.tell(&shared, EventKind::CommitLost, started.elapsed());
            return;
        };
        tokio::spawn(async move {
            let _held = (permit, running);
            let settled = persist(&mut self.commit, &shared).await;
            let kind = match settled {
                Some(Committed::Stored) => self.kind,
                // Either this write was stored and its reply was lost, or other requests went on
                // without it. The grant is alive in both cases.
                Some(Committed::Overtaken(found)) if self.commit.is_history_of(&found) => self.kind,
                Some(Committed::Gone | Committed::Overtaken(_)) | None => EventKind::CommitLost,
            };
            self.tell(&shared, kind, started.elapsed());
        });
    }

    fn tell<St: Store>(&self, shared: &State<St>, kind: EventKind, elapsed: Duration) {
        let grant = Some((&self.commit.key, Some(self.generation)));
        shared.tell(
            kind,
            Subject {
                client_id: Some(&self.client_id),
                grant,
            },
            elapsed,
        );
    }
}
