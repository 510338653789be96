//! Placeholder while the layer is laid out.

pub mod metrics;
pub mod view;
