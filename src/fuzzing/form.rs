use bytes::Bytes;

use super::split_line;
use crate::form::{FormError, Param, TokenForm, names_a_param};

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

/// Input: a line with the value to put in, then the form.
pub fn form(input: &[u8]) {
    let (value, body) = split_line(input);
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    if let Ok(query) = std::str::from_utf8(body) {
        let _ = names_a_param(query);
    }
    match TokenForm::parse(Bytes::copy_from_slice(body)) {
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

/// Whatever parser the inner service has, it finds no other parameters of ours.
fn read_by_others(form: &TokenForm, body: &[u8]) {
    let pairs = pairs(body);
    let mut shown = Vec::new();
    for (param, name) in PARAMS {
        let values: Vec<_> = pairs
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert!(values.len() <= 1, "{name} is there once at most");
        let value = values.first().copied();
        assert_eq!(
            form.get(param),
            value.filter(|value| !value.is_empty()),
            "{name} is what the standard parser reads"
        );
        assert_eq!(
            folded(body).filter(|found| found == name).count(),
            values.len(),
            "no server finds a second {name}"
        );
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
        "the resources are all there"
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
        "Debug shows names of ours alone"
    );

    let ours = |piece: &&[u8]| {
        pairs_name(piece).is_some_and(|name| PARAMS.iter().any(|(_, known)| *known == name))
    };
    let others = body
        .split(|byte| *byte == b'&')
        .filter(|piece| !piece.is_empty() && !ours(piece));
    assert!(
        form.others().eq(others),
        "what is not read is there as it came"
    );
}

fn pairs_name(piece: &[u8]) -> Option<String> {
    form_urlencoded::parse(piece)
        .next()
        .map(|(name, _)| name.into_owned())
}

/// The names as a server finds them that separates by `;` as well, makes variables of them, as PHP
/// does, and does not tell upper from lower case.
fn folded(body: &[u8]) -> impl Iterator<Item = String> {
    body.split(|byte| matches!(byte, b'&' | b';'))
        .filter_map(pairs_name)
        .map(|name| {
            let name = name.trim_start_matches(' ');
            let end = name
                .find('[')
                .filter(|start| name[*start..].contains(']'))
                .unwrap_or(name.len());
            name[..end]
                .replace(['.', ' ', '['], "_")
                .to_ascii_lowercase()
        })
}

/// Only the value of that parameter changes.
fn rewritten(form: &TokenForm, body: &[u8], param: Param, name: &str, value: &str) {
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
                "the name stays as it was spelled"
            );
            assert_eq!(pairs(&new), [(name.to_owned(), value.to_owned())]);
        }
        None => {
            let new = after.pop().unwrap_or_default();
            assert_eq!(
                pairs(&new),
                [(name.to_owned(), value.to_owned())],
                "an absent one is appended"
            );
            // An ampersand at the end, or nothing at all, is not followed by a second one.
            if before.last().is_some_and(Vec::is_empty) {
                before.pop();
            }
        }
    }
    assert_eq!(before, after, "every other piece stays as it is");

    // What the layer would not read itself: a value with a NUL, and one parameter more than there
    // may be.
    if value.contains('\0') || split(&written).len() > 256 {
        return;
    }
    let again = TokenForm::parse(written.clone()).expect("what was written is read");
    assert_eq!(
        again.get(param),
        Some(value).filter(|value| !value.is_empty()),
        "as it was written"
    );
    assert_eq!(
        again.replace(param, value),
        written,
        "and is written again as it is"
    );
    for (other, name) in PARAMS.into_iter().filter(|(other, _)| *other != param) {
        assert_eq!(again.get(other), form.get(other), "{name} is what it was");
    }
    assert!(
        again.resources().eq(form.resources()) && again.others().eq(form.others()),
        "so is everything else"
    );
}

/// What is refused is refused for a reason that is there, and the reason tells nothing of it.
fn refused(error: FormError, body: &[u8]) {
    let sentence = error.description();
    assert_eq!(
        serde_json::to_string(sentence).ok(),
        Some(format!("\"{sentence}\"")),
        "it fits into a JSON string"
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
                "{name} is repeated"
            );
        }
        FormError::Lookalike => {
            let pieces = body
                .split(|byte| matches!(byte, b'&' | b';' | b'='))
                .filter_map(pairs_name);
            let mut names =
                pieces.flat_map(|piece| piece.split('=').map(str::to_owned).collect::<Vec<_>>());
            let fold = |name: &str| {
                name.trim_start()
                    .replace(['.', ' ', '['], "_")
                    .to_ascii_lowercase()
            };
            let known = || PARAMS.iter().map(|(_, name)| *name).chain(["resource"]);
            assert!(
                names.any(|found| known().any(|name| fold(&found).starts_with(name))),
                "there is something like a name of ours"
            );
        }
        FormError::Malformed => assert!(!is_sound(body), "a sound form is read"),
        FormError::ContentType => panic!("a body has no content type"),
    }
}

/// Whether every byte is printable ASCII, and every escape whole and part of UTF-8 without NUL.
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
