//! Runs the unit tests of the example `proxy`'s parsers.

// The tests use only a part of each module.
#![allow(dead_code, unused_imports)]

#[path = "../examples/proxy/discovery/document.rs"]
mod document;
#[path = "../examples/common/front_channel/mod.rs"]
mod front_channel;
#[path = "../examples/common/networks.rs"]
mod networks;
#[path = "../examples/proxy/rules.rs"]
mod rules;
