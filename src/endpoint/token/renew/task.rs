//! One renewal, in a task of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::BoxError;

use super::claim::{Stopped, claim};
use crate::access_token::record::AccessRecord;
use crate::body::{self, ResponseBody};
use crate::codec::Utf8;
use crate::endpoint::context::{Failure, RequestContext};
use crate::endpoint::direct::{DirectRequest, DirectService};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::progress::Progress;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::retryable_write::{RetryableWrite as _, persist};
use crate::endpoint::sessions::NewSession;
use crate::endpoint::state::State;
use crate::endpoint::token::commit::{Committed, Renewal};
use crate::endpoint::token::held::OpenGrant;
use crate::endpoint::token::lease::LeaseGuard;
use crate::endpoint::upstream::{Granted, Inner, Reply, error_code, is_temporary};
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::seal::SealError;
use crate::store::{Key, Store, StoreError, Version};
use crate::token::AccessToken;
use crate::wire::client::ClientId;
use crate::wire::token_response::TokenResponse;

/// A renewal that has not begun.
pub(super) struct Task<St> {
    context: RequestContext<St>,
    token: AccessToken,
    key: Key,
    _in_flight: TaskTrackerToken,
}

impl<St: Store> Task<St> {
    pub(super) fn new(shared: &Arc<State<St>>, token: AccessToken, key: Key) -> Self {
        Self {
            context: RequestContext::new(Arc::clone(shared), Arc::new(Progress::default())),
            token,
            key,
            _in_flight: shared.in_flight.token(),
        }
    }

    /// Renews the upstream access token. Every failure has its event when this returns.
    pub(super) async fn run(self) -> Renewed {
        match Box::pin(self.renew()).await {
            Ok(renewed) | Err(Stopped::Over(renewed)) => renewed,
            Err(Stopped::Failed(error)) => {
                tracing::debug!(%error, "an upstream access token could not be renewed");
                Renewed::Unavailable
            }
        }
    }

    async fn renew(&self) -> Result<Renewed, Stopped> {
        let context = &self.context;
        let Some(service) = context.shared.config().upstream_refresh.get() else {
            return Ok(Renewed::Impossible);
        };
        let (access, _) = self.read().await?;
        let client_id =
            ClientId::try_from(access.client_id.as_str()).map_err(|error| self.corrupt(error))?;
        let Some(renewable) = &access.renewable else {
            return Ok(Renewed::Impossible);
        };
        let refresh_token = renewable
            .open(&self.token, &self.key, client_id.as_str())
            .map_err(|error| self.corrupt(error))?;
        let presented = PresentedToken::new(context, refresh_token, &client_id);
        if presented.key != self.token.grant_key() {
            return Err(self.corrupt(SealError).into());
        }
        let deadline = Instant::now() + context.shared.config().rotation_timeout;
        let held = claim(&presented, deadline).await?;
        let grant = held.grant;
        // Another instance, or a task of this one whose result was lost, may have renewed the token
        // before this claim.
        let (lease, (access, version)) = held.lease.or_release(self.read().await).await?;
        if !service
            .credentials
            .cover(client_id.as_str(), grant.record.authenticated)
        {
            return lease.release_and(Ok(Renewed::Impossible)).await;
        }
        let granted = match send(service, &access, &grant).await {
            Ok(Reply::Granted(granted)) => granted,
            Ok(Reply::Rejected(response) | Reply::Refused(response)) => {
                lease.release().await;
                presented.emit(EventKind::RenewalFailed);
                return Ok(refused(response).await);
            }
            Err(failure) => {
                lease.release().await;
                if let Failure::Inner(error) = failure {
                    let elapsed = context.started.elapsed();
                    let kind = EventKind::RenewalFailed;
                    let subject = presented.subject();
                    context
                        .shared
                        .emit_with_cause(kind, subject, elapsed, Some(&*error));
                }
                return Ok(Renewed::Unavailable);
            }
        };
        let renewal = Renewal {
            grant,
            entropy: held.entropy,
            token: &self.token,
            key: self.key,
            access,
            version,
        };
        Ok(self.commit(renewal, lease, &granted).await?)
    }

    /// Stores the renewal. While the store is unavailable, tries again for up to a minute.
    async fn commit(
        &self,
        renewal: Renewal<'_, St>,
        lease: LeaseGuard<St>,
        granted: &Granted,
    ) -> Result<Renewed, RefreshError> {
        let shared = &self.context.shared;
        let presented = renewal.grant.presented;
        let (expected, _in_flight) = lease.into_commit();
        let (mut commit, session) = renewal.prepare(expected, granted).map_err(|error| {
            presented.emit(EventKind::CommitLost);
            presented.store_failed(StoreError::unavailable(error))
        })?;
        let committed = match commit.attempt(shared).await {
            Ok(committed) => Some(committed),
            Err(error) => {
                let _ = presented.store_failed(error);
                persist(&mut commit, shared).await
            }
        };
        match committed {
            Some(Committed::Stored) => {
                NewSession::list_in_background(session, shared);
                if granted.response.access_token().is_none() {
                    presented.emit(EventKind::UpstreamUnreadable);
                    return Ok(Renewed::Refused);
                }
                presented.emit(EventKind::Renewed);
                Ok(Renewed::Done)
            }
            // Another request has gone on with the grant. The access token may be stored.
            Some(Committed::Overtaken(_)) if commit.access.is_none() => Ok(Renewed::Done),
            Some(Committed::Overtaken(_)) => Ok(Renewed::Unavailable),
            Some(Committed::Gone) => {
                commit.revoke_upstream(shared);
                Ok(Renewed::Ended)
            }
            None => {
                presented.emit(EventKind::CommitLost);
                Ok(Renewed::Unavailable)
            }
        }
    }

    /// Reads the stored access token, if there is something to renew.
    async fn read(&self) -> Result<(AccessRecord, Version), Stopped> {
        let context = &self.context;
        let found = context.store().get(&self.key).await;
        let Some(entry) = found.map_err(|error| self.store_failed(error))? else {
            return Err(Stopped::Over(Renewed::Ended));
        };
        let record =
            AccessRecord::decode(&self.key, &entry).map_err(|error| self.corrupt(error))?;
        let now = context.shared.now();
        if record.revocation_pending || now >= record.expires_at {
            return Err(Stopped::Over(Renewed::Ended));
        }
        let renewable = record.renewable.as_ref();
        if renewable.is_some_and(|renewable| !renewable.life.is_due(now)) {
            return Err(Stopped::Over(Renewed::Done));
        }
        Ok((record, entry.version))
    }

    fn corrupt(&self, error: impl Into<BoxError>) -> RefreshError {
        self.store_failed(StoreError::corrupt(error))
    }

    fn store_failed(&self, error: StoreError) -> RefreshError {
        let grant_key = self.token.grant_key();
        let subject = EventSubject::grant(None, &grant_key, Some(self.token.generation()));
        self.context.store_failed(error, subject)
    }
}

/// Sends the refresh request of a renewal.
async fn send<St: Store>(
    service: &DirectService,
    access: &AccessRecord,
    grant: &OpenGrant<'_, St>,
) -> Result<Reply<<DirectRequest as Inner>::ResBody>, Failure<BoxError>> {
    let context = grant.presented.context;
    let config = context.shared.config();
    let client_id = grant.presented.client_id.as_str();
    let (path, limit) = (&config.paths.token, config.max_response_body);
    let upstream = service.request(path, client_id, limit);
    let form = service.form(client_id, parameters(access, grant));
    let (token, subject) = (&grant.upstream_token, grant.presented.subject());
    context.refresh(upstream, form, token, subject).await
}

/// Returns the parameters of the request. It asks for the scope and the resources of the access
/// token, if they are not those of the grant, so that the new upstream access token can do no more
/// than the one before.
fn parameters<'a, St>(
    access: &'a AccessRecord,
    grant: &'a OpenGrant<'_, St>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let binding = &grant.record.binding;
    let scope = access.scope.as_ref().map(Utf8::as_str);
    let scope = scope.filter(|scope| !scope.is_empty());
    let scope = scope.filter(|scope| binding.scope.as_ref().map(Utf8::as_str) != Some(scope));
    let resources = match access.resources == binding.resources {
        true => &[],
        false => access.resources.as_slice(),
    };
    let fixed = [
        ("grant_type", "refresh_token"),
        ("refresh_token", grant.upstream_token.as_str()),
    ];
    fixed
        .into_iter()
        .chain(scope.map(|scope| ("scope", scope)))
        .chain(resources.iter().map(|uri| ("resource", uri.as_str())))
}

/// Returns the result for an error response. An error code says that the renewal of this token is
/// not possible: the client must refresh by itself, and then learns why. Any other response is one
/// of a gateway, or of a server that is not available.
async fn refused<B: Body<Data = Bytes>>(response: Response<ResponseBody<B>>) -> Renewed {
    let status = response.status();
    // The body is in memory, within the limit for responses.
    let body = body::read(response.into_body(), usize::MAX).await;
    let response = body.ok().and_then(|body| TokenResponse::parse(body).ok());
    match error_code(response.as_ref()) {
        Some("temporarily_unavailable" | "server_error" | "slow_down") => Renewed::Unavailable,
        Some(_) if !is_temporary(status) => Renewed::Impossible,
        _ if is_temporary(status) => Renewed::Unavailable,
        _ => Renewed::Refused,
    }
}
