//! The manual: guides, the protocol, and how to run it.
//!
//! Start with the [`guide`] to add the layer to a server, with [`deployment`] and [`operations`] to
//! run it, and with [`architecture`] and [`protocol`] to change it.

#[doc = include_str!("../docs/architecture.md")]
pub mod architecture {}

#[doc = "[growth]: data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E"]
#[doc = "[rotations]: data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E"]
#[doc = ""]
#[doc = include_str!("../docs/benchmarks.md")]
#[doc = ""]
#[doc = include_str!("../docs/rotations.svg")]
#[doc = ""]
#[doc = include_str!("../docs/growth.svg")]
// The page shows the plots as images, whose files rustdoc does not copy. The first two lines
// replace them by empty images, the last ones append the plots.
pub mod benchmarks {}

#[cfg(any(not(doctest), feature = "redis"))]
#[doc = include_str!("../docs/deployment.md")]
pub mod deployment {}

#[doc = include_str!("../docs/fault-injection.md")]
pub mod fault_injection {}

#[doc = include_str!("../docs/guarantees.md")]
pub mod guarantees {}

#[cfg(any(not(doctest), feature = "redis"))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {}

#[doc = include_str!("../docs/limitations.md")]
pub mod limitations {}

#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/protocol.md")]
pub mod protocol {}

#[doc = include_str!("../docs/simulation.md")]
pub mod simulation {}

#[doc = include_str!("../docs/threat-model.md")]
pub mod threat_model {}
