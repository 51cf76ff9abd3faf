//! Modules that both servers share.

pub mod forwarded;
pub mod front_channel;
pub mod headers;
pub mod listener;
pub mod networks;
pub mod upload;
