//! Calls the inner service and classifies its responses.
//!
//! [`Upstream`], an [`Inner`], holds the head of one intercepted request and sends it with another
//! body. A response to a token request becomes a [`Reply`]. A response that discloses a withheld
//! token is rewritten without that token, or not passed on.

use std::mem;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, EXPECT, PRAGMA, TRAILER,
    TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, request, response};
use http_body::Body;
use tower::{Service, ServiceExt as _};
use zeroize::Zeroizing;

use crate::body::ResponseBody;
use crate::endpoint::config::Config;
pub(crate) use crate::endpoint::inner::{Accept, Inner, read};
use crate::endpoint::inner::{InnerCall, forget_digests, remove_all, rewritten};
use crate::error::RefreshError;
use crate::grant::GrantKey;
use crate::store::Key;
use crate::subject::{IdToken, InvalidSubject, Profile, Subject};
use crate::wire::disclosure::{Disclosed, Withheld};
use crate::wire::json;
use crate::wire::path::replace_path;
use crate::wire::token_response::{TokenResponse, cut};

/// A request to the inner service whose body the layer replaces.
#[derive(Clone)]
pub(crate) struct Upstream<S> {
    inner: S,
    head: request::Parts,
}

/// The response of the inner service to a token request.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
pub(crate) enum Reply<ResBody> {
    /// A token response.
    Granted(Granted),
    /// The inner service rejected the upstream token with `invalid_grant`.
    Rejected(Response<ResponseBody<ResBody>>),
    /// Any other error response.
    Refused(Response<ResponseBody<ResBody>>),
}

/// The rules for reading the response to a token request.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The size limit of the response, in bytes.
    pub(crate) limit: usize,
    /// The upstream token of the request, if it has one. An error response that contains it is not
    /// passed on.
    pub(crate) secret: Option<&'a str>,
    /// The tokens of the inner service that must not reach the client.
    pub(crate) withheld: Withheld,
    /// Whether the client requests a refresh token instead of an access token (RFC 8693 §2.1).
    pub(crate) requests_refresh_token: bool,
}

impl Reading<'_> {
    /// Returns a response that was read as it is, unless it discloses a token.
    pub(crate) fn harmless<ResBody>(
        &self,
        head: response::Parts,
        bytes: Bytes,
    ) -> Option<Response<ResponseBody<ResBody>>> {
        let secrets = self.secret.as_slice();
        let discloses = self.withheld.discloses(&head.headers, &bytes, secrets);
        (!discloses).then(|| Response::from_parts(head, ResponseBody::full(bytes)))
    }
}

/// A parsed token response.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) head: response::Parts,
    pub(crate) response: TokenResponse,
    /// The ID token of the response, which the client may not get.
    pub(crate) id_token: Option<IdToken>,
}

impl<S> Upstream<S> {
    // Boxed because it is moved through several futures.
    pub(crate) fn new(inner: S, head: request::Parts) -> Box<Self> {
        Box::new(Self { inner, head })
    }
}

impl<S, ResBody> Inner for Upstream<S>
where
    S: Service<Request<Bytes>, Response = Response<ResBody>> + Clone,
    ResBody: Body<Data = Bytes>,
{
    type ResBody = ResBody;
    type Error = S::Error;

    fn to_path(mut self: Box<Self>, path: &str) -> Option<Box<Self>> {
        self.head.uri = replace_path(mem::take(&mut self.head.uri), path).ok()?;
        Some(self)
    }

    async fn send(
        mut self: Box<Self>,
        form: Bytes,
        accept: Accept,
    ) -> Result<Response<ResBody>, S::Error> {
        static OF_THE_BODY: [HeaderName; 3] = [TRANSFER_ENCODING, TRAILER, EXPECT];
        let headers = &mut self.head.headers;
        match accept {
            Accept::Any => {}
            Accept::Plain => drop(headers.remove(ACCEPT_ENCODING)),
            Accept::Json => {
                headers.remove(ACCEPT_ENCODING);
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            }
        }
        headers.insert(CONTENT_LENGTH, form.len().into());
        remove_all(headers, &OF_THE_BODY);
        forget_digests(headers);
        let Self { inner, head } = *self;
        let call = InnerCall::new(head.uri.path());
        let request = Request::from_parts(head, form);
        call.run(inner.oneshot(request)).await
    }
}

/// Sends `form` as a token request and classifies the response. Returns `None` for a success that
/// cannot be read, and for an error that must not be passed on.
pub(crate) async fn token_request<I: Inner>(
    upstream: Box<I>,
    form: Bytes,
    reading: Reading<'_>,
) -> Result<Option<Reply<I::ResBody>>, I::Error> {
    let response = upstream.send(form, Accept::Json).await?;
    Ok(classify(response, reading).await)
}

/// Reads and classifies the response to a token request, as [`token_request`] returns it.
async fn classify<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
) -> Option<Reply<ResBody>> {
    let withheld = reading.withheld;
    let reference = withheld != Withheld::RefreshTokens;
    let success = response.status().is_success();
    let (mut head, bytes) = read(response, reading.limit).await?;
    let response = TokenResponse::parse(bytes.clone()).ok();
    let error = error_code(response.as_ref());
    if !success || error.is_some() {
        let dead = rejects_token(head.status, error);
        // An error response is passed on unchanged or not at all. If the inner service has ended
        // the grant, the grant ends here in either case. Otherwise its client would repeat the
        // refresh until the grant expires.
        let response = reading.harmless(head, bytes);
        return if dead {
            let rejected = || RefreshError::InvalidGrant.into_response(StatusCode::BAD_REQUEST);
            Some(Reply::Rejected(response.unwrap_or_else(rejected)))
        } else {
            response.map(Reply::Refused)
        };
    }
    let response = response?;
    if response.is_refresh_token_in_disguise(reading.requests_refresh_token)
        || (reference && response.has_odd_access_token())
    {
        return None;
    }
    let id_token = response.id_token().and_then(IdToken::read);
    let session = id_token.as_ref().and_then(IdToken::provider_session);
    if let Some(session) = session {
        head.extensions.insert(session);
    }
    let (response, secrets) = response.disclosed(withheld, reading.secret).ok()?;
    withheld.strip(&mut head.headers, &secrets);
    Some(Reply::Granted(Granted {
        head,
        response,
        id_token,
    }))
}

/// Returns the `error` of a response to a token request.
pub(crate) fn error_code(response: Option<&TokenResponse>) -> Option<&str> {
    response
        .filter(|response| !response.has_access_token())
        .and_then(TokenResponse::error)
}

/// Returns whether a response with this error rejects the refresh token. Some servers return errors
/// with status 200 (GitHub), or reject an ended grant with 403 (Auth0).
pub(crate) fn rejects_token(status: StatusCode, error: Option<&str>) -> bool {
    matches!(error, Some("invalid_grant" | "bad_refresh_token")) && !status.is_server_error()
}

/// Returns whether a request that was refused with this status may succeed later.
pub(crate) fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// Returns a response without the withheld tokens: they are removed from a JSON success. Returns
/// `None` for any other response that discloses one, or that cannot be read.
pub(crate) async fn checked<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    reading: Reading<'_>,
) -> Option<Response<ResponseBody<ResBody>>> {
    let (mut head, bytes) = read(response, reading.limit).await?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|text| head.status.is_success() && json::members(text).is_ok());
    let Some(text) = text else {
        return reading.harmless(head, bytes);
    };
    let secrets = reading
        .secret
        .map(|secret| Zeroizing::new(secret.to_owned()))
        .into_iter()
        .collect();
    let Disclosed { cuts, secrets } = reading.withheld.in_json(text, secrets).ok()?;
    reading.withheld.strip(&mut head.headers, &secrets);
    let body = if cuts.is_empty() {
        bytes
    } else {
        cut(&bytes, cuts)
    };
    rewritten(&mut head.headers, body.len());
    Some(Response::from_parts(head, ResponseBody::full(body)))
}

impl Granted {
    /// Returns what the response says about the user: the [`Subject`] in its extensions, otherwise
    /// that of the ID token, and the configured claims of the ID token. `Ok(None)` if
    /// it names no subject.
    pub(crate) fn profile(&self, config: &Config) -> Result<Option<Profile>, InvalidSubject> {
        let subject = match self.head.extensions.get::<Subject>() {
            Some(subject) => Some(subject.clone()),
            None => match &self.id_token {
                Some(token) => token.subject(&config.subject_claim)?,
                None => None,
            },
        };
        Ok(subject.map(|subject| Profile::new(subject, self.id_token.as_ref(), &config.claims)))
    }

    /// Returns the response to the client: the head from the inner service, with another body.
    pub(crate) fn respond<ResBody>(self, body: Bytes) -> Response<ResponseBody<ResBody>> {
        respond(self.head, body)
    }

    /// Like [`respond`](Self::respond), and adds the [`GrantKey`] to the extensions for layers
    /// outside this one.
    pub(crate) fn respond_for<ResBody>(
        self,
        key: &Key,
        body: Bytes,
    ) -> Response<ResponseBody<ResBody>> {
        let mut response = self.respond(body);
        response.extensions_mut().insert(GrantKey::from(*key));
        response
    }
}

/// Returns a response with another body, and forbids caching it.
pub(crate) fn respond<ResBody>(
    mut head: response::Parts,
    body: Bytes,
) -> Response<ResponseBody<ResBody>> {
    rewritten(&mut head.headers, body.len());
    head.headers
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.headers
        .insert(PRAGMA, HeaderValue::from_static("no-cache"));
    Response::from_parts(head, ResponseBody::full(body))
}
