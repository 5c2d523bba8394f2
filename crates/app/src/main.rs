//! The one binary: every role of Polyphony.

fn main() {}
