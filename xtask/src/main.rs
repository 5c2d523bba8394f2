//! What people do: up, test, tidy, codegen, bench.

fn main() {}
