//! Placeholder while the layer is laid out.
