//! `spanwatch config`: what can be configured, and what is wrong with a file.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Arg, Subcommand};

use super::{Kind, RENEWED, Schema};
use crate::cli::{Command, End, live, output};
use crate::signature::wrap;

/// Characters in a line of help.
const WIDTH: usize = 96;

/// Check and explain configuration files
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  spanwatch config default > /etc/spanwatch/sensor.toml
  spanwatch config check /etc/spanwatch/sensor.toml
  spanwatch config explain baseline")]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check files, and what they name; every problem is told with its line
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// A file with every key, explained, each with what holds without it
    Default,
    /// What a key means, or all of them
    Explain {
        /// The key
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
}

pub(in crate::cli) fn run(args: &Args) -> anyhow::Result<End> {
    let schema = Schema::new();
    match &args.action {
        Action::Check { files } => check(files),
        Action::Default => print(&default(&schema)),
        Action::Explain { key: None } => {
            let pages: Vec<String> = schema.options().map(page).collect();
            print(&pages.join("\n"))
        }
        Action::Explain { key: Some(key) } => match schema.option(key) {
            Some(option) => print(&page(option)),
            None => bail!("{}", schema.unknown(key)),
        },
    }
}

fn print(text: &str) -> anyhow::Result<End> {
    let mut out = output::open(None)?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(End::Clean)
}

/// Reads each file as a run would, and all that it names.
fn check(files: &[PathBuf]) -> anyhow::Result<End> {
    let mut problems: Vec<String> = Vec::new();
    for file in files {
        let typed = ["spanwatch".into(), "agent".into(), "--config".into()];
        let typed = typed.into_iter().chain([file.as_os_str().to_owned()]);
        match super::read(typed.collect()) {
            Ok(invocation) => {
                let Command::Agent(args) = &invocation.cli.command else {
                    continue;
                };
                problems.extend(live::problems(args.live(), &invocation.source));
            }
            Err(super::Failure::File(wrong)) => {
                problems.extend(wrong.iter().map(ToString::to_string));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if problems.is_empty() {
        return print(&format!("{} without problem\n", files.len()));
    }
    bail!("{}", super::together(&problems))
}

/// What an option is for, in one paragraph.
pub(super) fn meaning(option: &Arg) -> String {
    let help = option.get_long_help().or_else(|| option.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}.", help.trim_end_matches('.'))
}

/// What holds where the option isn't set, as TOML; none where that is told in words.
pub(super) fn preset(option: &Arg) -> Option<String> {
    match Kind::of(option) {
        Kind::Flag => Some("false".to_owned()),
        Kind::List => Some("[]".to_owned()),
        Kind::Number => {
            let value = option.get_default_values().first()?;
            Some(value.to_string_lossy().into_owned())
        }
        Kind::Text => None,
    }
}

/// What the option takes, in words.
pub(super) fn value(option: &Arg) -> String {
    let names = option.get_value_names().unwrap_or_default();
    let name = names.first().map(ToString::to_string).unwrap_or_default();
    let words = option.get_possible_values();
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("\"{}\"", word.get_name()))
        .collect();
    match Kind::of(option) {
        Kind::Flag => "true or false".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::List => format!("list of \"{name}\""),
        Kind::Text if !words.is_empty() => words.join(" or "),
        Kind::Text => format!("\"{name}\""),
    }
}

/// When a change of it is taken.
pub(super) fn taken(option: &Arg) -> &'static str {
    let renewed = option.get_long().is_some_and(|key| RENEWED.contains(&key));
    if renewed { "at SIGHUP" } else { "at start" }
}

fn page(option: &Arg) -> String {
    let key = option.get_long().unwrap_or_default();
    let preset = preset(option).map_or_else(String::new, |preset| format!(", {preset} if not set"));
    let mut page = format!(
        "{key} = {}{preset}; taken {}\n",
        value(option),
        taken(option)
    );
    for line in wrap(&meaning(option), WIDTH) {
        // A string takes everything.
        writeln!(page, "  {line}").ok();
    }
    page
}

pub(super) fn default(schema: &Schema) -> String {
    let mut text = "# Options of spanwatch agent and spanwatch sensor, as --config takes them. Flags win over this file.\n\
                    # What a line says that is switched off by # holds without it, or shows the form.\n"
        .to_owned();
    for option in schema.options() {
        let key = option.get_long().unwrap_or_default();
        text.push('\n');
        for line in wrap(&meaning(option), WIDTH) {
            writeln!(text, "# {line}").ok();
        }
        let form = preset(option).unwrap_or_else(|| value(option));
        writeln!(text, "#{key} = {form}").ok();
    }
    text
}
