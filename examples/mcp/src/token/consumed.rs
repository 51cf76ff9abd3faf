//! The use of an authorization code: a request consumes the code that it exchanges, and then marks
//! it as used or releases it.
//!
//! [`code`](super::code) decides inside the refresh layer, before the layer has replaced the
//! tokens. The middleware in [`outside`](super::outside) acts on the layer's response. A [`Slot`]
//! takes the outcome from one to the other.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use server_common::causes::causes;
use tokio::runtime;
use tokio::time::sleep;
use tower_oauth_refresh::GrantKey;
use tower_oauth_refresh::store::StoreError;

use super::MOST_BYTES;
use super::code::{age, answer_handle};
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, Fresh, Used};
use crate::error::OauthError;
use crate::records::{Handle, Kind, random};

/// The pauses between attempts to update the record of a code.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

const NOT_MARKED: &str =
    "could not mark a code as used: reuse is not detected until a retry succeeds";

/// A code that this request has consumed. If the exchange succeeds, the record of the code names
/// the grant that began with it. If it fails for any reason, the code is released, so that the
/// client can try again with it.
pub(super) struct Consumed(Option<Box<Attempt>>);

#[derive(Clone)]
struct Attempt {
    app: App,
    code: Handle,
    fresh: Fresh,
    /// The random ID of this request in the record of the code.
    id: String,
}

/// The outcome of a request with a code, from which the middleware around the layer makes the
/// response.
pub(super) enum Outcome {
    /// This request has consumed the code. The client gets the layer's response, which is stored
    /// for a repeated request.
    Consumed(Consumed),
    /// The code was exchanged before. This response replaces the layer's response. It bypasses the
    /// layer, which would mistake the tokens in it for the provider's.
    Repeated(String),
}

/// Passes the outcome from the handler inside the layer to the middleware around it.
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

    /// Discards the outcome without releasing the code, because another request has consumed it.
    pub(super) fn discard(&self) {
        if let Some(Outcome::Consumed(mut consumed)) = self.take() {
            consumed.0 = None;
        }
    }
}

impl Consumed {
    /// Returns a new attempt to exchange `code`.
    ///
    /// # Errors
    ///
    /// If the system's random number generator failed.
    pub(super) fn new(app: &App, code: Handle, fresh: Fresh) -> Result<Self, StoreError> {
        let bytes: [u8; 12] = random()?;
        let id = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self(Some(Box::new(Attempt {
            app: app.clone(),
            code,
            fresh,
            id,
        }))))
    }

    /// Returns the ID of this request in the record of the code.
    pub(super) fn id(&self) -> &str {
        self.0.as_ref().map_or("", |attempt| &attempt.id)
    }

    /// Marks the code as used if the layer's response is a success, and otherwise releases it.
    /// Returns the response for the client.
    pub(super) async fn finish(mut self, response: Response) -> Response {
        let Some(attempt) = self.0.clone() else {
            return response;
        };
        if !response.status().is_success() {
            // If this fails, dropping `self` tries again.
            if attempt.release().await.is_ok() {
                self.0 = None;
            }
            return response;
        }
        let grant = response.extensions().get::<GrantKey>().copied();
        let (head, body) = response.into_parts();
        // If this fails, dropping `self` releases the code.
        let unreadable =
            || OauthError::server_error("the token response could not be read").into_response();
        let Ok(body) = to_bytes(body, MOST_BYTES).await else {
            return unreadable();
        };
        let Ok(answer) = String::from_utf8(body.to_vec()) else {
            return unreadable();
        };
        let marked = attempt.mark_used(grant, &answer).await;
        self.0 = None;
        let response = Response::from_parts(head, Body::from(body));
        match marked {
            Ok(true) => response,
            Ok(false) => OauthError::invalid_grant("the code was used before").into_response(),
            Err(error) => {
                // The client gets its tokens anyway. Until the update succeeds, a repeated code
                // does not end the grant.
                tracing::warn!(error = causes(&error), "{NOT_MARKED}");
                tokio::spawn(retry(NOT_MARKED, async move || {
                    attempt.mark_used(grant, &answer).await.map(drop)
                }));
                response
            }
        }
    }
}

/// Tries a write after each of [`PAUSES`], until it succeeds. Logs `failure` after each failed
/// attempt.
async fn retry(failure: &'static str, write: impl AsyncFn() -> Result<(), StoreError>) {
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
            runtime.spawn(retry(
                "could not release a code: its client cannot use it until a retry succeeds",
                async move || attempt.release().await,
            ));
        }
    }
}

impl Attempt {
    /// Stores the response for repeated requests, and then marks the code as used, with the grant
    /// that began with it. If the code no longer belongs to this attempt, ends the grant and
    /// returns `false`.
    ///
    /// The order matters: a request that finds a used code without a stored response is too late,
    /// and ends the grant.
    async fn mark_used(&self, grant: Option<GrantKey>, answer: &str) -> Result<bool, StoreError> {
        let window = self.app.code_window;
        if !window.is_zero() {
            let handle = answer_handle(&self.code, &self.id)?;
            self.app
                .records
                .seal(Kind::CodeAnswer, &handle, &answer, window)
                .await?;
        }
        let used = Code::Used(Used {
            binding: self.fresh.binding.clone(),
            attempt: self.id.clone(),
            grant: grant.map(|grant| grant.to_string()),
        });
        while let Some(stored) = self
            .app
            .records
            .open::<Code>(Kind::Code, &self.code)
            .await?
        {
            match &stored.value {
                Code::InUse(used) if used.attempt == self.id => {}
                // An earlier write succeeded, but its confirmation was lost.
                Code::Used(used) if used.attempt == self.id => return Ok(true),
                _ => {
                    if let Some(grant) = &grant {
                        self.app.refresh.end_grant(grant).await?;
                    }
                    tracing::warn!(
                        "another request took over a code: ended the grant of this request"
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
        // The code has expired.
        Ok(true)
    }

    /// Releases the code, so that it can be used again until it expires.
    async fn release(&self) -> Result<(), StoreError> {
        let fresh = Code::Fresh(self.fresh.clone());
        while let Some(stored) = self
            .app
            .records
            .open::<Code>(Kind::Code, &self.code)
            .await?
        {
            let left = CODE_LIFETIME.saturating_sub(age(&self.fresh));
            let ours = matches!(&stored.value, Code::InUse(used) if used.attempt == self.id);
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
