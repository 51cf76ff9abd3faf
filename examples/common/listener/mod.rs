//! The listener that the servers share: it accepts connections, bounds what a client can hold, and shuts down gracefully.
//!
//! A client costs a server descriptors, memory and tasks before it has proved anything. Every one of them has a bound
//! here, and every bound is in [`Limits`]:
//!
//! 1. A connection without an open request closes after `idle_timeout`. One rule covers silent connections, heads and
//!    HTTP/2 prefaces that arrive byte by byte, and connections that are kept alive.
//! 2. At `max_connections`, a new connection takes the place of the one that has been idle for the longest time
//!    ([`activity`]).
//! 3. At `max_in_flight`, a request is refused with 503. A request counts until its response body is finished or dropped.
//! 4. A response of which the client takes nothing for `stall_timeout` ends: [`io`] watches HTTP/1, [`sending`] watches
//!    each HTTP/2 stream. A request body of which nothing arrives for that time ends, too ([`request`]).
//! 5. Request bodies that are held in memory share `body_memory`; beyond it a request is refused with 503.
//!
//! Nothing here knows what the servers do: a server is a function from the address of a client to a service.

mod accept;
mod activity;
mod descriptors;
mod io;
mod limits;
mod refusal;
mod request;
mod response;
mod sending;
mod throttle;

pub(crate) use self::accept::{Connections, Listener, finish};
pub(crate) use self::limits::{Limits, count, limit_flags, timeout};
pub(crate) use self::request::RequestBody;
