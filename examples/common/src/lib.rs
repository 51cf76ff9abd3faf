//! Modules that both servers share.

pub(crate) mod forwarded;
pub(crate) mod front_channel;
pub(crate) mod headers;
pub(crate) mod listener;
pub(crate) mod networks;
pub(crate) mod upload;
