#![no_main]

use path_readings::{is_served, readings};
use url::Url;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    tower_oauth_refresh::fuzzing::path(input, whatwg, readings, is_served);
});

/// Returns the pathname of Node's `new URL(path, base)`.
fn whatwg(path: &str) -> Option<String> {
    Url::parse("http://localhost")
        .ok()?
        .join(path)
        .ok()
        .map(|url| url.path().to_owned())
}
