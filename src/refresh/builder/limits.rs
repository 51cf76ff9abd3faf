//! Options for time limits and size limits, and for the status of a refusal.

use std::time::Duration;

use http::StatusCode;

use super::RefreshLayerBuilder;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets how long a client waits for a rotation before it gets 503. The rotation continues
    /// without the client, and a retry gets its response. Default: 10 s. At least a millisecond, at
    /// most an hour.
    ///
    /// The inner service has twice this time to respond. An instance that dies during a rotation
    /// blocks the grant for five seconds longer than that.
    pub fn rotation_timeout(mut self, timeout: Duration) -> Self {
        self.config.rotation_timeout = timeout;
        self
    }

    /// Sets how long the inner service may take to answer a token request that is not a refresh,
    /// such as one with an authorization code, a device code or client credentials. Default: 30 s.
    /// At least a millisecond, at most an hour.
    ///
    /// The time includes waiting for the inner service to be ready and reading its response. When
    /// it is over, the client gets 504 `temporarily_unavailable`
    /// ([`RefreshError::UpstreamTimeout`](crate::RefreshError::UpstreamTimeout)), nothing is
    /// stored, and tokens that the inner service issues later are lost. If the inner service has
    /// accepted an authorization code by then, the code is used up and the user must log in again.
    /// Raise the limit for servers that keep a request open until the user has consented (CIBA with
    /// long polling).
    pub fn issue_timeout(mut self, timeout: Duration) -> Self {
        self.config.issue_timeout = timeout;
        self
    }

    /// Sets how long the body of a guarded request may take to arrive. Default: 10 s. At least a
    /// millisecond, at most an hour.
    ///
    /// A request whose body is not complete by then gets 408 `invalid_request`
    /// ([`RefreshError::RequestTimeout`](crate::RefreshError::RequestTimeout)), over HTTP/1 with
    /// `Connection: close` (RFC 9110 §15.5.9). The time begins when the service is called, after
    /// the head of the request has arrived.
    pub fn request_body_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_body_timeout = timeout;
        self
    }

    /// Sets the size limit of a request body on the guarded paths, in bytes. Default: 64 KiB. At
    /// least 1 byte, at most 16 MiB. A larger request gets 413.
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        self.config.max_request_body = bytes;
        self
    }

    /// Sets the size limit of a response of the inner service that the layer reads, in bytes. It
    /// applies to the guarded paths and to errors as well. Default: 256 KiB. At least 1 byte, at
    /// most 16 MiB. A larger response is withheld: the client gets 502, or an empty 200 if the
    /// response confirms a revocation.
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// Sets how many requests on the guarded paths may be in progress at the same time. Default:
    /// 4,096. At least 1, at most 16,777,216.
    ///
    /// At the limit, a request gets 503 `temporarily_unavailable`
    /// ([`RefreshError::Overloaded`](crate::RefreshError::Overloaded)) when its body has arrived.
    /// Requests whose body is still arriving do not count:
    /// [`request_body_timeout`](Self::request_body_timeout) bounds them. A refresh, an adoption or
    /// a revocation that continues after its client has disconnected counts until it is complete,
    /// which takes at most twice [`rotation_timeout`](Self::rotation_timeout) at the inner service.
    /// A concurrency limit around the layer does not count these.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.config.max_in_flight = requests;
        self
    }

    /// Sets whether `invalid_grant` responses have the status 401 instead of the 400 of RFC 6749
    /// §5.2. Default: `false`. Use it for clients that retry forever on 400 and log in again on
    /// 401.
    pub fn unauthorized_on_invalid_grant(mut self, unauthorized: bool) -> Self {
        self.config.invalid_grant_status = if unauthorized {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        self
    }
}
