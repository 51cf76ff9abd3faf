//! Finds response types in request objects (RFC 9101).

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Refusal;
use super::decoding::{base64_decoded, url_safe};
use super::parameter::{Parameter, has_token};

/// Checks a JWT whose claims are the parameters of the request. The upstream checks its signature.
pub(super) fn check_request_object(value: &[u8]) -> Result<(), Refusal> {
    // Lenient decoders skip all bytes outside of the alphabet, `=` included.
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let compact: Vec<u8> = value
        .iter()
        .map(|byte| url_safe(*byte))
        .filter(is_known)
        .collect();
    let mut parts = compact.split(|byte| *byte == b'.');
    let (header, payload) = (parts.next().unwrap_or_default(), parts.next());
    // A value whose header is not a JSON object cannot be a request object: the parameter has
    // another meaning on this path.
    if !base64_decoded(header).is_some_and(|header| is_object(&header)) {
        return Ok(());
    }
    // JWS has three parts, JWE five.
    if parts.count() != 1 {
        return Err(Refusal::RequestObject);
    }
    let payload = base64_decoded(payload.unwrap_or_default()).ok_or(Refusal::RequestObject)?;
    serde_json::from_slice::<Claims>(&payload)
        .map_err(|_| Refusal::RequestObject)?
        .0
}

/// Returns whether the text begins like a JSON object, in UTF-8, UTF-16 or UTF-32, with or without
/// a byte order mark.
fn is_object(text: &[u8]) -> bool {
    let is_skipped = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, 0 | 0xbb | 0xbf | 0xef | 0xfe | 0xff)
    };
    text.iter().find(|byte| !is_skipped(byte)) == Some(&b'{')
}

/// The verdict on the claims of a request object, repeated ones included.
struct Claims(Result<(), Refusal>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut verdict = Ok(());
                while let Some(name) = map.next_key::<String>()? {
                    match Parameter::read(name.as_bytes()) {
                        Some(Parameter::ResponseType) => {
                            let value: serde_json::Value = map.next_value()?;
                            if has_token(value.to_string().as_bytes()) {
                                verdict = Err(Refusal::ResponseType);
                            }
                        }
                        // RFC 9101 §4 forbids both in a request object.
                        Some(Parameter::Request | Parameter::RequestUri) => {
                            map.next_value::<IgnoredAny>()?;
                            verdict = verdict.and(Err(Refusal::RequestObject));
                        }
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Claims(verdict))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
