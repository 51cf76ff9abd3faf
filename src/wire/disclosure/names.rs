//! Recognizes the names of tokens, texts that assign a value to such a name, and JWTs.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, PRAGMA, VARY};
use memchr::{memchr_iter, memchr3};

/// The beginning of the base64url encoding of a JSON object.
const JWT: &str = "eyJ";

/// A decoder that accepts everything that lenient decoders accept.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token whose name contains one of these is a refresh token, unless the name contains
/// `accesstoken` or `idtoken`.
const REFRESHING: [&str; 3] = ["refresh", "offline", "renew"];

/// Names that end with one of these hold a token. They are compared without case, and without
/// characters that are neither letters nor digits.
const TOKENS: [&str; 11] = [
    "tokenrefresh",
    "token",
    "tokens",
    "tokensecret",
    "tokenvalue",
    "tokenstring",
    "jwt",
    "jwts",
    "authorization",
    "bearer",
    "assertion",
];

/// Names that contain one of these hold a token, unless the rest of the name begins with one of
/// [`DESCRIPTIONS`].
const STANDARD: [&str; 3] = ["accesstoken", "refreshtoken", "idtoken"];

/// The beginnings of what follows a name of [`STANDARD`] in names that only describe a token:
/// `access_token_type`, `refresh_token_expires_in`.
const DESCRIPTIONS: [&str; 20] = [
    "id", "expir", "type", "lifetime", "timeout", "ttl", "valid", "issued", "created", "updated",
    "format", "scope", "hash", "version", "status", "endpoint", "uri", "url", "alg", "signing",
];

/// Parts of the names of anti-CSRF tokens, which authorize nothing by themselves.
const FORGERY: [&str; 4] = ["csrf", "xsrf", "forgery", "verificationtoken"];

/// Names of members whose value may name what another member of the same object holds, such as
/// `type` in `{"type":"refresh_token","value":"…"}`.
pub(super) const LABELS: [&str; 6] = ["type", "name", "key", "kind", "id", "tokentype"];

/// Names of members that may hold what such a member names.
pub(super) const LABELLED: [&str; 3] = ["value", "token", "secret"];

/// Words in error codes that mention a token but do not name one, such as `invalid_token`.
const ERROR_WORDS: [&str; 3] = ["invalid", "expired", "missing"];

/// Headers of most answers. None of them is named like a token, and their names need no comparison
/// with those of tokens.
pub(super) static COMMON_HEADERS: [HeaderName; 6] = [
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CACHE_CONTROL,
    PRAGMA,
    DATE,
    VARY,
];

/// Returns whether a text is nothing but the name of a token, unlike `invalid_token`.
pub(super) fn is_exact(text: &str) -> bool {
    let text = folded(text);
    let has = |part: &&str| text.contains(*part);
    (TOKENS.contains(&&*text) || STANDARD.iter().any(has)) && !ERROR_WORDS.iter().any(has)
}

/// Returns whether one of these texts is the folded form of a name.
pub(super) fn is_one_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| letters(name).eq(known.chars()))
}

/// Returns whether a member of this name holds a token of any kind.
pub(super) fn is_token(name: &str) -> bool {
    is_folded_token(&folded(name))
}

fn is_folded_token(name: &str) -> bool {
    let name = without_version(name);
    let is_in_name = |part: &&str| name.contains(*part);
    // The name of another token may have one of these in it, too.
    if FORGERY.iter().any(is_in_name) && !STANDARD.iter().any(is_in_name) {
        return false;
    }
    let known = |token: &&str| {
        let rest = name.rsplit_once(*token).map(|(_, rest)| rest);
        rest.is_some_and(|rest| !DESCRIPTIONS.iter().any(|about| rest.starts_with(about)))
    };
    TOKENS.iter().any(|token| name.ends_with(token)) || STANDARD.iter().any(known)
}

/// Returns whether a member of this name holds a refresh token.
pub(super) fn is_refresh_token(name: &str) -> bool {
    let name = folded(name);
    let is_in_name = |part: &&str| name.contains(*part);
    let refreshes = name.contains("refreshtoken")
        || (REFRESHING.iter().any(is_in_name) && !STANDARD.iter().any(is_in_name));
    refreshes && is_folded_token(&name)
}

fn folded(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    folded.extend(letters(name));
    folded
}

/// Returns the letters and digits of a name, in lower case.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let letters = name.chars().filter(|char| char.is_alphanumeric());
    letters.flat_map(char::to_lowercase)
}

/// Removes a version at the end of a name: `access_token_v2` and `token1` are tokens, too.
fn without_version(name: &str) -> &str {
    let bare = name.trim_end_matches(|char: char| char.is_ascii_digit());
    if bare.len() < name.len() {
        bare.strip_suffix('v').unwrap_or(bare)
    } else {
        bare
    }
}

/// Returns whether a text assigns a value to a name for which `names` is true, in the syntax of a
/// form, a query, a cookie, JSON or XML.
pub(super) fn is_assigned(text: &[u8], names: impl Fn(&str) -> bool) -> bool {
    // Each of these syntaxes has one of these bytes.
    if memchr3(b'=', b':', b'<', text).is_none() {
        return false;
    }
    let text = &*String::from_utf8_lossy(text);
    let mut words = text.split(|char: char| !is_in_name(char));
    words.any(|word| {
        let start = word.as_ptr().addr() - text.as_ptr().addr();
        let (before, rest) = text.split_at(start);
        let (_, after) = rest.split_at(word.len());
        !word.is_empty() && assigns(before, word, after) && names(word)
    })
}

fn assigns(before: &str, word: &str, after: &str) -> bool {
    let quoted = after.starts_with(['"', '\'']);
    let behind = after
        .trim_start_matches(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | ']'));
    if let Some(value) = behind.strip_prefix('=') {
        let value = value.trim_start_matches(['"', '\'', ' ']);
        return value.starts_with(|first| !matches!(first, '&' | ';' | ',' | '<' | '>'));
    }
    if behind.starts_with(':') {
        // Without quotes it may be prose: "invalid token: expired".
        return quoted || STANDARD.iter().any(|token| folded(word).ends_with(token));
    }
    let tag = before
        .rsplit(|char: char| !is_in_name(char) && char != ':')
        .next()
        .unwrap_or_default();
    before.strip_suffix(tag).unwrap_or_default().ends_with('<')
}

fn is_in_name(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '_' | '-' | '.')
}

/// Returns whether a word of the text is a JWT: three parts or more, of which the first is an
/// encoded JSON object.
pub(super) fn has_jwt(text: &[u8]) -> bool {
    if memchr_iter(b'.', text).nth(1).is_none() {
        return false;
    }
    String::from_utf8_lossy(text)
        .split(|char: char| !is_in_name(char))
        .any(|word| {
            word.split('.')
                .skip_while(|part| !is_encoded_object(part))
                .count()
                >= 3
        })
}

/// Returns whether a text is the base64url encoding of a JSON object, with or without white space
/// and a byte order mark.
fn is_encoded_object(part: &str) -> bool {
    // The first character of an encoded brace, of white space, or of a byte order mark.
    if part.starts_with(JWT) || !part.starts_with(['e', 'I', 'C', 'D', '7']) {
        return part.starts_with(JWT);
    }
    let surplus = usize::from(part.len() % 4 == 1);
    let digits = part.as_bytes().get(..part.len() - surplus);
    let Ok(decoded) = BASE64.decode(digits.unwrap_or_default()) else {
        return false;
    };
    let is_skipped =
        |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 0xbb | 0xbf | 0xef);
    let mut visible = decoded.iter().filter(|byte| !is_skipped(byte));
    visible.next() == Some(&b'{') && matches!(visible.next(), Some(b'"' | b'}'))
}
