//! What the options of a live run name, read and judged before anything is opened: everything that is wrong at once. The same at
//! the start, in `spanwatch config check`, and at SIGHUP.

use std::fmt::Display;
use std::path::Path;

use tracing::warn;

use super::LiveArgs;
use super::division::Division;
use super::outputs::Sinks;
use crate::capture::Filter;
use crate::cli::config::{Source, together};
use crate::cli::{Command, reading};
use crate::detectors::DETECTORS;
use crate::runtime::{Forwarder, Outputs, Renewal, Rules, User, node};
use crate::signature::SignatureSet;
use crate::sinks::{Server, Syslog, Webhook, WebhookForm};

/// What was read.
pub(super) struct Prepared {
    pub(super) rules: Rules,
    pub(super) forwarder: Option<Forwarder>,
    /// Whom to run as.
    pub(super) user: Option<User>,
}

/// Collects what is wrong, with the place where it was set.
struct Problems<'s> {
    source: &'s Source,
    found: Vec<String>,
}

impl Problems<'_> {
    fn add(&mut self, key: &str, problem: impl Display) {
        let place = self.source.place(key);
        self.found.push(format!("{place}: {problem}"));
    }

    fn keep<T, E: Display>(&mut self, key: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(key, error)).ok()
    }
}

/// Reads what the options name.
pub(super) fn prepare(args: &LiveArgs, source: &Source) -> Result<Prepared, Vec<String>> {
    let mut problems = Problems {
        source,
        found: source.problems.iter().map(ToString::to_string).collect(),
    };
    let signatures = problems.keep("signatures", signatures(args.signatures.as_deref()));
    let known = match &signatures {
        Some(set) => Some(set.clone()),
        None => SignatureSet::builtin().ok(),
    };
    let exceptions = known.and_then(|set| {
        let read = reading::exceptions(args.exceptions.as_deref(), &set);
        problems.keep("exceptions", read.map_err(|error| format!("{error:#}")))
    });
    if let Some(filter) = &args.filter {
        problems.keep("filter", Filter::new(filter));
    }
    if args.memory_limit.is_some() {
        problems.keep("memory-limit", Division::of(args, 1));
    }
    let forwarder = forwarder(args, &mut problems);
    let user = args.user.as_deref().map(User::find);
    let user = user.and_then(|found| problems.keep("user", found));
    for (key, file) in [
        ("output", &args.output),
        ("flows", &args.flows),
        ("spool", &args.spool),
        ("state", &args.state),
    ] {
        if let Some(file) = file.as_deref().filter(|file| file.as_os_str() != "-") {
            writable(key, file, &mut problems);
        }
    }
    if let Some(file) = &args.baseline {
        if args.learn {
            writable("baseline", file, &mut problems);
        } else if !file.is_file() {
            let problem = format!(
                "{} does not exist; 'spanwatch learn' makes one, or learn = true beside it",
                file.display()
            );
            problems.add("baseline", problem);
        }
    }
    match (signatures, exceptions) {
        (Some(signatures), Some(exceptions)) if problems.found.is_empty() => Ok(Prepared {
            rules: Rules {
                signatures,
                exceptions,
            },
            forwarder,
            user,
        }),
        _ => Err(problems.found),
    }
}

/// Everything that is wrong with the options, each with its place.
pub(in crate::cli) fn problems(args: &LiveArgs, source: &Source) -> Vec<String> {
    prepare(args, source).err().unwrap_or_default()
}

/// Signatures that their detectors can use.
fn signatures(directory: Option<&Path>) -> Result<SignatureSet, String> {
    let set = SignatureSet::load(directory).map_err(|error| error.to_string())?;
    let unfit = DETECTORS.iter().filter_map(|spec| {
        let error = (spec.build)(set.get(spec.id)?).err()?;
        Some(format!("{}: thresholds: {}", spec.id, error.message()))
    });
    let unfit: Vec<String> = unfit.collect();
    if unfit.is_empty() {
        Ok(set)
    } else {
        Err(together(&unfit))
    }
}

/// The server that alerts go to as well.
fn forwarder(args: &LiveArgs, problems: &mut Problems<'_>) -> Option<Forwarder> {
    let room = (Division::backlog(args) as usize) << 20;
    let (token, roots) = (args.webhook_token.as_deref(), args.webhook_ca.as_deref());
    let of_http = [("webhook-token", token), ("webhook-ca", roots)];
    let hook = |url: &str, form| Webhook::new(url, form, token, roots).map(Server::Webhook);
    let mut useless = |key, file: Option<&Path>, what| {
        if file.is_some() {
            problems.add(key, format!("is for {what}, and there is none"));
        }
    };
    let (key, server) = match (&args.webhook, &args.alertmanager, &args.syslog) {
        (Some(url), ..) => (
            "webhook",
            hook(url, WebhookForm::Alerts).map_err(|error| error.to_string()),
        ),
        (None, Some(url), _) => (
            "alertmanager",
            hook(url, WebhookForm::Alertmanager).map_err(|error| error.to_string()),
        ),
        (None, None, Some(place)) => {
            for (key, file) in of_http {
                useless(key, file, "a webhook or an alertmanager");
            }
            let syslog = Syslog::new(place, &node()).map(Server::Syslog);
            ("syslog", syslog.map_err(|error| error.to_string()))
        }
        (None, None, None) => {
            for (key, file) in of_http {
                useless(key, file, "a webhook or an alertmanager");
            }
            useless(
                "spool",
                args.spool.as_deref(),
                "a webhook, an alertmanager or syslog",
            );
            return None;
        }
    };
    Some(Forwarder::new(problems.keep(key, server)?, room))
}

/// A file that is to be written must be one, in a directory that is there.
fn writable(key: &str, file: &Path, problems: &mut Problems<'_>) {
    let directory = std::path::absolute(file)
        .ok()
        .and_then(|file| file.parent().map(Path::to_owned));
    if file.is_dir() {
        problems.add(
            key,
            format!("{} is a directory; name a file in it", file.display()),
        );
    } else if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let problem = format!(
            "{} can't be written: there is no directory {}",
            file.display(),
            directory.display()
        );
        problems.add(key, problem);
    }
}

/// Reads everything again at SIGHUP.
pub(super) struct Renewer {
    args: LiveArgs,
    source: Source,
}

impl Renewer {
    pub(super) const fn new(args: LiveArgs, source: Source) -> Self {
        Self { args, source }
    }

    /// What holds from now on. Whatever is wrong leaves all as it was; the files are opened anew even so, for somebody may
    /// have moved them.
    pub(super) fn renew(&mut self) -> Renewal {
        match self.read() {
            Ok((rules, outputs)) => Renewal {
                rules: Ok(rules),
                outputs: Ok(outputs),
            },
            Err(problem) => Renewal {
                rules: Err(problem),
                outputs: open(&self.args),
            },
        }
    }

    fn read(&mut self) -> Result<(Rules, Outputs), String> {
        let again = self.source.again().map_err(|failure| failure.to_string())?;
        let mut args = match again.cli.command {
            Command::Agent(args) => args.live().clone(),
            Command::Sensor(args) => args.live().clone(),
            _ => return Err("the command has changed".to_owned()),
        };
        let prepared = prepare(&args, &again.source).map_err(|problems| together(&problems))?;
        let postponed = self.source.postponed(&again.source);
        // Whether flows are kept at all is settled at the start.
        args.flows.clone_from(&self.args.flows);
        let outputs = open(&args)?;
        if !postponed.is_empty() {
            warn!(
                "changed, but taken at the next start only: {}",
                postponed.join(", ")
            );
        }
        self.args = args;
        Ok((prepared.rules, outputs))
    }
}

fn open(args: &LiveArgs) -> Result<Outputs, String> {
    Sinks::of(args).open().map_err(|error| format!("{error:#}"))
}
