//! Calls of the inner service, and what it answers.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, EXPECT, HeaderMap,
    LAST_MODIFIED, PRAGMA, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderValue, Request, Response, StatusCode, request, response};
use http_body::Body;
use tower_service::Service;

use crate::answer::TokenAnswer;
use crate::body::{self, ReadError, RequestBody, ResponseBody};
use crate::form::has_content_coding;

/// One request, to be sent to the inner service with another body.
pub(crate) struct Upstream<S, B> {
    inner: S,
    head: request::Parts,
    body: PhantomData<fn(B)>,
}

/// What the inner service answered to a token request.
pub(crate) enum Reply<ResBody> {
    /// A success.
    Granted(Granted),
    /// The grant is dead upstream: `invalid_grant`.
    Rejected(Response<ResponseBody<ResBody>>),
    /// Any other error.
    Refused(Response<ResponseBody<ResBody>>),
    /// A success that cannot be read, or an error that may not be passed on.
    Unreadable,
}

/// A token answer that was read.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) head: response::Parts,
    pub(crate) answer: TokenAnswer,
}

impl<S, B, ResBody> Upstream<S, B>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes>,
{
    pub(crate) fn new(inner: S, head: request::Parts) -> Self {
        Self { inner, head, body: PhantomData }
    }

    /// Sends `form` in place of the original body.
    pub(crate) async fn call(mut self, form: Bytes) -> Result<Response<ResBody>, S::Error> {
        let headers = &mut self.head.headers;
        headers.insert(CONTENT_LENGTH, form.len().into());
        for header in [TRANSFER_ENCODING, TRAILER, EXPECT] {
            headers.remove(header);
        }
        poll_fn(|cx| self.inner.poll_ready(cx)).await?;
        self.inner.call(Request::from_parts(self.head, RequestBody::full(form))).await
    }

    /// Sends `form` as a token request and reads the answer, which may have `limit` bytes. An error that mentions
    /// `secret` is not passed on.
    pub(crate) async fn token_request(
        mut self,
        form: Bytes,
        limit: usize,
        secret: Option<&str>,
    ) -> Result<Reply<ResBody>, S::Error> {
        // Only what can be read can be rewritten.
        let headers = &mut self.head.headers;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.remove(ACCEPT_ENCODING);
        let response = self.call(form).await?;
        Ok(classify(response, limit, secret).await)
    }
}

async fn classify<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    limit: usize,
    secret: Option<&str>,
) -> Reply<ResBody> {
    let status = response.status();
    let readable = status.is_success() || matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED);
    if !readable {
        return Reply::Refused(response.map(ResponseBody::inner));
    }
    let (mut head, body) = response.into_parts();
    let encoded = has_content_coding(&head.headers);
    if encoded && !status.is_success() {
        return Reply::Refused(Response::from_parts(head, ResponseBody::inner(body)));
    }
    if encoded {
        return Reply::Unreadable;
    }
    let bytes = match body::read(body, limit).await {
        Ok(bytes) => bytes,
        Err(ReadError::TooLarge | ReadError::Broken) => return Reply::Unreadable,
    };
    let answer = TokenAnswer::parse(bytes.clone()).ok();
    let error = answer.as_ref().filter(|answer| !answer.has_access_token()).and_then(TokenAnswer::error);
    // Some servers answer errors with 200 (GitHub).
    let dead = error.is_some_and(|error| matches!(error, "invalid_grant" | "bad_refresh_token"));
    if status.is_success() && error.is_none() {
        return match answer {
            Some(answer) => Reply::Granted(Granted { head, answer }),
            None => Reply::Unreadable,
        };
    }
    if secret.is_some_and(|secret| mentions(&bytes, secret)) {
        return Reply::Unreadable;
    }
    rewritten(&mut head.headers, bytes.len());
    let response = Response::from_parts(head, ResponseBody::full(bytes));
    if dead { Reply::Rejected(response) } else { Reply::Refused(response) }
}

impl Granted {
    /// The answer to the client: that of the inner service with another body.
    pub(crate) fn respond<ResBody>(mut self, body: Bytes) -> Response<ResponseBody<ResBody>> {
        rewritten(&mut self.head.headers, body.len());
        self.head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.head.headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        Response::from_parts(self.head, ResponseBody::full(body))
    }
}

/// Sets right what the inner service said of the body that is no longer sent.
fn rewritten(headers: &mut HeaderMap, len: usize) {
    headers.insert(CONTENT_LENGTH, len.into());
    for header in [TRANSFER_ENCODING, TRAILER, CONTENT_ENCODING, ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
        headers.remove(header);
    }
    for digest in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(digest);
    }
}

/// Whether an answer would give the secret away.
pub(crate) fn mentions(bytes: &[u8], secret: &str) -> bool {
    !secret.is_empty() && bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// Bounds a call of the inner service in time; `None` if it took longer.
pub(crate) async fn bounded<F: Future>(limit: Duration, call: F) -> Option<F::Output> {
    tokio::time::timeout(limit, call).await.ok()
}
