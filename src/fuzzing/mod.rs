//! The oracles of the fuzz targets in `fuzz/`: they assert the guarantees of the parsers for
//! arbitrary input.
//!
//! Compiled only with `--cfg fuzzing`, because they use private items. They are not part of the
//! API. A guarantee that does not hold is a panic.

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
