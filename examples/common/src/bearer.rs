//! The bearer tokens of operators and of other servers.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use http::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The least number of characters of a token. `openssl rand -hex 32` prints 64.
const LEAST: usize = 32;

/// A token that requests must present. Only its hash is kept.
///
/// Comparing hashes takes the same time for every token that an attacker tries, whatever its
/// length.
#[derive(Clone, Copy)]
pub struct BearerToken {
    hash: [u8; 32],
    is_strong: bool,
}

impl BearerToken {
    pub fn matches(&self, presented: &str) -> bool {
        hash(presented).ct_eq(&self.hash).into()
    }

    /// Returns an error if the token is short, or cannot be sent in a header. The error does not
    /// contain the token, unlike one of a parser of flags.
    pub fn check(&self, flag: &str) -> Result<(), String> {
        if self.is_strong {
            return Ok(());
        }
        Err(format!(
            "{flag} needs at least {LEAST} characters, of A-Z a-z 0-9 - . _ ~ + / ="
        ))
    }

    /// Returns whether the request presents the token (RFC 6750 §2.1), in exactly one header.
    pub fn authorizes(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let value = value.to_str().unwrap_or_default();
        value.split_once(' ').is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && self.matches(token.trim_start())
        })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl FromStr for BearerToken {
    type Err = Infallible;

    fn from_str(token: &str) -> Result<Self, Infallible> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        Ok(Self {
            hash: hash(token),
            is_strong: token.len() >= LEAST && token.bytes().all(valid),
        })
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_short_token_or_one_with_other_characters_is_rejected() {
        let check = |token: &str| {
            let token: BearerToken = token.parse().unwrap();
            token.check("--flag")
        };
        assert_eq!(check(TOKEN), Ok(()));
        let inside = format!("{TOKEN} x");
        for token in ["", &TOKEN[1..], &inside, "ä23456789abcdef0123456789abcdef"] {
            assert!(check(token).is_err(), "{token}");
        }
    }

    #[test]
    fn only_the_token_in_one_header_authorizes() {
        let token: BearerToken = TOKEN.parse().unwrap();
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
            }
            headers
        };
        let right = format!("Bearer {TOKEN}");
        for value in [&*right, &format!("bearer  {TOKEN}")] {
            assert!(token.authorizes(&headers(&[value])), "{value}");
        }
        for values in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &[TOKEN],
            &[&format!("Basic {TOKEN}")],
            &[&format!("{right}x")],
            &[&right[..right.len() - 1]],
            &[&right, &right],
        ] {
            assert!(!token.authorizes(&headers(values)), "{values:?}");
        }
        assert_eq!(format!("{token:?}"), "BearerToken");
    }
}
