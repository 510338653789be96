//! sources benchmark.
fn main() {}
