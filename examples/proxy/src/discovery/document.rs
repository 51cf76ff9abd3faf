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
        // The value is a slice of `text`, so the difference of the addresses is its position.
        let start = value.get().as_ptr().addr() - text.as_ptr().addr();
        let name = if within.is_empty() {
            key.to_owned()
        } else {
            format!("{within}.{key}")
        };
        self.endpoints.push(Endpoint {
            name,
            url,
            span: start..start + value.get().len(),
        });
    }

    /// Returns the text with the URLs that `change` returns; `None` if it changes no URL.
    pub(super) fn rewrite(
        &self,
        text: &str,
        change: impl Fn(&Url) -> Option<String>,
    ) -> Option<String> {
        let mut out = String::with_capacity(text.len() + 128);
        let mut copied = 0;
        for endpoint in &self.endpoints {
            let Some(url) = change(&endpoint.url) else {
                continue;
            };
            out.push_str(&text[copied..endpoint.span.start]);
            out.push_str(&serde_json::Value::String(url).to_string());
            copied = endpoint.span.end;
        }
        if copied == 0 {
            return None;
        }
        out.push_str(&text[copied..]);
        Some(out)
    }
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

    fn rewritten(text: &str) -> Option<String> {
        let move_it = |url: &Url| {
            (url.host_str() == Some("up")).then(|| format!("https://pub{}", url.path()))
        };
        Document::parse(text).unwrap().rewrite(text, move_it)
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
