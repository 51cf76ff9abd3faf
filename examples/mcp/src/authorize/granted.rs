//! Parses the responses of the provider's token endpoint.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::provider::ProviderAnswer;

/// The parts of a token response (RFC 6749 §5.1) that this server needs.
pub(super) struct Granted {
    /// The whole response.
    pub(super) answer: Map<String, Value>,
    /// The granted scope; `None` if it equals the requested scope.
    pub(super) scope: Option<String>,
}

/// The reason why a response is not a successful token response.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct NotGranted {
    why: &'static str,
    /// The error code in the response.
    pub(super) code: Option<String>,
}

/// The members of a response. The status does not matter, because GitHub sends errors with status
/// 200.
#[derive(Deserialize)]
struct Members {
    access_token: Option<String>,
    scope: Option<String>,
    error: Option<String>,
}

impl Granted {
    pub(super) fn read(answer: &ProviderAnswer) -> Result<Self, NotGranted> {
        let not = |why| NotGranted { why, code: None };
        let text =
            std::str::from_utf8(&answer.body).map_err(|_| not("the response is not UTF-8"))?;
        let ProviderAnswer { status, .. } = answer;
        let malformed = |_| not("the response is not a JSON object with token members");
        let members: Members = serde_json::from_str(text).map_err(malformed)?;
        let answer = serde_json::from_str(text).map_err(malformed)?;
        if members.error.is_some() || !status.is_success() {
            return Err(NotGranted {
                why: "the response is an error",
                code: members.error,
            });
        }
        if members.access_token.is_none_or(|token| token.is_empty()) {
            return Err(not("the response contains no access_token"));
        }
        Ok(Self {
            answer,
            scope: members.scope.as_deref().and_then(scope),
        })
    }
}

/// Returns a list of scopes in the syntax of OAuth. GitHub separates scopes with commas.
pub(crate) fn scope(text: &str) -> Option<String> {
    let scopes: Vec<_> = text
        .split([' ', ','])
        .filter(|scope| !scope.is_empty())
        .collect();
    (!scopes.is_empty() && scopes.iter().all(|scope| is_scope(scope))).then(|| scopes.join(" "))
}

/// Returns whether `text` is a `scope-token` of RFC 6749 §3.3.
pub(crate) fn is_scope(text: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.is_empty() && text.bytes().all(allowed)
}
