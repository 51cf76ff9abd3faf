//! The introspection endpoint (RFC 7662).
//!
//! The layer looks up the presented token, forwards the request with the upstream token, and writes
//! the properties of its own token into the response.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Body;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::access_token::check::{Checked, check};
use crate::access_token::renewable::UpstreamLife;
use crate::body::ResponseBody;
use crate::clock::Timestamp;
use crate::codec::DecodeError;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::token::renew;
use crate::endpoint::upstream::{self, Accept, Inner, Reading};
use crate::endpoint::walk;
use crate::epochs;
use crate::error::RefreshError;
use crate::event::EventSubject;
use crate::grant::{Record, Refusal, Standing, StoredGrant, Verdict, decide};
use crate::seal::Sealer;
use crate::store::{Store, StoreError};
use crate::token::{AccessToken, RefreshToken};
use crate::wire::client::ClientId;
use crate::wire::disclosure::Withheld;
use crate::wire::json::{self, Member};
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::cut;

const INACTIVE: &[u8] = br#"{"active":false}"#;

/// Handles an introspection request.
///
/// The inner service is called in every case: with its own token, or with a random token that was
/// never issued. It authenticates the caller, and a caller that it rejects must not learn anything
/// about a token (RFC 7662 §2.1).
pub(crate) async fn introspect<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    body: Bytes,
    form: &TokenRequest,
) -> Outcome<I::ResBody, I::Error> {
    let missing = RefreshError::InvalidRequest("the parameter token is missing");
    let token = form.get(Param::Token).ok_or(missing)?;
    let config = context.shared.config();
    let found = if let Some(token) = RefreshToken::parse(&config.prefix, token) {
        find_refresh(context, token).await?
    } else if let Some(token) =
        AccessToken::parse(&config.access_prefix, token).filter(|_| config.reference)
    {
        Box::pin(find_renewed_access(context, &token)).await?
    } else {
        return context.pass(upstream, body).await;
    };
    let (ours, secret) = match found {
        Some((ours, secret)) => (Some(ours), secret),
        None => (None, context.never_issued()?),
    };
    let subject = EventSubject::client(ours.as_ref().map(|ours| &ours.client_id));
    let reading = Reading {
        withheld: Withheld::ALL,
        ..context.reading(Some(&secret))
    };
    let call = async {
        let request = form.replace(Param::Token, &secret);
        let response = upstream.send(request, Accept::Json).await?;
        Ok(rewrite(response, reading, ours.as_ref(), &secret).await)
    };
    let limit = config.upstream_timeout();
    context
        .within(limit, RefreshError::UpstreamUnavailable, subject, call)
        .await
}

/// An active token of the layer.
struct Ours {
    client_id: ClientId,
    /// The life of the upstream access token, if the layer renews it.
    upstream: Option<UpstreamLife>,
    /// The members that replace those in the response of the inner service (RFC 7662 §2.2,
    /// draft-ietf-oauth-refresh-token-expiration §7). One without a value is removed.
    members: [(&'static str, Option<Value>); 7],
}

/// An active token and its upstream token.
type Found = Option<(Ours, Zeroizing<String>)>;

/// Looks up a refresh token. The grant never changes, even for a reused token, because a caller
/// that introspects a token does not present it.
async fn find_refresh<St: Store>(
    context: &RequestContext<St>,
    token: RefreshToken,
) -> Result<Found, RefreshError> {
    let failed = |error| context.store_failed(error, EventSubject::client(None));
    let key = token.key();
    let epochs = context.shared.epochs.current(context.store());
    let (entry, epochs) = join(context.store().get(&key), epochs).await;
    let Some(entry) = entry.map_err(failed)? else {
        return Ok(None);
    };
    let epochs = epochs.map_err(failed)?;
    let now = context.shared.now();
    let record = Record::decode(&key, &entry.tag, &entry.value)
        .map_err(|error| failed(StoreError::corrupt(error)))?;
    if record.has_ended(&epochs) {
        return Ok(None);
    }
    let record = record.at(now);
    let client_id = ClientId::try_from(record.binding.client_id.as_str())
        .map_err(|error| failed(StoreError::corrupt(error)))?;
    let presented = PresentedToken::new(context, token, &client_id);
    let grant = StoredGrant::new(&record, &entry.tag);
    let verdict = decide(grant, presented.presented(), Standing::Free, false, now);
    let current = match verdict {
        Verdict::Proceed(_) => presented.current_token(&record, &entry.tag).ok(),
        Verdict::Refuse(Refusal::Late | Refusal::Reuse) => {
            match walk::follow(&presented, &record, &entry.tag).await? {
                Some(current) => Some(current),
                None => return Ok(None),
            }
        }
        Verdict::Refuse(_) => return Ok(None),
    };
    let secret = current
        .and_then(|current| presented.unseal(&Sealer::new(current.secret()), &record))
        .ok_or_else(|| failed(StoreError::corrupt(DecodeError::Damaged)))?;
    let first = presented.token.generation() == 0;
    let scope = record.binding.scope.as_ref();
    let ours = Ours {
        client_id: client_id.clone(),
        upstream: None,
        members: [
            ("client_id", Some(client_id.as_str().into())),
            ("scope", scope.map(|scope| scope.as_str().into())),
            ("exp", Some(seconds(record.expires_at))),
            ("iat", first.then(|| seconds(record.created_at))),
            ("token_type", None),
            (
                "refresh_token_timeout",
                Some(whole(record.time_to_live(now))),
            ),
            (
                "authorization_expires_in",
                record.authorization_left(now).map(whole),
            ),
        ],
    };
    Ok(Some((ours, secret)))
}

/// Looks up a reference access token, after its upstream access token was renewed if that is due.
async fn find_renewed_access<St: Store>(
    context: &RequestContext<St>,
    token: &AccessToken,
) -> Result<Found, RefreshError> {
    let failed = |error| context.store_failed(error, EventSubject::client(None));
    let found = find_access(context, token).await.map_err(failed)?;
    let now = context.shared.now();
    let life = found.as_ref().and_then(|(ours, _)| ours.upstream);
    let Some(life) = life.filter(|life| life.is_due(now)) else {
        return Ok(found);
    };
    let patience = life.patience(context.shared.config().rotation_timeout, now);
    match renew(&context.shared, token, token.key(), patience).await {
        Renewed::Done | Renewed::Ended => find_access(context, token).await.map_err(failed),
        Renewed::Unavailable | Renewed::Refused if life.has_ended(context.shared.now()) => {
            Err(RefreshError::UpstreamUnavailable)
        }
        Renewed::Unavailable | Renewed::Refused | Renewed::Impossible => Ok(found),
    }
}

/// Looks up a reference access token.
async fn find_access<St: Store>(
    context: &RequestContext<St>,
    token: &AccessToken,
) -> Result<Found, StoreError> {
    let key = token.key();
    let grant_key = token.grant_key();
    let checked = check(
        context.store(),
        &key,
        &grant_key,
        context.shared.now(),
        &context.shared.epochs,
        epochs::MAX_AGE,
    );
    let valid = checked.await?.filter(|checked| checked.until.is_ok());
    let Some(Checked { record, .. }) = valid else {
        return Ok(None);
    };
    let secret = record.unseal(token, &key)?;
    let client_id = ClientId::try_from(record.client_id.as_str()).map_err(StoreError::corrupt)?;
    let scope = record.scope.as_ref();
    let ours = Ours {
        upstream: record.renewable.map(|renewable| renewable.life),
        members: [
            ("client_id", Some(client_id.as_str().into())),
            ("scope", scope.map(|scope| scope.as_str().into())),
            ("exp", Some(seconds(record.expires_at))),
            ("iat", Some(seconds(record.issued_at))),
            ("token_type", Some("Bearer".into())),
            ("refresh_token_timeout", None),
            ("authorization_expires_in", None),
        ],
        client_id,
    };
    Ok(Some((ours, secret)))
}

fn seconds(time: Timestamp) -> Value {
    (time.as_millis() / 1000).into()
}

fn whole(time: Duration) -> Value {
    time.as_secs().into()
}

/// Turns the response about the upstream token into one about the token of the layer. Members and
/// headers that disclose a token of the inner service are removed. Error responses are treated the
/// same for active and other tokens, so that they do not disclose which one it is. Returns `None`
/// if the response cannot be read, does not say whether the token is active, or is an error that
/// contains the upstream token.
async fn rewrite<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
    ours: Option<&Ours>,
    secret: &str,
) -> Option<Response<ResponseBody<ResBody>>> {
    if ours.is_none() && response.status().is_success() {
        return Some(inactive());
    }
    let (mut head, bytes) = upstream::read(response, reading.limit).await?;
    if !head.status.is_success() {
        return reading.harmless(head, bytes);
    }
    let ours = ours?;
    let text = std::str::from_utf8(&bytes).ok()?;
    // Text that is not JSON must not become JSON by the removal of a part.
    json::members(text).ok()?;
    let secrets = vec![Zeroizing::new(secret.to_owned())];
    let found = reading.withheld.in_json(text, secrets).ok()?;
    let body = cut(&bytes, found.cuts);
    let members = json::members(std::str::from_utf8(&body).ok()?).ok()?;
    if !is_active(&members)? {
        return Some(inactive());
    }
    reading.withheld.strip(&mut head.headers, &[secret]);
    Some(upstream::respond(head, described(&members, ours)))
}

/// Returns whether a response says that the token is active. `None` if it does not say so, or more
/// than once.
fn is_active(members: &[Member<'_>]) -> Option<bool> {
    let mut active = members
        .iter()
        .filter(|member| json::string(member.name).as_deref() == Some("active"));
    match (active.next(), active.next()) {
        (Some(member), None) => Some(member.value.get() == "true"),
        _ => None,
    }
}

/// Returns the response about an active token, with the properties of the layer's token.
fn described(members: &[Member<'_>], ours: &Ours) -> Bytes {
    let mut out = String::from(r#"{"active":true"#);
    for member in members {
        let name = json::string(member.name);
        let is_replaced = |name: &str| {
            name == "active" || ours.members.iter().any(|(replaced, _)| *replaced == name)
        };
        if !name.as_deref().is_some_and(is_replaced) {
            out.extend([",", member.name.get(), ":", member.value.get()]);
        }
    }
    for (name, value) in &ours.members {
        if let Some(value) = value {
            out.extend([",\"", *name, "\":", &value.to_string()]);
        }
    }
    out.push('}');
    out.into()
}

/// Returns the response for a token that is not active (RFC 7662 §2.2).
fn inactive<ResBody>() -> Response<ResponseBody<ResBody>> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    upstream::respond(head, Bytes::from_static(INACTIVE))
}
