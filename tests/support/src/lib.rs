//! Shared parts of the tests.

#![allow(
    clippy::new_without_default,
    reason = "no test needs a default fixture"
)]

pub mod access;
pub mod announcements;
pub mod app;
pub mod client;
pub mod entries;
pub mod foreign;
pub mod hooked;
pub mod http;
pub mod instances;
pub mod limits;
pub mod oauth;
pub mod openid;
mod port;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod requests;
pub mod secrets;
pub mod session;
pub mod tiered;
pub mod tls;
pub mod tokens;
pub mod upstream;
pub mod users;

use std::time::{Duration, Instant};

pub use self::app::{Answer, App, SECOND, TestStore, post, refresh_form, settle};
pub use self::hooked::{Call, Hooked, Plan};
pub use self::upstream::{Act, Upstream};
pub use tower_oauth_refresh::ManualClock;

/// The time limit for an event that is certain to occur.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until this holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
