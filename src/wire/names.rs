//! Compares names of parameters and claims as the most lenient servers read them.
//!
//! Two servers may find different parameters in one form: some ignore case, some turn `.`, a blank
//! or an unclosed `[` into `_`, some drop brackets and blanks around a name, and some cut a name at
//! a bracket or a NUL. A request that uses such a name shows one value to this layer and another
//! one to the inner service. [`is_read_as`] finds these names.

use std::borrow::Cow;

use crate::wire::fold::{Folded, Unit, Units, fold};

/// A byte of a folded name that stands for one or more unknown ASCII characters. It is in no UTF-8
/// text.
const ANY: u8 = 0xff;

/// A byte of a folded name that stands for a character without an ASCII form. It is in no UTF-8
/// text.
const OTHER: u8 = 0xfe;

/// A decoded name, folded once so that it can be compared with several known ones.
pub(in crate::wire) struct FoldedName<'a>(Cow<'a, [u8]>);

impl<'a> FoldedName<'a> {
    /// Folds a decoded name. Allocates only for a name that is not ASCII, or that has another level
    /// of percent-encoding.
    pub(in crate::wire) fn new(name: &'a str) -> Self {
        Self(if name.is_ascii() && !name.contains('%') {
            Cow::Borrowed(name.as_bytes())
        } else {
            Cow::Owned(folded(name))
        })
    }

    /// Returns whether some server reads the name as `known`, which consists of small letters and
    /// underscores.
    pub(in crate::wire) fn is_read_as(&self, known: &str) -> bool {
        // A server that splits after decoding finds several names.
        self.0
            .split(|byte| matches!(byte, b'&' | b';'))
            .any(|name| is_known(name, known))
    }
}

/// Returns whether some server reads `name` as `known`, which consists of small letters and
/// underscores.
pub(in crate::wire) fn is_read_as(name: &str, known: &str) -> bool {
    FoldedName::new(name).is_read_as(known)
}

/// Decodes a name once more, and folds its characters to ASCII.
fn folded(name: &str) -> Vec<u8> {
    let mut units = Units(name.as_bytes());
    let mut folded = Vec::with_capacity(name.len());
    while let Some(unit) = units.next() {
        folded.push(match unit {
            Unit::Char { char, .. } => match fold(char) {
                Folded::Ascii(byte) => byte,
                Folded::Delimiter => b'.',
                Folded::Letters => ANY,
                Folded::Other => OTHER,
                Folded::Invisible => continue,
            },
            // `%u0063` is one character for some servers.
            Unit::BadEscape { unicode: true } => {
                let _ = units.by_ref().take("u0063".len()).count();
                ANY
            }
            Unit::BadEscape { unicode: false } => b'%',
            // Some servers drop such bytes.
            Unit::BadUtf8 => continue,
        });
    }
    folded
}

/// Returns whether some server reads a folded name as `known`.
fn is_known(name: &[u8], known: &str) -> bool {
    let start = name.iter().position(|byte| !is_edge(*byte));
    let name = start
        .and_then(|start| name.get(start..))
        .unwrap_or_default();
    let ends_name = |byte: &u8| matches!(byte, 0 | b'=');
    let ends_part = |byte: &u8| ends_name(byte) || matches!(byte, b'[' | b']' | b':');
    let part = name.split(ends_part).next().unwrap_or_default();
    if matches(part, known) {
        return true;
    }
    // A bracket that is not closed is no bracket for PHP.
    let rest = name.get(part.len()..).unwrap_or_default();
    let whole = name.split(ends_name).next().unwrap_or_default();
    rest.starts_with(b"[") && !rest.contains(&b']') && matches(whole, known)
}

/// Returns whether servers may ignore this byte at the edges of a name.
const fn is_edge(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && byte != b'_'
}

fn matches(name: &[u8], known: &str) -> bool {
    let end = name.iter().rposition(|byte| !is_edge(*byte));
    let name = end.and_then(|end| name.get(..=end)).unwrap_or_default();
    let known = known.as_bytes();
    let mut parts = name.split(|byte| *byte == ANY);
    let before = parts.next().unwrap_or_default();
    let Some(after) = parts.next_back() else {
        return is_alike(before, known);
    };
    before.len() + after.len() < known.len()
        && is_alike(before, &known[..before.len()])
        && is_alike(after, &known[known.len() - after.len()..])
}

/// Returns whether the bytes of a folded name are those of `known`.
fn is_alike(name: &[u8], known: &[u8]) -> bool {
    let lenient = |byte: &u8| match is_edge(*byte) {
        true => b'_',
        false => byte.to_ascii_lowercase(),
    };
    name.iter().map(lenient).eq(known.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::is_read_as;

    #[test]
    fn names_that_some_server_reads_as_a_known_one_are_found() {
        let found = [
            "client_id",
            "CLIENT_ID",
            "client.id",
            "client id",
            "client-id",
            " client_id",
            "client_id ",
            "\tclient_id\r\n",
            "client_id[]",
            "client_id[0]",
            "client_id[0][x]",
            "client_id[",
            "client_id]",
            "client_id][",
            "client_id]x",
            "[client_id]",
            "[client_id",
            "]client_id",
            "[[client_id]]",
            "][client_id",
            "[][client_id]",
            "[client_id][x]",
            "[client.id]",
            "['client_id']",
            "\"client_id\"",
            "client[id",
            "CLIENT[ID",
            "client_id=",
            "client_id=x",
            "client_id\0",
            "client_id\0[x]",
            "\0client_id",
            "!client_id",
            "client_id*",
            "client_id:utf8",
            "client_id%",
            "client%5Fid",
            "client%5fid%5B0%5D",
            "client_id%00x",
            "%63lient_id",
            "%u0063lient_id",
            "client%u005Fid",
            "client_%U0069d",
            "cl\u{131}ent_id",
            "CL\u{130}ENT_ID",
            "client_i\u{1d41d}",
            "\u{ff43}lient_id",
            "client\u{ff3f}id",
            "client\u{ff0e}id",
            "client_id\u{200b}",
            "\u{feff}client_id",
            "client_i\u{301}d",
            "client_id\u{a0}",
            "client_id%ff",
            "client_id%E2%80%8B",
            "x;client_id",
            "x&client_id=y",
        ];
        for name in found {
            assert!(is_read_as(name, "client_id"), "{name:?}");
        }
        for (name, known) in [
            ("\u{17f}cope", "scope"),
            ("re\u{17f}ource[]", "resource"),
            ("to\u{212a}en", "token"),
            ("\u{1ccd6}ccess", "access"),
        ] {
            assert!(is_read_as(name, known), "{name:?}");
        }
    }

    #[test]
    fn other_names_are_not_found() {
        let others = [
            "",
            "[]",
            "%",
            "\u{ff}",
            "client",
            "id",
            "client_ids",
            "client_id2",
            "client_id_hint",
            "clientid",
            "_client_id",
            "x_client_id",
            "x.client_id",
            "x[client_id]",
            "x[client_id",
            "[x][client_id]",
            "client[id]",
            "client[id][]",
            "[client][id]",
            "client_metadata[scope]",
            "x-client-id",
            "caf\u{e9}",
            "gr\u{f6}\u{df}e",
            "\u{e9}client_id",
            "client\u{e4}id",
            "x%63lient_id",
            "100%",
            "client_id%zz",
        ];
        for name in others {
            assert!(!is_read_as(name, "client_id"), "{name:?}");
        }
    }
}
