mod disclosed;

use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::Value;

use tower_oauth_refresh::fuzzing::{TokenResponse, TokenResponseError};

use self::disclosed::{disclosed, spelled_otherwise};
use crate::json::Object;
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
fn refused(error: TokenResponseError, object: Option<Object<'_>>, body: &[u8]) {
    match error {
        TokenResponseError::NotJson => assert!(object.is_none(), "a valid object was rejected"),
        TokenResponseError::NotObject => {
            // A body that does not begin an object need not be valid JSON to its end.
            assert!(object.is_none(), "a valid object was rejected");
        }
        TokenResponseError::Repeated => {
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
        TokenResponseError::Undisclosable => panic!("parsing does not search for tokens"),
        TokenResponseError::WrongType => {
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
            matches!(
                error,
                TokenResponseError::NotJson | TokenResponseError::NotObject
            ),
            "malformed JSON was rejected for another reason"
        );
    }
}
