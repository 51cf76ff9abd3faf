//! Parses a JSON object into the list of its members, in order and with the original bytes of every
//! value. A map would lose repeated names, and would change the spelling of numbers.

use std::fmt;

use memchr::memchr;
use serde_core::Deserializer;
use serde_core::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::wire::secret_str::Text;

/// A member of an object. Name and value are slices of the parsed text, with their escapes.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    /// The name, a string with its quotes.
    pub(crate) name: &'a RawValue,
    /// The value, which may be of any type.
    pub(crate) value: &'a RawValue,
}

/// Parses `text`, which must be a JSON object, into its members.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Members)?;
    json.end()?;
    Ok(members)
}

/// Returns the value of a JSON string. Returns `None` for a value of another type, and for a string
/// with a lone surrogate.
pub(crate) fn string(raw: &RawValue) -> Option<Text<'_>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr(b'\\', inner.as_bytes()).is_some() {
        serde_json::from_str(raw.get())
            .ok()
            .map(|text: String| Text::Owned(Zeroizing::new(text)))
    } else {
        Some(Text::Borrowed(inner))
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // A token answer has five to eight members.
        let mut members = Vec::with_capacity(8);
        while let Some((name, value)) = map.next_entry()? {
            members.push(Member { name, value });
        }
        Ok(members)
    }
}
