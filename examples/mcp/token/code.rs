//! `grant_type=authorization_code`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::{self, Answer};
use super::consumed::{Consumed, Slot};
use super::need;
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, Fresh};
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::records::{Handle, Kind, Stored};

/// How often a code is looked at again that others change.
const ATTEMPTS: usize = 8;

/// Exchanges a code for the token answer of the provider that it stands for.
pub(super) async fn exchange(
    app: &App,
    client: &Client,
    form: &Parameters,
    slot: Option<&Slot>,
) -> Result<Answer, OauthError> {
    let verifier = need(form, "code_verifier")?;
    let code: Handle = need(form, "code")?.parse().map_err(|_| no_such_code())?;
    for _ in 0..ATTEMPTS {
        let Some(stored) = app.records.open::<Code>(Kind::Code, &code).await? else { return Err(no_such_code()) };
        let Code::Fresh(fresh) = &stored.value else {
            if used_again(app, &code, &stored).await? {
                return Err(no_such_code());
            }
            continue;
        };
        check(fresh, client, form, verifier)?;
        let consumed = Consumed::new(app, code.clone(), fresh.clone())?;
        let used = Code::Used { attempt: consumed.attempt().to_owned(), grant: None };
        let done = app.records.reseal(Kind::Code, &code, &stored, &used, CODE_LIFETIME).await;
        match (done, slot) {
            (Ok(false), _) => consumed.forget(),
            // It is settled with the answer of the layer; also where the store may have written what it did not confirm.
            (Ok(true), Some(slot)) => {
                slot.fill(consumed);
                return answer(fresh);
            }
            (Ok(true), None) => return answer(fresh),
            (Err(error), _) => return Err(error.into()),
        }
    }
    Err(OauthError::unavailable("the code is in use"))
}

fn no_such_code() -> OauthError {
    OauthError::invalid_grant("the code is invalid, expired or was used before")
}

/// Whether the request may use the code. A wrong one leaves it to whom it belongs.
fn check(fresh: &Fresh, client: &Client, form: &Parameters, verifier: &str) -> Result<(), OauthError> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let right = bool::from(challenge.as_bytes().ct_eq(fresh.code_challenge.as_bytes()));
    // OAuth 2.1 §4.1.3 has no redirect URI here, RFC 6749 §4.1.3 has.
    let same_place = form.one("redirect_uri")?.is_none_or(|uri| uri == fresh.redirect_uri);
    if fresh.client_id != client.client_id || !right || !same_place {
        return Err(OauthError::invalid_grant("the code was not issued for this request"));
    }
    Ok(())
}

/// The provider's answer, as old as it is.
fn answer(fresh: &Fresh) -> Result<Answer, OauthError> {
    let unreadable = |_| OauthError::server_error("the answer of the identity provider cannot be read");
    let answer = serde_json::from_str(&fresh.answer).map_err(unreadable)?;
    let kept = answer::keep(&answer, &fresh.scope);
    answer::finish(answer, age(fresh), &fresh.scope, kept.as_ref())
}

pub(super) fn age(fresh: &Fresh) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(fresh.received_at))
}

/// Ends the grant of a code that is used once more (RFC 6749 §4.1.2), or sees to it that it is ended when it is known;
/// whether that could be done.
async fn used_again(app: &App, code: &Handle, stored: &Stored<Code>) -> Result<bool, OauthError> {
    match &stored.value {
        Code::Fresh(_) => return Ok(false),
        Code::Replayed => return Ok(true),
        Code::Used { grant: None, .. } => {
            if !app.records.reseal(Kind::Code, code, stored, &Code::Replayed, CODE_LIFETIME).await? {
                return Ok(false);
            }
        }
        Code::Used { grant: Some(grant), .. } => {
            let unreadable = |_| OauthError::server_error("a record cannot be read");
            app.refresh.end_grant(&grant.parse().map_err(unreadable)?).await?;
        }
    }
    tracing::warn!("an authorization code was used twice: what was granted for it has ended");
    Ok(true)
}
