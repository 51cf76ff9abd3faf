use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::runtime;
use tokio::time::sleep;
use tower_oauth_refresh::GrantKey;
use tower_oauth_refresh::store::StoreError;

use super::code::age;
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, Fresh};
use crate::error::{OauthError, causes};
use crate::records::{Handle, Kind};

/// The pauses between attempts to write what has become of a code.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How many of them a client is made to wait for.
const WAITED_FOR: usize = 3;

/// A code that this request has used. When the client has its tokens, it is noted which grant began with it; if it gets
/// none, whatever the reason, it can try again with the same code.
pub(super) struct Consumed(Option<Attempt>);

#[derive(Clone)]
struct Attempt {
    app: App,
    code: Handle,
    fresh: Fresh,
    /// By which the record says that it was this request.
    name: String,
}

/// Where the handler leaves it, within the layer, for the middleware outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Consumed>>>);

impl Slot {
    pub(super) fn fill(&self, consumed: Consumed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(consumed);
    }

    pub(super) fn take(&self) -> Option<Consumed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Consumed {
    pub(super) fn new(app: &App, code: Handle, fresh: Fresh) -> Result<Self, StoreError> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes).map_err(|_| StoreError::unavailable("no randomness to be had"))?;
        let name = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self(Some(Attempt { app: app.clone(), code, fresh, name })))
    }

    pub(super) fn attempt(&self) -> &str {
        self.0.as_ref().map_or("", |attempt| &attempt.name)
    }

    /// It was not this request that used it.
    pub(super) fn forget(mut self) {
        self.0 = None;
    }

    /// Makes of the layer's answer the one that the client gets.
    pub(super) async fn settle(mut self, response: Response) -> Response {
        if !response.status().is_success() {
            // Dropping it gives the code back.
            return response;
        }
        let Some(grant) = response.extensions().get::<GrantKey>().copied() else {
            // There is no grant to be ended later.
            self.0 = None;
            return response;
        };
        let Some(attempt) = self.0.clone() else { return response };
        for pause in PAUSES.into_iter().take(WAITED_FOR) {
            sleep(pause).await;
            match attempt.note(&grant).await {
                Ok(true) => {
                    self.0 = None;
                    return response;
                }
                Ok(false) => {
                    self.0 = None;
                    return OauthError::invalid_grant("the code was used before").into_response();
                }
                Err(error) => tracing::warn!(error = causes(&error), "it could not be noted what a code was used for"),
            }
        }
        // Better a log-in that a repeated code does not end than none.
        self.0 = None;
        response
    }
}

impl Drop for Consumed {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take()
            && let Ok(runtime) = runtime::Handle::try_current()
        {
            runtime.spawn(attempt.give_back());
        }
    }
}

impl Attempt {
    /// Notes the grant; false if the code has been used once more in the meantime, and the grant has ended for it.
    async fn note(&self, grant: &GrantKey) -> Result<bool, StoreError> {
        let Some(stored) = self.app.records.open::<Code>(Kind::Code, &self.code).await? else { return Ok(true) };
        if matches!(&stored.value, Code::Used { attempt, .. } if *attempt == self.name) {
            let used = Code::Used { attempt: self.name.clone(), grant: Some(grant.to_string()) };
            if self.app.records.reseal(Kind::Code, &self.code, &stored, &used, CODE_LIFETIME).await? {
                return Ok(true);
            }
        }
        self.app.refresh.end_grant(grant).await?;
        Ok(false)
    }

    /// Makes the code one that nobody has used.
    async fn give_back(self) {
        for pause in PAUSES {
            sleep(pause).await;
            match self.try_give_back().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(error = causes(&error), "a code could not be given back"),
            }
        }
    }

    async fn try_give_back(&self) -> Result<(), StoreError> {
        let left = CODE_LIFETIME.saturating_sub(age(&self.fresh));
        let Some(stored) = self.app.records.open::<Code>(Kind::Code, &self.code).await? else { return Ok(()) };
        if left.is_zero() || !matches!(&stored.value, Code::Used { attempt, .. } if *attempt == self.name) {
            return Ok(());
        }
        let fresh = Code::Fresh(self.fresh.clone());
        self.app.records.reseal(Kind::Code, &self.code, &stored, &fresh, left).await.map(drop)
    }
}

impl fmt::Debug for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumed")
    }
}
