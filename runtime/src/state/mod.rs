//! State of operators: typed tables on the hot path, and the cuts that checkpoints are made of.
//!
//! - [`cut`]: what one barrier took from one subtask

pub mod cut;
