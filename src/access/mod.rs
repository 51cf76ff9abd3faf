//! Access tokens by reference: what clients hold in the place of the upstream's.
//!
//! [`record`] is what the store keeps of one, [`mint`] makes one, [`check`] says whether one is alive, [`revocation`]
//! ends one. [`layer`], [`service`] and [`future`] guard the routes of a resource server, over a [`cache`] that a
//! [`listener`] empties; [`present`] reads what a request presents, [`challenge`] refuses it, [`grant`] is what the
//! routes are told.

pub(crate) mod check;
pub(crate) mod mint;
pub(crate) mod record;
pub(crate) mod revocation;
