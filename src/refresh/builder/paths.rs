//! Options for the paths of the endpoints that the layer intercepts.

use super::RefreshLayerBuilder;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the path of the token endpoint (RFC 6749 §3.2). Default: `/token`.
    ///
    /// The layer compares it byte for byte with the path that the service sees. In a nested axum
    /// router that is the path without the prefix of the nest. A route pattern is an error: a path
    /// with `{`, `}`, `*` or a segment that begins with `:` is a
    /// [`ConfigError`](crate::ConfigError).
    pub fn token_path(mut self, path: impl Into<String>) -> Self {
        self.config.paths.token = path.into();
        self
    }

    /// Sets the path of the revocation endpoint (RFC 7009 §2). Default: `/revoke`.
    ///
    /// **Add a route for this path** inside the layer, even if the handler only returns 404.
    /// Without a route, a router may send the request past the layer (see
    /// [`RefreshLayer`](crate::RefreshLayer)).
    ///
    /// The grant ends if the inner service confirms the revocation, does not support it (404, 405
    /// or `unsupported_token_type`), or is unavailable (it fails, returns a 5xx status, or does not
    /// respond in time). If it is unavailable, the client gets 503 and the revocation is pending:
    /// for ten minutes, or until the grant expires, the client can repeat the request so that the
    /// inner service receives it.
    ///
    /// If the client of the grant authenticates itself and the inner service does not support the
    /// revocation, the grant ends only if the token endpoint accepts the client. The layer sends a
    /// refresh request with a token that was never issued to [`token_path`](Self::token_path), by
    /// the service that got the revocation. If `Router::layer` puts the layer around each route,
    /// that service is only the handler of this path: wrap the whole router instead, or the client
    /// gets 502 and the grant continues.
    pub fn revocation_path(mut self, path: impl Into<String>) -> Self {
        self.config.paths.revocation = path.into();
        self
    }

    /// Sets the path of the introspection endpoint (RFC 7662 §2). Default: none; such requests pass
    /// through unchanged.
    ///
    /// Add a route for this path inside the layer, as for the
    /// [`revocation_path`](Self::revocation_path).
    ///
    /// The layer forwards the request with the upstream token, so that the inner service
    /// authenticates the caller. In the response, `client_id`, `scope`, `exp`, `iat` and
    /// `token_type` describe the token of the layer; a member whose value is unknown is left out.
    /// For a token that is not active the response is only `{"active":false}`. Requests about
    /// tokens of another format are forwarded unchanged.
    pub fn introspection_path(mut self, path: impl Into<String>) -> Self {
        self.config.paths.introspection = Some(path.into());
        self
    }

    /// Sets whether other spellings of the guarded paths, and all paths below them, are guarded,
    /// too. Default: `false`; paths are compared byte for byte.
    ///
    /// Use this if the inner service may interpret paths differently from this layer. A proxy must
    /// assume so. With `true`:
    ///
    /// - A POST request to `/token/`, `//token`, `/%74oken`, `/TOKEN`, `/token;a=b`, `/token.json`
    ///   or `/token/x` is handled like one to `/token`. It reaches the inner service as `/token`,
    ///   with its query.
    /// - A POST request to a path that servers resolve differently (`/x/../token`, `/token%2f`,
    ///   `/a\b`) gets 400 `invalid_request`. [`path`](crate::wire::path) lists what is ambiguous,
    ///   and [`allow_ambiguous_paths`](Self::allow_ambiguous_paths) allows exceptions.
    /// - A POST request also gets 400 if some servers remove a segment of its path and the result
    ///   is a guarded path (`/index.php/token`).
    /// - A request with another method than GET, HEAD and OPTIONS gets 405 at every spelling of a
    ///   guarded path, and 400 if its path may be a guarded one or has a dot segment, an invalid
    ///   escape or a control character. GET, HEAD and OPTIONS requests with such a path get 400
    ///   only if they have content or a parameter of a token request in the query.
    ///
    /// If one guarded path is below another, a request below both belongs to the longer one. The
    /// guarded paths themselves must not be ambiguous.
    pub fn match_normalized_paths(mut self, normalized: bool) -> Self {
        self.config.paths.normalized = normalized;
        self
    }

    /// Allows POST requests with an ambiguous path below `prefix`. Several calls add up. Default:
    /// none.
    ///
    /// Use this for routes of the inner service that need an encoded slash, backslash or percent
    /// sign, such as `/api/v4/projects/group%2Fname` of GitLab. The path must begin with the prefix
    /// byte for byte. A path below it is still rejected if it has a dot segment, an invalid escape
    /// or a control character in any encoding, or if a server could interpret it as a guarded path.
    ///
    /// The risk: the inner service may resolve such a path to a place outside the prefix in a way
    /// that the rules do not cover. If it issues tokens there, they reach the client without
    /// protection. So allow only the routes that need it, not `/`.
    ///
    /// [`build`](Self::build) returns an error if
    /// [`match_normalized_paths`](Self::match_normalized_paths) is not set, or if the prefix is a
    /// guarded path or below one.
    pub fn allow_ambiguous_paths(mut self, prefix: impl Into<String>) -> Self {
        self.config.paths.allowed.push(prefix.into());
        self
    }
}
