//! Rules for scopes (RFC 6749 §3.3) and resources (RFC 8707).

use crate::wire::secret_str::escapes_are_whole;

/// The most bytes that a scope may have, in a request and in the store.
pub(crate) const MAX_SCOPE: usize = 4 << 10;

/// The most resources that a request may name, and that are read from an answer.
pub(crate) const MAX_RESOURCES: usize = 16;

/// The most bytes that the resources of a request may have together.
const MAX_RESOURCE_BYTES: usize = 4 << 10;

/// Returns whether these resources are within the limits.
pub(crate) fn resources_fit<'a>(resources: impl Iterator<Item = &'a str>) -> bool {
    let (count, bytes) = resources.fold((0, 0), |(count, bytes), resource| {
        (count + 1, bytes + resource.len())
    });
    count <= MAX_RESOURCES && bytes <= MAX_RESOURCE_BYTES
}

/// Returns whether this is a scope: tokens with single spaces between them (RFC 6749 §3.3).
pub(crate) fn valid_scope(scope: &str) -> bool {
    scope.split(' ').all(|token| {
        !token.is_empty()
            && token
                .bytes()
                .all(|byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~'))
    })
}

/// Returns whether every requested scope token was granted. Ignores order and repetition, but not
/// case.
pub(crate) fn scope_within(requested: &str, granted: &str) -> bool {
    requested
        .split(' ')
        .filter(|token| !token.is_empty())
        .all(|token| granted.split(' ').any(|other| other == token))
}

/// Returns the part of the requested scope that was granted.
pub(crate) fn common_scope(requested: &str, granted: &str) -> String {
    requested
        .split(' ')
        .filter(|token| scope_within(token, granted))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns whether this is a resource: an absolute URI without a fragment (RFC 8707 §2).
///
/// `http::Uri` cannot be used here: it rejects `urn:` and accepts paths without a scheme.
pub(crate) fn valid_resource(resource: &str) -> bool {
    let Some((scheme, rest)) = resource.split_once(':') else {
        return false;
    };
    let scheme_is_fine = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    // An empty host is an error in these two schemes only (RFC 9110 §4.2).
    let names_something = if is_web {
        rest.strip_prefix("//")
            .is_some_and(|host| !matches!(host.as_bytes(), [] | [b'/' | b'?' | b':' | b'@', ..]))
    } else {
        !rest.is_empty()
    };
    scheme_is_fine && names_something && rest.bytes().all(is_uri_byte) && escapes_are_whole(rest)
}

/// Returns whether the byte is unreserved, reserved except `#`, or the beginning of an escape (RFC
/// 3986 §2).
const fn is_uri_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{scope_within, valid_resource, valid_scope};

    #[test]
    fn scope_syntax_is_checked() {
        let rows = [
            ("one token", "openid", true),
            ("two tokens", "openid https://example.com/a.b:c", true),
            (
                "every allowed character",
                "!#$%&'()*+,-./0:;<=>?@A[]^_`a{|}~",
                true,
            ),
            ("nothing", "", false),
            ("a space", " ", false),
            ("a space before", " a", false),
            ("a space after", "a ", false),
            ("two spaces", "a  b", false),
            ("a tab", "a\tb", false),
            ("a quote", "a\"", false),
            ("a backslash", "a\\", false),
            ("a DEL", "a\x7f", false),
            ("not ASCII", "\u{e4}", false),
        ];
        for (sentence, scope, expected) in rows {
            assert_eq!(valid_scope(scope), expected, "{sentence}");
        }
    }

    #[test]
    fn a_requested_scope_must_be_granted() {
        let rows = [
            ("the same", "a b", "a b", true),
            ("in another order", "b a", "a b", true),
            ("less", "b", "a b c", true),
            ("nothing", "", "a", true),
            ("nothing requested, nothing granted", "", "", true),
            ("the same token twice", "a a", "a", true),
            ("more", "a b", "a", false),
            ("something requested, nothing granted", "a", "", false),
            ("a part of a token", "read", "readwrite", false),
            ("more than a token", "readwrite", "read write", false),
            ("another case", "A", "a", false),
        ];
        for (sentence, requested, granted, expected) in rows {
            assert_eq!(scope_within(requested, granted), expected, "{sentence}");
        }
    }

    #[test]
    fn resource_syntax_is_checked() {
        let rows = [
            ("a server", "https://api.example.com", true),
            (
                "with a path and a query",
                "https://api.example.com:8443/v1/%7Ea?tenant=1",
                true,
            ),
            ("an address", "http://[2001:db8::1]/", true),
            ("a scheme in capitals", "HTTPS://api.example.com", true),
            ("a name", "urn:example:api", true),
            ("an application", "com.example.app:/api", true),
            ("a number in the scheme", "h2:x", true),
            ("nothing", "", false),
            ("a path", "/api", false),
            ("a host", "api.example.com", false),
            ("a reference", "//api.example.com", false),
            ("a colon in a path", "/a:b", false),
            ("no scheme", ":a", false),
            ("a scheme that begins with a number", "2h:x", false),
            ("only a scheme", "urn:", false),
            ("no host", "https://", false),
            ("no host before the path", "https:///a", false),
            ("no host before the port", "https://:443", false),
            ("no host at all", "https:api", false),
            ("a fragment", "https://api.example.com/#a", false),
            ("an empty fragment", "https://api.example.com#", false),
            ("a space", "https://api.example.com/a b", false),
            ("a backslash", "https://api.example.com\\a", false),
            ("a quote", "https://api.example.com/\"", false),
            ("a control character", "https://api.example.com/\n", false),
            ("not ASCII", "https://api.example.com/\u{e4}", false),
            ("an incomplete escape", "https://api.example.com/%4", false),
        ];
        for (sentence, resource, expected) in rows {
            assert_eq!(valid_resource(resource), expected, "{sentence}");
        }
    }

    proptest! {
        #[test]
        fn scope_within_is_the_subset_relation(
            granted in proptest::sample::subsequence(vec!["a", "b", "ab", "B", "a:b"], 0..=5),
            requested in proptest::sample::subsequence(vec!["a", "b", "ab", "B", "a:b"], 0..=5).prop_shuffle(),
        ) {
            let expected = requested.iter().all(|token| granted.contains(token));
            prop_assert_eq!(scope_within(&requested.join(" "), &granted.join(" ")), expected);
        }

        #[test]
        fn arbitrary_texts_are_checked_without_panic(text in "\\PC{0,40}") {
            let _ = (valid_scope(&text), scope_within(&text, &text), valid_resource(&text));
        }

        /// The `http` crate can parse every web resource that is valid here.
        #[test]
        fn a_valid_web_resource_is_an_http_uri(text in "https?://[a-z]{1,3}(/[!$-;=?-\\[\\]_a-z~]{0,8})?") {
            if valid_resource(&text) {
                prop_assert!(text.parse::<http::Uri>().is_ok());
            }
        }
    }
}
