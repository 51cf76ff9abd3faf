//! `AccessLayer` and reference access tokens.

mod ends;
mod events;
mod faults;
mod guard;
mod reference_tokens;
mod responses;
mod revocation;
mod users;
