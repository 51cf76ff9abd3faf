//! The users whom the provider names, and the rules that say who may log in.

mod rules;
mod user;

pub(crate) use self::rules::Rules;
pub(crate) use self::user::{ClaimNames, User};
