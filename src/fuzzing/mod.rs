//! What the fuzz targets in `fuzz/` run: the promises of the parsers, asserted over any input.
//!
//! Built with `--cfg fuzzing` alone, for it reaches what is private. It is no part of the API. A
//! promise that does not hold is a panic.

mod answer;
mod client;
mod form;
mod input;
mod json;
mod path;
mod record;
#[cfg(not(feature = "redis"))]
mod redis_entry;
mod token;

pub use self::answer::answer;
pub use self::client::client;
pub use self::form::form;
use self::input::split_line;
pub use self::path::path;
pub use self::record::{access_record, record};
#[cfg(not(feature = "redis"))]
pub use self::redis_entry::redis_entry;
pub use self::token::token;
