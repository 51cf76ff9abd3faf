use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use zeroize::Zeroizing;

use super::request::RefreshRequest;
use crate::body::ResponseBody;
use crate::clock::Timestamp;
use crate::endpoint::context::RequestContext;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer};
use crate::store::{ClaimTag, SidecarName, Store};
use crate::token::RefreshToken;
use crate::wire::token_response::TokenResponse;

const FORMAT: u8 = 1;

/// Returns the sidecar name of the stored answer that contains the token with this hash.
///
/// The name depends on the new token, not on the one that was rotated away, so that an answer
/// written by a rotation that lost the race is never found.
pub(crate) fn name(next: &ClaimTag) -> SidecarName {
    let mut name = [0; 16];
    name.copy_from_slice(&next.as_bytes()[16..]);
    SidecarName::new(name)
}

/// Seals an answer. Only the token that the answer contains and an equal request open it.
pub(crate) fn seal(
    sealer: &Sealer,
    nonce: SealNonce,
    context: Context<'_>,
    request: &RefreshRequest<'_>,
    granted: &Granted,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<u8>, SealError> {
    let content_type = granted
        .head
        .headers
        .get(CONTENT_TYPE)
        .map_or(&[][..], HeaderValue::as_bytes);
    let len = u16::try_from(content_type.len()).map_err(|_| SealError)?;
    let mut head = [0; 13];
    let mut rest = &mut head[..];
    rest.put_u8(FORMAT);
    rest.put_u64(now.as_millis());
    rest.put_u16(granted.head.status.as_u16());
    rest.put_u16(len);
    let parts = [&head, content_type, body];
    sealer.seal_parts(nonce, context, &request.terms(), &parts)
}

/// Opens an answer that [`seal`] has sealed. Returns it, and its body with the lifetimes reduced by
/// the age of the answer.
pub(crate) fn open(
    sealer: &Sealer,
    context: Context<'_>,
    request: &RefreshRequest<'_>,
    sealed: &[u8],
    now: Timestamp,
) -> Result<(Granted, Bytes), SealError> {
    let message = sealer.open(context, &request.terms(), sealed)?;
    let (sent_at, granted) = read(&message).ok_or(SealError)?;
    let aged = granted.answer.aged(now.saturating_since(sent_at));
    Ok((granted, aged))
}

fn read(mut message: &[u8]) -> Option<(Timestamp, Granted)> {
    if message.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let sent_at = Timestamp::from_millis(message.try_get_u64().ok()?);
    let status = StatusCode::from_u16(message.try_get_u16().ok()?).ok()?;
    let len = message.try_get_u16().ok()?.into();
    let (content_type, body) = message.split_at_checked(len)?;
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    if !content_type.is_empty() {
        head.headers
            .insert(CONTENT_TYPE, HeaderValue::from_bytes(content_type).ok()?);
    }
    let answer = TokenResponse::parse(Bytes::from_owner(Zeroizing::new(body.to_vec()))).ok()?;
    Some((
        sent_at,
        Granted {
            head,
            answer,
            id_token: None,
        },
    ))
}

/// The result of looking for the stored answer of the last rotation.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
pub(crate) enum Answer {
    /// The stored answer is for this request.
    Opened(Granted, Bytes),
    /// The stored answer is for another credential, scope or resource.
    Different,
    /// There is no stored answer.
    Gone,
}

/// Reads the stored answer of the last rotation. `current` is the token in that answer.
pub(crate) async fn find<St: Store>(
    context: &RequestContext<St>,
    presented: &PresentedToken<'_>,
    request: &RefreshRequest<'_>,
    current: &RefreshToken,
) -> Result<Answer, RefreshError> {
    let name = name(&current.hash());
    let found = context.store().sidecar(&presented.key, &name).await;
    let found = found.map_err(|error| context.store_failed(error, presented.subject()))?;
    let Some(sealed) = found else {
        return Ok(Answer::Gone);
    };
    let sealer = Sealer::new(current.secret());
    let bound_to = presented.context(Purpose::Replay);
    let opened = open(&sealer, bound_to, request, &sealed, context.shared.now());
    Ok(opened.map_or(Answer::Different, |(granted, body)| {
        Answer::Opened(granted, body)
    }))
}

/// Emits the event of a replay and returns the stored answer.
pub(crate) fn respond<St: Store, ResBody>(
    context: &RequestContext<St>,
    presented: &PresentedToken<'_>,
    granted: Granted,
    body: Bytes,
) -> Response<ResponseBody<ResBody>> {
    context.emit(EventKind::Replayed, presented.subject());
    granted.respond_for(&presented.key, body)
}
