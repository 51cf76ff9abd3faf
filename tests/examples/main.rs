//! The examples of the library, run as processes.

mod axum;
mod hyper;
mod stack;
