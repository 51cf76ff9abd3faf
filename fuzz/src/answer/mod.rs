use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use tower_oauth_refresh::fuzzing::{AnswerError, TokenResponse, Withheld};

use crate::json::{Object, is_space, strings};
use crate::split_line;

const AUTHORIZATION: &str = "authorization_expires_in";
const LIFETIMES: [&str; 4] = [
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    AUTHORIZATION,
];
/// The members that are added to an answer in which they are missing.
const ADDED: [&str; 3] = ["refresh_token", "refresh_token_timeout", AUTHORIZATION];
const READ_ONCE: [&str; 11] = [
    "access_token",
    "refresh_token",
    "error",
    "scope",
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    AUTHORIZATION,
    "issued_token_type",
    "resource",
];
/// The members that are never removed from an answer.
const STANDARD: [&str; 11] = [
    "access_token",
    "refresh_token",
    "error",
    "scope",
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    AUTHORIZATION,
    "issued_token_type",
    "token_type",
];

/// Checks the parser of token answers. The input is a line with the next token, a line with a
/// number of seconds, and the answer of the inner service.
pub fn answer(input: &[u8]) {
    let (token, rest) = split_line(input);
    let (seconds, body) = split_line(rest);
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    let seconds = std::str::from_utf8(seconds)
        .ok()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(77);
    let object = std::str::from_utf8(body).ok().and_then(Object::read);
    match (TokenResponse::parse(Bytes::copy_from_slice(body)), object) {
        (Ok(answer), Some(object)) => {
            read(&answer, &object);
            replaced(&answer, &object, token, seconds);
            removed(&answer, &object);
            aged(&answer, &object, seconds);
            by_reference(&answer, &object, token);
            spelled_otherwise(&answer, &object, seconds);
            disclosed(answer, &object, token);
        }
        (Ok(_), None) => panic!("the parser accepted a body that is not a JSON object"),
        (Err(error), object) => refused(error, object, body),
    }
}

fn read(answer: &TokenResponse, object: &Object<'_>) {
    let text = |name| object.text(name).filter(|text| !text.is_empty());
    assert_eq!(answer.refresh_token(), text("refresh_token").as_deref());
    assert_eq!(answer.access_token(), text("access_token").as_deref());
    assert_eq!(answer.scope(), text("scope").as_deref());
    assert_eq!(answer.error(), object.text("error").as_deref());
    assert_eq!(
        answer.body(),
        object.text.as_bytes(),
        "parsing changed the body"
    );
    let odd = object
        .value("access_token")
        .is_some_and(|raw| !matches!(raw, "null" | "\"\""));
    assert_eq!(
        answer.has_odd_access_token(),
        odd && answer.access_token().is_none()
    );
    let known = object.names().filter_map(|name| {
        let name = name.as_deref()?;
        // The layer does not read the type of the token.
        let known = STANDARD.contains(&name) && name != "token_type";
        (known || matches!(name, "id_token" | "resource")).then(|| format!("{name:?}"))
    });
    assert_eq!(
        format!("{answer:?}"),
        format!("{{{}}}", known.collect::<Vec<_>>().join(", ")),
        "Debug shows more than names"
    );
}

/// Checks that the refresh token and its lifetimes are replaced, and every other byte is unchanged.
fn replaced(answer: &TokenResponse, object: &Object<'_>, token: &str, seconds: u64) {
    let lifetime = Duration::from_secs(seconds);
    let authorization = lifetime.saturating_add(Duration::from_secs(1));
    let written = answer.with_refresh_token(token, lifetime, Some(authorization));
    let after = Object::from_bytes(&written);
    let is_replaced = |name: &str| name == "refresh_token" || LIFETIMES.contains(&name);
    let mut expected = object.blanked(is_replaced);
    for name in ADDED {
        if object.value(name).is_none() {
            expected.append(name);
        }
    }
    assert_eq!(
        after.blanked(is_replaced),
        expected,
        "another byte has changed"
    );
    assert_eq!(
        after.text("refresh_token").as_deref(),
        Some(token),
        "the token was not replaced"
    );
    for name in LIFETIMES {
        let expected = if name == AUTHORIZATION {
            authorization
        } else {
            lifetime
        };
        let found = after
            .value(name)
            .map(|raw| raw.trim_matches('"').to_owned());
        let is_there = object.value(name).is_some() || ADDED.contains(&name);
        assert_eq!(
            found,
            is_there.then(|| expected.as_secs().to_string()),
            "the lifetime was not replaced"
        );
    }
    let again = TokenResponse::parse(written.clone()).expect("the written answer can be parsed");
    assert_eq!(
        again.refresh_token(),
        Some(token).filter(|token| !token.is_empty())
    );
    assert_eq!(
        again.with_refresh_token(token, lifetime, Some(authorization)),
        written,
        "replacing the token again changes the answer"
    );
    assert_eq!(
        again.without_refresh_token(),
        answer.without_refresh_token(),
        "a part of the old token is left"
    );
    let endless = answer.with_refresh_token(token, lifetime, None);
    let endless = Object::from_bytes(&endless);
    let stays = |object: &Object<'_>| {
        let members = object.members();
        members
            .map(|(name, value)| (name, value.to_owned()))
            .filter(|(name, _)| name.as_deref() != Some(AUTHORIZATION))
            .collect::<Vec<_>>()
    };
    assert_eq!(endless.value(AUTHORIZATION), None);
    assert_eq!(stays(&endless), stays(&after), "another member has changed");
}

/// Checks that the refresh token is removed, and every other member is unchanged and in order.
fn removed(answer: &TokenResponse, object: &Object<'_>) {
    let written = answer.without_refresh_token();
    let after = Object::from_bytes(&written);
    let goes = |name: &str| name == "refresh_token" || LIFETIMES.contains(&name);
    let stays: Vec<_> = object
        .members()
        .filter(|(name, _)| !name.as_deref().is_some_and(goes))
        .collect();
    assert!(
        after.members().eq(stays.iter().cloned()),
        "another member has changed"
    );
    if stays.len() == object.names().count() {
        assert_eq!(
            written, object.text,
            "a byte has changed although nothing was removed"
        );
    }
}

/// Checks that lifetimes are reduced, and every other byte is unchanged.
fn aged(answer: &TokenResponse, object: &Object<'_>, seconds: u64) {
    let written = answer.aged(Duration::from_secs(seconds));
    let after = Object::from_bytes(&written);
    let is_lifetime = |name: &str| name == "expires_in" || LIFETIMES.contains(&name);
    assert_eq!(
        after.blanked(is_lifetime),
        object.blanked(is_lifetime),
        "another byte has changed"
    );
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |object: &Object<'_>, name: &str| {
        object
            .value(name)
            .map(|raw| raw.trim_matches('"'))
            .filter(is_digits)?
            .parse::<u64>()
            .ok()
    };
    for name in ["expires_in"].into_iter().chain(LIFETIMES) {
        if let Some(before) = number(object, name) {
            assert_eq!(
                number(&after, name),
                Some(before.saturating_sub(seconds)),
                "{name} was not reduced by the age"
            );
        }
    }
    let Ok(once) = TokenResponse::parse(written.clone()) else {
        panic!("the written answer cannot be parsed")
    };
    let twice = once.aged(Duration::from_secs(3));
    assert_eq!(
        twice,
        answer.aged(Duration::from_secs(seconds.saturating_add(3))),
        "two ages are not added"
    );
    assert_eq!(
        answer.aged(Duration::from_millis(999)),
        object.text,
        "less than a second has changed a lifetime"
    );
}

/// Checks that no token is left under any name at any depth, except where the layer replaces it,
/// that no known token is left anywhere, and that every other member is unchanged. Unlike the
/// layer, it checks names on the parsed value.
fn disclosed(answer: TokenResponse, object: &Object<'_>, used: &str) {
    let (access, refresh) = (
        answer.access_token().map(str::to_owned),
        answer.refresh_token().map(str::to_owned),
    );
    let body = answer.body().clone();
    for withheld in [
        Withheld::RefreshTokens,
        Withheld::AllTokens {
            keep_id_token: true,
        },
        Withheld::AllTokens {
            keep_id_token: false,
        },
    ] {
        let all = withheld != Withheld::RefreshTokens;
        let keeps_id_token = withheld
            == Withheld::AllTokens {
                keep_id_token: true,
            };
        let answer = TokenResponse::parse(body.clone()).expect("the body was parsed before");
        let Ok((written, secrets)) = answer.disclosed(withheld, Some(used)) else {
            continue;
        };
        assert_eq!(
            written.refresh_token(),
            refresh.as_deref(),
            "the refresh token is missing, which the layer replaces later"
        );
        assert_eq!(written.access_token(), access.as_deref());
        let known = [
            access.as_deref().filter(|_| all),
            refresh.as_deref(),
            Some(used),
        ];
        let known: Vec<_> = known
            .into_iter()
            .flatten()
            .filter(|token| !token.is_empty())
            .collect();
        assert!(
            known
                .iter()
                .all(|token| secrets.iter().any(|secret| secret.as_str() == *token)),
            "a known token is not among the secrets"
        );
        let after = Object::from_bytes(written.body());
        let is_known =
            |name: &str| STANDARD.contains(&name) || (name == "id_token" && keeps_id_token);
        for (name, value) in after.members() {
            let name = name.unwrap_or_default();
            let Ok(value) = serde_json::from_str::<Value>(value) else {
                continue;
            };
            let is_replaced = matches!(&*name, "access_token" | "refresh_token");
            assert!(
                is_known(&name) || is_replaced || !is_token(&name, &value, all),
                "{name} is a token"
            );
            no_tokens_within(&value, all);
            if !is_known(&name) {
                let mut strings = strings(value_of(&after, &name));
                assert!(
                    !strings.any(|text| known.iter().any(|token| text.contains(token))),
                    "{name} discloses a token"
                );
            }
        }
        // A removed member contained a token; every other member is unchanged.
        let mut left = after.members().peekable();
        for member in object.members() {
            let name = member.0.as_deref().unwrap_or_default();
            if left.next_if_eq(&member).is_none() {
                let changed = left.next_if(|(left, _)| *left == member.0).is_some();
                assert!(changed || !STANDARD.contains(&name), "{name} was removed");
            }
        }
        assert!(left.next().is_none(), "a member was added");
        if secrets.len() == known.len() && after.text == object.text {
            assert_eq!(
                written.body(),
                &body,
                "a byte has changed although nothing was removed"
            );
        }
    }
}

fn value_of<'a>(object: &Object<'a>, name: &str) -> &'a str {
    object.value(name).unwrap_or_default()
}

/// Returns whether a name is certainly that of a token. The layer may recognize more names.
fn is_token(name: &str, value: &Value, all: bool) -> bool {
    let name: String = name
        .chars()
        .filter(|char| !matches!(char, '_' | '-'))
        .map(|char| char.to_ascii_lowercase())
        .collect();
    let names = if all {
        &["accesstoken", "refreshtoken", "idtoken", "token", "jwt"][..]
    } else {
        &["refreshtoken"][..]
    };
    let is_empty = matches!(value, Value::Null | Value::Bool(_)) || value.as_str() == Some("");
    !is_empty && names.contains(&&*name)
}

/// Checks that no token is left, also in strings that are JSON.
fn no_tokens_within(value: &Value, all: bool) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| no_tokens_within(value, all)),
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let is_named =
                |label: &str| text(label).is_some_and(|text| is_token(text, &Value::from(0), all));
            let is_opaque = |name: &str| {
                text(name)
                    .is_some_and(|text| text.len() >= 16 && !text.contains(char::is_whitespace))
            };
            if ["type", "name", "key", "token_type"]
                .into_iter()
                .any(is_named)
            {
                let left = ["value", "secret"].into_iter().find(|name| is_opaque(name));
                assert_eq!(left, None, "another member says that it is a token");
            }
            for (name, value) in members {
                assert!(!is_token(name, value, all), "{name} is a token");
                no_tokens_within(value, all);
            }
        }
        _ => {}
    }
}

/// Checks that a member that contains the access token is removed in every spelling. Each bit of
/// `escaped` says whether a character is escaped.
fn spelled_otherwise(answer: &TokenResponse, object: &Object<'_>, escaped: u64) {
    let Some(secret) = answer.access_token() else {
        return;
    };
    let spell = |(at, unit): (usize, u16)| {
        match escaped.checked_shr(at as u32).unwrap_or(escaped) & 1 {
            0 => char::from_u32(unit.into())
                .filter(|char| !matches!(char, '"' | '\\' | '\0'..=' '))
                .map(String::from),
            _ => None,
        }
        .unwrap_or_else(|| format!("\\u{unit:04x}"))
    };
    let spelled: String = secret.encode_utf16().enumerate().map(spell).collect();
    let Some(inner) = object.text.trim_start_matches(is_space).strip_prefix('{') else {
        return;
    };
    let comma = if object.names().next().is_some() {
        ","
    } else {
        ""
    };
    let body = format!("{{\"note\":{{\"text\":[\"it: {spelled}\"]}}{comma}{inner}");
    let answer =
        TokenResponse::parse(body.into()).expect("an answer with one more member can be parsed");
    let Ok((written, _)) = answer.disclosed(Withheld::ALL, None) else {
        return;
    };
    let after = Object::from_bytes(written.body());
    assert!(
        after.value("note").is_none_or(|raw| !raw.contains("it: ")),
        "{spelled:?} discloses the upstream access token"
    );
}

/// Checks that replacing the access token changes nothing else.
fn by_reference(answer: &TokenResponse, object: &Object<'_>, token: &str) {
    if answer.access_token().is_none() || answer.has_odd_access_token() {
        return;
    }
    let written = answer
        .with_access_token(token, None)
        .expect("the written answer can be parsed");
    let after = Object::from_bytes(written.body());
    assert_eq!(after.text("access_token").as_deref(), Some(token));
    let is_replaced = |name: &str| name == "access_token";
    assert_eq!(
        after.blanked(is_replaced),
        object.blanked(is_replaced),
        "another byte has changed"
    );
}

/// Checks that the reason of a rejection is true.
fn refused(error: AnswerError, object: Option<Object<'_>>, body: &[u8]) {
    match error {
        AnswerError::NotJson => assert!(object.is_none(), "a valid object was rejected"),
        AnswerError::NotObject => {
            // A body that does not begin an object need not be valid JSON to its end.
            assert!(object.is_none(), "a valid object was rejected");
        }
        AnswerError::Repeated => {
            let object = object.expect("only an object can have repeated members");
            let count = |name: &str| {
                object
                    .names()
                    .filter(|found| found.as_deref() == Some(name))
                    .count()
            };
            assert!(
                READ_ONCE.iter().any(|name| count(name) > 1),
                "no member is repeated"
            );
        }
        AnswerError::Undisclosable => panic!("parsing does not search for tokens"),
        AnswerError::WrongType => {
            let raw = object
                .as_ref()
                .and_then(|object| object.value("refresh_token"))
                .unwrap_or_default();
            let is_text = serde_json::from_str::<Value>(raw)
                .is_ok_and(|value| value.is_string() || value.is_null());
            assert!(
                !raw.is_empty() && !is_text,
                "the refresh token is a string or null"
            );
        }
    }
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        assert!(
            matches!(error, AnswerError::NotJson | AnswerError::NotObject),
            "malformed JSON was rejected for another reason"
        );
    }
}
