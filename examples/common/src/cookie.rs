//! Reads cookies.

use http::HeaderMap;
use http::header::COOKIE;

/// Returns the value of the cookie with this name.
///
/// Returns `None` if the request has no such cookie, or several, because an attacker may have set
/// one of several. Other cookies may contain any bytes: another program on the same host may have
/// set them.
pub fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut values = cookies.filter_map(|cookie| {
        let cookie = cookie.trim_ascii();
        let end = cookie.iter().position(|byte| *byte == b'=')?;
        let (found, value) = cookie.split_at_checked(end)?;
        (found == name.as_bytes()).then_some(value.get(1..)?)
    });
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn other_cookies_do_not_hide_a_cookie() {
        for (lines, value) in [
            (&[&b"a=1"[..]][..], Some("1")),
            (&[b"b=2; a=1; c"], Some("1")),
            (&[b"b=caf\xe9;a=1"], Some("1")),
            (&[b"b=caf\xe9", b"  a=1=2  "], Some("1=2")),
            (&[b"A=2; a2=3; =a; a; b=a=4; a=1"], Some("1")),
            (&[b"a=1; a=1"], None),
            (&[b"a=1", b"a=2"], None),
            (&[b"a=1; a=\xe9"], None),
            (&[b"a=\xe9"], None),
            (&[b"a =1"], None),
            (&[b"b=1"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            assert_eq!(only(&headers, "a"), value, "{headers:?}");
        }
    }
}
