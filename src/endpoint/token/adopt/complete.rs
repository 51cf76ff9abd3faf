use std::borrow::Cow;

use bytes::Bytes;
use futures_util::future::join;
use http::Response;
use tower::BoxError;

use super::foreign::{DONE, Foreign, UNDER_WAY};
use crate::body::ResponseBody;
use crate::cas;
use crate::endpoint::retryable_write::{RetryableWrite, settle};
use crate::endpoint::sessions::NewSession;
use crate::endpoint::state::State;
use crate::endpoint::token::begin::{Begun, NewGrant};
use crate::endpoint::token::entropy::Entropy;
use crate::endpoint::token::lease::LeaseGuard;
use crate::endpoint::token::mint::{Terms, granted_resources};
use crate::endpoint::token::request::ClientRequest;
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::key_lock::KeyLockGuard;
use crate::store::{Change, Entry, Key, Store, StoreError, Ttl, Version};
use crate::wire::scope::MAX_SCOPE;

/// The right to adopt a token, and the randomness for the new grant.
pub(crate) struct Reservation<St: Store> {
    pub(super) lease: LeaseGuard<St>,
    pub(super) guard: KeyLockGuard,
    pub(super) entropy: Entropy,
    /// The version of the entry that replaces the placeholder.
    pub(super) version: Version,
}

impl<St: Store> Reservation<St> {
    /// Stores the response of the inner service, then answers the client.
    pub(super) async fn complete<ResBody>(
        self,
        foreign: &Foreign<'_, St>,
        request: &ClientRequest<'_>,
        granted: Granted,
    ) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
        let context = foreign.context;
        let shared = &context.shared;
        let config = shared.config();
        let windows = config.windows;
        let (expected, in_flight) = self.lease.into_commit();
        let failed = |error: BoxError| {
            foreign.emit(EventKind::CommitLost);
            foreign.store_failed(StoreError::unavailable(error))
        };
        // If the request names a scope, the response may name only a part of what was granted. The
        // scope of the grant is then unknown.
        let granted_scope = granted
            .response
            .scope()
            .filter(|scope| scope.len() <= MAX_SCOPE);
        let scope = if request.scope.is_none() {
            granted_scope
        } else {
            None
        };
        // An unusable subject must not cost the session, whose upstream token has been used.
        let profile = granted.profile(config).unwrap_or_default();
        let upstream_token = granted.response.refresh_token().unwrap_or(foreign.token);
        let renewed = upstream_token != foreign.token;
        let asked = request.resources.iter().copied();
        let grant = NewGrant {
            scope,
            resources: Vec::new(),
            upstream_token,
            access: Terms {
                client_id: foreign.client_id.as_str(),
                // The scope of the grant is unknown, and the inner service may have ignored the
                // requested one, so only the scope in the response counts.
                scope: granted_scope.map(Cow::Borrowed),
                resources: granted_resources(config, &granted.response, asked),
                profile: profile.as_ref(),
                request,
                authenticated: false,
            },
            replayable: request.replayable(windows),
        };
        let link_nonce = self.entropy.link_nonce;
        let minted = self.entropy.first();
        let token = minted.token.clone();
        let begun = grant.begin(shared, minted, &granted);
        let mut begun = begun.map_err(failed)?;
        let done = if !windows.are_zero() {
            let shared_until = shared.now().saturating_add(windows.shared);
            let sealed = foreign.seal(link_nonce, &token, shared_until);
            Some(sealed.map_err(|error| failed(error.into()))?)
        } else if renewed {
            // A second use of the token would end the session at the inner service.
            Some(Vec::new())
        } else {
            None
        };
        let done = done.map_or(Change::Remove, |value| Change::Put {
            entry: Entry::new(self.version, DONE, value.into()),
            ttl: Ttl::After(config.adopted_for(renewed, shared.now())),
        });
        let session = begun.session.take();
        let listed_again = session.clone();
        let key = begun.key;
        let body = begun.body.clone();
        let mut adoption = Adoption {
            begun,
            inserted: false,
            key: foreign.key,
            expected,
            done,
        };
        let list = NewSession::list(session, shared);
        let (adopted, unlisted) = join(adoption.attempt(shared), list).await;
        NewSession::list_in_background(unlisted, shared);
        let subject = EventSubject::grant(Some(foreign.client_id), &key, Some(0));
        if let Err(error) = adopted {
            let inserted = adoption.inserted;
            let settled = |adoption: &Adoption, _, shared: &_| {
                if !adoption.inserted {
                    return EventKind::CommitLost;
                }
                // If an attempt was stored although it seemed to fail, the sessions of the user may
                // have been ended since, and this grant begins after that.
                NewSession::list_in_background(listed_again, shared);
                EventKind::Adopted
            };
            settle(context, adoption, in_flight, self.guard, subject, settled);
            let error = foreign.store_failed(error);
            // If the grant is stored, only the link for a retry with the upstream token is still
            // missing.
            if !inserted {
                return Err(error);
            }
        } else {
            context.emit(EventKind::Adopted, subject);
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
}

impl RetryableWrite for Adoption {
    type Done = ();

    async fn attempt<St: Store>(&mut self, shared: &State<St>) -> Result<(), StoreError> {
        if !self.inserted {
            let (grant, access) = self.begun.insert(shared).await;
            grant?;
            access?;
            self.inserted = true;
        }
        let placeholder = Entry::new(self.expected, UNDER_WAY, Bytes::new());
        let answered = matches!(self.done, Change::Put { .. });
        // If another request has taken the lease over, it is overridden, so that it does not use
        // the upstream token a second time. If another adoption of the same token was faster, the
        // grant is stored, and only the link to it is not.
        let is_free =
            |found: &Entry| found.tag == UNDER_WAY && (answered || found.version == self.expected);
        let change = |found: Option<&Entry>| {
            let is_free = found.is_none_or(is_free);
            Ok(is_free.then(|| self.done.clone()))
        };
        cas::write(shared.store(), &self.key, Some(placeholder), change).await
    }
}
