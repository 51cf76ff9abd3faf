//! One `tower::Layer` that binds OAuth refresh tokens to their client and rotates them without losing a session.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod client;
pub mod clock;
pub mod random;
pub mod store;
