//! The rules for generated values.

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let names = proptest::sample::select(vec![
        "access_token",
        "accessToken",
        "refresh-token",
        "a",
        "b",
        "id_token",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..9).prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..4).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// Removes the same members from the parsed value instead of the text.
fn removed(value: &Value, is_token: &dyn Fn(&str) -> bool) -> Value {
    match value {
        Value::Array(values) => values
            .iter()
            .map(|value| removed(value, is_token))
            .collect(),
        Value::Object(members) => members
            .iter()
            .filter(|(name, value)| {
                !is_token(name)
                    || matches!(value, Value::Null | Value::Bool(_))
                    || value.as_str() == Some("")
            })
            .map(|(name, value)| (name.clone(), removed(value, is_token)))
            .collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn the_rest_is_the_value_without_tokens(value in any_json(), pretty in any::<bool>()) {
        let value = serde_json::json!({ "x": value });
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let all = ["access_token", "accessToken", "refresh-token", "id_token"];
        for (withheld, names) in [(ALL, &all[..]), (REFRESH, &["refresh-token"][..])] {
            let left = answer(withheld, &text, &[]).unwrap();
            prop_assert_eq!(
                serde_json::from_str::<Value>(&left).unwrap(),
                removed(&value, &|name| names.contains(&name))
            );
        }
    }

    #[test]
    fn arbitrary_texts_are_inspected_without_panic(text in "\\PC{0,60}", body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let json = Value::from(text).to_string();
        let _ = (ALL.in_json(&json, Vec::new()).is_ok(), ALL.discloses(&HeaderMap::new(), &body, &["x"]));
    }
}
