mod links;
mod renewal;
mod write;

use std::borrow::Cow;

use bytes::Bytes;
use http::Response;
use tower::BoxError;

use self::links::Links;
pub(super) use self::renewal::Renewal;
pub(super) use self::write::{Commit, Committed};

use super::entropy::Minted;
use super::held::OpenGrant;
use super::lease::LeaseGuard;
use super::replay;
use super::request::ClientRequest;
use crate::body::ResponseBody;
use crate::codec::Utf8;
use crate::endpoint::config::Config;
use crate::endpoint::context::{Failure, Outcome};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::retryable_write::{RetryableWrite as _, settle};
use crate::endpoint::sessions::NewSession;
use crate::endpoint::token::mint::{Terms, granted_resources, mint};
use crate::endpoint::upstream::Granted;
use crate::endpoint::walk::Walk;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{
    Proceed, Refusal, Standing, StoredGrant, Verdict, decide, may_have_link, without_answer,
};
use crate::key_lock::KeyLockGuard;
use crate::seal::{Purpose, Sealer};
use crate::store::{Entry, Sidecar, Store, StoreError, Version};
use crate::wire::scope::common_scope;
use crate::wire::token_response::GrantedScope;

/// A rotation that the inner service has granted.
pub(crate) struct Rotation<'a, St> {
    pub(crate) request: &'a ClientRequest<'a>,
    pub(crate) grant: OpenGrant<'a, St>,
    pub(crate) proceed: Proceed,
    /// The next token. If none was minted, this is the current token.
    pub(crate) minted: Minted,
}

impl<'a, St: Store> Rotation<'a, St> {
    /// Stores the rotation, then answers the client.
    // Not an `async fn`: its future would hold the rotation twice, as an argument and as a local
    // variable.
    pub(crate) fn commit<ResBody, E>(
        self,
        lease: LeaseGuard<St>,
        guard: KeyLockGuard,
        granted: Granted,
    ) -> impl Future<Output = Outcome<ResBody, E>> {
        let (expected, in_flight) = lease.into_commit();
        let presented = self.grant.presented;
        let context = presented.context;
        let request = self.request;
        let event = self.event(context.shared.config());
        let subject = presented.subject();
        let prepared = self.prepare(expected, &granted);
        async move {
            let (mut commit, body, session) = prepared.map_err(|error| {
                presented.emit(EventKind::CommitLost);
                presented.store_failed(StoreError::unavailable(error))
            })?;
            match commit.attempt(&context.shared).await {
                Ok(Committed::Stored) => {
                    let unlisted = NewSession::list(session, &context.shared).await;
                    NewSession::list_in_background(unlisted, &context.shared);
                    presented.emit(event);
                    Ok(granted.respond_for(&presented.key, body))
                }
                Ok(Committed::Gone) => {
                    commit.revoke_upstream(&context.shared);
                    Err(presented.refuse(Refusal::Unknown).into())
                }
                Ok(Committed::Overtaken(found)) => {
                    Ok(Box::pin(decide_again(presented, request, found)).await?)
                }
                Err(error) => {
                    let settled = move |commit: &Commit, settled, shared: &_| {
                        commit.settled(settled, shared, event)
                    };
                    settle(context, *commit, in_flight, guard, subject, settled);
                    NewSession::list_in_background(session, &context.shared);
                    Err(Failure::Refused(presented.store_failed(error)))
                }
            }
        }
    }

    fn event(&self, config: &Config) -> EventKind {
        match self.proceed {
            _ if config.hand_back => EventKind::HandedBack,
            Proceed::Converge => EventKind::Converged,
            Proceed::Keep => EventKind::Kept,
            Proceed::Recover => EventKind::Recovered,
            Proceed::Rotate | Proceed::Busy | Proceed::Replay => EventKind::Rotated,
        }
    }

    /// Returns the write to be made, the body of the response to the client, and the session if the
    /// index of its user must list it again.
    fn prepare(
        mut self,
        expected: Version,
        granted: &Granted,
    ) -> Result<(Box<Commit>, Bytes, Option<NewSession>), BoxError> {
        let presented = self.grant.presented;
        let shared = &presented.context.shared;
        let config = shared.config();
        let windows = config.windows;
        let prepared_at = shared.now();
        let now = self.grant.record.time(prepared_at);
        let next = &self.minted.token;
        let entropy = &self.minted.entropy;
        let hash = next.hash();
        let sealer = Sealer::new(next.secret());
        let (record, session) = self.grant.renew(now, granted, Some(&sealer), entropy)?;
        let record = record.granted_with(self.request.has_credential());
        let grant = &self.grant;
        let mut links = Links {
            grant,
            next: &self.minted,
            windows,
            now,
            // At most the stored answer and a link.
            sidecars: Vec::with_capacity(2),
        };
        let record = match self.proceed {
            _ if config.hand_back => record
                .converged(&presented.hash, &hash, now, windows)
                .handed_back(now, windows),
            Proceed::Converge => links.converge(record)?,
            // No link changes.
            Proceed::Keep => record.converged(&presented.hash, &hash, now, windows),
            Proceed::Recover => links.recover(record)?,
            Proceed::Rotate | Proceed::Busy | Proceed::Replay => links.rotate(record)?,
        };
        let mut sidecars = links.sidecars;
        let lifetime = record.time_to_live(now);
        let terms = self.access_terms(granted);
        let response = &granted.response;
        let access = mint(shared, now, Some(next), entropy, &terms, response)?;
        let response = access.as_ref().map_or(response, |access| &access.response);
        let body = if config.hand_back {
            response.with_own_refresh_token(&grant.upstream_token)
        } else {
            let text = next.encode(&config.prefix);
            response.with_refresh_token(&text, lifetime, record.authorization_left(now))
        };
        if self.request.replayable(windows) {
            let context = presented.sealed_for(Purpose::Replay);
            let nonce = entropy.replay_nonce;
            let sealed = replay::seal(&sealer, nonce, context, self.request, granted, &body, now)?;
            let ttl = windows.retry.min(lifetime);
            sidecars.push(Sidecar::new(replay::name(&hash), sealed.into(), ttl));
        }
        // Boxed because it is moved through several futures.
        let commit = Box::new(Commit {
            key: presented.key,
            expected,
            claimed: grant.record.revision(grant.claimed),
            record,
            presented: Some(presented.hash),
            tag: hash,
            version: entropy.version,
            sidecars,
            access: access.map(|access| access.write),
            stored: false,
            prepared_at,
        });
        Ok((commit, body, session))
    }

    /// Returns the scope and the resources of the access token in this response. Both are taken
    /// from the response, otherwise from the request, otherwise from the grant (RFC 6749 §6, RFC
    /// 8707 §2.2).
    ///
    /// Of the requested scope, only the part that is known to be granted counts; `offline_access`
    /// may be requested without being granted. If the scope of the grant is unknown, no requested
    /// scope counts, because the inner service may have ignored the request.
    fn access_terms<'b>(&'b self, granted: &'b Granted) -> Terms<'b> {
        let (grant, request) = (&self.grant, self.request);
        let config = grant.presented.context.shared.config();
        let binding = &grant.record.binding;
        let known = binding.scope.as_ref().map(Utf8::as_str);
        let scope = match granted.response.granted_scope() {
            GrantedScope::Named(scope) => Some(Cow::Borrowed(scope)),
            GrantedScope::Unreadable => None,
            GrantedScope::Omitted => match (known, request.scope) {
                (Some(known), Some(asked)) => Some(Cow::Owned(common_scope(asked, known))),
                (known, _) => known.map(Cow::Borrowed),
            },
        };
        let resources = match request.resources.as_slice() {
            [] => {
                let known = binding.resources.iter().map(Utf8::as_str);
                granted_resources(config, &granted.response, known)
            }
            asked => granted_resources(config, &granted.response, asked.iter().copied()),
        };
        Terms {
            client_id: grant.presented.client_id.as_str(),
            scope,
            resources,
            profile: grant.profile.as_ref(),
            request,
            authenticated: grant.record.authenticated,
        }
    }
}

/// Decides again, against the new record, because another request has rotated the grant.
///
/// The presented token was valid when the request arrived, so this request counts as one that has
/// waited: the token can be replayed or is late, but it is never reuse. If it may lead to the new
/// current token, the client is asked to try again.
pub(crate) async fn decide_again<St: Store, ResBody>(
    presented: &PresentedToken<'_, St>,
    request: &ClientRequest<'_>,
    entry: Entry,
) -> Result<Response<ResponseBody<ResBody>>, RefreshError> {
    let windows = presented.context.shared.config().windows;
    let now = presented.context.shared.now();
    let record = presented.decode(&entry)?.at(now);
    let grant = StoredGrant::new(&record, &entry.tag);
    let candidate = presented.presented();
    let mut verdict = decide(grant, candidate, Standing::Free, true, now);
    tracing::trace!(?verdict, grant = ?presented.key, "decided again");
    if verdict == Verdict::Proceed(Proceed::Replay) {
        if request.replayable(windows) {
            let current = Walk::new(presented).current_token(presented, &record, &entry.tag)?;
            if let Some((granted, body)) = replay::find(presented, request, &current).await? {
                presented.emit(EventKind::Replayed);
                return Ok(granted.respond_for(&presented.key, body));
            }
        }
        verdict = without_answer(verdict, &record, Standing::Free, now);
    }
    let has_links = !windows.shared.is_zero();
    match verdict {
        // The grant has just been rotated, so the client has to try again.
        Verdict::Proceed(_) => Err(RefreshError::Busy),
        Verdict::Refuse(_) if has_links && may_have_link(grant, candidate, now) => {
            Err(RefreshError::Busy)
        }
        Verdict::Refuse(refusal) => Err(presented.refuse(refusal)),
    }
}
