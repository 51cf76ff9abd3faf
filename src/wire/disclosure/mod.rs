//! Finds tokens of the inner service in its answers, so that they can be removed or withheld.
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

use self::names::is_assigned;
use self::tree::{Member, Scalar, Tree, decoded};
use crate::wire::secret_str::{Needle, any_decoding};

/// Members of a token answer, other than tokens, that are standard or that the layer reads (RFC
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

/// The most secrets that are searched for in one answer. An answer with more is withheld.
const MOST_SECRETS: usize = 64;

/// The tokens of the inner service that must not reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Refresh tokens only: clients get the access tokens of the inner service.
    RefreshTokens,
    /// Every token. A top-level `id_token` may be exempt.
    AllTokens {
        /// Whether the top-level `id_token` of a token answer stays.
        keep_id_token: bool,
    },
}

/// The error for an answer that must not be passed on, not even in part.
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
    /// A top-level member that is never removed: the answer is withheld if it discloses a token.
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

    const fn keeps_id_token(self) -> bool {
        matches!(
            self,
            Self::AllTokens {
                keep_id_token: true
            }
        )
    }

    /// Returns whether a member, header, cookie or parameter of this name holds a withheld token.
    pub(crate) fn names(self, name: &str) -> bool {
        match self {
            Self::RefreshTokens => names::is_refresh_token(name),
            Self::AllTokens { .. } => names::is_token(name),
        }
    }

    /// Returns whether a name is only the first word of the name of a withheld token.
    fn shortens(self, name: &str) -> bool {
        match self {
            Self::RefreshTokens => names::is_refresh(name),
            Self::AllTokens { .. } => names::is_refresh(name) || names::is_access(name),
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

    /// Finds the parts to remove from a token answer that is otherwise passed on.
    ///
    /// `text` must be valid JSON. `secrets` are token values that are already known. If a standard
    /// member discloses a token, the answer is withheld: removing that member would change the
    /// meaning of the answer.
    pub(crate) fn in_token_answer(
        self,
        text: &str,
        secrets: Vec<Zeroizing<String>>,
    ) -> Result<Disclosed, Undisclosable> {
        self.find(text, secrets, true)
    }

    /// Finds the parts to remove from any other JSON text.
    pub(crate) fn in_json(
        self,
        text: &str,
        secrets: Vec<Zeroizing<String>>,
    ) -> Result<Disclosed, Undisclosable> {
        self.find(text, secrets, false)
    }

    fn find(
        self,
        text: &str,
        mut secrets: Vec<Zeroizing<String>>,
        token_answer: bool,
    ) -> Result<Disclosed, Undisclosable> {
        let tree = Tree::read(text).ok_or(Undisclosable)?;
        let mut roles = Vec::with_capacity(tree.members().len());
        let mut goes = Vec::with_capacity(tree.members().len());
        for (at, member) in tree.members().iter().enumerate() {
            let name = decoded(text, &member.name);
            let role = if token_answer && tree.is_top_level(at) {
                self.role(&name)
            } else {
                Role::Other
            };
            goes.push(role == Role::Other && !tree.is_empty_value(text, at) && self.names(&name));
            roles.push(role);
        }
        self.set_labelled(text, &tree, &roles, &mut goes);
        self.set_short(text, &tree, &roles, &mut goes);
        for Scalar { at, owner } in tree.scalars() {
            let Some(owner) = *owner else { continue };
            if tree.is_within(owner, &goes) {
                let named = goes.get(owner).copied().unwrap_or_default();
                let name = tree
                    .members()
                    .get(owner)
                    .map(|member| decoded(text, &member.name));
                // A scope inside a removed object is not a secret: the answer may name the same
                // scope elsewhere.
                if !named && name.is_some_and(|name| STANDARD.contains(&&*name)) {
                    continue;
                }
                let value = Zeroizing::new(decoded(text, at).into_owned());
                let shortest = if named { SHORTEST_SECRET } else { LONG_SECRET };
                let is_literal = matches!(value.as_str(), "null" | "true" | "false");
                if value.len() >= shortest && !is_literal {
                    add_secret(&mut secrets, value)?;
                }
            }
        }
        let raw = |at: &Range<usize>| text.as_bytes().get(at.clone()).unwrap_or_default();
        let needles = needles(&secrets);
        let mentions_any = |at: &Range<usize>, shortest: usize| {
            needles
                .iter()
                .any(|needle| needle.len() >= shortest && needle.is_in(raw(at)))
        };
        let is_secret = |at: &Range<usize>| {
            let value = decoded(text, at);
            secrets.iter().any(|secret| **secret == *value)
        };
        let discloses = |at: &Range<usize>| mentions_any(at, 0) || self.found_in(raw(at));
        for (at, member) in tree.members().iter().enumerate() {
            if roles.get(at) == Some(&Role::Other) && mentions_any(&member.name, 0) {
                set(&mut goes, at);
            }
        }
        for Scalar { at, owner } in tree.scalars() {
            let Some(owner) = *owner else {
                // The text is not an object but, for example, an array of strings: no part of it
                // can be removed by itself.
                if discloses(at) {
                    return Err(Undisclosable);
                }
                continue;
            };
            match roles.get(owner).copied().unwrap_or(Role::Other) {
                Role::AccessToken | Role::Standard if mentions_any(at, LONG_SECRET) => {
                    return Err(Undisclosable);
                }
                Role::AccessToken if is_secret(at) => return Err(Undisclosable),
                // A standard member such as `scope` may look like an assignment, but not like an
                // object, a form or an element.
                Role::Standard
                    if raw(at).iter().any(|byte| b"{=<".contains(byte))
                        && self.found_in(raw(at)) =>
                {
                    return Err(Undisclosable);
                }
                Role::Kept if mentions_any(at, 0) => set(&mut goes, owner),
                Role::Other if discloses(at) => set(&mut goes, owner),
                Role::Replaced | Role::AccessToken | Role::Standard | Role::Kept | Role::Other => {}
            }
        }
        let cuts = tree.cuts(&goes);
        Ok(Disclosed { cuts, secrets })
    }

    /// Sets the flags of members that hold a token whose name is the value of another member of the
    /// same object.
    fn set_labelled(self, text: &str, tree: &Tree, roles: &[Role], goes: &mut [bool]) {
        let others = || {
            let members = tree.members().iter().enumerate();
            members.filter(move |(at, _)| roles.get(*at) == Some(&Role::Other))
        };
        let mut objects = Vec::new();
        for (at, member) in others() {
            if names::is_label(&decoded(text, &member.name))
                && let Some(label) = tree.string(text, at)
                && let label = decoded(text, &label)
                && names::is_exact(&label)
                && self.names(&label)
            {
                objects.push(member.object);
            }
        }
        objects.sort_unstable();
        if objects.is_empty() {
            return;
        }
        for (at, member) in others() {
            if objects.binary_search(&member.object).is_ok()
                && names::is_labelled(&decoded(text, &member.name))
                && let Some(value) = tree.string(text, at)
                && is_opaque(&decoded(text, &value))
            {
                set(goes, at);
            }
        }
    }

    /// Sets the flags of members that hold a token under the first word of its name
    /// (`{"refresh":"…"}`), or below it (`{"refresh":{"token":"…"}}`).
    fn set_short(self, text: &str, tree: &Tree, roles: &[Role], goes: &mut [bool]) {
        let is_short = |(at, member): (usize, &Member)| {
            roles.get(at) == Some(&Role::Other) && self.shortens(&decoded(text, &member.name))
        };
        let members = || tree.members().iter().enumerate();
        // Most responses have no such member, and cost no allocation.
        if !members().any(is_short) {
            return;
        }
        let short: Vec<_> = members().map(is_short).collect();
        for (at, member) in members() {
            let is_short = short.get(at).copied().unwrap_or_default();
            let is_below =
                || names::is_labelled(&decoded(text, &member.name)) && tree.is_within(at, &short);
            if (is_short || is_below())
                && let Some(value) = tree.string(text, at)
                && is_opaque(&decoded(text, &value))
            {
                set(goes, at);
            }
        }
    }

    /// Returns the rule for a top-level member of a token answer.
    fn role(self, name: &str) -> Role {
        match name {
            "access_token" if self == Self::RefreshTokens => Role::AccessToken,
            "access_token" | "refresh_token" => Role::Replaced,
            "id_token" if self.keeps_id_token() => Role::Kept,
            name if STANDARD.contains(&name) => Role::Standard,
            _ => Role::Other,
        }
    }

    /// Returns whether an answer that cannot be changed, such as an error, discloses a token or one
    /// of the `secrets`.
    pub(crate) fn discloses(self, headers: &HeaderMap, body: &[u8], secrets: &[&str]) -> bool {
        let needles = needles(secrets);
        needles.iter().any(|needle| needle.is_in(body))
            || headers
                .iter()
                .any(|(name, value)| self.in_header(name, value, &needles))
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

    fn in_header(self, name: &HeaderName, value: &HeaderValue, needles: &[Needle<'_>]) -> bool {
        let names = !names::COMMON_HEADERS.contains(name) && self.names(name.as_str());
        // A number is a count of tokens, such as that of a rate limit.
        (names && !value.as_bytes().iter().all(u8::is_ascii_digit))
            || needles.iter().any(|needle| needle.is_in(value.as_bytes()))
            || self.found_in(value.as_bytes())
    }

    /// Removes the headers that disclose a token or one of the `secrets`.
    pub(crate) fn strip(self, headers: &mut HeaderMap, secrets: &[impl AsRef<str>]) {
        let needles = needles(secrets);
        let disclosing = |(name, value): (&HeaderName, &HeaderValue)| {
            self.in_header(name, value, &needles).then(|| name.clone())
        };
        for name in headers.iter().filter_map(disclosing).collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

fn needles(secrets: &[impl AsRef<str>]) -> Vec<Needle<'_>> {
    secrets
        .iter()
        .map(|secret| Needle::new(secret.as_ref()))
        .collect()
}

/// Adds a secret that is not known yet. The limit applies to each addition, so that an answer with
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

fn set(flags: &mut [bool], at: usize) {
    if let Some(flag) = flags.get_mut(at) {
        *flag = true;
    }
}

#[cfg(test)]
mod tests;
