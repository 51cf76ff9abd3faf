//! What the layer records for exporters of metrics.

mod metrics;
