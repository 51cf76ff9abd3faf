//! No token is left under any name.

use serde_json::Value;

use tower_oauth_refresh::fuzzing::{TokenResponse, Withheld};

use super::STANDARD;
use crate::json::{Object, is_space, strings};

/// Checks that no token is left under any name at any depth, except where the layer replaces it,
/// that no known token is left anywhere, and that every other member is unchanged. Unlike the
/// layer, it checks names on the parsed value.
pub(super) fn disclosed(answer: TokenResponse, object: &Object<'_>, used: &str) {
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
pub(super) fn spelled_otherwise(answer: &TokenResponse, object: &Object<'_>, escaped: u64) {
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
