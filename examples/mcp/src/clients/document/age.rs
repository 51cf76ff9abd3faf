//! The freshness lifetime of a document, from its response headers (RFC 9111 §4.2, §5.2).

use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use axum::http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderName};

/// The limits of the lifetime, whatever the headers state.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The lifetime if the headers do not state one.
const DEFAULT: Duration = Duration::from_secs(10 * 60);

/// Returns the remaining freshness lifetime, limited to [`SHORTEST`]..=[`LONGEST`].
pub(super) fn freshness(headers: &HeaderMap) -> Duration {
    stated(headers).unwrap_or(DEFAULT).clamp(SHORTEST, LONGEST)
}

/// Returns the remaining lifetime that the headers state; `None` if they state none.
fn stated(headers: &HeaderMap) -> Option<Duration> {
    let values = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let directives: Vec<_> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let is = |name: &str| {
        directives
            .iter()
            .any(|directive| directive.eq_ignore_ascii_case(name))
    };
    let max_age = directives.iter().find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        // `s-maxage` is ignored: it applies to shared caches in proxies, and this is not one.
        name.eq_ignore_ascii_case("max-age")
            .then(|| seconds(value.trim_matches('"')))
    });
    if is("no-store") || is("no-cache") {
        return Some(Duration::ZERO);
    }
    let spent = text(headers, AGE).and_then(seconds).unwrap_or_default();
    if let Some(max_age) = max_age {
        // An invalid `max-age` counts as stale (RFC 9111 §4.2.1).
        return Some(max_age.unwrap_or_default().saturating_sub(spent));
    }
    let expires = text(headers, EXPIRES)?;
    let date = text(headers, DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let from = date.unwrap_or_else(SystemTime::now);
    // An invalid date, such as `Expires: 0`, is in the past.
    let left = httpdate::parse_http_date(expires)
        .ok()
        .and_then(|expires| expires.duration_since(from).ok());
    Some(left.unwrap_or_default().saturating_sub(spent))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn seconds(text: &str) -> Option<Duration> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that overflows counts as [`LONGEST`].
    all_digits.then(|| text.parse().map_or(LONGEST, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freshness_lifetime_follows_the_headers() {
        const DATES: (&str, &str) = ("date", "Tue, 24 Nov 2026 10:00:00 GMT");
        let rows: [(&[(&'static str, &'static str)], u64); 16] = [
            (&[], 600),
            (&[("cache-control", "max-age=3600")], 3600),
            (
                &[("cache-control", "public, Max-Age=\"3600\" , immutable")],
                3600,
            ),
            (
                &[
                    ("cache-control", "public"),
                    ("cache-control", "max-age=3600"),
                ],
                3600,
            ),
            (&[("cache-control", "max-age=3600"), ("age", "600")], 3000),
            (&[("cache-control", "max-age=3600"), ("age", "7200")], 60),
            (&[("cache-control", "max-age=3600"), ("expires", "0")], 3600),
            (&[("cache-control", "max-age=0")], 60),
            (&[("cache-control", "max-age=x")], 60),
            (&[("cache-control", "max-age=31536000")], 86400),
            (
                &[("cache-control", "max-age=99999999999999999999999")],
                86400,
            ),
            (&[("cache-control", "no-store, max-age=3600")], 60),
            (&[("cache-control", "no-cache")], 60),
            (&[DATES, ("expires", "Tue, 24 Nov 2026 11:00:00 GMT")], 3600),
            (&[DATES, ("expires", "Tue, 24 Nov 2026 09:00:00 GMT")], 60),
            (&[DATES, ("expires", "0")], 60),
        ];
        for (headers, want) in rows {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            assert_eq!(freshness(&map).as_secs(), want, "{headers:?}");
        }
    }
}
