//! ClickHouse HTTP interface in front of libchdb, for development and tests.

fn main() {}
