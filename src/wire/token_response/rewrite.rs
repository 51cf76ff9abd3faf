//! Replaces and removes single members of a response. Every other byte stays as it is.

use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use memchr::memrchr;
use zeroize::Zeroizing;

use super::{REFRESH_LIFETIMES, TokenResponse, TokenResponseError, seconds};
use crate::wire::disclosure::{Disclosed, Undisclosable, Withheld};

impl TokenResponse {
    /// Returns the body with this refresh token, which expires after `lifetime`. `authorization` is
    /// the time until its grant ends even if it is rotated, or `None` if the grant has no such end.
    ///
    /// The token, `refresh_token_timeout` and `authorization_expires_in` are added if they are
    /// missing (draft-ietf-oauth-refresh-token-expiration §6.1). Without an end of the grant,
    /// `authorization_expires_in` is removed (§6.1.2). The two older names of the lifetime are
    /// replaced, but not added.
    pub fn with_refresh_token(
        &self,
        token: &str,
        lifetime: Duration,
        authorization: Option<Duration>,
    ) -> Bytes {
        let edit = |name: &str| match name {
            "refresh_token" => Edit::Text(token),
            "authorization_expires_in" => authorization.map_or(Edit::Remove, Edit::seconds),
            name if REFRESH_LIFETIMES.contains(&name) => Edit::seconds(lifetime),
            _ => Edit::Keep,
        };
        let added = [
            "refresh_token",
            "refresh_token_timeout",
            "authorization_expires_in",
        ];
        self.edited(token.len() + 192, edit, &added)
    }

    /// Returns the response with the refresh token `used`, if it has none: the client keeps that
    /// one.
    pub fn with_own_refresh_token(&self, used: &str) -> Bytes {
        let edit = |name: &str| match name {
            "refresh_token" if self.refresh_token().is_none() => Edit::Text(used),
            _ => Edit::Keep,
        };
        self.edited(used.len() + 32, edit, &["refresh_token"])
    }

    /// Returns the response with another access token. With a `lifetime`, `expires_in` states that
    /// of the token, also if the response has none.
    pub fn with_access_token(
        &self,
        token: &str,
        lifetime: Option<Duration>,
    ) -> Result<Self, TokenResponseError> {
        let edit = |name: &str| match name {
            "access_token" => Edit::Text(token),
            "expires_in" => lifetime.map_or(Edit::Keep, Edit::seconds),
            _ => Edit::Keep,
        };
        Self::parse(self.edited(token.len() + 48, edit, &["expires_in"]))
    }

    /// Returns the response without the withheld tokens, except the two that the layer replaces.
    /// Also returns every token that was found, including `used` and those two, so that headers can
    /// be searched for them.
    ///
    /// Every byte that is not part of a removed member is kept.
    pub fn disclosed(
        self,
        withheld: Withheld,
        used: Option<&str>,
    ) -> Result<(Self, Vec<Zeroizing<String>>), TokenResponseError> {
        let access_token = match withheld {
            Withheld::RefreshTokens => None,
            Withheld::AllTokens { .. } => self.access_token(),
        };
        let known = [access_token, self.refresh_token(), used];
        let known = known
            .into_iter()
            .flatten()
            .map(|token| Zeroizing::new(token.to_owned()))
            .collect();
        let text = std::str::from_utf8(&self.body).map_err(|_| TokenResponseError::NotJson)?;
        let found = withheld
            .in_token_response(text, known)
            .map_err(|Undisclosable| TokenResponseError::Undisclosable)?;
        let Disclosed { cuts, secrets } = found;
        if cuts.is_empty() {
            return Ok((self, secrets));
        }
        Ok((Self::parse(cut(&self.body, cuts))?, secrets))
    }

    /// Returns the body without the refresh token and without the lifetimes of the token and of the
    /// user's authorization.
    pub fn without_refresh_token(&self) -> Bytes {
        let edit = |name: &str| match name {
            "refresh_token" | "authorization_expires_in" => Edit::Remove,
            name if REFRESH_LIFETIMES.contains(&name) => Edit::Remove,
            _ => Edit::Keep,
        };
        self.edited(0, edit, &[])
    }

    /// Returns the body for a replay: every lifetime is reduced by the whole seconds of `age`.
    pub fn aged(&self, age: Duration) -> Bytes {
        let age = age.as_secs();
        if age == 0 {
            return self.body.clone();
        }
        let edit = |name: &str| match name {
            "expires_in" | "authorization_expires_in" => self.reduced(name, age),
            name if REFRESH_LIFETIMES.contains(&name) => self.reduced(name, age),
            _ => Edit::Keep,
        };
        self.edited(0, edit, &[])
    }

    fn reduced(&self, name: &str, age: u64) -> Edit<'static> {
        match self.value(name).and_then(seconds) {
            Some(left @ 1..) => Edit::Seconds(left.saturating_sub(age)),
            _ => Edit::Keep,
        }
    }

    /// Returns the body with its known members edited. Members of `added` that are missing are
    /// appended, unless their edit removes them. `more` is the number of bytes that are added at
    /// most.
    fn edited<'a>(&self, more: usize, edit: impl Fn(&str) -> Edit<'a>, added: &[&str]) -> Bytes {
        let mut out = Splice::new(&self.body, more);
        // The end of the last member, once one was kept. From then on, a member is removed together
        // with the comma before it; until then, with the comma after it.
        let mut before = None;
        let mut members = self.members.iter().peekable();
        while let Some(member) = members.next() {
            let end = member.value.end;
            let edit = member.known.map_or(Edit::Keep, &edit);
            if edit == Edit::Remove {
                out.replace(match (before, members.peek()) {
                    (Some(before), _) => before..end,
                    (None, Some(next)) => member.start..next.start,
                    (None, None) => member.start..end,
                });
            } else if edit != Edit::Keep {
                let quoted = self.body.get(member.value.start) == Some(&b'"');
                edit.write(out.replace(member.value.clone()), quoted);
            }
            if edit != Edit::Remove || before.is_some() {
                before = Some(end);
            }
        }
        let end = match self.members.last() {
            Some(last) => last.value.end,
            // Before the brace that closes the empty object.
            None => memrchr(b'}', &self.body).unwrap_or_default(),
        };
        let mut comma = if before.is_some() { "," } else { "" };
        for &name in added {
            let edit = edit(name);
            if self.member(name).is_some() || matches!(edit, Edit::Keep | Edit::Remove) {
                continue;
            }
            let out = out.replace(end..end);
            for part in [comma, "\"", name, "\":"] {
                out.extend_from_slice(part.as_bytes());
            }
            edit.write(out, false);
            comma = ",";
        }
        out.finish()
    }
}

/// A change of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit<'a> {
    Keep,
    Remove,
    Text(&'a str),
    Seconds(u64),
}

impl Edit<'_> {
    /// Returns the edit that writes the whole seconds of `time`.
    const fn seconds(time: Duration) -> Self {
        Self::Seconds(time.as_secs())
    }

    /// Writes the new value. Seconds are written as a string if `quoted`.
    fn write(self, out: &mut Vec<u8>, quoted: bool) {
        let written = match self {
            Self::Keep | Self::Remove => Ok(()),
            Self::Text(text) => serde_json::to_writer(out, text).map_err(Into::into),
            Self::Seconds(seconds) if quoted => write!(out, "\"{seconds}\""),
            Self::Seconds(seconds) => write!(out, "{seconds}"),
        };
        debug_assert!(written.is_ok(), "writing to a vector does not fail");
    }
}

/// Returns `body` without these ranges, which are in ascending order.
pub(crate) fn cut(body: &[u8], ranges: Vec<Range<usize>>) -> Bytes {
    let mut out = Splice::new(body, 0);
    for range in ranges {
        out.replace(range);
    }
    out.finish()
}

/// A copy of a body in which some ranges are replaced, in ascending order.
struct Splice<'a> {
    body: &'a [u8],
    /// The end of the part that is copied already.
    done: usize,
    out: Vec<u8>,
}

impl<'a> Splice<'a> {
    /// Reserves room for the body and `more` bytes, because a buffer that grows leaves copies of a
    /// token in memory.
    fn new(body: &'a [u8], more: usize) -> Self {
        Self {
            body,
            done: 0,
            out: Vec::with_capacity(body.len() + more),
        }
    }

    /// Skips this range, and returns the buffer to which its replacement is written.
    fn replace(&mut self, range: Range<usize>) -> &mut Vec<u8> {
        let kept = self.body.get(self.done..range.start);
        self.out.extend_from_slice(kept.unwrap_or_default());
        self.done = range.end;
        &mut self.out
    }

    fn finish(mut self) -> Bytes {
        self.replace(self.body.len()..self.body.len());
        self.out.into()
    }
}
