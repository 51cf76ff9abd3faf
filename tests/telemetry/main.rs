//! Metrics and spans of the layer, as exporters get them.

mod metrics;
mod traces;
