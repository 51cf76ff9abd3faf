//! Code that both servers share: the listener with its limits, the HTTP client of the upstream, the
//! choice of a store, flags, logging, metrics, the admin server, the endpoints that end sessions,
//! the verification of signed tokens, and the demo servers.

pub mod address;
pub mod admin;
pub mod bearer;
pub mod causes;
pub mod connect;
pub mod cookie;
pub mod demo;
pub mod flags;
pub mod forward;
pub mod forwarded;
pub mod front_channel;
pub mod headers;
pub mod jose;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod networks;
pub mod oauth_error;
pub mod program;
pub mod receivers;
pub mod sessions;
pub mod shutdown;
pub mod store;
pub mod upload;
pub mod upstream;
