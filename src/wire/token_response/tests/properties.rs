//! The rules for generated responses.

use super::*;

/// The text of a member: white space, name, white space, value, white space.
type Piece = [String; 5];

fn write<'a>(pieces: impl IntoIterator<Item = &'a Piece>, tail: &str) -> String {
    let members: Vec<String> = pieces
        .into_iter()
        .map(|[before, name, between, value, after]| {
            format!("{before}{name}{between}:{value}{after}")
        })
        .collect();
    format!("{{{}}}{tail}", members.join(","))
}

fn name_of(piece: &Piece) -> String {
    serde_json::from_str(&piece[1]).expect("a name")
}

fn is_lifetime(name: &str) -> bool {
    matches!(
        name,
        "refresh_expires_in"
            | "refresh_token_expires_in"
            | "refresh_token_timeout"
            | "authorization_expires_in"
    )
}

fn any_space() -> impl Strategy<Value = String> {
    "[ \n\t]{0,2}"
}

/// Objects with members that the layer reads, each at most once and some with escaped names, and
/// with other members.
fn any_pieces() -> impl Strategy<Value = Vec<Piece>> {
    let strings =
        prop_oneof!["[a-z0-9]{0,4}", "\\PC{0,4}"].prop_map(|text| Value::from(text).to_string());
    let seconds = prop_oneof![
        (0_u64..100).prop_map(|number| number.to_string()),
        (0_u64..100).prop_map(|number| format!("\"{number}\"")),
        Just("null".to_owned()),
        Just("1.5e1".to_owned()),
    ];
    let others = prop_oneof![
        Just(r#"{"refresh_token":[1.50,{}]}"#.to_owned()),
        Just("-0.10".to_owned())
    ];
    let named = |name: &'static str| {
        prop_oneof![
            Just(format!("\"{name}\"")),
            Just(format!("\"{}\"", name.replace('_', "\\u005F")))
        ]
    };
    let spaced = |name: BoxedStrategy<String>, value: BoxedStrategy<String>| {
        (any_space(), name, any_space(), value, any_space())
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
    };
    let token = prop_oneof![strings.clone(), Just("null".to_owned())].boxed();
    let any_value = prop_oneof![strings.clone(), others].boxed();
    let known = vec![
        spaced(named("access_token").boxed(), any_value.clone()).boxed(),
        spaced(named("refresh_token").boxed(), token).boxed(),
        spaced(named("scope").boxed(), any_value.clone()).boxed(),
        spaced(named("expires_in").boxed(), seconds.clone().boxed()).boxed(),
        spaced(named("refresh_expires_in").boxed(), seconds.clone().boxed()).boxed(),
        spaced(
            named("refresh_token_expires_in").boxed(),
            seconds.clone().boxed(),
        )
        .boxed(),
        spaced(
            named("refresh_token_timeout").boxed(),
            seconds.clone().boxed(),
        )
        .boxed(),
        spaced(named("authorization_expires_in").boxed(), seconds.boxed()).boxed(),
        spaced(Just("\"x\"".to_owned()).boxed(), any_value.clone()).boxed(),
        spaced(Just("\"token_type\"".to_owned()).boxed(), any_value).boxed(),
    ];
    (known, 0_usize..=10).prop_flat_map(|(pieces, count)| {
        proptest::sample::subsequence(pieces, count).prop_shuffle()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = TokenResponse::parse(body.into());
    }

    #[test]
    fn malformed_json_is_parsed_or_rejected(body in r#"\{(["{}\[\],:0-9a-z\\u ]|"refresh_token":){0,30}\}?"#) {
        if let Ok(response) = parse(&body) {
            let _ = serde_json::from_slice::<Value>(&response.with_refresh_token("t", LIFETIME, None)).expect("JSON");
            let _ = serde_json::from_slice::<Value>(&response.without_refresh_token()).expect("JSON");
            let _ = serde_json::from_slice::<Value>(&response.aged(LIFETIME)).expect("JSON");
        }
    }

    #[test]
    fn replacing_the_token_changes_nothing_else(pieces in any_pieces(), tail in any_space(), token in "[A-Za-z0-9._~-]{1,9}") {
        let body = write(&pieces, &tail);
        let left = Some(Duration::from_secs(99));
        let rewritten = response(&body).with_refresh_token(&token, LIFETIME, left);

        let mut expected = pieces.clone();
        for piece in &mut expected {
            let seconds = match &*name_of(piece) {
                "refresh_token" => {
                    piece[3] = format!("\"{token}\"");
                    continue;
                }
                "authorization_expires_in" => 99,
                name if is_lifetime(name) => 77,
                _ => continue,
            };
            piece[3] = if piece[3].starts_with('"') { format!("\"{seconds}\"") } else { seconds.to_string() };
        }
        let is_missing = |name: &str| !pieces.iter().any(|piece| name_of(piece) == name);
        let added: Vec<_> = [
            ("refresh_token", format!("\"{token}\"")),
            ("refresh_token_timeout", "77".to_owned()),
            ("authorization_expires_in", "99".to_owned()),
        ]
        .into_iter()
        .filter(|(name, _)| is_missing(name))
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
        let added = added.join(",");
        let comma = if pieces.is_empty() || added.is_empty() { "" } else { "," };
        let text = std::str::from_utf8(&rewritten).unwrap();
        prop_assert_eq!(text.replacen(&format!("{comma}{added}"), "", 1), write(&expected, &tail));
        let again = TokenResponse::parse(rewritten).unwrap();
        prop_assert_eq!(again.refresh_token(), Some(token.as_str()));
    }

    #[test]
    fn an_authorization_without_an_end_has_no_lifetime(pieces in any_pieces(), tail in any_space()) {
        let body = write(&pieces, &tail);
        let rewritten = response(&body).with_refresh_token("t", LIFETIME, None);
        let mut expected: Value = serde_json::from_str(&body).unwrap();
        let members = expected.as_object_mut().unwrap();
        members.remove("authorization_expires_in");
        for (name, value) in members.iter_mut() {
            if is_lifetime(name) {
                *value = if value.is_string() { json!("77") } else { json!(77) };
            }
        }
        expected["refresh_token"] = json!("t");
        if expected["refresh_token_timeout"].is_null() {
            expected["refresh_token_timeout"] = json!(77);
        }
        prop_assert_eq!(serde_json::from_slice::<Value>(&rewritten).unwrap(), expected);
        let again = response(std::str::from_utf8(&rewritten).unwrap());
        prop_assert_eq!(again.with_refresh_token("t", LIFETIME, None), rewritten);
    }

    #[test]
    fn removing_the_token_changes_nothing_else(pieces in any_pieces(), tail in any_space()) {
        let body = write(&pieces, &tail);
        let rest = response(&body).without_refresh_token();

        let mut expected: Value = serde_json::from_str(&body).unwrap();
        expected.as_object_mut().unwrap().retain(|name, _| name != "refresh_token" && !is_lifetime(name));
        prop_assert_eq!(serde_json::from_slice::<Value>(&rest).unwrap(), expected);

        let mut text = std::str::from_utf8(&rest).unwrap();
        for piece in pieces.iter().filter(|piece| name_of(piece) != "refresh_token" && !is_lifetime(&name_of(piece))) {
            let [_, name, between, value, _] = piece;
            let (_, after) = text.split_once(&format!("{name}{between}:{value}")).expect("members are kept as they are");
            text = after;
        }
        prop_assert!(TokenResponse::parse(rest).unwrap().refresh_token().is_none());
    }

    #[test]
    fn reducing_lifetimes_changes_nothing_else(pieces in any_pieces(), tail in any_space(), age in 0_u64..120) {
        let aged = response(&write(&pieces, &tail)).aged(Duration::from_secs(age));
        let mut expected = pieces;
        for piece in &mut expected {
            let name = name_of(piece);
            if age > 0 && (name == "expires_in" || is_lifetime(&name)) {
                match serde_json::from_str(&piece[3]).unwrap() {
                    Value::String(digits) if digits != "0" => {
                        piece[3] = format!("\"{}\"", digits.parse::<u64>().unwrap().saturating_sub(age));
                    }
                    Value::Number(number) if number.as_f64() > Some(0.0) => {
                        piece[3] = (number.as_f64().unwrap() as u64).saturating_sub(age).to_string();
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!(aged, write(&expected, &tail));
    }

    #[test]
    fn members_are_those_that_serde_json_reads(pieces in any_pieces()) {
        let body = write(&pieces, "");
        let value: Value = serde_json::from_str(&body).unwrap();
        let found = response(&body);
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        prop_assert_eq!(found.refresh_token(), text("refresh_token").filter(|token| !token.is_empty()));
        prop_assert_eq!(found.scope(), text("scope").filter(|scope| !scope.is_empty()));
        prop_assert_eq!(found.has_access_token(), text("access_token").is_some_and(|token| !token.is_empty()));
    }
}
