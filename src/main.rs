//! The `spanwatch` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    spanwatch::cli::run()
}
