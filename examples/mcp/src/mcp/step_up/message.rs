//! Reads the method and the tool of JSON-RPC messages.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Refused;

const CALL: &str = "tools/call";

/// The most messages of a batch.
const MOST_MESSAGES: usize = 100;

/// The parts of a message that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// `None` for a response.
    pub(super) method: Option<String>,
    /// The member `name` of `params`.
    name: Option<String>,
}

impl Message {
    /// Parses a message, or a batch of messages (MCP 2025-03-26).
    ///
    /// Refuses members that occur twice or are spelled in another case: which of them counts
    /// depends on the parser.
    pub(super) fn parse(body: &[u8]) -> Result<Vec<Self>, Refused> {
        // The parser accepts invalid UTF-8 in values that it skips.
        let body = str::from_utf8(body).map_err(|_| Refused::Encoding)?;
        let Body(messages) = serde_json::from_str(body).map_err(|_| Refused::Message)?;
        let is_nameless = |message: &Self| message.is_call() && message.name.is_none();
        if messages.iter().any(is_nameless) {
            return Err(Refused::Message);
        }
        Ok(messages)
    }

    fn is_call(&self) -> bool {
        self.method.as_deref() == Some(CALL)
    }

    /// Returns the tool that the message calls.
    pub(super) fn tool(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.is_call())
    }
}

/// A message or a batch.
struct Body(Vec<Message>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message or a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Body, A::Error> {
        read_message(map).map(|message| Body(vec![message]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Body, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = sequence.next_element()? {
            if messages.len() == MOST_MESSAGES {
                return Err(Error::custom("the batch has too many messages"));
            }
            messages.push(message);
        }
        Ok(Body(messages))
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Message, A::Error> {
        read_message(map)
    }
}

fn read_message<'de, A: MapAccess<'de>>(mut map: A) -> Result<Message, A::Error> {
    let mut method = None;
    let mut params = None;
    while let Some(key) = map.next_key::<String>()? {
        match member(&key, &["method", "params"])? {
            Some("method") => set(&mut method, map.next_value::<String>()?)?,
            Some(_) => set(&mut params, map.next_value::<Params>()?)?,
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(Message {
        method,
        name: params.and_then(|Params(name)| name),
    })
}

/// The value of `params`, of which only the member `name` is read.
struct Params(Option<String>);

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamsVisitor)
    }
}

struct ParamsVisitor;

impl<'de> Visitor<'de> for ParamsVisitor {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the params of a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut name: Option<&RawValue> = None;
        while let Some(key) = map.next_key::<String>()? {
            match member(&key, &["name"])? {
                Some(_) => set(&mut name, map.next_value()?)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        // Another type is the name of no tool.
        let name = name.and_then(|name| serde_json::from_str(name.get()).ok());
        Ok(Params(name))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Params, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Params(None))
    }

    fn visit_unit<E: Error>(self) -> Result<Params, E> {
        Ok(Params(None))
    }
}

/// Returns the one of `names` that `key` is. Some parsers ignore the case of names, also that of
/// `ſ` and `K`.
fn member<E: Error>(key: &str, names: &[&'static str]) -> Result<Option<&'static str>, E> {
    let folded = key.to_uppercase().to_lowercase();
    match names.iter().find(|name| **name == folded) {
        Some(name) if *name != key => Err(E::custom("a member is spelled in another case")),
        found => Ok(found.copied()),
    }
}

fn set<T, E: Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        Some(_) => Err(E::custom("a member occurs twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn tools(body: &str) -> Result<Vec<String>, Refused> {
        let messages = Message::parse(body.as_bytes())?;
        let tools = messages.iter().filter_map(Message::tool);
        Ok(tools.map(str::to_owned).collect())
    }

    #[test]
    fn the_tool_is_read_wherever_it_stands() {
        for (body, found) in [
            (
                r#"{"method":"tools/call","params":{"name":"a"}}"#,
                &["a"][..],
            ),
            (
                r#"{"params":{"arguments":{"name":"b"},"name":"a"},"method":"tools/call"}"#,
                &["a"],
            ),
            (
                r#"{"method":"tools/call","params":{"\u006eame":"\u0061"}}"#,
                &["a"],
            ),
            (
                r#"[{"method":"ping"},{"method":"tools/call","params":{"name":"a"}}]"#,
                &["a"],
            ),
            (r#"{"method":"prompts/get","params":{"name":"a"}}"#, &[]),
            (r#"{"method":"ping","params":null}"#, &[]),
            (r#"{"method":"ping","params":[1]}"#, &[]),
            (r#"{"id":1,"result":{"method":"tools/call"}}"#, &[]),
            (r#"{"method":"x","params":{"name":5}}"#, &[]),
        ] {
            assert_eq!(tools(body).unwrap(), found, "{body}");
        }
    }

    proptest! {
        /// A parser may take any of the members that occur twice, and may ignore their case.
        #[test]
        fn no_reading_of_a_message_calls_a_tool_unnoticed(
            members in vec((select(&KEYS[..]), select(&VALUES[..])), 0..5),
        ) {
            let texts = members.iter().map(|(key, value)| format!("\"{key}\":{value}"));
            let body = format!("{{{}}}", texts.collect::<Vec<_>>().join(","));
            let has = |wanted: &str, part: &str| {
                members.iter().any(|(key, value)| {
                    key.to_uppercase().to_lowercase() == wanted && value.contains(part)
                })
            };
            let may_call = has("method", CALL) && has("params", "\"secret\"");
            let found = tools(&body);
            prop_assert!(
                !may_call || found.is_err() || found == Ok(vec!["secret".into()]),
                "{body}"
            );
        }
    }

    const KEYS: [&str; 7] = [
        "method",
        "Method",
        "params",
        "PARAMS",
        "param\u{17f}",
        "id",
        "x",
    ];
    const VALUES: [&str; 8] = [
        "\"tools/call\"",
        "\"ping\"",
        "null",
        r#"{"name":"secret"}"#,
        r#"{"Name":"secret"}"#,
        r#"{"name":"other"}"#,
        r#"{"name":"other","NAME":"secret"}"#,
        r#"{"name":"other","name":"secret"}"#,
    ];

    #[test]
    fn an_ambiguous_or_invalid_message_is_refused() {
        for body in [
            "x",
            "5",
            "\"x\"",
            "null",
            r#"{"method":"tools/call"} {}"#,
            r#"{"method":"tools/call"}"#,
            r#"{"method":"tools/call","params":["a"]}"#,
            r#"{"method":"tools/call","params":{"name":5}}"#,
            r#"{"method":"ping","method":"tools/call","params":{"name":"a"}}"#,
            r#"{"method":"ping","Method":"tools/call","params":{"name":"a"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","NAME":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#,
            "{\"method\":\"tools/call\",\"params\":{\"name\":\"a\"},\"param\u{17f}\":{}}",
            r#"{"method":5}"#,
            r#"[[{"method":"ping"}]]"#,
            r#"{"method":"tools/call","params":{"name":{"name":"a"}}}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(tools(body), Err(Refused::Message), "{body}");
        }
    }

    #[test]
    fn a_batch_is_short() {
        let batch = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(tools(&batch(MOST_MESSAGES)), Ok(Vec::new()));
        assert_eq!(tools(&batch(MOST_MESSAGES + 1)), Err(Refused::Message));
    }

    #[test]
    fn all_of_a_message_is_utf8() {
        let body = b"{\"method\":\"ping\",\"params\":{\"x\":\"\xff\"}}";
        assert_eq!(Message::parse(body), Err(Refused::Encoding));
    }
}
