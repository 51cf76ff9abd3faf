use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::join;
use http::Response;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use super::foreign::{DONE, Foreign, Successor, UNDER_WAY};
use crate::body::ResponseBody;
use crate::endpoint::context::RequestContext;
use crate::endpoint::retryable_write::{OVERRIDES, RetryableWrite, overridden, persist};
use crate::endpoint::sessions::NewSession;
use crate::endpoint::state::State;
use crate::endpoint::token::begin::{Begun, NewGrant};
use crate::endpoint::token::entropy::Minted;
use crate::endpoint::token::lease::LeaseGuard;
use crate::endpoint::token::mint::{self, MintError, Terms, granted_resources};
use crate::endpoint::token::request::RefreshRequest;
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::key_lock::KeyLockGuard;
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl, Version};
use crate::wire::client::ClientId;
use crate::wire::scope::MAX_SCOPE;

/// An adoption that the inner service has granted.
pub(super) struct Adopted<'a> {
    pub(super) foreign: &'a Foreign<'a>,
    pub(super) request: &'a RefreshRequest<'a>,
    pub(super) minted: Minted,
    /// The version of the entry that replaces the placeholder.
    pub(super) version: Version,
}

impl Adopted<'_> {
    /// Stores the answer of the inner service, then answers the client.
    pub(super) async fn complete<St: Store, ResBody>(
        self,
        context: &RequestContext<St>,
        lease: LeaseGuard<St>,
        guard: KeyLockGuard,
        granted: Granted,
    ) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
        let Self {
            foreign, request, ..
        } = self;
        let config = context.shared.config();
        let windows = config.windows;
        let (expected, in_flight) = lease.into_commit();
        let stranger = foreign.subject();
        let failed = |error: MintError| {
            context.emit(EventKind::CommitLost, stranger);
            context.store_failed(StoreError::unavailable(error), stranger)
        };
        // If the request names a scope, the answer may name only a part of what was granted. The
        // scope of the grant is then unknown.
        let granted_scope = granted
            .answer
            .scope()
            .filter(|scope| scope.len() <= MAX_SCOPE);
        let scope = if request.scope.is_none() {
            granted_scope
        } else {
            None
        };
        // An unusable subject must not cost the session, whose upstream token has been used.
        let profile = granted.profile(config).unwrap_or_default();
        let upstream_token = granted.answer.refresh_token().unwrap_or(foreign.token);
        let terms = Terms {
            profile: profile.as_ref(),
            requested: request.requested(false),
            client_id: foreign.client_id.as_str(),
            // The scope of the grant is unknown, and the inner service may have ignored the
            // requested one, so only the scope in the answer counts.
            scope: granted_scope.map(Cow::Borrowed),
            resources: granted_resources(
                config,
                &granted.answer,
                request.resources.iter().copied(),
            ),
        };
        let grant = NewGrant {
            client_id: foreign.client_id,
            scope,
            resources: Vec::new(),
            upstream_token,
            credential: request.has_credential(),
            access: terms,
            repeat: request.replayable(windows).then_some(request),
        };
        let [_, link_nonce, ..] = self.minted.nonces;
        let token = self.minted.token.clone();
        let mut begun = grant
            .begin(&context.shared, self.minted, &granted)
            .map_err(failed)?;
        let session = begun.session.take();
        let listed_again = session.clone();
        let key = begun.key;
        let body = begun.body.clone();
        let done = if !windows.are_zero() {
            let shared_until = context.shared.now().saturating_add(windows.shared);
            let successor = Successor {
                token,
                shared_until,
            };
            let sealed = foreign.seal(link_nonce, &successor);
            Some(sealed.map_err(|error| failed(error.into()))?)
        } else if upstream_token != foreign.token {
            // A second use of the token would end the session at the inner service.
            Some(Vec::new())
        } else {
            None
        };
        let renewed = upstream_token != foreign.token;
        let change = done.map_or(Change::Remove, |value| Change::Put {
            entry: Entry::new(self.version, DONE, value.into()),
            ttl: Ttl::After(config.adopted_for(renewed, context.shared.now())),
        });
        let mut adoption = Adoption {
            begun,
            inserted: false,
            key: foreign.key,
            expected,
            done: change,
            client_id: foreign.client_id.clone(),
        };
        let list = async {
            match session {
                Some(session) => Box::pin(session.list(&context.shared)).await,
                None => None,
            }
        };
        let (adopted, unlisted) = join(adoption.attempt(&context.shared), list).await;
        if let Some(session) = unlisted {
            session.list_in_background(&context.shared);
        }
        match adopted {
            Ok(()) => context.emit(
                EventKind::Adopted,
                adoption.begun.subject(foreign.client_id),
            ),
            Err(error) => {
                let inserted = adoption.inserted;
                adoption.settle(context, in_flight, guard, listed_again);
                let error = context.store_failed(error, stranger);
                // The grant is stored. Only the link for a retry with the upstream token is still
                // missing.
                if !inserted {
                    return Err(error);
                }
            }
        }
        Ok(granted.respond_for(&key, body))
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
                .swap(&self.key, expected, self.done.clone(), &[])
                .await?
            {
                // Another request has taken the lease over. Override it, so that it does not use
                // the upstream token a second time.
                Swap::Conflict(Some(found)) if answered && found.tag == UNDER_WAY => {
                    expected = Some(found.version)
                }
                Swap::Conflict(None) => expected = None,
                // After a conflict: another adoption of the same token was faster. The grant is
                // stored, only the link to it is not.
                Swap::Swapped | Swap::Conflict(Some(_)) => return Ok(()),
            }
        }
        Err(overridden())
    }
}

impl Adoption {
    /// Retries the writes in a background task, and emits the event of the result. The next request
    /// with this token on this instance waits for `guard`.
    ///
    /// `session` is listed again when the grant is stored: if an attempt was stored although it
    /// seemed to fail, the sessions of the user may have been ended since, and this grant begins
    /// after that.
    fn settle<St: Store>(
        mut self,
        context: &RequestContext<St>,
        in_flight: Option<TaskTrackerToken>,
        guard: KeyLockGuard,
        session: Option<NewSession>,
    ) {
        let shared = Arc::clone(&context.shared);
        let started = context.started();
        let permit = shared.background();
        let task = async move {
            let settled = match &permit {
                Some(_) => persist(&mut self, &shared).await,
                None => None,
            };
            if let Some(session) = session.filter(|_| self.inserted) {
                session.list_in_background(&shared);
            }
            drop(in_flight);
            drop(guard);
            let kind = if settled.is_some() || self.inserted {
                EventKind::Adopted
            } else {
                EventKind::CommitLost
            };
            shared.emit(kind, self.begun.subject(&self.client_id), started.elapsed());
        };
        tokio::spawn(task.in_current_span());
    }
}
