//! What the example `proxy` reads, without a server: each is tested where it stands.

// Of each, what its tests use.
#![allow(dead_code, unused_imports)]

#[path = "../examples/proxy/discovery/document.rs"]
mod document;
#[path = "../examples/common/front_channel/mod.rs"]
mod front_channel;
#[path = "../examples/common/networks.rs"]
mod networks;
#[path = "../examples/proxy/rules.rs"]
mod rules;
