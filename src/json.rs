//! A JSON object as the list of its members, in order and with the bytes of every value: a map
//! would lose repeated names, and numbers would not come out as they went in.

use std::fmt;

use serde_core::Deserializer;
use serde_core::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::text::Text;

/// One member of an object. Both sides are slices of the text that was read; the name is still
/// escaped.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    /// A string, quotes included.
    pub(crate) name: &'a RawValue,
    /// Any JSON value.
    pub(crate) value: &'a RawValue,
}

/// The members of the object that `text` consists of.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Members)?;
    json.end()?;
    Ok(members)
}

/// The value of a JSON string; `None` if it is of another type, or no text (half a surrogate pair).
pub(crate) fn string(raw: &RawValue) -> Option<Text<'_>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
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
        // A token answer has five to eight.
        let mut members = Vec::with_capacity(8);
        while let Some((name, value)) = map.next_entry()? {
            members.push(Member { name, value });
        }
        Ok(members)
    }
}
