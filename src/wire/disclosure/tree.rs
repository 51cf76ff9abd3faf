//! Parses a JSON text into its members at every depth, with their positions.

use std::borrow::Cow;
use std::iter;
use std::ops::Range;

use memchr::{memchr, memchr2};

use super::Role;
use crate::wire::secret_str::unescaped;

/// The deepest nesting that is parsed.
const DEEPEST: usize = 64;

/// A member of an object.
pub(super) struct Member<'a> {
    /// The name, without its quotes.
    pub(super) raw_name: &'a str,
    pub(super) name: Cow<'a, str>,
    /// Its value, with its quotes.
    value: &'a str,
    /// The position of name and value.
    at: Range<usize>,
    /// The position of the next member of the same object.
    next: Option<usize>,
    /// The member whose value contains it.
    parent: Option<usize>,
    /// The number of its object.
    pub(super) object: usize,
    pub(super) role: Role,
    /// Whether it is removed.
    pub(super) goes: bool,
}

impl Member<'_> {
    /// Returns whether this is a member of the outermost object.
    pub(super) const fn is_top_level(&self) -> bool {
        self.parent.is_none() && self.object == 0
    }

    /// Returns whether the value cannot hold a token: null, a boolean or an empty string.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.value, "null" | "true" | "false" | "\"\"")
    }

    /// Returns the decoded value of a string; `None` for a value of another type.
    pub(super) fn string(&self) -> Option<Cow<'_, str>> {
        let inner = self.value.strip_prefix('"')?.strip_suffix('"')?;
        Some(decoded(inner))
    }
}

/// A string (without its quotes), a number or a literal, as a value or in an array.
pub(super) struct Scalar<'a> {
    pub(super) raw: &'a str,
    /// The innermost member whose value is or contains it.
    pub(super) owner: Option<usize>,
}

/// A parsed JSON text.
pub(super) struct Tree<'a> {
    text: &'a str,
    /// The position up to which the text has been read.
    at: usize,
    pub(super) members: Vec<Member<'a>>,
    pub(super) scalars: Vec<Scalar<'a>>,
    objects: usize,
}

impl<'a> Tree<'a> {
    /// Parses a text that is known to be valid JSON. Returns `None` if it is nested too deeply.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let mut tree = Self {
            text,
            at: 0,
            // A token answer has five to eight members.
            members: Vec::with_capacity(8),
            scalars: Vec::with_capacity(8),
            objects: 0,
        };
        tree.value(None, 0)?;
        Some(tree)
    }

    /// Returns whether `holds` is true of a member or of one that contains it.
    pub(super) fn is_within(&self, at: usize, holds: impl Fn(&Member<'a>) -> bool) -> bool {
        let around = |member: &&Member<'a>| self.members.get(member.parent?);
        iter::successors(self.members.get(at), around).any(holds)
    }

    /// Returns the ranges to cut out so that the members that go are removed and the rest is valid
    /// JSON, in ascending order.
    ///
    /// The comma before a member is cut with it if an earlier member of the same object stays,
    /// otherwise the comma after it.
    pub(super) fn cuts(&self) -> Vec<Range<usize>> {
        let mut cuts = Vec::new();
        if !self.members.iter().any(|member| member.goes) {
            return cuts;
        }
        let mut before: Vec<Option<usize>> = vec![None; self.objects];
        for member in &self.members {
            let is_gone = |parent| self.is_within(parent, |member| member.goes);
            if member.parent.is_some_and(is_gone) {
                continue;
            }
            let before = &mut before[member.object];
            let Range { start, end } = member.at;
            if member.goes {
                cuts.push(match (*before, member.next) {
                    (Some(before), _) => before..end,
                    (None, Some(next)) => start..next,
                    (None, None) => start..end,
                });
            }
            if !member.goes || before.is_some() {
                *before = Some(end);
            }
        }
        cuts
    }

    /// Reads a value that is or is in the value of the member `owner`, below `depth` objects and
    /// arrays. Returns `None` if it is nested too deeply.
    fn value(&mut self, owner: Option<usize>, depth: usize) -> Option<()> {
        match self.peek()? {
            b'{' | b'[' if depth == DEEPEST => return None,
            b'{' => self.object(owner, depth)?,
            b'[' => {
                self.at += 1;
                while self.peek()? != b']' {
                    self.value(owner, depth + 1)?;
                }
                self.at += 1;
            }
            b'"' => {
                let raw = self.string()?;
                self.scalars.push(Scalar { raw, owner });
            }
            _ => {
                let ends = |byte: &u8| b",}] \t\n\r".contains(byte);
                let rest = self.text.get(self.at..)?;
                let end = rest.as_bytes().iter().position(ends);
                let raw = rest.get(..end.unwrap_or(rest.len()))?;
                // A text that is not JSON must not be read forever.
                if raw.is_empty() {
                    return None;
                }
                self.at += raw.len();
                self.scalars.push(Scalar { raw, owner });
            }
        }
        Some(())
    }

    fn object(&mut self, parent: Option<usize>, depth: usize) -> Option<()> {
        let object = self.objects;
        self.objects += 1;
        self.at += 1;
        let mut next = self.peek()?;
        while next != b'}' {
            let start = self.at;
            let raw_name = self.string()?;
            let number = self.members.len();
            self.members.push(Member {
                raw_name,
                name: decoded(raw_name),
                value: "",
                at: start..start,
                next: None,
                parent,
                object,
                role: Role::Other,
                goes: false,
            });
            self.peek()?;
            let value = self.at;
            self.value(Some(number), depth + 1)?;
            let end = self.at;
            next = self.peek()?;
            let member = &mut self.members[number];
            member.value = self.text.get(value..end)?;
            member.at = start..end;
            member.next = (next != b'}').then_some(self.at);
        }
        self.at += 1;
        Some(())
    }

    /// Skips white space, colons and commas. Returns the byte after them.
    fn peek(&mut self) -> Option<u8> {
        let is_skipped = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b':' | b',');
        let rest = self.text.as_bytes().get(self.at..)?;
        let skipped = rest.iter().position(|byte| !is_skipped(byte))?;
        self.at += skipped;
        rest.get(skipped).copied()
    }

    /// Reads a string. Returns it without its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            let rest = self.text.as_bytes().get(end..)?;
            let found = memchr2(b'"', b'\\', rest)?;
            end += found;
            if rest.get(found) == Some(&b'"') {
                self.at = end + 1;
                return self.text.get(start..end);
            }
            end += 2;
        }
    }
}

/// Returns the decoded text of a scalar or a name. Half a surrogate pair stays escaped.
pub(super) fn decoded(raw: &str) -> Cow<'_, str> {
    if memchr(b'\\', raw.as_bytes()).is_some() {
        Cow::Owned(String::from_utf8_lossy(&unescaped(raw.as_bytes())).into_owned())
    } else {
        Cow::Borrowed(raw)
    }
}
