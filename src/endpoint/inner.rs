//! [`Inner`]: the inner service as the endpoints see it, and how its responses are read.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, LAST_MODIFIED, TRAILER,
    TRANSFER_ENCODING,
};
use http::{HeaderName, Response, StatusCode, response};
use http_body::Body;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::body;
use crate::wire::token_request::has_content_coding;

/// The inner service, for one request: it gets a form and returns a response.
pub(crate) trait Inner: Clone {
    /// The body of the response.
    type ResBody: Body<Data = Bytes>;
    /// The error of the inner service.
    type Error;

    /// Returns the same request for another path. `None` if its target would be too long.
    fn to_path(self: Box<Self>, path: &str) -> Option<Box<Self>>;

    /// Sends the request with `form` as its body.
    fn send(
        self: Box<Self>,
        form: Bytes,
        accept: Accept,
    ) -> impl Future<Output = Result<Response<Self::ResBody>, Self::Error>>;
}

/// The kind of response that the layer requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accept {
    /// The kind that the client requests, because the layer passes the response on unread.
    Any,
    /// An uncompressed response, because the layer must read it.
    Plain,
    /// An uncompressed JSON response, because the layer must rewrite it.
    Json,
}

/// The `error.type` of an error that has no name.
pub(crate) const OTHER: &str = "_OTHER";

/// One call, with a span of its own. If it is dropped without a result, because the call has timed
/// out or its task was aborted, the span has an error.
pub(crate) struct InnerCall {
    span: Span,
    complete: bool,
}

impl InnerCall {
    /// Opens the span. Its kind is *internal*, because the inner service may be part of this
    /// process. An HTTP client behind it opens its own span.
    pub(crate) fn new(path: &str) -> Self {
        let span = tracing::debug_span!(
            "inner_service",
            http.request.method = "POST",
            url.path = path,
            http.response.status_code = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        );
        Self {
            span,
            complete: false,
        }
    }

    /// Makes the call, and records its result.
    pub(crate) async fn run<B, E>(
        mut self,
        call: impl Future<Output = Result<Response<B>, E>>,
    ) -> Result<Response<B>, E> {
        let result = call.instrument(self.span.clone()).await;
        self.complete = true;
        match result.as_ref().map(Response::status) {
            Ok(status) => {
                self.span
                    .record("http.response.status_code", status.as_u16());
                if status.is_client_error() || status.is_server_error() {
                    self.fail(status.as_str());
                }
            }
            Err(_) => self.fail(OTHER),
        }
        result
    }

    fn fail(&self, error: &str) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", error);
    }
}

impl Drop for InnerCall {
    fn drop(&mut self) {
        if !self.complete {
            self.fail(OTHER);
        }
    }
}

/// Reads the whole body of a response and corrects the headers. Returns `None` if the body is too
/// large, encoded or incomplete.
pub(crate) async fn read<ResBody: Body<Data = Bytes>>(
    response: Response<ResBody>,
    limit: usize,
) -> Option<(response::Parts, Bytes)> {
    let (mut head, body) = response.into_parts();
    if has_content_coding(&head.headers) {
        return None;
    }
    let bytes = body::read(body, limit).await.ok()?;
    rewritten(&mut head.headers, bytes.len());
    // RFC 9110 §8.6.
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(CONTENT_LENGTH);
    }
    Some((head, bytes))
}

/// Corrects the headers that describe the body that was replaced.
pub(crate) fn rewritten(headers: &mut HeaderMap, len: usize) {
    static OF_THE_BODY: [HeaderName; 6] = [
        TRANSFER_ENCODING,
        TRAILER,
        CONTENT_ENCODING,
        ETAG,
        LAST_MODIFIED,
        ACCEPT_RANGES,
    ];
    headers.insert(CONTENT_LENGTH, len.into());
    remove_all(headers, &OF_THE_BODY);
    forget_digests(headers);
}

pub(crate) fn forget_digests(headers: &mut HeaderMap) {
    static DIGESTS: [HeaderName; 4] = [
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
    ];
    remove_all(headers, &DIGESTS);
}

/// Removes these headers. Scans the names first: few messages have any of them, and each lookup
/// hashes a name.
pub(crate) fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        for name in names {
            headers.remove(name);
        }
    }
}
