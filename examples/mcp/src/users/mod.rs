//! The users whom the provider names, and who of them may come in.

mod rules;
mod user;

pub(crate) use self::rules::Rules;
pub(crate) use self::user::{ClaimNames, User};
