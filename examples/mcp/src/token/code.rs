//! The authorization code grant (`grant_type=authorization_code`).

use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::sleep;
use tower_oauth_refresh::store::StoreError;
use tower_oauth_refresh::{SessionLabel, Timestamp};

use super::answer::{self, Answer};
use super::consumed::{Consumed, Slot};
use super::need;
use crate::app::App;
use crate::authorize::{CODE_LIFETIME, Code, CodeBinding, Fresh, InUse, Used};
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::records::{Handle, Kind};

/// The time for which a request waits for another request that exchanges the same code.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause between two reads of a code that another request exchanges.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// The time after which an exchange counts as abandoned, in milliseconds.
const LONGEST_USE: u64 = 60_000;

/// Exchanges a code for the provider's token response that it stands for, and the label of the
/// session that begins.
///
/// The first request that matches the code wins. For a few seconds, a repetition of that request
/// waits for the response and gets the same one, because clients repeat a request whose connection
/// was lost. A later repetition ends the grant, because then another party may have the code and
/// the verifier. A request of another client, or with a wrong verifier, changes nothing.
pub(super) async fn exchange(
    app: &App,
    client: &Client,
    form: &Parameters,
    slot: &Slot,
) -> Result<(Answer, SessionLabel), OauthError> {
    let verifier = need(form, "code_verifier")?;
    let code: Handle = need(form, "code")?.parse().map_err(|_| no_such_code())?;
    let deadline = Instant::now() + PATIENCE;
    let [mut pause, longest_pause] = PAUSES;
    loop {
        let Some(stored) = app.records.open::<Code>(Kind::Code, &code).await? else {
            return Err(no_such_code());
        };
        check(stored.value.binding(), client, form, verifier)?;
        match &stored.value {
            Code::Fresh(fresh) => {
                let consumed = Consumed::new(app, code.clone(), fresh.clone())?;
                let used = Code::InUse(InUse {
                    binding: fresh.binding.clone(),
                    attempt: consumed.id().to_owned(),
                    since: now_ms(),
                });
                // This comes before the write: the store may have applied a write that it does not
                // confirm.
                slot.consume(consumed);
                if app
                    .records
                    .reseal(Kind::Code, &code, &stored, &used, CODE_LIFETIME)
                    .await?
                {
                    return Ok((answer(fresh)?, fresh.device.label(client)));
                }
                slot.discard();
            }
            // The instance that exchanged the code has stopped, and no client has tokens for the
            // code.
            Code::InUse(used) if now_ms().saturating_sub(used.since) > LONGEST_USE => {
                return Err(no_such_code());
            }
            Code::InUse(_) => {}
            Code::Used(used) => {
                repeat(app, &code, used, slot).await?;
                return Err(no_such_code());
            }
        }
        if Instant::now() >= deadline {
            return Err(in_use());
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest_pause);
    }
}

/// Leaves the response of the exchange in `slot` if it is still offered, and ends the grant
/// otherwise (RFC 6749 §4.1.2).
///
/// The response is offered until its entry in the store expires, whatever the clock of an instance
/// says.
async fn repeat(app: &App, code: &Handle, used: &Used, slot: &Slot) -> Result<(), OauthError> {
    let handle = answer_handle(code, &used.attempt)?;
    if let Some(answer) = app
        .records
        .open::<String>(Kind::CodeAnswer, &handle)
        .await?
    {
        slot.repeat(answer.value);
        return Ok(());
    }
    if let Some(grant) = &used.grant {
        let unreadable = |_| OauthError::server_error("a stored record is corrupt");
        app.refresh
            .end_grant(&grant.parse().map_err(unreadable)?)
            .await?;
        tracing::warn!(
            "an authorization code was used again after its retry window: ended its grant"
        );
    }
    Ok(())
}

/// Returns the handle under which the response for a code is sealed. Deriving it requires the code.
pub(super) fn answer_handle(code: &Handle, attempt: &str) -> Result<Handle, StoreError> {
    code.derive(&format!("answer to {attempt}"))
}

fn in_use() -> OauthError {
    OauthError::unavailable("another request is exchanging the code: try again later")
}

fn no_such_code() -> OauthError {
    OauthError::invalid_grant("the code is invalid, has expired or was used before")
}

/// Checks that the request comes from the client to which the code was issued. If it does not, the
/// code does not change.
fn check(
    binding: &CodeBinding,
    client: &Client,
    form: &Parameters,
    verifier: &str,
) -> Result<(), OauthError> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let right = bool::from(
        challenge
            .as_bytes()
            .ct_eq(binding.code_challenge.as_bytes()),
    );
    // RFC 6749 §4.1.3 requires the redirect URI here; OAuth 2.1 §4.1.3 omits it.
    let same_place = form
        .one("redirect_uri")?
        .is_none_or(|uri| uri == binding.redirect_uri);
    if binding.client_id != client.client_id || !right || !same_place {
        return Err(OauthError::invalid_grant(
            "the code was not issued for this request",
        ));
    }
    Ok(())
}

/// Returns the provider's token response, with its lifetimes reduced by its age.
fn answer(fresh: &Fresh) -> Result<Answer, OauthError> {
    let unreadable =
        |_| OauthError::server_error("the stored response of the identity provider is corrupt");
    let answer = serde_json::from_str(&fresh.answer).map_err(unreadable)?;
    let kept = answer::keep(&answer, &fresh.scope, fresh.user.as_ref());
    answer::finish(answer, age(fresh), &fresh.scope, kept.as_ref())
}

pub(super) fn age(fresh: &Fresh) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(fresh.received_at))
}

fn now_ms() -> u64 {
    Timestamp::from(SystemTime::now()).as_millis()
}
