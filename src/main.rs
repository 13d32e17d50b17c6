//! The `spanwatch` command.
#![forbid(unsafe_code)]

fn main() {}
