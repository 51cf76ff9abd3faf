//! Replaces and removes single members of a response. Every other byte stays as it is.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::name::Name;
use super::{AnswerError, MemberAt, TokenResponse, seconds};
use crate::wire::disclosure::{Disclosed, Undisclosable, Withheld};

impl TokenResponse {
    /// Returns the body with the refresh token and its lifetime replaced. If there is no refresh
    /// token, it is added as the last member. A lifetime is not added.
    pub fn with_refresh_token(&self, token: &str, refresh_lifetime: Duration) -> Bytes {
        let mut out = Splice::new(&self.body, token.len() + 96);
        let mut replaced = false;
        for MemberAt { known, value, .. } in &self.members {
            match known {
                Some(Name::RefreshToken) => {
                    write_string(out.replace(value.clone()), token);
                    replaced = true;
                }
                Some(known) if known.is_refresh_lifetime() => {
                    let quoted = self.raw(value).starts_with('"');
                    write_seconds(
                        out.replace(value.clone()),
                        refresh_lifetime.as_secs(),
                        quoted,
                    );
                }
                _ => {}
            }
        }
        if !replaced {
            let (end, comma) = self
                .members
                .last()
                .map_or((self.brace, ""), |last| (last.value.end, ","));
            let out = out.replace(end..end);
            out.extend_from_slice(comma.as_bytes());
            out.extend_from_slice(b"\"refresh_token\":");
            write_string(out, token);
        }
        out.finish()
    }

    /// Returns the answer with another access token.
    pub fn with_access_token(&self, token: &str) -> Result<Self, AnswerError> {
        let mut out = Splice::new(&self.body, token.len());
        if let Some(member) = self.member(Name::AccessToken) {
            write_string(out.replace(member.value.clone()), token);
        }
        Self::parse(out.finish())
    }

    /// Returns the answer without the withheld tokens, except the two that the layer replaces. Also
    /// returns every token that was found, including `used` and those two, so that headers can be
    /// searched for them.
    ///
    /// Every byte that is not part of a removed member is kept.
    pub fn disclosed(
        self,
        withheld: Withheld,
        used: Option<&str>,
    ) -> Result<(Self, Vec<Zeroizing<String>>), AnswerError> {
        let access_token = self
            .access_token()
            .filter(|_| withheld != Withheld::RefreshTokens);
        let known = [access_token, self.refresh_token(), used];
        let known = known
            .into_iter()
            .flatten()
            .map(|token| Zeroizing::new(token.to_owned()))
            .collect();
        let text = std::str::from_utf8(&self.body).map_err(|_| AnswerError::NotJson)?;
        let found = withheld
            .in_token_answer(text, known)
            .map_err(|Undisclosable| AnswerError::Undisclosable)?;
        let Disclosed { cuts, secrets } = found;
        if cuts.is_empty() {
            return Ok((self, secrets));
        }
        Ok((Self::parse(cut(&self.body, cuts))?, secrets))
    }

    /// Returns the body without the refresh token and its lifetime.
    pub fn without_refresh_token(&self) -> Bytes {
        self.without(|member| {
            member
                .known
                .is_some_and(|known| known == Name::RefreshToken || known.is_refresh_lifetime())
        })
    }

    fn without(&self, goes: impl Fn(&MemberAt) -> bool) -> Bytes {
        let mut out = Splice::new(&self.body, 0);
        // The end of the last member, once one was kept. From then on, a member is removed together
        // with the comma before it; until then, with the comma after it.
        let mut before = None;
        let mut members = self.members.iter().peekable();
        while let Some(member) = members.next() {
            let end = member.value.end;
            let goes = goes(member);
            if goes {
                out.replace(match (before, members.peek()) {
                    (Some(before), _) => before..end,
                    (None, Some(next)) => member.start..next.start,
                    (None, None) => member.start..end,
                });
            }
            if !goes || before.is_some() {
                before = Some(end);
            }
        }
        out.finish()
    }

    /// Returns the body for a replay: every lifetime is reduced by the whole seconds of `age`.
    pub fn aged(&self, age: Duration) -> Bytes {
        let age = age.as_secs();
        if age == 0 {
            return self.body.clone();
        }
        let mut out = Splice::new(&self.body, 0);
        for MemberAt { known, value, .. } in &self.members {
            if known.is_some_and(|known| known == Name::ExpiresIn || known.is_refresh_lifetime())
                && let Some(seconds) = seconds(self.raw(value)).filter(|seconds| *seconds > 0)
            {
                let quoted = self.raw(value).starts_with('"');
                write_seconds(
                    out.replace(value.clone()),
                    seconds.saturating_sub(age),
                    quoted,
                );
            }
        }
        out.finish()
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

fn write_seconds(out: &mut Vec<u8>, seconds: u64, quoted: bool) {
    let quote = if quoted { "\"" } else { "" };
    out.extend_from_slice(format!("{quote}{seconds}{quote}").as_bytes());
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "writing to a vector does not fail");
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
        self.out
            .extend_from_slice(self.body.get(self.done..range.start).unwrap_or_default());
        self.done = range.end;
        &mut self.out
    }

    fn finish(mut self) -> Bytes {
        self.replace(self.body.len()..self.body.len());
        self.out.into()
    }
}
