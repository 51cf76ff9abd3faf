use bytes::Bytes;
use percent_encoding::percent_decode_str;

use tower_oauth_refresh::fuzzing::{FormError, Param, TokenRequest, names_a_param};

use crate::split_line;

const PARAMS: [(Param, &str); 8] = [
    (Param::GrantType, "grant_type"),
    (Param::RefreshToken, "refresh_token"),
    (Param::Token, "token"),
    (Param::ClientId, "client_id"),
    (Param::ClientSecret, "client_secret"),
    (Param::ClientAssertion, "client_assertion"),
    (Param::ClientAssertionType, "client_assertion_type"),
    (Param::Scope, "scope"),
];

/// Checks the parser of forms. The input is a line with the value of a parameter to replace, and
/// the form.
pub fn form(input: &[u8]) {
    let (value, body) = split_line(input);
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    if let Ok(query) = std::str::from_utf8(body) {
        let is_known = |found: &str| PARAMS.iter().any(|(_, name)| *name == found);
        assert!(
            names_a_param(query)
                || folded(body)
                    .all(|found| READINGS.iter().all(|reading| !is_known(&reading(&found)))),
            "a server that reads the query finds a parameter"
        );
    }
    match TokenRequest::parse(Bytes::copy_from_slice(body)) {
        Ok(form) => {
            read_by_others(&form, body);
            rewritten(&form, body, Param::RefreshToken, "refresh_token", value);
            rewritten(&form, body, Param::Token, "token", value);
        }
        Err(error) => refused(error, body),
    }
}

fn pairs(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// Checks that other parsers, such as that of the inner service, find the same parameters.
fn read_by_others(form: &TokenRequest, body: &[u8]) {
    let pairs = pairs(body);
    let mut shown = Vec::new();
    for (param, name) in PARAMS {
        let values: Vec<_> = pairs
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert!(values.len() <= 1, "{name} is repeated");
        let value = values.first().copied();
        assert_eq!(
            form.get(param),
            value.filter(|value| !value.is_empty()),
            "{name} has another value for form_urlencoded"
        );
        for reading in READINGS {
            assert_eq!(
                folded(body).filter(|found| reading(found) == name).count(),
                values.len(),
                "a server that folds names finds another {name}"
            );
        }
        shown.extend(value.map(|_| name));
    }
    let named: Vec<_> = pairs
        .iter()
        .filter(|(name, value)| name == "resource" && !value.is_empty())
        .collect();
    // Without repetitions.
    let resources: Vec<_> = named
        .iter()
        .enumerate()
        .filter(|(at, (_, value))| named[..*at].iter().all(|(_, other)| other != value))
        .map(|(_, pair)| *pair)
        .collect();
    assert!(
        form.resources()
            .eq(resources.iter().map(|(_, value)| value.as_str())),
        "the resources differ"
    );
    shown.extend(resources.iter().map(|_| "resource"));
    let shown = shown
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    assert_eq!(
        format!("{form:?}"),
        format!("{{{shown}}}"),
        "Debug shows more than the names of known parameters"
    );

    let ours = |piece: &&[u8]| {
        pairs_name(piece).is_some_and(|name| PARAMS.iter().any(|(_, known)| *known == name))
    };
    let others = body
        .split(|byte| *byte == b'&')
        .filter(|piece| !piece.is_empty() && !ours(piece));
    assert!(
        form.others().eq(others),
        "a parameter that is not read has changed"
    );
}

fn pairs_name(piece: &[u8]) -> Option<String> {
    form_urlencoded::parse(piece)
        .next()
        .map(|(name, _)| name.into_owned())
}

/// Returns the names that a server reads which also separates parameters by `;` and ignores case,
/// also that of letters that are not ASCII.
fn folded(body: &[u8]) -> impl Iterator<Item = String> {
    body.split(|byte| matches!(byte, b'&' | b';'))
        .filter_map(pairs_name)
        .map(|name| name.to_uppercase().to_lowercase())
}

/// The ways in which servers read a name.
const READINGS: [fn(&str) -> String; 5] = [
    str::to_owned,
    as_php,
    as_rack,
    as_qs,
    // A server that decodes twice.
    |name| {
        percent_decode_str(name)
            .decode_utf8_lossy()
            .trim_matches('\0')
            .to_lowercase()
    },
];

fn as_php(name: &str) -> String {
    let name = name.trim_start_matches(' ');
    let end = name
        .find('[')
        .filter(|start| name[*start..].contains(']'))
        .unwrap_or(name.len());
    name[..end].replace(['.', ' ', '['], "_")
}

/// Rack 2 skips the brackets before a name, and cuts it at the next one.
fn as_rack(name: &str) -> String {
    let name = name.trim_start_matches(['[', ']']);
    name.split(['[', ']']).next().unwrap_or_default().to_owned()
}

/// The package `qs`: a first part in brackets is a name without them.
fn as_qs(name: &str) -> String {
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map(|(inner, _)| inner)
        .filter(|inner| !inner.contains('['));
    match inner {
        Some(inner) => inner.to_owned(),
        None => name.split('[').next().unwrap_or_default().to_owned(),
    }
}

/// Checks that replacing a parameter changes only its value.
fn rewritten(form: &TokenRequest, body: &[u8], param: Param, name: &str, value: &str) {
    let written = form.replace(param, value);
    let split = |body: &[u8]| {
        body.split(|byte| *byte == b'&')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (mut before, mut after) = (split(body), split(&written));
    let is_it = |piece: &Vec<u8>| pairs_name(piece).is_some_and(|found| found == name);
    match before.iter().position(is_it) {
        Some(at) => {
            let (old, new) = (before.remove(at), after.remove(at));
            let spelled =
                |piece: &[u8]| piece.split(|byte| *byte == b'=').next().map(<[u8]>::to_vec);
            assert_eq!(
                spelled(&old),
                spelled(&new),
                "the spelling of the name has changed"
            );
            assert_eq!(pairs(&new), [(name.to_owned(), value.to_owned())]);
        }
        None => {
            let new = after.pop().unwrap_or_default();
            assert_eq!(
                pairs(&new),
                [(name.to_owned(), value.to_owned())],
                "the parameter was not appended"
            );
            // No ampersand is added after a trailing one, or to an empty form.
            if before.last().is_some_and(Vec::is_empty) {
                before.pop();
            }
        }
    }
    assert_eq!(before, after, "another parameter has changed");

    // The layer rejects a value with a NUL, and a form with too many parameters.
    if value.contains('\0') || split(&written).len() > 256 {
        return;
    }
    let again = TokenRequest::parse(written.clone()).expect("the written form can be parsed");
    assert_eq!(
        again.get(param),
        Some(value).filter(|value| !value.is_empty()),
        "the parameter has another value"
    );
    assert_eq!(
        again.replace(param, value),
        written,
        "replacing the value again changes the form"
    );
    for (other, name) in PARAMS.into_iter().filter(|(other, _)| *other != param) {
        assert_eq!(again.get(other), form.get(other), "{name} has changed");
    }
    assert!(
        again.resources().eq(form.resources()) && again.others().eq(form.others()),
        "another parameter has changed"
    );
}

/// Checks that the reason of a rejection is true, and that its description contains nothing from
/// the form.
fn refused(error: FormError, body: &[u8]) {
    let sentence = error.description();
    assert_eq!(
        serde_json::to_string(sentence).ok(),
        Some(format!("\"{sentence}\"")),
        "the description needs escaping in a JSON string"
    );
    match error {
        FormError::Repeated(name) => {
            assert!(sentence.contains(name) && PARAMS.iter().any(|(_, known)| *known == name));
            assert!(
                pairs(body)
                    .iter()
                    .filter(|(found, _)| found == name)
                    .count()
                    > 1,
                "{name} is not repeated"
            );
        }
        FormError::Lookalike => {
            let pieces = body
                .split(|byte| matches!(byte, b'&' | b';' | b'='))
                .filter_map(pairs_name);
            let mut names =
                pieces.flat_map(|piece| piece.split('=').map(str::to_owned).collect::<Vec<_>>());
            let letters = |name: &str| {
                name.chars()
                    .filter(char::is_ascii_alphanumeric)
                    .collect::<String>()
                    .to_ascii_lowercase()
            };
            let known = || {
                let others = ["resource", "requested_token_type"];
                PARAMS.iter().map(|(_, name)| *name).chain(others)
            };
            // Encoded twice, or in Unicode, it may have other letters.
            let is_odd = |found: &str| found.contains('%') || !found.is_ascii();
            assert!(
                names.any(|found| is_odd(&found)
                    || known().any(|name| letters(&found).contains(&letters(name)))),
                "no name resembles that of a known parameter"
            );
        }
        FormError::Malformed => assert!(!is_sound(body), "a well-formed form was rejected"),
        FormError::ContentType | FormError::InQuery | FormError::Query => {
            panic!("the body has no content type and no query")
        }
    }
}

/// Returns whether every byte is printable ASCII, every escape is complete, and every decoded part
/// is UTF-8 without NUL.
fn is_sound(body: &[u8]) -> bool {
    let nibble = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let decodes = |part: &[u8]| {
        let mut bytes = Vec::new();
        let mut rest = part.iter();
        while let Some(byte) = rest.next() {
            match byte {
                b'%' => match (nibble(rest.next()), nibble(rest.next())) {
                    (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
                    _ => return false,
                },
                byte => bytes.push(*byte),
            }
        }
        !bytes.contains(&0) && std::str::from_utf8(&bytes).is_ok()
    };
    let mut pieces = body.split(|byte| *byte == b'&');
    body.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && pieces.clone().count() <= 256
        && pieces.all(|piece| piece.splitn(2, |byte| *byte == b'=').all(decodes))
}
