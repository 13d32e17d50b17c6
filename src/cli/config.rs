//! The configuration file: TOML with the options of `agent` and `sensor`, by the names they have as flags.
//!
//! There is one list of options, the command line's. What a file sets is put before what was typed, and all of it is read by the
//! same reader; so names, values and help can't differ, and a flag wins over the file.

mod command;
#[cfg(test)]
mod tests;

use std::any::TypeId;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Id};
use toml::de::DeValue;

use super::Cli;
use crate::signature::{Node, Problem, Reader, Scope};

pub(super) use command::{Args, run};

/// The commands that take a file. They have the same options, but that a sensor must be told an interface.
const COMMANDS: [&str; 2] = ["agent", "sensor"];
/// The option that names it, which it can't have in it.
const OPTION: &str = "config";
/// What SIGHUP takes from it anew; the rest is taken at the next start.
const RENEWED: [&str; 4] = ["signatures", "exceptions", "format", "output"];

/// A command line and its file, read as one.
pub(super) struct Invocation {
    pub(super) cli: Cli,
    pub(super) source: Source,
}

/// Why there is no [`Invocation`].
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line is wrong, or asks for help.
    Usage(clap::Error),
    /// The file is wrong.
    File(Vec<Problem>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::File(problems) => f.write_str(&together(problems)),
        }
    }
}

impl Error for Failure {}

/// Problems as they are told: one a line, and how many where there are several.
pub(super) fn together(problems: &[impl fmt::Display]) -> String {
    match problems {
        [only] => only.to_string(),
        problems => {
            let lines: Vec<String> = problems.iter().map(|one| format!("\n  {one}")).collect();
            format!("{} problems:{}", lines.len(), lines.concat())
        }
    }
}

/// Where the options of a run come from, to tell of it and to read them again.
#[derive(Clone, Debug)]
pub(super) struct Source {
    typed: Vec<OsString>,
    settings: Vec<Setting>,
    /// What is wrong with the file. What isn't is in the options, so that it can be judged as well.
    pub(super) problems: Vec<Problem>,
    file: Option<PathBuf>,
    options: ArgMatches,
}

/// A key of the file that holds.
#[derive(Clone, Debug)]
struct Setting {
    key: String,
    id: Id,
    line: usize,
    arguments: Vec<OsString>,
}

/// Reads a command line, and the file that it names.
pub(super) fn read(typed: Vec<OsString>) -> Result<Invocation, Failure> {
    // What is wrong is told when all of it is read together.
    let first = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(&typed);
    let first = first.map_err(Failure::Usage)?;
    let named = first
        .subcommand()
        .filter(|(name, _)| COMMANDS.contains(name));
    let file = named.and_then(|(_, options)| options.get_one::<PathBuf>(OPTION));
    let (mut settings, problems) = file.map(|file| load(file)).unwrap_or_default();
    let mut arguments = typed.clone();
    if let Some((name, options)) = named {
        let schema = Schema::new();
        settings.retain(|setting| !schema.is_overruled(&setting.id, options));
        let at = typed.iter().position(|word| word == name);
        let at = at.map_or(typed.len(), |at| at + 1);
        let set = settings.iter().flat_map(|one| one.arguments.clone());
        arguments.splice(at..at, set);
    }
    let matches = match Cli::command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(_) if !problems.is_empty() => return Err(Failure::File(problems)),
        Err(error) => return Err(blame(error, &arguments, &settings, file)),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(Failure::Usage)?;
    let options = matches.subcommand().map(|(_, options)| options.clone());
    let source = Source {
        typed,
        settings,
        problems,
        file: file.cloned(),
        options: options.unwrap_or_default(),
    };
    Ok(Invocation { cli, source })
}

/// Finds the key of the file that needs another one, which is nowhere.
fn blame(
    error: clap::Error,
    arguments: &[OsString],
    settings: &[Setting],
    file: Option<&PathBuf>,
) -> Failure {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return Failure::Usage(error);
    }
    let guilty = settings.iter().find(|setting| {
        let without = arguments
            .iter()
            .filter(|word| !setting.arguments.contains(word));
        Cli::command().try_get_matches_from(without).is_ok()
    });
    let missing = context(&error, ContextKind::InvalidArg);
    match (guilty, file) {
        (Some(setting), Some(file)) => {
            let missing: Vec<String> = missing.iter().map(|flag| key_of(flag)).collect();
            Failure::File(vec![Problem {
                file: file.clone(),
                line: setting.line,
                message: format!("`{}` needs `{}` as well", setting.key, missing.join("`, `")),
            }])
        }
        _ => Failure::Usage(error),
    }
}

/// `baseline` of `--baseline <PATH>`.
fn key_of(flag: &str) -> String {
    let name = flag.split_whitespace().next().unwrap_or_default();
    name.trim_start_matches('-').to_owned()
}

fn context(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(several)) => several.clone(),
        _ => Vec::new(),
    }
}

impl Source {
    /// Reads everything again.
    pub(super) fn again(&self) -> Result<Invocation, Failure> {
        read(self.typed.clone())
    }

    /// Where an option was set: `FILE:LINE: key`, or the flag.
    pub(super) fn place(&self, key: &str) -> String {
        let setting = self.settings.iter().find(|setting| setting.key == key);
        match (setting, &self.file) {
            (Some(setting), Some(file)) => {
                format!("{}:{}: `{key}`", file.display(), setting.line)
            }
            _ => format!("--{key}"),
        }
    }

    /// The options that differ in `newer` and are taken at the next start only.
    pub(super) fn postponed(&self, newer: &Self) -> Vec<String> {
        let schema = Schema::new();
        let raw = |source: &Self, id: &Id| -> Option<Vec<OsString>> {
            let values = source.options.get_raw(id.as_str())?;
            Some(values.map(ToOwned::to_owned).collect())
        };
        let differs = |arg: &&Arg| raw(self, arg.get_id()) != raw(newer, arg.get_id());
        let names = schema.options().filter(differs).filter_map(Arg::get_long);
        let names = names.filter(|name| !RENEWED.contains(name));
        names.map(str::to_owned).collect()
    }
}

/// The options that a file may set.
struct Schema(clap::Command);

/// What a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Flag,
    Number,
    Text,
    List,
}

impl Kind {
    fn of(option: &Arg) -> Self {
        match option.get_action() {
            ArgAction::SetTrue => Self::Flag,
            ArgAction::Append => Self::List,
            _ if option.get_value_parser().type_id() == TypeId::of::<u32>() => Self::Number,
            _ => Self::Text,
        }
    }
}

impl Schema {
    fn new() -> Self {
        let cli = Cli::command();
        let [widest, _] = COMMANDS;
        Self(cli.find_subcommand(widest).cloned().unwrap_or_default())
    }

    fn options(&self) -> impl Iterator<Item = &Arg> {
        let options = self.0.get_arguments();
        options.filter(|option| option.get_id() != OPTION && option.get_long().is_some())
    }

    fn option(&self, key: &str) -> Option<&Arg> {
        self.options().find(|option| option.get_long() == Some(key))
    }

    fn exclude_each_other(&self, one: &Id, other: &Id) -> bool {
        let names = |one: &Id, other: &Id| {
            let option = self.options().find(|option| option.get_id() == one);
            let others = option.map(|option| self.0.get_arg_conflicts_with(option));
            others.is_some_and(|others| others.iter().any(|option| option.get_id() == other))
        };
        names(one, other) || names(other, one)
    }

    /// Whether something was typed that takes this option's place.
    fn is_overruled(&self, option: &Id, typed: &ArgMatches) -> bool {
        let is_typed = |id: &Id| typed.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let rivals = self.options().map(Arg::get_id);
        is_typed(option)
            || rivals
                .filter(|rival| is_typed(rival))
                .any(|rival| self.exclude_each_other(option, rival))
    }

    /// What is wrong with a value, by the option's own reader.
    fn refusal(&self, argument: &str) -> Option<String> {
        let tried = self.0.clone().try_get_matches_from(["", argument]);
        let error = tried.err()?;
        let value = context(&error, ContextKind::InvalidValue).concat();
        match error.kind() {
            ErrorKind::InvalidValue => {
                let valid = context(&error, ContextKind::ValidValue);
                Some(format!("is \"{value}\"; it may be {}", valid.join(", ")))
            }
            ErrorKind::ValueValidation => {
                let cause = error.source().map(ToString::to_string);
                Some(format!("can't be {value:?}: {}", cause.unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// The words for a key that there isn't.
    fn unknown(&self, key: &str) -> String {
        if COMMANDS.contains(&key) {
            return format!(
                "[{key}] is no part of it: options stand at the top, for both commands"
            );
        }
        if key == OPTION {
            return "a configuration file can't name another one".to_owned();
        }
        let name = key.replace('_', "-").to_lowercase();
        let nearest = self.option(&name).and(Some(name.clone())).or_else(|| {
            let tried = self
                .0
                .clone()
                .try_get_matches_from(["", &format!("--{name}=x")]);
            let suggested = context(&tried.err()?, ContextKind::SuggestedArg).pop()?;
            Some(key_of(&suggested)).filter(|key| key != OPTION)
        });
        let key: String = key.chars().take(60).flat_map(char::escape_debug).collect();
        nearest.map_or_else(
            || format!("unknown key `{key}`; 'spanwatch config explain' lists those there are"),
            |nearest| format!("unknown key `{key}`; did you mean `{nearest}`?"),
        )
    }
}

/// What a file sets that can be used, and what is wrong with the rest.
fn load(file: &Path) -> (Vec<Setting>, Vec<Problem>) {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem {
                file: file.to_owned(),
                line: 0,
                message: format!("cannot read it: {error}"),
            };
            return (Vec::new(), vec![problem]);
        }
    };
    let (mut reader, document) = match Reader::open(file, &text) {
        Ok(opened) => opened,
        Err(problems) => return (Vec::new(), problems),
    };
    let schema = Schema::new();
    let top = Scope {
        table: document.get_ref(),
        start: None,
        prefix: "",
    };
    let mut settings: Vec<(usize, Setting)> = Vec::new();
    for (key, node) in top.table {
        let at = key.span().start;
        let name = key.get_ref().as_ref();
        let Some(option) = schema.option(name) else {
            reader.report(Some(at), schema.unknown(name));
            continue;
        };
        let id = option.get_id().clone();
        if let Some(arguments) = arguments(&mut reader, &schema, option, name, node) {
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            let setting = Setting {
                key: name.to_owned(),
                id,
                line,
                arguments,
            };
            settings.push((at, setting));
        }
    }
    // In the order of the text, whatever the table's.
    settings.sort_by_key(|(at, _)| *at);
    let mut kept: Vec<Setting> = Vec::new();
    for (at, setting) in settings {
        let rival = kept
            .iter()
            .find(|rival| schema.exclude_each_other(&rival.id, &setting.id));
        match rival {
            Some(rival) => reader.report(
                Some(at),
                format!(
                    "`{}` and `{}` (line {}) exclude each other: keep one",
                    setting.key, rival.key, rival.line
                ),
            ),
            None => kept.push(setting),
        }
    }
    (kept, reader.into_problems())
}

/// A key's value as it would be typed.
fn arguments(
    reader: &mut Reader<'_>,
    schema: &Schema,
    option: &Arg,
    key: &str,
    node: &Node<'_>,
) -> Option<Vec<OsString>> {
    let read = |reader: &mut Reader<'_>, name: &str, node: &Node<'_>| {
        let text = if Kind::of(option) == Kind::Number {
            let DeValue::Integer(number) = node.get_ref() else {
                reader.wrong_type(name, "a whole number", node);
                return None;
            };
            // However it is written: 0x10, 1_000.
            let number = i128::from_str_radix(number.as_str(), number.radix());
            number.map_or_else(|_| "out of range".to_owned(), |number| number.to_string())
        } else {
            reader.line(name, node)?.to_owned()
        };
        let argument = format!("--{key}={text}");
        if let Some(problem) = schema.refusal(&argument) {
            reader.report(Some(node.span().start), format!("`{name}` {problem}"));
            return None;
        }
        Some(OsString::from(argument))
    };
    match Kind::of(option) {
        Kind::Flag => {
            let on = reader.flag(key, node)?;
            Some(on.then(|| format!("--{key}").into()).into_iter().collect())
        }
        Kind::List if node.get_ref().is_array() => reader.list(key, node, read),
        _ => Some(vec![read(reader, key, node)?]),
    }
}
