//! Parses a JSON text into its members at every depth, with their positions.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::wire::secret_str::unescaped;

/// The deepest nesting that is parsed.
const DEEPEST: usize = 64;

/// A member of an object.
pub(super) struct Member {
    /// The name, without its quotes.
    pub(super) name: Range<usize>,
    /// Its value, with its quotes.
    value: Range<usize>,
    /// The member whose value contains it.
    parent: Option<usize>,
    /// The number of its object.
    pub(super) object: usize,
    /// The next member of the same object.
    next: Option<usize>,
}

/// A string (without its quotes), a number or a literal, as a value or in an array.
pub(super) struct Scalar {
    pub(super) at: Range<usize>,
    /// The innermost member whose value is or contains it.
    pub(super) owner: Option<usize>,
}

/// A parsed JSON text.
pub(super) struct Tree {
    members: Vec<Member>,
    scalars: Vec<Scalar>,
    objects: usize,
}

/// An object or an array whose end has not been read yet.
struct Open {
    /// The number of an object; `None` for an array.
    object: Option<usize>,
    /// The member whose value contains it, if any.
    owner: Option<usize>,
    /// The last member of an object.
    last: Option<usize>,
}

impl Open {
    fn owner_of_values(&self) -> Option<usize> {
        if self.object.is_some() {
            self.last
        } else {
            self.owner
        }
    }
}

impl Tree {
    /// Parses a text that is known to be valid JSON. Returns `None` if it is nested too deeply.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // A token answer has five to eight members.
        let mut tree = Self {
            members: Vec::with_capacity(8),
            scalars: Vec::with_capacity(8),
            objects: 0,
        };
        let mut open: Vec<Open> = Vec::with_capacity(4);
        let mut at = 0;
        let mut name_follows = false;
        while let Some(byte) = bytes.get(at) {
            let owner = open.last().and_then(Open::owner_of_values);
            match byte {
                b'{' | b'[' => {
                    let is_object = *byte == b'{';
                    open.push(Open {
                        object: is_object.then_some(tree.objects),
                        owner,
                        last: None,
                    });
                    tree.objects += usize::from(is_object);
                    name_follows = is_object;
                    if open.len() > DEEPEST {
                        return None;
                    }
                    tree.begin_value(owner, at);
                    at += 1;
                }
                b'}' | b']' => {
                    let closed = open.pop()?;
                    at += 1;
                    tree.end_value(closed.owner, at);
                }
                b',' => {
                    name_follows = open.last().is_some_and(|open| open.object.is_some());
                    at += 1;
                }
                b'"' if name_follows => {
                    let name = string(bytes, at)?;
                    at = name.end + 1;
                    name_follows = false;
                    let open = open.last_mut()?;
                    let number = tree.members.len();
                    if let Some(last) = open.last.and_then(|last| tree.members.get_mut(last)) {
                        last.next = Some(number);
                    }
                    let (parent, object) = (open.owner, open.object?);
                    open.last = Some(number);
                    tree.members.push(Member {
                        name,
                        value: at..at,
                        parent,
                        object,
                        next: None,
                    });
                }
                b'"' => {
                    let string = string(bytes, at)?;
                    tree.begin_value(owner, at);
                    at = string.end + 1;
                    tree.end_value(owner, at);
                    tree.scalars.push(Scalar { at: string, owner });
                }
                b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                _ => {
                    let ends = |byte: &u8| {
                        matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')
                    };
                    let rest = bytes.get(at..)?;
                    let end = at + rest.iter().position(ends).unwrap_or(rest.len());
                    tree.begin_value(owner, at);
                    tree.end_value(owner, end);
                    tree.scalars.push(Scalar { at: at..end, owner });
                    at = end;
                }
            }
        }
        Some(tree)
    }

    /// Records the start of a member's value: the start of the first value that the member owns.
    fn begin_value(&mut self, owner: Option<usize>, at: usize) {
        if let Some(member) = owner.and_then(|owner| self.members.get_mut(owner))
            && member.value.end == member.name.end + 1
        {
            member.value = at..at;
        }
    }

    /// Records the end of a member's value: the end of the last value that the member owns.
    fn end_value(&mut self, owner: Option<usize>, at: usize) {
        if let Some(member) = owner.and_then(|owner| self.members.get_mut(owner)) {
            member.value.end = at;
        }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn scalars(&self) -> &[Scalar] {
        &self.scalars
    }

    /// Returns whether this is a member of the outermost object.
    pub(super) fn is_top_level(&self, at: usize) -> bool {
        self.members
            .get(at)
            .is_some_and(|member| member.parent.is_none() && member.object == 0)
    }

    /// Returns whether the value cannot hold a token: null, a boolean or an empty string.
    pub(super) fn is_empty_value(&self, text: &str, at: usize) -> bool {
        let value = self
            .members
            .get(at)
            .and_then(|member| text.get(member.value.clone()));
        matches!(value, Some("null" | "true" | "false" | "\"\""))
    }

    /// Returns the range of a string value, without its quotes; `None` for a value of another type.
    pub(super) fn string(&self, text: &str, at: usize) -> Option<Range<usize>> {
        let value = &self.members.get(at)?.value;
        let is_string = text.get(value.clone())?.starts_with('"');
        is_string.then(|| value.start + 1..value.end - 1)
    }

    /// Returns whether the flag of a member, or of one that contains it, is set.
    pub(super) fn is_within(&self, mut at: usize, flags: &[bool]) -> bool {
        loop {
            if flags.get(at).copied().unwrap_or_default() {
                return true;
            }
            match self.members.get(at).and_then(|member| member.parent) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// Returns the ranges to cut out so that these members are removed and the rest is valid JSON,
    /// in ascending order.
    ///
    /// The comma before a member is cut with it if an earlier member of the same object stays,
    /// otherwise the comma after it.
    pub(super) fn cuts(&self, goes: &[bool]) -> Vec<Range<usize>> {
        if !goes.contains(&true) {
            return Vec::new();
        }
        let mut before: Vec<Option<usize>> = vec![None; self.objects];
        let mut cuts = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            if member
                .parent
                .is_some_and(|parent| self.is_within(parent, goes))
            {
                continue;
            }
            let Some(before) = before.get_mut(member.object) else {
                continue;
            };
            let (start, end) = (member.name.start - 1, member.value.end);
            let goes = goes.get(at).copied().unwrap_or_default();
            if goes {
                let next = member.next.and_then(|next| self.members.get(next));
                cuts.push(match (*before, next) {
                    (Some(before), _) => before..end,
                    (None, Some(next)) => start..next.name.start - 1,
                    (None, None) => start..end,
                });
            }
            if !goes || before.is_some() {
                *before = Some(end);
            }
        }
        cuts
    }
}

/// Returns the range of the string whose opening quote is at `at`, without the quotes.
fn string(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let mut end = at + 1;
    loop {
        end += memchr2(b'"', b'\\', bytes.get(end..)?)?;
        if bytes.get(end) == Some(&b'"') {
            return Some(at + 1..end);
        }
        end += 2;
    }
}

/// Returns the decoded text of a scalar. Half a surrogate pair stays escaped.
pub(super) fn decoded<'a>(text: &'a str, at: &Range<usize>) -> Cow<'a, str> {
    let raw = text.get(at.clone()).unwrap_or_default();
    if memchr(b'\\', raw.as_bytes()).is_some() {
        Cow::Owned(String::from_utf8_lossy(&unescaped(raw.as_bytes())).into_owned())
    } else {
        Cow::Borrowed(raw)
    }
}
