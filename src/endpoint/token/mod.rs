//! The token endpoint: rotates refresh tokens, begins grants and adopts them.
//!
//! A refresh takes these steps:
//!
//! 1. [`precheck`](crate::endpoint::presented::PresentedToken::precheck) rejects the request
//!    without a call to the store if the store's memory already shows that it must be refused.
//! 2. [`acquire`] claims the grant and opens it ([`held`]). [`step`] decides what follows from the
//!    claim. [`walk`](crate::endpoint::walk) follows the links of an old token to the current one.
//! 3. [`refresh`] calls the inner service with the upstream token.
//! 4. [`commit`] stores the rotation, then answers the client. [`replay`] returns the stored answer
//!    of the last rotation instead, if the client has lost it.
//!
//! [`renew`](self::renew()) refreshes without a request of the client, for an access token in use.
//!
//! [`issue`] begins a grant for every other grant type. [`adopt`] takes in a grant that began
//! before the layer was installed.
//!
//! The invariant of this module: only the holder of the lease sends the upstream token of a grant
//! to the inner service, and what the inner service answers is stored before the client sees it.
//! Most authorization servers replace a refresh token when it is used and end the session when it
//! is used again, so a second request with the same upstream token, or an answer that is not
//! stored, would log the user out.

mod acquire;
mod adopt;
mod begin;
mod commit;
mod entropy;
mod held;
mod issue;
mod lease;
mod mint;
#[cfg(test)]
mod model;
mod refresh;
mod renew;
mod replay;
mod request;
mod step;

pub(crate) use self::issue::issue;
pub(crate) use self::refresh::refresh;
pub(crate) use self::renew::renew;
