use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::token::{AccessToken, RefreshToken};

/// Prefixes as they are configured: the defaults, none, and one beyond ASCII.
const PREFIXES: [&str; 4] = ["rt_", "at_", "", "\u{fc}_"];

/// Input: the text of a token, or the 48 bytes of one.
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

/// Checks that a parsed text is encoded to the same text, and that a refused one has another format
/// or a wrong checksum.
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
        "a token has the form and the checksum of one"
    );
    if let (Some(refresh), Some(access)) = (refresh, access) {
        assert_eq!(
            refresh.encode(prefix).as_str(),
            text,
            "one token, one spelling"
        );
        assert_eq!(access.encode(prefix).as_str(), text, "of either kind");
        shows_nothing(&refresh, &access);
    }
}

/// Returns the checksum that a token of 72 characters must end with.
fn checksum(prefix: &str, encoded: &str) -> String {
    let payload = URL_SAFE_NO_PAD
        .decode(&encoded[..64])
        .expect("64 characters of the alphabet");
    let hash =
        Sha256::digest([b"tower-oauth-refresh checksum", prefix.as_bytes(), &payload].concat());
    URL_SAFE_NO_PAD.encode(&hash[..6])
}

/// What is written is read as it was, and leads where it should and nowhere else.
fn write(id: [u8; 12], generation: u32, secret: &[u8; 32]) {
    let refresh = RefreshToken::new(id, generation, secret);
    for prefix in PREFIXES {
        let text = refresh.encode(prefix);
        let read = RefreshToken::parse(prefix, &text).expect("what was written is read");
        assert!(
            read == refresh && read.id() == id && read.generation() == generation,
            "it is the same token"
        );
        assert!(
            (read.hash(), read.key()) == (refresh.hash(), refresh.key()),
            "it is known by the same names"
        );
        for other in PREFIXES.into_iter().filter(|other| *other != prefix) {
            assert!(
                RefreshToken::parse(other, &text).is_none(),
                "the prefix tells kinds of tokens apart"
            );
            let renamed = text.replacen(prefix, other, 1);
            assert!(
                RefreshToken::parse(other, &renamed).is_none(),
                "the checksum covers the prefix"
            );
        }
    }
    let access = AccessToken::new(refresh.access_id(), generation, secret);
    let read = AccessToken::parse("at_", &access.encode("at_")).expect("what was written is read");
    assert!(
        read == access && read.generation() == generation && read.key() == access.key(),
        "it is the same token"
    );
    assert!(
        access.grant_key() == refresh.key(),
        "an access token leads to its grant"
    );
    assert!(access.key() != refresh.key(), "and has an entry of its own");
    let taken_for_refresh =
        RefreshToken::parse("", &access.encode("")).expect("they are of one form");
    assert!(
        taken_for_refresh.key() != refresh.key(),
        "as a refresh token it leads nowhere"
    );
    let later = RefreshToken::new(id, generation.wrapping_add(1), secret);
    assert!(
        later.key() == refresh.key() && later.hash() != refresh.hash(),
        "each generation has a hash of its own"
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
