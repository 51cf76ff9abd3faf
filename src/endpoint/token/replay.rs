use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use zeroize::Zeroizing;

use super::request::ClientRequest;
use crate::clock::Timestamp;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::upstream::Granted;
use crate::error::RefreshError;
use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer};
use crate::store::{ClaimTag, SidecarName, Store};
use crate::token::RefreshToken;
use crate::wire::token_response::TokenResponse;

const FORMAT: u8 = 1;

/// Returns the sidecar name of the stored answer that contains the token with this hash.
///
/// The name depends on the new token, not on the one that was rotated away, so that a response
/// written by a rotation that lost the race is never found.
pub(crate) fn name(next: &ClaimTag) -> SidecarName {
    let mut name = [0; 16];
    name.copy_from_slice(&next.as_bytes()[16..]);
    SidecarName::new(name)
}

/// Seals a response. Only the token that the response contains and an equal request open it.
pub(crate) fn seal(
    sealer: &Sealer,
    nonce: SealNonce,
    context: Context<'_>,
    request: &ClientRequest<'_>,
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

/// Reads the stored answer of the last rotation, if there is one for this request: with the same
/// credential, scope and resources. `current` is the token in that response. Returns the response,
/// and its body with the lifetimes reduced by the age of the response.
pub(crate) async fn find<St: Store>(
    presented: &PresentedToken<'_, St>,
    request: &ClientRequest<'_>,
    current: &RefreshToken,
) -> Result<Option<(Granted, Bytes)>, RefreshError> {
    let context = presented.context;
    let name = name(&current.hash());
    let found = context.store().sidecar(&presented.key, &name).await;
    let Some(sealed) = found.map_err(|error| presented.store_failed(error))? else {
        return Ok(None);
    };
    let sealer = Sealer::new(current.secret());
    let sealed_for = presented.sealed_for(Purpose::Replay);
    let message = sealer.open(sealed_for, &request.terms(), &sealed).ok();
    Ok(message.and_then(|message| read(&message, context.shared.now())))
}

/// Reads a response that [`seal`] has sealed.
fn read(mut message: &[u8], now: Timestamp) -> Option<(Granted, Bytes)> {
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
    let response = TokenResponse::parse(Bytes::from_owner(Zeroizing::new(body.to_vec()))).ok()?;
    let aged = response.aged(now.saturating_since(sent_at));
    let id_token = None;
    let granted = Granted {
        head,
        response,
        id_token,
    };
    Some((granted, aged))
}
