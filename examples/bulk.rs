//! Writes the benchmarks' capture to a file, to run whole programs on: `cargo run --release --features testkit --example
//! bulk -- FILE [PACKETS [FLOWS]]`.

#![expect(clippy::print_stderr, reason = "an example's way to speak")]

use std::process::ExitCode;

use spanwatch::testkit::bulk;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(path) = args.next() else {
        eprintln!("usage: bulk FILE [PACKETS [FLOWS]]");
        return ExitCode::from(2);
    };
    let mut number = |default| {
        args.next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (packets, flows) = (number(1_000_000), number(100_000));
    match std::fs::write(&path, bulk::mixed(1, packets, flows)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {path}: {error}");
            ExitCode::FAILURE
        }
    }
}
