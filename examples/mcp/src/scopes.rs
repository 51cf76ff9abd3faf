//! The scopes that clients may request.

use std::collections::BTreeSet;

/// The treatment of requested scopes that this server does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UnknownScopes {
    /// Grant the others; the token response names the granted scope (RFC 6749 §3.3)
    Drop,
    /// Refuse the request with `invalid_scope`
    Refuse,
}

/// The scope with which a client requests a refresh token (OpenID Connect Core §11). Every client
/// of this server gets one, so the scope is accepted and has no effect. It goes to the provider
/// only if it is configured.
pub(crate) const OFFLINE_ACCESS: &str = "offline_access";

/// The supported scopes.
#[derive(Clone, Debug)]
pub(crate) struct Scopes {
    all: Vec<String>,
    unknown: UnknownScopes,
}

/// The reason why requested scopes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidScope {
    #[error("scope contains a value that this server does not support")]
    Unknown,
    #[error("scope contains no value that this server supports")]
    NoneKnown,
}

impl Scopes {
    pub(crate) const fn new(all: Vec<String>, unknown: UnknownScopes) -> Self {
        Self { all, unknown }
    }

    /// Returns the same scopes, with which unknown ones are refused.
    pub(crate) fn strict(&self) -> Self {
        Self::new(self.all.clone(), UnknownScopes::Refuse)
    }

    /// Returns the scopes that are requested from the provider and granted to clients.
    pub(crate) fn all(&self) -> &[String] {
        &self.all
    }

    /// Returns the scopes that clients may name.
    pub(crate) fn accepted(&self) -> Vec<&str> {
        let mut accepted: Vec<_> = self.all.iter().map(String::as_str).collect();
        if !accepted.contains(&OFFLINE_ACCESS) {
            accepted.push(OFFLINE_ACCESS);
        }
        accepted
    }

    /// Returns the scopes of the MCP endpoint. A resource server does not name `offline_access`,
    /// because it does not concern access tokens.
    pub(crate) fn of_resource(&self) -> Vec<&str> {
        let all = self.all.iter().map(String::as_str);
        all.filter(|scope| *scope != OFFLINE_ACCESS).collect()
    }

    /// Returns the supported scopes in `text`, without repetitions. It is empty if the text
    /// contains none, or only `offline_access` where that is not configured.
    pub(crate) fn read<'a>(&self, text: &'a str) -> Result<Vec<&'a str>, InvalidScope> {
        let mut seen = BTreeSet::new();
        let (mut known, mut dropped) = (Vec::new(), false);
        for scope in text.split_ascii_whitespace() {
            if self.all.iter().any(|known| known == scope) {
                if seen.insert(scope) {
                    known.push(scope);
                }
            } else if scope != OFFLINE_ACCESS {
                dropped = true;
            }
        }
        match self.unknown {
            UnknownScopes::Refuse if dropped => Err(InvalidScope::Unknown),
            UnknownScopes::Drop if dropped && known.is_empty() => Err(InvalidScope::NoneKnown),
            _ => Ok(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_scopes_are_dropped_or_refused() {
        let all = || vec!["openid".to_owned(), "read".to_owned()];
        let drop = Scopes::new(all(), UnknownScopes::Drop);
        let refuse = Scopes::new(all(), UnknownScopes::Refuse);
        let rows: [(&str, Result<&[&str], _>, Result<&[&str], _>); 6] = [
            ("", Ok(&[]), Ok(&[])),
            ("offline_access", Ok(&[]), Ok(&[])),
            (
                "read  openid read",
                Ok(&["read", "openid"]),
                Ok(&["read", "openid"]),
            ),
            ("read offline_access", Ok(&["read"]), Ok(&["read"])),
            ("read write", Ok(&["read"]), Err(InvalidScope::Unknown)),
            (
                "write offline_access",
                Err(InvalidScope::NoneKnown),
                Err(InvalidScope::Unknown),
            ),
        ];
        for (text, dropped, refused) in rows {
            assert_eq!(
                drop.read(text).as_deref(),
                dropped.as_ref().copied(),
                "{text}"
            );
            assert_eq!(
                refuse.read(text).as_deref(),
                refused.as_ref().copied(),
                "{text}"
            );
        }
        assert_eq!(drop.accepted(), ["openid", "read", "offline_access"]);
        let configured = vec!["openid".to_owned(), "offline_access".to_owned()];
        let configured = Scopes::new(configured, UnknownScopes::Refuse);
        assert_eq!(
            configured.read("offline_access"),
            Ok(vec!["offline_access"])
        );
        assert_eq!(configured.accepted(), ["openid", "offline_access"]);
        assert_eq!(configured.of_resource(), ["openid"]);
    }
}
