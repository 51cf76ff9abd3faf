//! A second parser of JSON objects, independent of the layer's, to compare the results.

use std::iter;
use std::ops::Range;

use serde::de::IgnoredAny;

/// The members of a JSON object, in order.
pub(crate) struct Object<'a> {
    pub(crate) text: &'a str,
    /// The positions of the names, with their quotes, and of the values.
    members: Vec<(Range<usize>, Range<usize>)>,
}

/// A text without some of its values: the pieces between them, and the names of the members that
/// they belong to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blanked {
    pieces: Vec<String>,
    names: Vec<String>,
    /// The end of the last member, as a position in the last piece.
    end: usize,
    has_members: bool,
}

impl<'a> Object<'a> {
    /// Parses the text. Returns `None` if it is not a JSON object.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        if !text.trim_start_matches(is_space).starts_with('{') {
            return None;
        }
        // The text is valid JSON, so following strings and brackets is enough.
        let (mut members, mut tokens, mut name) = (Vec::new(), Vec::new(), None);
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for (at, byte) in text.bytes().enumerate() {
            if in_string {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                tokens.push(at);
                continue;
            }
            if depth == 1 && matches!(byte, b':' | b',' | b'}') {
                let token = tokens
                    .first()
                    .zip(tokens.last())
                    .map(|(first, last)| *first..*last + 1);
                match (byte, token, name.take()) {
                    (b':', Some(token), None) => name = Some(token),
                    (_, Some(value), Some(name)) => members.push((name, value)),
                    _ => {}
                }
                tokens.clear();
                depth -= usize::from(byte == b'}');
                continue;
            }
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => in_string = true,
                _ => {}
            }
            // The opening brace of the object is not part of the first name.
            let opens = byte == b'{' && depth == 1;
            if !opens && !is_space(char::from(byte)) {
                tokens.push(at);
            }
        }
        Some(Self { text, members })
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Self {
        let object = std::str::from_utf8(bytes).ok().and_then(Self::read);
        object.expect("the written text is a JSON object")
    }

    /// Returns the decoded names. `None` stands for a name with a lone surrogate.
    pub(crate) fn names(&self) -> impl Iterator<Item = Option<String>> {
        self.members().map(|(name, _)| name)
    }

    /// Returns the decoded names and the raw values.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Option<String>, &'a str)> {
        self.members.iter().map(|(name, value)| {
            (
                serde_json::from_str(&self.text[name.clone()]).ok(),
                &self.text[value.clone()],
            )
        })
    }

    /// Returns the raw value of the first member with this name.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.members()
            .find(|(found, _)| found.as_deref() == Some(name))
            .map(|(_, value)| value)
    }

    /// Returns the value of the first member with this name, if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.value(name)
            .and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// Returns the text without the values of the members with these names.
    pub(crate) fn blanked(&self, goes: impl Fn(&str) -> bool) -> Blanked {
        let (mut pieces, mut names, mut done) = (Vec::new(), Vec::new(), 0);
        for ((name, _), (_, value)) in self.members().zip(&self.members) {
            if let Some(name) = name.filter(|name| goes(name)) {
                pieces.push(self.text[done..value.start].to_owned());
                names.push(name);
                done = value.end;
            }
        }
        pieces.push(self.text[done..].to_owned());
        let end = self
            .members
            .last()
            .map_or(self.text.rfind('}').unwrap_or_default(), |(_, value)| {
                value.end
            });
        Blanked {
            pieces,
            names,
            end: end - done,
            has_members: !self.members.is_empty(),
        }
    }
}

impl Blanked {
    /// Adds a member without its value after the last one.
    pub(crate) fn append(&mut self, name: &str) {
        let last = self.pieces.pop().unwrap_or_default();
        let (before, after) = last.split_at(self.end);
        let comma = if self.has_members { "," } else { "" };
        self.pieces.push(format!("{before}{comma}\"{name}\":"));
        self.pieces.push(after.to_owned());
        self.names.push(name.to_owned());
        (self.end, self.has_members) = (0, true);
    }
}

/// Returns all strings in a JSON value, decoded, at every depth. A string with a lone surrogate
/// becomes empty.
pub(crate) fn strings(value: &str) -> impl Iterator<Item = String> {
    let mut rest = value;
    iter::from_fn(move || {
        let (_, after) = rest.split_once('"')?;
        let mut escaped = false;
        let end = after.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        })?;
        let (inner, next) = after.split_at(end);
        rest = next.get(1..).unwrap_or_default();
        Some(serde_json::from_str(&format!("\"{inner}\"")).unwrap_or_default())
    })
}

pub(crate) fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}
