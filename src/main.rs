//! The `gpu-metrics-adapter` program.

fn main() {}
