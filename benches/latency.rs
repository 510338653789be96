//! latency benchmark.
fn main() {}
