//! Shared parts of the tests.

// Every test is a separate crate, and none uses everything.
#![allow(dead_code, unused_imports)]

pub(crate) mod access;
pub(crate) mod app;
pub(crate) mod chromium;
pub(crate) mod clock;
#[cfg(feature = "redis")]
pub(crate) mod documents;
pub(crate) mod entries;
#[cfg(feature = "redis")]
pub(crate) mod faults;
pub(crate) mod foreign;
pub(crate) mod hooked;
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod mcp;
pub(crate) mod mcp_client;
pub(crate) mod oauth;
pub(crate) mod process;
pub(crate) mod proxy;
#[cfg(feature = "redb")]
pub(crate) mod redb;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod requests;
pub(crate) mod secrets;
pub(crate) mod session;
pub(crate) mod tiered;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod upstream;

pub(crate) use self::app::{Answer, App, SECOND, TestStore, post, refresh_form, settle};
pub(crate) use self::clock::ManualClock;
pub(crate) use self::hooked::{Call, Hooked, Plan};
pub(crate) use self::upstream::{Act, Upstream};
