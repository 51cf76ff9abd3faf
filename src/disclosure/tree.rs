//! The members of a JSON text at every depth, with their places in it.

use std::ops::Range;

/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// A member of an object.
pub(super) struct Member {
    /// The name, without its quotes.
    pub(super) name: Range<usize>,
    /// Its value, with its quotes.
    value: Range<usize>,
    /// The member in whose value it is.
    parent: Option<usize>,
    /// The number of its object.
    object: usize,
    /// The next member of the same object.
    next: Option<usize>,
}

/// A string (without its quotes), a number or a literal, as a value or in an array.
pub(super) struct Scalar {
    pub(super) at: Range<usize>,
    /// The innermost member whose value it is or is in.
    pub(super) owner: Option<usize>,
}

/// A JSON text that was read.
pub(super) struct Tree {
    members: Vec<Member>,
    scalars: Vec<Scalar>,
    objects: usize,
}

/// An object or an array that is not closed yet.
struct Open {
    /// The number of an object; `None` for an array.
    object: Option<usize>,
    /// The member whose value it is in.
    owner: Option<usize>,
    /// The last member of an object.
    last: Option<usize>,
}

impl Open {
    fn owner_of_values(&self) -> Option<usize> {
        if self.object.is_some() { self.last } else { self.owner }
    }
}

impl Tree {
    /// Reads a text that is known to be valid JSON. `None` if it is nested too deeply.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        // A token answer has five to eight members.
        let mut tree = Self { members: Vec::with_capacity(8), scalars: Vec::with_capacity(8), objects: 0 };
        let mut open: Vec<Open> = Vec::with_capacity(4);
        let mut at = 0;
        let mut name_follows = false;
        while let Some(byte) = bytes.get(at) {
            let owner = open.last().and_then(Open::owner_of_values);
            match byte {
                b'{' | b'[' => {
                    let is_object = *byte == b'{';
                    open.push(Open { object: is_object.then_some(tree.objects), owner, last: None });
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
                    tree.members.push(Member { name, value: at..at, parent, object, next: None });
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
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
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

    /// Notes where the value of a member begins: at the first of the values that it owns.
    fn begin_value(&mut self, owner: Option<usize>, at: usize) {
        if let Some(member) = owner.and_then(|owner| self.members.get_mut(owner))
            && member.value.end == member.name.end + 1
        {
            member.value = at..at;
        }
    }

    /// Notes where the value of a member ends: at the last of the values that it owns.
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

    /// Whether this is a member of the object that the text consists of.
    pub(super) fn is_top_level(&self, at: usize) -> bool {
        self.members.get(at).is_some_and(|member| member.parent.is_none() && member.object == 0)
    }

    /// Whether the value can hold no token: null, a boolean or an empty string.
    pub(super) fn is_empty_value(&self, text: &str, at: usize) -> bool {
        let value = self.members.get(at).and_then(|member| text.get(member.value.clone()));
        matches!(value, Some("null" | "true" | "false" | "\"\""))
    }

    /// Whether a member, or one that it is in, has its flag set.
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

    /// What to cut out of the text so that these members are gone and the rest is JSON, in ascending order.
    ///
    /// The comma before a member goes with it, once a member of the same object has stayed; until then the one after.
    pub(super) fn cuts(&self, goes: &[bool]) -> Vec<Range<usize>> {
        if !goes.contains(&true) {
            return Vec::new();
        }
        let mut before: Vec<Option<usize>> = vec![None; self.objects];
        let mut cuts = Vec::new();
        for (at, member) in self.members.iter().enumerate() {
            if member.parent.is_some_and(|parent| self.is_within(parent, goes)) {
                continue;
            }
            let Some(before) = before.get_mut(member.object) else { continue };
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

/// The string whose opening quote is at `at`, without its quotes.
fn string(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let mut end = at + 1;
    loop {
        match bytes.get(end)? {
            b'"' => return Some(at + 1..end),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}
