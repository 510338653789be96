//! What the tests of whole processes share: `workload` makes input, starts the program, ends it, and calls the checker;
//! `rest` asks a running program; `random` draws from a seed. Only std and serde_json.

pub mod random;
#[allow(dead_code)]
pub mod rest;
pub mod workload;
