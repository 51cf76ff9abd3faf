//! Revokes the newest upstream token of a grant that the layer has ended without its client.
//!
//! Only the client can open the upstream token, except with the
//! [`revocation_key`](crate::RefreshLayerBuilder::revocation_key). [`revoke`] opens it with that
//! key and sends it to the inner service in a background task, so that the call that ended the
//! grant neither waits nor fails. The task exists only in the memory of this process.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use tower::BoxError;
use tracing::{Instrument as _, Span};
use zeroize::Zeroizing;

use crate::cas;
use crate::endpoint::direct::DirectService;
use crate::endpoint::state::State;
use crate::endpoint::upstream::{Accept, Inner as _, is_temporary};
use crate::event::{EventKind, EventSubject};
use crate::grant::Record;
use crate::revocation_key::RevocationKey;
use crate::seal::{Context, Purpose};
use crate::store::{Entry, Key, Store};
use crate::wire::client::ClientId;

/// The time after which a revocation is not tried again.
const PATIENCE: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The reason why the inner service has not revoked a token.
#[derive(Debug, thiserror::Error)]
enum RevocationError {
    #[error(
        "the upstream token was stored without the revocation key, or with another one, so it stays valid at the inner service until it expires"
    )]
    Unopened,
    #[error("the credentials of upstream_revocation are not those of this client")]
    NotCovered,
    #[error("too many revocations are waiting for the inner service")]
    TooMany,
    #[error("the inner service responded with status {0}")]
    Status(StatusCode),
    #[error("the inner service did not respond in time")]
    TimedOut,
    #[error("the request to the inner service failed: {0}")]
    Failed(BoxError),
}

impl RevocationError {
    /// Returns whether the next attempt may succeed. RFC 7009 §2.2.1 asks clients to retry after
    /// 503.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Status(status) => is_temporary(*status),
            Self::TimedOut | Self::Failed(_) => true,
            Self::Unopened | Self::NotCovered | Self::TooMany => false,
        }
    }
}

/// Removes a grant that was ended with others, and revokes its upstream token. An epoch names no
/// grants, so this is done when a client presents a token of one. Does nothing if the layer has no
/// revocation key.
pub(crate) async fn end<St: Store>(shared: &Arc<State<St>>, key: &Key, entry: Entry) {
    if shared.config().revocation_key.is_none() {
        return;
    }
    match cas::remove(shared.store(), key, entry).await {
        Ok(removed) => revoke_entry(shared, key, removed),
        Err(error) => {
            tracing::debug!(%error, grant = ?key, "failed to remove a grant that was ended with others");
        }
    }
}

/// Revokes the upstream token of a grant whose entry was removed, if there was one. The request
/// that has removed it calls this, with the entry that it has removed: a rotation may have changed
/// the entry that it had read before. If two requests remove it at once, the token may be revoked
/// twice, which is safe.
pub(crate) fn revoke_entry<St: Store>(shared: &Arc<State<St>>, key: &Key, removed: Option<Entry>) {
    // An entry that cannot be read has no upstream token.
    if let Some(entry) = removed
        && let Ok(record) = Record::decode(key, &entry.tag, &entry.value)
    {
        revoke(shared, key, &record);
    }
}

/// Revokes the upstream token in this record of a grant that has ended, in the background. Does
/// nothing if the layer has no revocation key.
pub(crate) fn revoke<St: Store>(shared: &Arc<State<St>>, key: &Key, record: &Record) {
    let config = shared.config();
    let (Some(revocation_key), Some(service)) =
        (&config.revocation_key, &config.upstream_revocation)
    else {
        return;
    };
    let revocation = Revocation {
        shared: Arc::clone(shared),
        service: service.clone(),
        key: *key,
        record: record.clone(),
        started: Instant::now(),
    };
    let opened = revocation.open(revocation_key);
    let permit = shared.revocations.take();
    let ready = opened.and_then(|token| Ok((token, permit.ok_or(RevocationError::TooMany)?)));
    match ready {
        Ok((token, permit)) => {
            tokio::spawn(revocation.run(token, permit));
        }
        Err(error) => revocation.emit(Err(error)),
    }
}

/// The revocation of the upstream token of one grant.
struct Revocation<St> {
    shared: Arc<State<St>>,
    service: DirectService,
    key: Key,
    record: Record,
    started: Instant,
}

impl<St: Store> Revocation<St> {
    fn client_id(&self) -> &str {
        self.record.binding.client_id.as_str()
    }

    /// Opens the upstream token, if the layer can authenticate as its client.
    fn open(&self, key: &RevocationKey) -> Result<Zeroizing<String>, RevocationError> {
        let record = &self.record;
        let credentials = &self.service.credentials;
        if !credentials.cover(self.client_id(), record.authenticated) {
            return Err(RevocationError::NotCovered);
        }
        let revocable = record.revocable.as_ref().ok_or(RevocationError::Unopened)?;
        let context = Context::new(Purpose::Revocation, &self.key, self.client_id());
        key.open(context, &record.sealed, revocable)
            .map_err(|_| RevocationError::Unopened)
    }

    /// Tries until the inner service has revoked or refused, and emits the event of the outcome.
    ///
    /// A shutdown waits for an attempt, the first one included, but not for a pause.
    fn run(
        self,
        token: Zeroizing<String>,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + Send {
        let mut in_flight = self.shared.in_flight.token();
        let mut span = Span::current();
        async move {
            let _permit = permit;
            let mut pause = FIRST_PAUSE;
            let outcome = loop {
                // Retries take minutes, and the span of the request would stay open for as long.
                let span = mem::replace(&mut span, Span::none());
                let attempt = self.attempt(&token).instrument(span);
                let outcome = timeout(self.shared.config().upstream_timeout(), attempt)
                    .await
                    .unwrap_or(Err(RevocationError::TimedOut));
                match outcome {
                    Err(error)
                        if error.is_temporary() && self.started.elapsed() + pause < PATIENCE =>
                    {
                        tracing::debug!(%error, grant = ?self.key, "failed to revoke an upstream token, trying again");
                    }
                    outcome => break outcome,
                }
                drop(in_flight);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                in_flight = self.shared.in_flight.token();
            };
            self.emit(outcome);
            drop(in_flight);
        }
    }

    /// Sends the token to the revocation endpoint of the inner service (RFC 7009 §2.1).
    async fn attempt(&self, token: &Zeroizing<String>) -> Result<(), RevocationError> {
        // Waiting counts as a part of the attempt, so that a shutdown waits for one time limit even
        // if the inner service hangs.
        let _permit = self.shared.revoking.acquire().await;
        let (config, service) = (self.shared.config(), &self.service);
        let client_id = self.client_id();
        let path = &config.paths.revocation;
        let request = service.request(path, client_id, config.max_response_body);
        let parameters = [
            ("token", token.as_str()),
            ("token_type_hint", "refresh_token"),
        ];
        let form = service.form(client_id, parameters);
        let response = request.send(form, Accept::Any).await;
        let status = response.map_err(RevocationError::Failed)?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(RevocationError::Status(status)),
        }
    }

    /// Emits the event of the outcome.
    fn emit(&self, outcome: Result<(), RevocationError>) {
        let client_id = ClientId::try_from(self.client_id()).ok();
        let generation = Some(self.record.generation);
        let subject = EventSubject::grant(client_id.as_ref(), &self.key, generation);
        let (shared, elapsed) = (&self.shared, self.started.elapsed());
        match outcome {
            Ok(()) => shared.emit(EventKind::UpstreamRevoked, subject, elapsed),
            Err(error) => {
                let kind = EventKind::UpstreamRevocationFailed;
                shared.emit_with_cause(kind, subject, elapsed, Some(&error));
            }
        }
    }
}
