//! `grant_type=authorization_code`.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tower_oauth_refresh::Timestamp;

use super::answer::{self, Answer};
use super::consumed::{Consumed, Slot};
use super::need;
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, Fresh, InUse};
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::records::{Handle, Kind, Stored};

/// How often a code is looked at again that others change.
const ATTEMPTS: usize = 8;

/// After so many milliseconds it is known what has become of the use of a code, if it ever will be.
const LONGEST_USE: u64 = 60_000;

/// Exchanges a code for the token answer of the provider that it stands for.
pub(super) async fn exchange(app: &App, client: &Client, form: &Parameters, slot: &Slot) -> Result<Answer, OauthError> {
    let verifier = need(form, "code_verifier")?;
    let code: Handle = need(form, "code")?.parse().map_err(|_| no_such_code())?;
    for _ in 0..ATTEMPTS {
        let Some(stored) = app.records.open::<Code>(Kind::Code, &code).await? else { return Err(no_such_code()) };
        let Code::Fresh(fresh) = &stored.value else {
            match used_again(app, &code, &stored).await? {
                Some(error) => return Err(error),
                None => continue,
            }
        };
        check(fresh, client, form, verifier)?;
        let consumed = Consumed::new(app, code.clone(), fresh.clone())?;
        let used = Code::InUse(InUse { attempt: consumed.attempt().to_owned(), since: now_ms(), again: false });
        // Settled with the answer of the layer, for the store may have written what it does not confirm.
        slot.fill(consumed);
        if app.records.reseal(Kind::Code, &code, &stored, &used, CODE_LIFETIME).await? {
            return answer(fresh);
        }
        slot.empty();
    }
    Err(in_use())
}

fn in_use() -> OauthError {
    OauthError::unavailable("the code is in use")
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
    Duration::from_millis(now_ms().saturating_sub(fresh.received_at))
}

fn now_ms() -> u64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

/// Ends the grant of a code that is used once more (RFC 6749 §4.1.2), or sees to it that it is ended when it is known.
/// None if the code has changed in the meantime.
async fn used_again(app: &App, code: &Handle, stored: &Stored<Code>) -> Result<Option<OauthError>, OauthError> {
    match &stored.value {
        Code::Fresh(_) | Code::Used { grant: None } => Ok(Some(no_such_code())),
        Code::Used { grant: Some(grant) } => {
            let unreadable = |_| OauthError::server_error("a record cannot be read");
            app.refresh.end_grant(&grant.parse().map_err(unreadable)?).await?;
            tracing::warn!("an authorization code was used twice: what was granted for it has ended");
            Ok(Some(no_such_code()))
        }
        // Its instance has died: nobody has got anything for it.
        Code::InUse(InUse { since, .. }) if now_ms().saturating_sub(*since) > LONGEST_USE => Ok(Some(no_such_code())),
        Code::InUse(InUse { again: true, .. }) => Ok(Some(in_use())),
        Code::InUse(used) => {
            let used = Code::InUse(InUse { again: true, ..used.clone() });
            let marked = app.records.reseal(Kind::Code, code, stored, &used, CODE_LIFETIME).await?;
            Ok(marked.then(in_use))
        }
    }
}
