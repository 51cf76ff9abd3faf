//! The rules for generated forms.

use super::*;

/// Forms with parameters that the layer reads, and with similar ones.
fn any_body() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        proptest::sample::select(Param::ALL.to_vec()).prop_map(|param| param.name().to_owned()),
        Just("refresh%5Ftoken".to_owned()),
        Just("resource".to_owned()),
        "[a-z+]{0,3}",
    ];
    let value = "([a-zA-Z0-9+/:=~ -]|%[2-7][0-9A-Fa-f]|%C3%A4){0,8}";
    let piece = (name, proptest::option::of(value)).prop_map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => name,
    });
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.join("&"))
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_parsed_or_rejected(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = TokenRequest::parse(body.into());
    }

    #[test]
    fn values_are_those_that_form_urlencoded_reads(body in any_body()) {
        let Ok(form) = parse(&body) else { return Ok(()) };
        let pairs = pairs(body.as_bytes());
        for param in Param::ALL {
            let expected = pairs.iter().find(|(name, value)| name == param.name() && !value.is_empty());
            prop_assert_eq!(form.get(param), expected.map(|(_, value)| value.as_str()));
        }
        let expected: Vec<_> =
            pairs.iter().filter(|(name, value)| name == "resource" && !value.is_empty()).map(|(_, value)| value).collect();
        let expected: Vec<_> =
            expected.iter().enumerate().filter(|(at, value)| !expected[..*at].contains(value)).map(|(_, value)| *value).collect();
        prop_assert_eq!(form.resources().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn replacing_a_value_keeps_everything_else(body in any_body(), token in "\\PC{0,20}") {
        let Ok(form) = parse(&body) else { return Ok(()) };
        let rewritten = form.replace(Param::RefreshToken, &token);

        let mut expected = pairs(body.as_bytes());
        match expected.iter_mut().find(|(name, _)| name == "refresh_token") {
            Some((_, value)) => value.clone_from(&token),
            None => expected.push(("refresh_token".to_owned(), token.clone())),
        }
        prop_assert_eq!(pairs(&rewritten), expected);

        let again = TokenRequest::parse(rewritten).expect("the rewritten form is a form");
        prop_assert_eq!(again.get(Param::RefreshToken), Some(token.as_str()).filter(|token| !token.is_empty()));
        prop_assert_eq!(again.replace(Param::RefreshToken, "x"), form.replace(Param::RefreshToken, "x"));
    }
}
