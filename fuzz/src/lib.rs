//! The oracles of the fuzz targets: they assert the guarantees of the parsers for arbitrary input.
//! A guarantee that does not hold is a panic.
//!
//! They use private items of the library, which `tower_oauth_refresh::fuzzing` exports with
//! `--cfg fuzzing`.

mod answer;
mod client;
mod form;
mod json;
mod path;
mod record;
mod redis_entry;
mod token;

pub use self::answer::answer;
pub use self::client::client;
pub use self::form::form;
pub use self::path::path;
pub use self::record::{access_record, record};
pub use self::redis_entry::redis_entry;
pub use self::token::token;

/// Splits the input into its first line and the rest. Inputs are made of lines so that seeds can be
/// read and edited.
fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}
