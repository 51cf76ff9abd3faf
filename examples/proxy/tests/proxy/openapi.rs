//! Compares responses with an OpenAPI document.

use std::collections::HashSet;

use serde_json::Value;
use test_support::http::Answer;

/// An OpenAPI 3.1 document.
#[derive(Debug)]
pub(crate) struct Document(Value);

impl Document {
    /// Checks that references lead to something, that every operation has an ID of its own, and
    /// that the parameters of each path are described.
    pub(crate) fn new(document: Value) -> Self {
        let document = Self(document);
        assert_eq!(document.0["openapi"], "3.1.0");
        document.check_references(&document.0);
        let mut ids = HashSet::new();
        for (path, item) in document.paths() {
            let parameters = item.get("parameters").and_then(Value::as_array);
            let of_path: HashSet<_> = parameters
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| {
                    assert_eq!(parameter["required"], true, "{path}");
                    format!("{{{}}}", parameter["name"].as_str().unwrap())
                })
                .collect();
            let segments = path.split('/').filter(|segment| segment.starts_with('{'));
            let in_path: HashSet<_> = segments.map(str::to_owned).collect();
            assert_eq!(of_path, in_path, "{path}");
            for (method, operation) in item.as_object().unwrap() {
                if method != "parameters" {
                    let id = operation["operationId"].as_str().unwrap();
                    assert!(ids.insert(id.to_owned()), "{id}");
                    assert!(operation["responses"].is_object(), "{path}");
                }
            }
        }
        document
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0["paths"].as_object().unwrap().iter()
    }

    /// Checks that the status and the body of a response are described, with every member.
    pub(crate) fn check(&self, method: &str, target: &str, answer: &Answer) {
        let what = format!("{method} {target}: {answer:?}");
        let path = target.split('?').next().unwrap_or_default();
        let mut items = self.paths().filter(|(template, _)| fits(template, path));
        let (_, item) = items.next().expect("the document has the path");
        let responses = &item[method.to_lowercase()]["responses"];
        let response = self.resolve(&responses[answer.status.as_str()]);
        assert!(response["description"].is_string(), "{what}");
        match response.get("content") {
            None => assert!(answer.body.is_empty(), "{what}"),
            Some(content) => {
                let (media_type, content) = content.as_object().unwrap().iter().next().unwrap();
                assert_eq!(answer.headers["content-type"], *media_type, "{what}");
                self.check_value(&content["schema"], &answer.json(), &what);
            }
        }
    }

    fn check_references(&self, value: &Value) {
        match value {
            Value::Object(members) => {
                self.resolve(value);
                members
                    .values()
                    .for_each(|value| self.check_references(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.check_references(value)),
            _ => {}
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref") else {
            return value;
        };
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        let found = self.0.pointer(pointer);
        found.unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// Checks a value against a schema. Panics if the schema has a keyword that this check does not
    /// know.
    fn check_value(&self, schema: &Value, value: &Value, what: &str) {
        for (keyword, argument) in self.resolve(schema).as_object().unwrap() {
            let list = argument.as_array();
            let holds = match keyword.as_str() {
                "description" => true,
                "type" => match list {
                    Some(types) => types.iter().any(|name| is(value, name)),
                    None => is(value, argument),
                },
                "enum" => list.unwrap().contains(value),
                "minimum" => value.as_i64() >= argument.as_i64(),
                "required" => {
                    let mut names = list.unwrap().iter();
                    names.all(|name| value.get(name.as_str().unwrap()).is_some())
                }
                "properties" => {
                    let mut members = value.as_object().unwrap().iter();
                    members.all(|(name, value)| {
                        let schema = argument.get(name);
                        schema.is_some_and(|schema| {
                            self.check_value(schema, value, what);
                            true
                        })
                    })
                }
                "items" => {
                    let items = value.as_array().unwrap();
                    items
                        .iter()
                        .for_each(|item| self.check_value(argument, item, what));
                    true
                }
                keyword => panic!("unknown keyword: {keyword}"),
            };
            assert!(holds, "{keyword} {argument}: {value} of {what}");
        }
    }
}

/// Returns whether the template describes this path.
fn fits(template: &str, path: &str) -> bool {
    let (wanted, found) = (template.split('/'), path.split('/'));
    wanted.clone().count() == found.clone().count()
        && wanted
            .zip(found)
            .all(|(wanted, found)| wanted == found || wanted.starts_with('{'))
}

/// Returns whether a value has the type with this name.
fn is(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => panic!("unknown type: {name}"),
    }
}
