//! The command line: what users type, what they get back, and how it ends.
//!
//! Results go to standard output alone; progress, warnings and the summary go to standard error.

mod analyze;
mod baseline;
mod cases;
#[cfg(target_os = "linux")]
mod config;
mod flows;
mod learn;
#[cfg(target_os = "linux")]
mod live;
mod memory;
mod options;
mod output;
mod reading;
mod signatures;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

/// How a command that could run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Nothing at or above `--fail-on`.
    Clean,
    /// An alert at or above `--fail-on`.
    Alerts,
}

#[derive(Debug, Parser)]
#[command(
    name = "spanwatch",
    version,
    about = "Sees attacks on containers from the network side, and names the pod",
    after_help = "Exit status: 0 done, 1 an alert at or above --fail-on, 2 wrong usage or could not run.",
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on standard error (-v: stages, -vv: details)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Analyze(analyze::Args),
    Learn(learn::Args),
    Flows(flows::Args),
    Baseline(baseline::Args),
    #[cfg(target_os = "linux")]
    Sensor(live::SensorArgs),
    #[cfg(target_os = "linux")]
    Agent(live::AgentArgs),
    Signatures(signatures::Args),
    #[cfg(target_os = "linux")]
    Config(config::Args),
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    #[cfg(target_os = "linux")]
    let (cli, source) = match config::read(std::env::args_os().collect()) {
        Ok(config::Invocation { cli, source }) => (cli, source),
        Err(config::Failure::Usage(error)) => error.exit(),
        Err(failure) => {
            output::error(&failure.into());
            return ExitCode::from(2);
        }
    };
    #[cfg(not(target_os = "linux"))]
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    output::log_to_stderr(level);
    let end = match cli.command {
        Command::Analyze(args) => analyze::run(&args, cli.quiet),
        Command::Learn(args) => learn::run(&args, cli.quiet),
        Command::Flows(args) => flows::run(&args, cli.quiet),
        Command::Baseline(args) => baseline::run(&args, cli.quiet),
        #[cfg(target_os = "linux")]
        Command::Sensor(args) => live::sensor(&args, source, cli.quiet),
        #[cfg(target_os = "linux")]
        Command::Agent(args) => live::agent(&args, source, cli.quiet),
        Command::Signatures(args) => signatures::run(&args),
        #[cfg(target_os = "linux")]
        Command::Config(args) => config::run(&args),
    };
    match end {
        Ok(End::Clean) => ExitCode::SUCCESS,
        Ok(End::Alerts) => ExitCode::from(1),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
