//! What an answer of the provider's token endpoint holds.

use serde::Deserialize;

use crate::provider::ProviderAnswer;

/// A token answer (RFC 6749 §5.1), as far as this server looks at it.
pub(super) struct Granted {
    /// All of it: JSON.
    pub(super) answer: String,
    /// None: what was asked for.
    pub(super) scope: Option<String>,
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct NotGranted {
    why: &'static str,
    /// The error that the provider names.
    pub(super) code: Option<String>,
}

/// GitHub answers errors with 200: the members tell.
#[derive(Deserialize)]
struct Members {
    access_token: Option<String>,
    scope: Option<String>,
    error: Option<String>,
}

impl Granted {
    pub(super) fn read(answer: &ProviderAnswer) -> Result<Self, NotGranted> {
        let not = |why| NotGranted { why, code: None };
        let text = std::str::from_utf8(&answer.body).map_err(|_| not("its answer is not text"))?;
        let members: Members = serde_json::from_str(text)
            .map_err(|_| not("its answer is not the JSON of a token answer"))?;
        if members.error.is_some() || !answer.status.is_success() {
            return Err(NotGranted {
                why: "it answers with an error",
                code: members.error,
            });
        }
        if members.access_token.is_none_or(|token| token.is_empty()) {
            return Err(not("its answer holds no access_token"));
        }
        Ok(Self {
            answer: text.to_owned(),
            scope: members.scope.as_deref().and_then(scope),
        })
    }
}

/// Scopes as OAuth writes them; GitHub puts commas between them.
pub(crate) fn scope(text: &str) -> Option<String> {
    let scopes: Vec<_> = text
        .split([' ', ','])
        .filter(|scope| !scope.is_empty())
        .collect();
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (!scopes.is_empty() && scopes.iter().all(|scope| scope.bytes().all(allowed)))
        .then(|| scopes.join(" "))
}
