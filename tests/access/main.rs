//! `AccessLayer` and reference access tokens.

mod ends;
mod events;
#[cfg(feature = "axum")]
mod extract;
mod faults;
mod guard;
mod reference_tokens;
mod renewal;
mod resources;
mod responses;
mod revocation;
mod scopes;
mod users;
