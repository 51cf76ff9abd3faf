//! Requests byte for byte, and checks of every rejection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Request, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use tower::ServiceExt as _;
use tower_oauth_refresh::RefreshError;

use super::{App, tokens};

pub type AnyBody = BoxBody<Bytes, io::Error>;

pub const FORM: &str = "application/x-www-form-urlencoded";

/// A POST with this body and without any header.
pub fn bare(path: &str) -> Builder {
    Request::post(path)
}

/// A POST that announces a form.
pub fn form(path: &str) -> Builder {
    bare(path).header("content-type", FORM)
}

pub fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Returns a body of these pieces, without a known length.
pub fn pieces<const N: usize>(pieces: [Result<Bytes, io::Error>; N]) -> AnyBody {
    Pieces(pieces.into()).boxed()
}

struct Pieces(VecDeque<Result<Bytes, io::Error>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Returns the `Authorization` value for a user and password that are joined as they are.
pub fn basic(joined: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(joined))
}

/// Returns an unsigned `client_assertion` with these claims.
pub fn assertion(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"none"}"#),
        part(claims),
        part("signature")
    )
}

/// Returns the token after this change to its payload, with a matching checksum.
pub fn patched(token: &str, change: impl FnOnce(&mut [u8])) -> String {
    let mut bytes = tokens::payload("rt_", token).unwrap();
    change(&mut bytes);
    tokens::encode("rt_", &bytes)
}

/// Returns the token with another secret and this generation, as an attacker could forge it from an
/// older token.
pub fn forged(token: &str, generation: u32) -> String {
    patched(token, |bytes| {
        bytes[12..16].copy_from_slice(&generation.to_be_bytes());
        bytes[16..].fill(7);
    })
}

pub fn generation(token: &str) -> u32 {
    let bytes = tokens::payload("rt_", token).unwrap();
    u32::from_be_bytes(bytes[12..16].try_into().unwrap())
}

/// A response with everything that an outer service sees of it.
#[derive(Debug)]
pub struct Whole {
    pub head: response::Parts,
    pub body: Bytes,
}

impl Whole {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Panics unless the layer rejected the request with this error, in the form that RFC 6749 §5.2
    /// requires.
    #[track_caller]
    pub fn assert_refused(&self, name: &str, status: u16, error: &str, challenge: bool) {
        let json = self.json();
        assert_eq!(
            (self.head.status.as_u16(), json["error"].as_str()),
            (status, Some(error)),
            "{name}: {self:?}"
        );
        let members: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(members, ["error", "error_description"], "{name}: {json}");
        let description = json["error_description"].as_str().unwrap_or_default();
        let allowed = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
        assert!(
            !description.is_empty() && description.bytes().all(allowed),
            "{name}: {json}"
        );
        let header = |name: &str| {
            self.headers()
                .get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(header("content-type"), ["application/json"], "{name}");
        assert_eq!(header("cache-control"), ["no-store"], "{name}");
        assert_eq!(header("pragma"), ["no-cache"], "{name}");
        assert_eq!(
            header("content-length"),
            [self.body.len().to_string()],
            "{name}"
        );
        let basic = header("www-authenticate")
            .iter()
            .any(|value| value.starts_with("Basic realm="));
        assert_eq!(basic, challenge, "{name}: {:?}", self.headers());
        assert_eq!(
            !header("www-authenticate").is_empty(),
            challenge,
            "{name}: no other challenge"
        );
        assert_eq!(
            header("retry-after").is_empty(),
            status != 503,
            "{name}: Retry-After goes with 503"
        );
        let cause = self
            .head
            .extensions
            .get::<RefreshError>()
            .unwrap_or_else(|| panic!("{name}: no cause in the extensions"));
        assert_eq!(cause.code(), error, "{name}: {cause:?}");
        assert_eq!(cause.to_string(), description, "{name}");
    }

    #[track_caller]
    pub fn assert_ok(&self, name: &str) {
        assert_eq!(self.head.status, StatusCode::OK, "{name}: {self:?}");
        assert!(
            self.head.extensions.get::<RefreshError>().is_none(),
            "{name}: a success has no cause"
        );
    }

    #[track_caller]
    pub fn token(&self, name: &str) -> String {
        self.assert_ok(name);
        self.json()["refresh_token"]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: no token in {self:?}"))
            .to_owned()
    }
}

/// Sends a request with any body.
pub async fn send<B>(app: &App, request: Request<B>) -> Whole
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug,
{
    let (head, body) = app
        .service
        .clone()
        .oneshot(request)
        .await
        .unwrap()
        .into_parts();
    Whole {
        head,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// Panics if the inner service has seen a refresh, or has fewer than these sessions left.
#[track_caller]
pub fn assert_untouched(name: &str, app: &App, sessions: usize) {
    let forms: Vec<_> = app
        .upstream
        .seen()
        .into_iter()
        .map(|seen| seen.form)
        .collect();
    assert_eq!(
        app.upstream.refreshes(),
        0,
        "{name}: the inner service saw {forms:?}"
    );
    assert_eq!(
        app.upstream.alive(),
        sessions,
        "{name}: an upstream session has ended"
    );
}
