//! What the layer records for exporters of metrics and traces.

mod metrics;
mod traces;
