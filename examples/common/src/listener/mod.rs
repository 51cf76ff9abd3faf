//! The listener that the servers share: it accepts connections, limits the resources that clients
//! can hold, and shuts down gracefully.
//!
//! A client uses descriptors, memory and tasks of a server before it has authenticated. This module
//! limits each of them; all limits are in [`Limits`]:
//!
//! 1. A connection without an open request is closed after `idle_timeout`. This one rule covers
//!    silent connections, heads and HTTP/2 prefaces that arrive byte by byte, and connections that
//!    are kept alive.
//! 2. At `max_connections`, a new connection replaces the one that has been idle longest
//!    ([`activity`]).
//! 3. At `max_in_flight`, a request is refused with 503. A request counts until its response body
//!    is finished or dropped.
//! 4. A response is cut off if the client does not read it for `stall_timeout`: [`io`] watches
//!    HTTP/1, [`sending`] watches each HTTP/2 stream. A request body is cut off if less than 16 KiB
//!    arrives in that time ([`request`]). The service can set a shorter time limit for a whole
//!    body.
//! 5. Request bodies that are held in memory share `body_memory`; at the limit, a request is
//!    refused with 503. A body that the service streams does not count.
//!
//! This module does not depend on the servers: for the listener, a server is a function that
//! returns a service for a client address.

mod accept;
mod activity;
mod connections;
mod descriptors;
mod io;
mod limits;
mod refusal;
mod request;
mod response;
mod sending;
mod throttle;

pub use self::accept::Listener;
pub use self::connections::{Connections, finish};
pub use self::limits::Limits;
pub use self::request::{Held, RequestBody, limit_body_time};
pub use self::throttle::Throttle;
