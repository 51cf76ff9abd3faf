#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_oauth_refresh::fuzzing::form(input));
