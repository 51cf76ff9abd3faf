use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::runtime;
use tokio::time::sleep;
use tower_oauth_refresh::GrantKey;
use tower_oauth_refresh::store::StoreError;

use super::MOST_BYTES;
use super::code::{age, answer_handle};
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, Fresh, Used};
use crate::causes::causes;
use crate::error::OauthError;
use crate::records::{Handle, Kind};

/// The pauses between attempts to write what has become of a code.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// A code that this request has used. When the client has its tokens, it is noted which grant began
/// with it; if it gets none, whatever the reason, it can try again with the same code.
pub(super) struct Consumed(Option<Attempt>);

#[derive(Clone)]
struct Attempt {
    app: App,
    code: Handle,
    fresh: Fresh,
    /// By which the record says that it was this request.
    name: String,
}

/// The action of the middleware outside of the layer on the answer to a code.
pub(super) enum Outcome {
    /// This request has used the code: the answer of the layer is stored for the client's next
    /// attempt.
    Consumed(Consumed),
    /// The code was exchanged before: this answer replaces that of the layer. It bypasses the
    /// layer, which would take the tokens in it for the provider's.
    Repeated(String),
}

/// Carries the outcome from the handler inside the layer to the middleware outside of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Outcome>>>);

impl Slot {
    pub(super) fn consume(&self, consumed: Consumed) {
        self.put(Outcome::Consumed(consumed));
    }

    pub(super) fn repeat(&self, answer: String) {
        self.put(Outcome::Repeated(answer));
    }

    fn put(&self, outcome: Outcome) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    pub(super) fn take(&self) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It was not this request that used the code.
    pub(super) fn empty(&self) {
        if let Some(Outcome::Consumed(mut consumed)) = self.take() {
            consumed.0 = None;
        }
    }
}

impl Consumed {
    pub(super) fn new(app: &App, code: Handle, fresh: Fresh) -> Result<Self, StoreError> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes)
            .map_err(|_| StoreError::unavailable("no randomness to be had"))?;
        let name = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self(Some(Attempt {
            app: app.clone(),
            code,
            fresh,
            name,
        })))
    }

    pub(super) fn attempt(&self) -> &str {
        self.0.as_ref().map_or("", |attempt| &attempt.name)
    }

    /// Makes of the layer's answer the one that the client gets.
    pub(super) async fn settle(mut self, response: Response) -> Response {
        let Some(attempt) = self.0.clone() else {
            return response;
        };
        if !response.status().is_success() {
            // If that fails it goes on when this is dropped.
            if attempt.give_back().await.is_ok() {
                self.0 = None;
            }
            return response;
        }
        let grant = response.extensions().get::<GrantKey>().copied();
        let (head, body) = response.into_parts();
        // If this fails, dropping `self` releases the code.
        let unreadable =
            || OauthError::server_error("the token answer cannot be read").into_response();
        let Ok(body) = to_bytes(body, MOST_BYTES).await else {
            return unreadable();
        };
        let Ok(answer) = String::from_utf8(body.to_vec()) else {
            return unreadable();
        };
        let noted = attempt.note(grant, &answer).await;
        self.0 = None;
        let response = Response::from_parts(head, Body::from(body));
        match noted {
            Ok(true) => response,
            Ok(false) => OauthError::invalid_grant("the code was used before").into_response(),
            Err(error) => {
                // Better a log-in that a repeated code does not end for a while than none.
                tracing::warn!(
                    error = causes(&error),
                    "it could not be noted what a code was used for"
                );
                tokio::spawn(persist(
                    "it could not be noted what a code was used for",
                    async move || attempt.note(grant, &answer).await.map(drop),
                ));
                response
            }
        }
    }
}

/// Tries again and again, for a while.
async fn persist(failure: &'static str, write: impl AsyncFn() -> Result<(), StoreError>) {
    for pause in PAUSES {
        sleep(pause).await;
        match write().await {
            Ok(()) => return,
            Err(error) => tracing::warn!(error = causes(&error), "{failure}"),
        }
    }
}

impl Drop for Consumed {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take()
            && let Ok(runtime) = runtime::Handle::try_current()
        {
            runtime.spawn(persist("a code could not be given back", async move || {
                attempt.give_back().await
            }));
        }
    }
}

impl Attempt {
    /// Stores the answer for a repeated request, and then marks the code as used, with the grant
    /// that began with it. If the code no longer belongs to this attempt, ends the grant and
    /// returns `false`.
    ///
    /// The order matters: a request that finds the code used and no answer is late, and ends the
    /// grant.
    async fn note(&self, grant: Option<GrantKey>, answer: &str) -> Result<bool, StoreError> {
        let window = self.app.code_window;
        if !window.is_zero() {
            let handle = answer_handle(&self.code, &self.name)?;
            self.app
                .records
                .seal(Kind::CodeAnswer, &handle, &answer, window)
                .await?;
        }
        let used = Code::Used(Used {
            binding: self.fresh.binding.clone(),
            attempt: self.name.clone(),
            grant: grant.map(|grant| grant.to_string()),
        });
        while let Some(stored) = self
            .app
            .records
            .open::<Code>(Kind::Code, &self.code)
            .await?
        {
            match &stored.value {
                Code::InUse(used) if used.attempt == self.name => {}
                // An earlier write succeeded, but its confirmation was lost.
                Code::Used(used) if used.attempt == self.name => return Ok(true),
                _ => {
                    if let Some(grant) = &grant {
                        self.app.refresh.end_grant(grant).await?;
                    }
                    tracing::warn!(
                        "an authorization code was taken by another request: nothing is granted for it"
                    );
                    return Ok(false);
                }
            }
            if self
                .app
                .records
                .reseal(Kind::Code, &self.code, &stored, &used, CODE_LIFETIME)
                .await?
            {
                return Ok(true);
            }
        }
        // It is long past its time.
        Ok(true)
    }

    /// Makes the code one that nobody has used.
    async fn give_back(&self) -> Result<(), StoreError> {
        let fresh = Code::Fresh(self.fresh.clone());
        while let Some(stored) = self
            .app
            .records
            .open::<Code>(Kind::Code, &self.code)
            .await?
        {
            let left = CODE_LIFETIME.saturating_sub(age(&self.fresh));
            let ours = matches!(&stored.value, Code::InUse(used) if used.attempt == self.name);
            if left.is_zero()
                || !ours
                || self
                    .app
                    .records
                    .reseal(Kind::Code, &self.code, &stored, &fresh, left)
                    .await?
            {
                break;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Consumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumed")
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consumed(_) => "Consumed",
            Self::Repeated(_) => "Repeated",
        })
    }
}
