use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use tower_oauth_refresh::fuzzing::{AccessToken, RefreshToken};

/// Prefixes that can be configured: the defaults, an empty one, and one that is not ASCII.
const PREFIXES: [&str; 4] = ["rt_", "at_", "", "\u{fc}_"];

/// Checks the token format. The input is the text of a token, or the 48 bytes of its payload.
pub fn token(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        PREFIXES.into_iter().for_each(|prefix| read(prefix, text));
    }
    if let Some((id, [a, b, c, d, secret @ ..])) = input.split_first_chunk()
        && let Some(secret) = secret.first_chunk()
    {
        write(*id, u32::from_be_bytes([*a, *b, *c, *d]), secret);
    }
}

/// Checks that a parsed text is encoded to the same text, and that a rejected one has another
/// format or a wrong checksum.
fn read(prefix: &str, text: &str) {
    let refresh = RefreshToken::parse(prefix, text);
    let access = AccessToken::parse(prefix, text);
    let valid = text.strip_prefix(prefix).is_some_and(|encoded| {
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        encoded.len() == 72
            && encoded.bytes().all(in_alphabet)
            && encoded.ends_with(&checksum(prefix, encoded))
    });
    assert_eq!(
        (refresh.is_some(), access.is_some()),
        (valid, valid),
        "format and checksum do not decide whether a text is a token"
    );
    if let (Some(refresh), Some(access)) = (refresh, access) {
        assert_eq!(
            refresh.encode(prefix).as_str(),
            text,
            "a refresh token has two spellings"
        );
        assert_eq!(
            access.encode(prefix).as_str(),
            text,
            "an access token has two spellings"
        );
        shows_nothing(&refresh, &access);
    }
}

/// Returns the checksum that a token of 72 characters must end with.
fn checksum(prefix: &str, encoded: &str) -> String {
    let payload = URL_SAFE_NO_PAD
        .decode(&encoded[..64])
        .expect("64 characters of the alphabet are base64url");
    let hash =
        Sha256::digest([b"tower-oauth-refresh checksum", prefix.as_bytes(), &payload].concat());
    URL_SAFE_NO_PAD.encode(&hash[..6])
}

/// Checks that an encoded token is parsed to the same token, with the same keys.
fn write(id: [u8; 12], generation: u32, secret: &[u8; 32]) {
    let refresh = RefreshToken::new(id, generation, secret);
    for prefix in PREFIXES {
        let text = refresh.encode(prefix);
        let read = RefreshToken::parse(prefix, &text).expect("the encoded token can be parsed");
        assert!(
            read == refresh && read.id() == id && read.generation() == generation,
            "another token was parsed"
        );
        assert!(
            (read.hash(), read.key()) == (refresh.hash(), refresh.key()),
            "hash or key differ"
        );
        for other in PREFIXES.into_iter().filter(|other| *other != prefix) {
            assert!(
                RefreshToken::parse(other, &text).is_none(),
                "a token was parsed with another prefix"
            );
            let renamed = text.replacen(prefix, other, 1);
            assert!(
                RefreshToken::parse(other, &renamed).is_none(),
                "the checksum does not cover the prefix"
            );
        }
    }
    let access = AccessToken::new(refresh.access_id(), generation, secret);
    let read =
        AccessToken::parse("at_", &access.encode("at_")).expect("the encoded token can be parsed");
    assert!(
        read == access && read.generation() == generation && read.key() == access.key(),
        "another token was parsed"
    );
    assert!(
        access.grant_key() == refresh.key(),
        "the access token names another grant"
    );
    assert!(
        access.key() != refresh.key(),
        "the access token has the key of its grant"
    );
    let taken_for_refresh = RefreshToken::parse("", &access.encode(""))
        .expect("both kinds of token have the same format");
    assert!(
        taken_for_refresh.key() != refresh.key(),
        "an access token is accepted as a refresh token of its grant"
    );
    let later = RefreshToken::new(id, generation.wrapping_add(1), secret);
    assert!(
        later.key() == refresh.key() && later.hash() != refresh.hash(),
        "two generations have the same hash, or different keys"
    );
    shows_nothing(&refresh, &access);
}

fn shows_nothing(refresh: &RefreshToken, access: &AccessToken) {
    let shown = |kind: &str, generation: u32| format!("{kind} {{ generation: {generation}, .. }}");
    assert_eq!(
        format!("{refresh:?}"),
        shown("RefreshToken", refresh.generation())
    );
    assert_eq!(
        format!("{access:?}"),
        shown("AccessToken", access.generation())
    );
}
