//! The parameters of an authorization request that are inspected, by name and value.

use url::Url;

use super::Refusal;
use super::decoding::{decoded, folded, without_open_escape};
use super::request_object::check_request_object;

/// The beginning of the URI of a pushed authorization request (RFC 9126 §2.2).
const PUSHED: &str = "urn:ietf:params:oauth:request_uri:";

pub(super) fn check_pairs(query: &[u8]) -> Result<(), Refusal> {
    query
        .split(|byte| is_separator(*byte))
        .try_for_each(check_pair)
}

pub(super) const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';')
}

/// A parameter that is inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    ResponseType,
    Request,
    RequestUri,
}

impl Parameter {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let once = decoded(name);
        Self::read(&once).or_else(|| Self::read(&decoded(&once)))
    }

    /// Reads a decoded name: the whole name, the part before a NUL, where servers written in C end
    /// it, or the part before a bracket or a colon, where others do.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let start = name.iter().position(u8::is_ascii_alphanumeric);
        let rest = start.and_then(|start| name.get(start..));
        let before = |text: &[u8], ends: fn(&u8) -> bool| {
            let part = text.split(ends).next().unwrap_or_default();
            Self::folded(&folded(part))
        };
        Self::folded(&folded(name))
            .or_else(|| before(name, |byte| *byte == 0))
            .or_else(|| before(rest?, |byte| matches!(byte, 0 | b'=' | b'[' | b']' | b':')))
    }

    /// Finds the parameter of a name without case and punctuation: `response_type`, `responseType`
    /// and `response_type[0]` are one name.
    fn folded(name: &str) -> Option<Self> {
        match name.trim_end_matches(|last: char| last.is_ascii_digit()) {
            "responsetype" => Some(Self::ResponseType),
            "request" => Some(Self::Request),
            "requesturi" => Some(Self::RequestUri),
            _ => None,
        }
    }

    /// Returns whether a name that begins like this can be that of an inspected parameter.
    pub(super) fn may_begin(name: &[u8]) -> bool {
        let may_begin = |name: &[u8]| {
            let all = folded(name);
            let all = all.trim_end_matches(|last: char| last.is_ascii_digit());
            // A complete name matches whatever follows it, if a NUL comes first.
            ["responsetype", "requesturi"]
                .iter()
                .any(|known| known.starts_with(all))
                || Self::read(name).is_some()
        };
        let once = decoded(without_open_escape(name));
        may_begin(&once) || may_begin(&decoded(without_open_escape(&once)))
    }

    pub(super) fn check(self, value: &[u8]) -> Result<(), Refusal> {
        let value = decoded(value);
        match self {
            Self::ResponseType if has_token(&value) || has_token(&decoded(&value)) => {
                Err(Refusal::ResponseType)
            }
            Self::ResponseType => Ok(()),
            Self::Request => at_both_levels(&value, check_request_object),
            Self::RequestUri => at_both_levels(&value, check_request_uri),
        }
    }
}

pub(super) fn check_pair(pair: &[u8]) -> Result<(), Refusal> {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    let (name, value) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    Parameter::named(name).map_or(Ok(()), |parameter| parameter.check(value))
}

/// Checks a value, and, if it still contains an escape, the value decoded once more.
fn at_both_levels(
    value: &[u8],
    check: impl Fn(&[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    check(value)?;
    if value.contains(&b'%') {
        check(&decoded(value))
    } else {
        Ok(())
    }
}

pub(super) fn has_token(response_type: &[u8]) -> bool {
    folded(response_type).contains("token")
}

fn check_request_uri(value: &[u8]) -> Result<(), Refusal> {
    let value = String::from_utf8_lossy(value);
    let value = value.trim_matches(|edge: char| edge.is_whitespace() || edge.is_control());
    let pushed = value
        .get(..PUSHED.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PUSHED));
    // A value that is not an absolute URI cannot be fetched, so the parameter has another meaning
    // on this path.
    if pushed || Url::parse(value).is_err() {
        Ok(())
    } else {
        Err(Refusal::RequestUri)
    }
}
