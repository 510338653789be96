//! dataplane benchmark.
fn main() {}
