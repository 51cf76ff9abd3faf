//! A token endpoint with almost no cost.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::Service;

/// Responds to every request with the same token response.
#[derive(Clone)]
pub struct Endpoint(Bytes);

impl Default for Endpoint {
    /// Returns an endpoint with a response of 1 KB.
    fn default() -> Self {
        Self::with_access_token(850)
    }
}

impl Endpoint {
    /// Returns an endpoint with an access token of this many bytes.
    pub fn with_access_token(len: usize) -> Self {
        let access_token = "a".repeat(len);
        let refresh_token = "u".repeat(64);
        Self(Bytes::from(format!(
            r#"{{"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh_token}","scope":"read"}}"#
        )))
    }
}

impl<B> Service<Request<B>> for Endpoint {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::new(self.0.clone()))))
    }
}
