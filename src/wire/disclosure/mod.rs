//! Finds tokens of the inner service in its responses, so that they can be removed or withheld.
//!
//! A token is recognized in three ways: by the name of the member, header, cookie or parameter that
//! holds it ([`names`]), which may also be the value of another member of the same object; by its
//! value once that is known (from a member of such a name, or from the request); and, if no token
//! at all may pass, by the form of a JWT. The search covers names and values in every spelling that
//! a client may decode: JSON escapes, percent-encoding and character references, also nested
//! ([`crate::wire::secret_str::any_decoding`]).
//!
//! Content that cannot be inspected (too deep, encoded too often, not text) counts as a disclosure.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod names;
mod tree;

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_core::de::IgnoredAny;
use zeroize::Zeroizing;

use self::names::{LABELLED, LABELS, is_assigned, is_one_of};
use self::tree::{Member, Scalar, Tree, decoded};
use crate::wire::secret_str::{any_decoding, mentions};

/// Members of a token response, other than tokens, that are standard or that the layer reads (RFC
/// 6749 §5, RFC 8693 §2.2, draft-ietf-oauth-refresh-token-expiration §6.1). They are never removed
/// at the top level.
const STANDARD: [&str; 9] = [
    "error",
    "scope",
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    "authorization_expires_in",
    "issued_token_type",
    "token_type",
];

/// The shortest value of a member named like a token that is searched for elsewhere: shorter ones
/// would be found by chance.
const SHORTEST_SECRET: usize = 4;

/// The shortest secret that is searched for in standard members, and the shortest value that counts
/// as a token if it is nested in a member named like one.
const LONG_SECRET: usize = 16;

/// The most secrets that are searched for in one response. A response with more is withheld.
const MOST_SECRETS: usize = 64;

/// The tokens of the inner service that must not reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Refresh tokens only: clients get the access tokens of the inner service.
    RefreshTokens,
    /// Every token. A top-level `id_token` may be exempt.
    AllTokens {
        /// Whether the top-level `id_token` of a token response stays.
        keep_id_token: bool,
    },
}

/// The error for a response that must not be passed on, not even in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undisclosable;

/// The parts to remove from a JSON text, and the token values that were found in it.
pub(crate) struct Disclosed {
    /// Ranges to cut out, in ascending order; the rest is valid JSON.
    pub(crate) cuts: Vec<Range<usize>>,
    /// The values of removed tokens, and the secrets that the caller passed.
    pub(crate) secrets: Vec<Zeroizing<String>>,
}

/// The rule that applies to a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A top-level member that the layer replaces.
    Replaced,
    /// The top-level access token of the inner service, which the client gets: it must not also be
    /// a refresh token.
    AccessToken,
    /// A top-level member that is never removed: the response is withheld if it discloses a token.
    Standard,
    /// A top-level `id_token` that stays unless it mentions another token.
    Kept,
    Other,
}

impl Withheld {
    /// Every token without exception.
    pub const ALL: Self = Self::AllTokens {
        keep_id_token: false,
    };

    /// Returns whether a member, header, cookie or parameter of this name holds a withheld token.
    pub(crate) fn names(self, name: &str) -> bool {
        match self {
            Self::RefreshTokens => names::is_refresh_token(name),
            Self::AllTokens { .. } => names::is_token(name),
        }
    }

    /// Returns whether a name is only the first word of the name of a withheld token: some servers
    /// drop the word `token` from the names of their tokens.
    fn shortens(self, name: &str) -> bool {
        match self {
            Self::RefreshTokens => is_one_of(name, &["refresh"]),
            Self::AllTokens { .. } => is_one_of(name, &["refresh", "access"]),
        }
    }

    /// Returns whether a text assigns a value to such a name, or contains a JWT if no token may
    /// pass.
    fn found_in(self, text: &[u8]) -> bool {
        any_decoding(text, |text| {
            is_assigned(text, |name| self.names(name))
                || (self != Self::RefreshTokens && names::has_jwt(text))
        })
    }

    /// Finds the parts to remove from a token response that is otherwise passed on.
    ///
    /// `text` must be valid JSON. `secrets` are token values that are already known. If a standard
    /// member discloses a token, the response is withheld: removing that member would change the
    /// meaning of the response.
    pub(crate) fn in_token_response(
        self,
        text: &str,
        secrets: Vec<Zeroizing<String>>,
    ) -> Result<Disclosed, Undisclosable> {
        let mut tree = Tree::read(text).ok_or(Undisclosable)?;
        for member in tree
            .members
            .iter_mut()
            .filter(|member| member.is_top_level())
        {
            member.role = self.role(&member.name);
        }
        self.find(tree, secrets)
    }

    /// Finds the parts to remove from any other JSON text, which must be valid.
    pub(crate) fn in_json(
        self,
        text: &str,
        secrets: Vec<Zeroizing<String>>,
    ) -> Result<Disclosed, Undisclosable> {
        let tree = Tree::read(text).ok_or(Undisclosable)?;
        self.find(tree, secrets)
    }

    fn find(
        self,
        mut tree: Tree<'_>,
        mut secrets: Vec<Zeroizing<String>>,
    ) -> Result<Disclosed, Undisclosable> {
        for member in &mut tree.members {
            let may_go = member.role == Role::Other && !member.is_empty();
            member.goes = may_go && self.names(&member.name);
        }
        self.set_labelled(&mut tree);
        self.set_short(&mut tree);
        for Scalar { raw, owner } in &tree.scalars {
            let is_gone = |at: &usize| tree.is_within(*at, |member| member.goes);
            let Some(at) = owner.filter(is_gone) else {
                continue;
            };
            let owner = &tree.members[at];
            // A scope inside a removed object is not a secret: the response may name the same scope
            // elsewhere.
            if !owner.goes && STANDARD.contains(&&*owner.name) {
                continue;
            }
            let value = Zeroizing::new(decoded(raw).into_owned());
            let shortest = if owner.goes {
                SHORTEST_SECRET
            } else {
                LONG_SECRET
            };
            let is_literal = matches!(value.as_str(), "null" | "true" | "false");
            if value.len() >= shortest && !is_literal {
                add_secret(&mut secrets, value)?;
            }
        }
        let mentions_any = |raw: &str, shortest: usize| {
            let mut searched = secrets.iter().filter(|secret| secret.len() >= shortest);
            searched.any(|secret| mentions(raw.as_bytes(), secret))
        };
        let is_secret = |raw: &str| {
            let value = decoded(raw);
            secrets.iter().any(|secret| **secret == *value)
        };
        let discloses = |raw: &str| mentions_any(raw, 0) || self.found_in(raw.as_bytes());
        for member in &mut tree.members {
            member.goes |= member.role == Role::Other && mentions_any(member.raw_name, 0);
        }
        for Scalar { raw, owner } in &tree.scalars {
            let Some(at) = *owner else {
                // The text is not an object but, for example, an array of strings: no part of it
                // can be removed by itself.
                if discloses(raw) {
                    return Err(Undisclosable);
                }
                continue;
            };
            let owner = &mut tree.members[at];
            match owner.role {
                Role::AccessToken | Role::Standard if mentions_any(raw, LONG_SECRET) => {
                    return Err(Undisclosable);
                }
                Role::AccessToken if is_secret(raw) => return Err(Undisclosable),
                // A standard member such as `scope` may look like an assignment, but not like an
                // object, a form or an element.
                Role::Standard
                    if raw.bytes().any(|byte| b"{=<".contains(&byte))
                        && self.found_in(raw.as_bytes()) =>
                {
                    return Err(Undisclosable);
                }
                Role::Kept if mentions_any(raw, 0) => owner.goes = true,
                Role::Other if discloses(raw) => owner.goes = true,
                Role::Replaced | Role::AccessToken | Role::Standard | Role::Kept | Role::Other => {}
            }
        }
        let cuts = tree.cuts();
        Ok(Disclosed { cuts, secrets })
    }

    /// Marks members that hold a token whose name is the value of another member of the same
    /// object.
    fn set_labelled(self, tree: &mut Tree<'_>) {
        let names_token = |label: &str| names::is_exact(label) && self.names(label);
        let is_label = |member: &&Member<'_>| {
            member.role == Role::Other
                && is_one_of(&member.name, &LABELS)
                && member.string().is_some_and(|label| names_token(&label))
        };
        let labels = tree.members.iter().filter(is_label);
        let mut objects: Vec<_> = labels.map(|label| label.object).collect();
        objects.sort_unstable();
        for member in &mut tree.members {
            member.goes |= objects.binary_search(&member.object).is_ok()
                && member.role == Role::Other
                && is_one_of(&member.name, &LABELLED)
                && member.string().is_some_and(|value| is_opaque(&value));
        }
    }

    /// Marks members that hold a token under the first word of its name (`{"refresh":"…"}`), or
    /// below it (`{"refresh":{"token":"…"}}`).
    fn set_short(self, tree: &mut Tree<'_>) {
        let is_short =
            |member: &Member<'_>| member.role == Role::Other && self.shortens(&member.name);
        // Most responses have no such member.
        if !tree.members.iter().any(is_short) {
            return;
        }
        for at in 0..tree.members.len() {
            let member = &tree.members[at];
            let is_below = || is_one_of(&member.name, &LABELLED) && tree.is_within(at, is_short);
            let holds_token = (is_short(member) || is_below())
                && member.string().is_some_and(|value| is_opaque(&value));
            tree.members[at].goes |= holds_token;
        }
    }

    /// Returns the rule for a top-level member of a token response.
    fn role(self, name: &str) -> Role {
        match name {
            "access_token" if self == Self::RefreshTokens => Role::AccessToken,
            "access_token" | "refresh_token" => Role::Replaced,
            "id_token"
                if matches!(
                    self,
                    Self::AllTokens {
                        keep_id_token: true
                    }
                ) =>
            {
                Role::Kept
            }
            name if STANDARD.contains(&name) => Role::Standard,
            _ => Role::Other,
        }
    }

    /// Returns whether a response that cannot be changed, such as an error, discloses a token or
    /// one of the `secrets`.
    pub(crate) fn discloses(self, headers: &HeaderMap, body: &[u8], secrets: &[&str]) -> bool {
        secrets.iter().any(|secret| mentions(body, secret))
            || headers
                .iter()
                .any(|(name, value)| self.in_header(name, value, secrets))
            || self.in_body(body)
    }

    fn in_body(self, body: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(body) else {
            // The body has another charset, or is not text.
            return self != Self::RefreshTokens || body.contains(&0) || self.found_in(body);
        };
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            return text.contains('\0') || self.found_in(body);
        }
        self.in_json(text, Vec::new())
            .map_or(true, |found| !found.cuts.is_empty())
    }

    fn in_header(
        self,
        name: &HeaderName,
        value: &HeaderValue,
        secrets: &[impl AsRef<str>],
    ) -> bool {
        let names = !names::COMMON_HEADERS.contains(name) && self.names(name.as_str());
        let value = value.as_bytes();
        // A number is a count of tokens, such as that of a rate limit.
        (names && !value.iter().all(u8::is_ascii_digit))
            || secrets
                .iter()
                .any(|secret| mentions(value, secret.as_ref()))
            || self.found_in(value)
    }

    /// Removes the headers that disclose a token or one of the `secrets`.
    pub(crate) fn strip(self, headers: &mut HeaderMap, secrets: &[impl AsRef<str>]) {
        let disclosing = |(name, value): (&HeaderName, &HeaderValue)| {
            self.in_header(name, value, secrets).then(|| name.clone())
        };
        for name in headers.iter().filter_map(disclosing).collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

/// Adds a secret that is not known yet. The limit applies to each addition, so that a response with
/// thousands of tokens does not cost as many comparisons for each of them.
fn add_secret(
    secrets: &mut Vec<Zeroizing<String>>,
    secret: Zeroizing<String>,
) -> Result<(), Undisclosable> {
    if secrets.contains(&secret) {
        return Ok(());
    }
    if secrets.len() >= MOST_SECRETS {
        return Err(Undisclosable);
    }
    secrets.push(secret);
    Ok(())
}

/// Returns whether a text may be a token rather than prose, a setting or a number.
fn is_opaque(text: &str) -> bool {
    text.len() >= LONG_SECRET && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests;
