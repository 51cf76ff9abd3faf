//! A service in front of the upstream that rewrites its discovery documents.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_RANGE, RANGE,
};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Either, Full, Limited};
use pin_project::pin_project;
use server_common::upstream::{PublicUrl, Upstream};
use tower::Service;

use super::document::{Document, Endpoint};
use super::{LARGEST, is_discovery, without_query};

/// Headers that identify the exact bytes of a response.
const DIGESTS: [HeaderName; 5] = [
    ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// A service that rewrites the endpoints in discovery documents to the public URL, and adds the
/// types of expiration that the responses of the guarded token endpoint state.
#[derive(Clone, Debug)]
pub(crate) struct Discovery<S> {
    inner: S,
    urls: Option<Arc<Urls>>,
}

#[derive(Debug)]
struct Urls {
    upstream: Upstream,
    public: PublicUrl,
    token_path: String,
    expiration_types: &'static [&'static str],
}

impl<S> Discovery<S> {
    /// Creates the service. Without a public URL it rewrites nothing.
    pub(crate) fn new(
        inner: S,
        upstream: &Upstream,
        public: Option<&PublicUrl>,
        token_path: &str,
        expiration_types: &'static [&'static str],
    ) -> Self {
        let urls = public.map(|public| {
            Arc::new(Urls {
                upstream: upstream.clone(),
                public: public.clone(),
                token_path: token_path.to_owned(),
                expiration_types,
            })
        });
        Self { inner, urls }
    }

    /// Returns a service with the same URLs around another inner service.
    pub(crate) fn around<T>(&self, inner: T) -> Discovery<T> {
        Discovery {
            inner,
            urls: self.urls.clone(),
        }
    }

    pub(crate) const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, B, ResBody> Service<Request<B>> for Discovery<S>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    S::Error: Send,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
    type Error = S::Error;
    type Future = Answer<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let Some(urls) = self
            .urls
            .clone()
            .filter(|_| is_read && is_discovery(request.uri().path()))
        else {
            return Answer::AsItIs {
                answer: self.inner.call(request),
            };
        };
        let headers = request.headers_mut();
        for name in [ACCEPT_ENCODING, RANGE, IF_RANGE] {
            headers.remove(name);
        }
        let head = *request.method() == Method::HEAD;
        let answer = self.inner.call(request);
        Answer::Document {
            document: Box::pin(async move { Ok(urls.rewrite(answer.await?, head).await) }),
        }
    }
}

/// The future of a response.
#[pin_project(project = AnswerProj)]
pub(crate) enum Answer<F, B, E> {
    AsItIs {
        #[pin]
        answer: F,
    },
    Document {
        document: Pin<Box<dyn Future<Output = Result<Response<Either<B, Full<Bytes>>>, E>> + Send>>,
    },
}

impl<F, B, E> Future for Answer<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerProj::AsItIs { answer } => {
                Poll::Ready(ready!(answer.poll(cx)).map(|response| response.map(Either::Left)))
            }
            AnswerProj::Document { document } => document.as_mut().poll(cx),
        }
    }
}

impl Urls {
    async fn rewrite<B>(
        &self,
        response: Response<B>,
        head: bool,
    ) -> Response<Either<B, Full<Bytes>>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if response.status() != StatusCode::OK || !may_be_json(response.headers()) {
            return response.map(Either::Left);
        }
        let (mut parts, body) = response.into_parts();
        if head {
            // The response to GET may be rewritten, and then have another length and digest.
            parts.headers.remove(CONTENT_LENGTH);
            remove_digests(&mut parts.headers);
            return Response::from_parts(parts, Either::Left(body));
        }
        if parts
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|encoding| encoding != "identity")
        {
            return unreadable("it is compressed although the request did not allow it");
        }
        let whole = match Limited::new(body, LARGEST).collect().await {
            Ok(whole) => whole.to_bytes(),
            Err(error) => return unreadable(&error.to_string()),
        };
        let Some(rewritten) = std::str::from_utf8(&whole)
            .ok()
            .and_then(|text| self.rewrite_text(text))
        else {
            return Response::from_parts(parts, Either::Right(Full::new(whole)));
        };
        remove_digests(&mut parts.headers);
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
        Response::from_parts(parts, Either::Right(Full::from(rewritten)))
    }

    fn rewrite_text(&self, text: &str) -> Option<String> {
        let change = |url: &url::Url| {
            self.upstream
                .seen_through_proxy(url)
                .map(|path| self.public.join(path))
        };
        let document = Document::parse(text)?;
        let types = match document.endpoints.iter().any(|found| self.guards(found)) {
            true => self.expiration_types,
            false => &[],
        };
        document.rewrite(text, change, types)
    }

    /// Returns whether this is the token endpoint whose refresh tokens are those of the proxy.
    fn guards(&self, endpoint: &Endpoint) -> bool {
        let url = &endpoint.url;
        let path = self.public.path_of(url);
        endpoint.name == "token_endpoint"
            && path
                .or_else(|| self.upstream.seen_through_proxy(url))
                .is_some_and(|path| without_query(path) == self.token_path)
    }
}

fn remove_digests(headers: &mut HeaderMap) {
    for name in &DIGESTS {
        headers.remove(name);
    }
}

/// Returns whether the body may be JSON: its content type is JSON, is missing, or is a generic one
/// that clients ignore.
fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let essence = essence.to_ascii_lowercase();
    essence.ends_with(b"json")
        || [&b"text/plain"[..], b"application/octet-stream"].contains(&&*essence)
}

/// Logs a warning and returns 502. If the document were passed on unchanged, it could direct
/// clients past the proxy.
fn unreadable<B>(why: &str) -> Response<Either<B, Full<Bytes>>> {
    tracing::warn!(
        why,
        "a discovery document of the upstream cannot be rewritten: clients get 502"
    );
    crate::answer::error(
        StatusCode::BAD_GATEWAY,
        "the discovery document of the upstream cannot be read",
    )
    .map(Either::Right)
}
