//! Parses a discovery document and rewrites its endpoints. All other bytes stay unchanged.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

/// The members with the URLs of guarded endpoints.
const ENDPOINTS: [&str; 3] = [
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
];

/// The endpoints for clients that authenticate by mutual TLS (RFC 8705 §5).
const MTLS_ALIASES: &str = "mtls_endpoint_aliases";

/// The types of expiration that token responses state (draft-ietf-oauth-refresh-token-expiration
/// §8).
const EXPIRATION_TYPES: &str = "refresh_token_expiration_types_supported";

/// A member of the document that holds the URL of an endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) url: Url,
    /// The position of its value in the text, including the quotes.
    span: Range<usize>,
}

/// The parts of a discovery document that the proxy uses.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether the document also contains signed metadata (RFC 8414 §2.1), which cannot be
    /// rewritten.
    pub(super) signed: bool,
    /// The types of expiration, and the position of the list. A value that is not a list of strings
    /// counts as an empty list.
    expiration_types: Option<(Vec<String>, Range<usize>)>,
}

impl Document {
    /// Parses a JSON object. Returns `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Members(members) = serde_json::from_str(text).ok()?;
        let mut document = Self::default();
        for (key, value) in members {
            match key.as_str() {
                MTLS_ALIASES => {
                    let Ok(Members(aliases)) = serde_json::from_str(value.get()) else {
                        continue;
                    };
                    for (key, value) in aliases {
                        document.add(text, &key, value, MTLS_ALIASES);
                    }
                }
                "signed_metadata" => document.signed = true,
                EXPIRATION_TYPES => {
                    let types = serde_json::from_str(value.get()).unwrap_or_default();
                    document.expiration_types = Some((types, span(text, value)));
                }
                _ => document.add(text, &key, value, ""),
            }
        }
        Some(document)
    }

    fn add(&mut self, text: &str, key: &str, value: &RawValue, within: &str) {
        if !ENDPOINTS.contains(&key) {
            return;
        }
        let Ok(Ok(url)) = serde_json::from_str::<String>(value.get()).map(|url| Url::parse(&url))
        else {
            return;
        };
        let name = if within.is_empty() {
            key.to_owned()
        } else {
            format!("{within}.{key}")
        };
        self.endpoints.push(Endpoint {
            name,
            url,
            span: span(text, value),
        });
    }

    /// Returns the text with the URLs that `change` returns, and with these types of expiration in
    /// addition to the listed ones; `None` if it changes nothing.
    pub(super) fn rewrite(
        &self,
        text: &str,
        change: impl Fn(&Url) -> Option<String>,
        expiration_types: &[&str],
    ) -> Option<String> {
        let url = |endpoint: &Endpoint| Some((endpoint.span.clone(), json(change(&endpoint.url)?)));
        let mut changes: Vec<_> = self.endpoints.iter().filter_map(url).collect();
        changes.extend(self.with_types(text, expiration_types));
        if changes.is_empty() {
            return None;
        }
        changes.sort_by_key(|(span, _)| span.start);
        let mut out = String::with_capacity(text.len() + 128);
        let mut copied = 0;
        for (span, value) in changes {
            out.push_str(&text[copied..span.start]);
            out.push_str(&value);
            copied = span.end;
        }
        out.push_str(&text[copied..]);
        Some(out)
    }

    /// Returns the change that lists these types of expiration, too. A document that lists none
    /// gets a new member at its end; it is not empty, because it has a token endpoint.
    fn with_types(&self, text: &str, types: &[&str]) -> Option<(Range<usize>, String)> {
        let (listed, span) = match &self.expiration_types {
            Some((listed, span)) => (&**listed, Some(span.clone())),
            None => (&[][..], None),
        };
        let missing = types
            .iter()
            .filter(|name| !listed.iter().any(|listed| listed == *name));
        let mut all = listed.to_vec();
        all.extend(missing.map(|name| (*name).to_owned()));
        if all.len() == listed.len() {
            return None;
        }
        match span {
            Some(span) => Some((span, json(all))),
            None => {
                let end = text.rfind('}')?;
                Some((end..end, format!(",\"{EXPIRATION_TYPES}\":{}", json(all))))
            }
        }
    }
}

fn json(value: impl Into<serde_json::Value>) -> String {
    value.into().to_string()
}

/// Returns the position of a value in the text.
fn span(text: &str, value: &RawValue) -> Range<usize> {
    // The value is a slice of `text`, so the difference of the addresses is its position.
    let start = value.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + value.get().len()
}

/// The members of a JSON object in their order, including repeated ones.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(url: &Url) -> Option<String> {
        (url.host_str() == Some("up")).then(|| format!("https://pub{}", url.path()))
    }

    fn rewritten(text: &str) -> Option<String> {
        Document::parse(text).unwrap().rewrite(text, moved, &[])
    }

    #[test]
    fn missing_types_of_expiration_are_added() {
        let both = &["authorization", "token_timeout"][..];
        let rows = [
            (
                r#"{"token_endpoint":"/t","x":{} }"#,
                both,
                Some(
                    r#"{"token_endpoint":"/t","x":{} ,"refresh_token_expiration_types_supported":["authorization","token_timeout"]}"#,
                ),
            ),
            (
                r#"{"refresh_token_expiration_types_supported" : [ "authorization","other" ], "token_endpoint":"http://up/t"}"#,
                &["token_timeout"],
                Some(
                    r#"{"refresh_token_expiration_types_supported" : ["authorization","other","token_timeout"], "token_endpoint":"https://pub/t"}"#,
                ),
            ),
            (
                r#"{"token_endpoint":"http://up/t","refresh_token_expiration_types_supported":null}"#,
                both,
                Some(
                    r#"{"token_endpoint":"https://pub/t","refresh_token_expiration_types_supported":["authorization","token_timeout"]}"#,
                ),
            ),
            (
                r#"{"refresh_token_expiration_types_supported":["token_timeout","authorization"],"token_endpoint":"/t"}"#,
                both,
                None,
            ),
            (r#"{"token_endpoint":"/t"}"#, &[], None),
        ];
        for (text, types, want) in rows {
            let document = Document::parse(text).unwrap();
            let changed = document.rewrite(text, moved, types);
            assert_eq!(changed.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn only_urls_of_endpoints_at_the_upstream_are_rewritten() {
        let text = "{ \"n\":1.50e3,\"token_endpoint\" : \"http://up/t\",\n \"x\":{\"token_endpoint\":\"http://up/t\"},\
                    \"revocation_endpoint\":\"http:\\/\\/up\\/r\", \"n\":2,\"mtls_endpoint_aliases\": {\"a\":0,\
                    \"token_endpoint\":\"http://up/m\"}, \"introspection_endpoint\":\"http://other/i\"}\n";
        let want = "{ \"n\":1.50e3,\"token_endpoint\" : \"https://pub/t\",\n \"x\":{\"token_endpoint\":\"http://up/t\"},\
                    \"revocation_endpoint\":\"https://pub/r\", \"n\":2,\"mtls_endpoint_aliases\": {\"a\":0,\
                    \"token_endpoint\":\"https://pub/m\"}, \"introspection_endpoint\":\"http://other/i\"}\n";
        assert_eq!(rewritten(text).as_deref(), Some(want));
    }

    #[test]
    fn a_document_without_urls_of_endpoints_is_not_rewritten() {
        for text in [
            "{}",
            r#"{"token_endpoint":null}"#,
            r#"{"token_endpoint":"/t","mtls_endpoint_aliases":[]}"#,
        ] {
            assert_eq!(rewritten(text), None, "{text}");
        }
        for text in ["", "[]", "{", "no", r#"{"token_endpoint":"http://up/t"} x"#] {
            assert!(Document::parse(text).is_none(), "{text}");
        }
    }
}
