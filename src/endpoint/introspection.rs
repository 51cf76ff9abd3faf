//! The introspection endpoint (RFC 7662).
//!
//! The layer looks up the presented token, forwards the request with the upstream token, and writes
//! the properties of its own token into the response.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;
use zeroize::Zeroizing;

use crate::access_token::check::{Checked, check};
use crate::access_token::renewable::UpstreamLife;
use crate::body::ResponseBody;
use crate::clock::Timestamp;
use crate::codec::{DecodeError, Utf8};
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::token::renew;
use crate::endpoint::upstream::{self, Accept, Inner};
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
use crate::wire::json;
use crate::wire::token_request::{Param, TokenRequest};
use crate::wire::token_response::cut;

/// The members that are replaced by what the layer knows (RFC 7662 §2.2,
/// draft-ietf-oauth-refresh-token-expiration §7).
const REPLACED: [&str; 7] = [
    "client_id",
    "scope",
    "exp",
    "iat",
    "token_type",
    "refresh_token_timeout",
    "authorization_expires_in",
];

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
    let call = async {
        let request = form.replace(Param::Token, &secret);
        let response = upstream.send(request, Accept::Json).await?;
        Ok(rewrite(response, config.max_response_body, ours.as_ref(), &secret).await)
    };
    let limit = config.upstream_timeout();
    context
        .within(limit, RefreshError::UpstreamUnavailable, subject, call)
        .await
}

/// The properties of an active token of the layer. They replace those in the response of the inner
/// service.
struct Ours {
    client_id: ClientId,
    scope: Option<Utf8>,
    expires_at: Timestamp,
    /// The life of the upstream access token, if the layer renews it.
    upstream: Option<UpstreamLife>,
    issued_at: Option<Timestamp>,
    token_type: Option<&'static str>,
    /// The time until a refresh token expires; `None` for an access token.
    timeout: Option<Duration>,
    /// The time until its grant ends even if it is rotated, if there is such an end.
    authorization: Option<Duration>,
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
    let presented = PresentedToken::new(token, &client_id);
    let grant = StoredGrant {
        record: &record,
        current: &entry.tag,
    };
    let verdict = decide(grant, presented.presented(), Standing::Free, false, now);
    let current = match verdict {
        Verdict::Proceed(_) => presented.current_token(&record, &entry.tag).ok(),
        Verdict::Refuse(Refusal::Late | Refusal::Reuse) => {
            match walk::follow(context, &presented, &record, &entry.tag).await? {
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
    let ours = Ours {
        scope: record.binding.scope.clone(),
        expires_at: record.expires_at,
        upstream: None,
        issued_at: first.then_some(record.created_at),
        token_type: None,
        timeout: Some(record.time_to_live(now)),
        authorization: record.authorization_left(now),
        client_id: client_id.clone(),
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
    let Checked::Alive { record, .. } = check(
        context.store(),
        &key,
        &token.grant_key(),
        context.shared.now(),
        &context.shared.epochs,
        epochs::MAX_AGE,
    )
    .await?
    else {
        return Ok(None);
    };
    let secret = record.unseal(token, &key)?;
    let ours = Ours {
        client_id: ClientId::try_from(record.client_id.as_str()).map_err(StoreError::corrupt)?,
        scope: record.scope,
        expires_at: record.expires_at,
        upstream: record.renewable.map(|renewable| renewable.life),
        issued_at: Some(record.issued_at),
        token_type: Some("Bearer"),
        timeout: None,
        authorization: None,
    };
    Ok(Some((ours, secret)))
}

/// Turns the response about the upstream token into one about the token of the layer. Error
/// responses are treated the same for active and other tokens, so that they do not disclose which
/// one it is. Returns `None` if the response cannot be read, or is an error that contains the
/// upstream token.
async fn rewrite<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    limit: usize,
    ours: Option<&Ours>,
    secret: &str,
) -> Option<Response<ResponseBody<ResBody>>> {
    if ours.is_none() && response.status().is_success() {
        return Some(inactive());
    }
    let (mut head, bytes) = upstream::read(response, limit).await?;
    if !head.status.is_success() {
        let harmless = !Withheld::ALL.discloses(&head.headers, &bytes, &[secret]);
        return harmless.then(|| Response::from_parts(head, ResponseBody::full(bytes)));
    }
    let Said::Active(body) = said(&bytes, ours?, secret)? else {
        return Some(inactive());
    };
    Withheld::ALL.strip(&mut head.headers, &[Zeroizing::new(secret.to_owned())]);
    Some(upstream::respond(head, body))
}

/// The content of an introspection response.
enum Said {
    Inactive,
    /// The response body, with the properties of the layer's token.
    Active(Bytes),
}

/// Parses a response. Returns `None` if it does not say whether the token is active.
///
/// Members that disclose a token of the inner service are removed.
fn said(body: &[u8], ours: &Ours, secret: &str) -> Option<Said> {
    let text = std::str::from_utf8(body).ok()?;
    json::members(text).ok()?;
    let found = Withheld::ALL
        .in_json(text, vec![Zeroizing::new(secret.to_owned())])
        .ok()?;
    let body = cut(body, found.cuts);
    let members = json::members(std::str::from_utf8(&body).ok()?).ok()?;
    let mut active = None;
    let mut out = String::from(r#"{"active":true"#);
    for member in members {
        match json::string(member.name).as_deref() {
            Some("active") if active.replace(member.value.get() == "true").is_some() => {
                return None;
            }
            Some(name) if name == "active" || REPLACED.contains(&name) => {}
            _ => out.extend([",", member.name.get(), ":", member.value.get()]),
        }
    }
    if !active? {
        return Some(Said::Inactive);
    }
    let text = |text: &str| serde_json::to_string(text).ok();
    let seconds = |time: Timestamp| (time.as_millis() / 1000).to_string();
    let whole = |time: Duration| time.as_secs().to_string();
    for (name, value) in [
        ("client_id", text(ours.client_id.as_str())),
        (
            "scope",
            ours.scope.as_ref().and_then(|scope| text(scope.as_str())),
        ),
        ("exp", Some(seconds(ours.expires_at))),
        ("iat", ours.issued_at.map(seconds)),
        ("token_type", ours.token_type.and_then(text)),
        ("refresh_token_timeout", ours.timeout.map(whole)),
        ("authorization_expires_in", ours.authorization.map(whole)),
    ] {
        if let Some(value) = value {
            out.extend([",\"", name, "\":", &value]);
        }
    }
    out.push('}');
    Some(Said::Active(out.into()))
}

/// Returns the response for a token that is not active (RFC 7662 §2.2).
fn inactive<ResBody>() -> Response<ResponseBody<ResBody>> {
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::OK;
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    upstream::respond(head, Bytes::from_static(INACTIVE))
}
