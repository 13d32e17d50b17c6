//! The `spanwatch` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Flows and what is remembered of them come and go by the hundred thousand, in a few sizes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    spanwatch::cli::run()
}
