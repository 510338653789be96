//! state benchmark.
fn main() {}
