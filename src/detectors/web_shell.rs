//! `web-shell`: somebody has commands run by a web server, and reads in its answers what they print.
//!
//! A word like `id` is in many an honest parameter, and the output of Linux's commands is on many a page. No application is
//! asked for a command and answers with what that very command prints; no page answers now with the output of one command,
//! then with that of another; none takes code in a parameter and answers each piece of it with something else that is no page. Whether the script
//! was planted there or is an application with a hole makes no difference to who asks, nor to this.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::newness::{newness, total_bits};
use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, StateSize, Target,
};
use crate::dissect::{CommandRun, Commands, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, Server, SourceKey, is_outside, source_key};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "web-shell",
    sees: EventKinds::COMMAND,
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_pairs;
        Ok(Box::new(WebShell {
            alert_bits: signature.alert_bits,
            pairs: Bounded::new(room),
            passed: Bounded::new(room),
            evicted: 0,
        }))
    },
};

/// A command was asked for, and the answer is its output and nothing else.
const BITS_OBEYED: f64 = 20.0;
/// The output stands somewhere in a page, or is one word: for each kind of command, up to two.
const BITS_WITHIN: f64 = 9.0;
const MOST_KINDS_WITHIN: usize = 2;
/// Output that nobody is known to have asked for: of one kind a page may be there for.
const BITS_PRINTED: f64 = 8.0;
/// Of each further kind, from the same page.
const BITS_PRINTED_MORE: f64 = 6.0;
const MOST_BITS_PRINTED: f64 = 20.0;
/// Code that a script takes and answers with what is no page, so often and not always with the same.
const BITS_CODE: f64 = 14.0;
const FEWEST_CODES: u64 = 3;
/// Pages followed per client and server.
const MAX_PAGES: usize = 8;
const MAX_SAMPLES: usize = 4;
/// What a server answers within this after it got the same from another, it passes on.
const PASSING: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_pairs: usize,
}

type Key = (SourceKey, Server);

struct WebShell {
    alert_bits: f64,
    pairs: Bounded<Key, Pair>,
    /// Where clients last had a command run: who serves others there passes theirs on.
    passed: Bounded<IpAddr, Passed>,
    evicted: u64,
}

struct Passed {
    time: Timestamp,
    asked: Commands,
    printed: Commands,
}

/// What one client asked of one server.
struct Pair {
    client: Endpoint,
    server: Endpoint,
    port: u16,
    /// Whether the client is the one to look at: a pod that passes nothing on for others, or one whose server is outside.
    blames_client: bool,
    /// Whether the server is beyond the cluster. What pages outside show is their own business.
    is_outside: bool,
    first: Timestamp,
    last: Timestamp,
    /// Exchanges in which a command was asked for and answered.
    obeyed: u64,
    /// Whether one's output was all the answer.
    bare: bool,
    kinds: Commands,
    pages: BTreeMap<Arc<str>, Page>,
    /// The page that did, or else the first that was asked.
    path: Arc<str>,
    samples: Vec<Arc<FlowInfo>>,
    count: u64,
    /// How many there were when it was last reported.
    mark: u64,
}

/// What one page answered.
#[derive(Default)]
struct Page {
    /// Output that the answers began with, of whatever was asked.
    printed: Commands,
    /// Pieces of code that were answered other than by a page, and with how many bytes at least and at most.
    codes: u64,
    answered: Option<(u32, u32)>,
}

impl WebShell {
    fn take(
        &mut self,
        flow: &Arc<FlowInfo>,
        run: &CommandRun,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if self.is_passed_on(flow, run, time) {
            return;
        }
        let key = (source_key(&flow.orig), (flow.resp.ip, flow.resp_port));
        let (pair, gone) = self
            .pairs
            .entry_or_insert_with(key.clone(), || Pair::new(flow, run, time, context));
        self.evicted += u64::from(gone.is_some());
        pair.take(flow, run, time);
        if pair.count < pair.mark.saturating_mul(2) {
            return;
        }
        let evidence = pair.evidence(context);
        if total_bits(&evidence) >= self.alert_bits {
            pair.mark = pair.count;
            out.push(pair.finding(evidence));
        }
    }

    /// Whether a server only hands out what it just got itself for the same request, as proxies do; else remembers who got
    /// it here. A proxy is answered before it answers.
    fn is_passed_on(&mut self, flow: &FlowInfo, run: &CommandRun, time: Timestamp) -> bool {
        let got = self.passed.peek(&flow.resp.ip);
        let passed = got.is_some_and(|got| {
            time.since(got.time) <= PASSING && (got.asked, got.printed) == (run.asked, run.printed)
        });
        if !passed {
            let passed = Passed {
                time,
                asked: run.asked,
                printed: run.printed,
            };
            self.passed.put(flow.orig.ip, passed);
        }
        passed
    }
}

impl Pair {
    fn new(flow: &FlowInfo, run: &CommandRun, time: Timestamp, context: &Context<'_>) -> Self {
        let alone = context.may_be_pod(&flow.orig) && !context.acquaintances.serves(flow.orig.ip);
        let is_outside = is_outside(&flow.resp) && !context.may_be_pod(&flow.resp);
        Self {
            client: flow.orig.clone(),
            server: flow.resp.clone(),
            port: flow.resp_port,
            blames_client: is_outside || alone,
            is_outside,
            first: time,
            last: time,
            obeyed: 0,
            bare: false,
            kinds: Commands::empty(),
            pages: BTreeMap::new(),
            path: Arc::clone(&run.path),
            samples: Vec::new(),
            count: 0,
            mark: 0,
        }
    }

    fn take(&mut self, flow: &Arc<FlowInfo>, run: &CommandRun, time: Timestamp) {
        self.last = self.last.max(time);
        self.count = self.count.saturating_add(1);
        let obeyed = run.obeyed();
        if !obeyed.is_empty() {
            if self.obeyed == 0 {
                self.path = Arc::clone(&run.path);
            }
            self.obeyed = self.obeyed.saturating_add(1);
            self.bare |= run.bare;
            self.kinds |= obeyed;
        }
        if self.samples.len() < MAX_SAMPLES
            && self.samples.last().is_none_or(|last| last.id != flow.id)
        {
            self.samples.push(Arc::clone(flow));
        }
        if self.pages.len() >= MAX_PAGES && !self.pages.contains_key(&run.path) {
            return;
        }
        let page = self.pages.entry(Arc::clone(&run.path)).or_default();
        if run.bare {
            page.printed |= run.printed;
        }
        let said = run.answered > 0 && matches!(run.status, 200..=299);
        if said && run.asked.intersects(Commands::CODE) {
            page.codes = page.codes.saturating_add(1);
            let (least, most) = page.answered.unwrap_or((run.answered, run.answered));
            page.answered = Some((least.min(run.answered), most.max(run.answered)));
        }
    }

    fn evidence(&self, context: &Context<'_>) -> Vec<Evidence> {
        let protocol = |feature, expected: &str, observed, bits, signature_grade, text| Evidence {
            feature,
            family: Family::Protocol,
            observed,
            expected: expected.to_owned(),
            bits,
            signature_grade,
            text,
        };
        let mut evidence = Vec::new();
        if self.obeyed > 0 && (self.bare || !self.is_outside) {
            let kinds = self.kinds.iter().count();
            let within = BITS_WITHIN * kinds.min(MOST_KINDS_WITHIN) as f64;
            evidence.push(protocol(
                "http.command_answered",
                "parameters that no answer prints the output of",
                self.obeyed as f64,
                if self.bare { BITS_OBEYED } else { within },
                self.bare,
                format!(
                    "asked for commands and answered with their output, {} times: {}",
                    self.obeyed,
                    words(self.kinds)
                ),
            ));
        }
        let pages = self.pages.iter().filter(|_| !self.is_outside);
        let most = pages
            .clone()
            .max_by_key(|(_, page)| page.printed.iter().count());
        if let Some((path, page)) = most
            && let Some(more) = page.printed.iter().count().checked_sub(1)
        {
            let bits = BITS_PRINTED + BITS_PRINTED_MORE * more as f64;
            evidence.push(protocol(
                "http.command_output",
                "a page that is there for one thing",
                (more + 1) as f64,
                bits.min(MOST_BITS_PRINTED),
                false,
                format!(
                    "{path} answered with nothing but the output of commands: {}",
                    words(page.printed)
                ),
            ));
        }
        let most = pages.max_by_key(|(_, page)| page.codes);
        if let Some((path, page)) = most
            && page.codes >= FEWEST_CODES
            && page.answered.is_some_and(|(least, most)| least < most)
        {
            evidence.push(protocol(
                "http.code_sent",
                "parameters that hold data",
                page.codes as f64,
                BITS_CODE,
                false,
                format!(
                    "{path} took code in a parameter {} times, and answered it with one thing and another",
                    page.codes
                ),
            ));
        }
        if !is_outside(&self.client)
            && let Some(flow) = self.samples.first()
            && !evidence.is_empty()
        {
            evidence.push(newness(flow, Duration::ZERO, context));
        }
        evidence
    }

    fn finding(&self, evidence: Vec<Evidence>) -> Finding {
        let (actor, other) = if self.blames_client {
            (&self.client, &self.server)
        } else {
            (&self.server, &self.client)
        };
        let most = self
            .pages
            .values()
            .max_by_key(|page| page.printed.bits().count_ones());
        let printed = match most {
            Some(page) if self.kinds.is_empty() => page.printed,
            _ => self.kinds,
        };
        let what = if printed.is_empty() {
            "code".to_owned()
        } else {
            format!("commands ({})", words(printed))
        };
        let (path, port) = (&self.path, self.port);
        let summary = if self.blames_client {
            format!("has {what} run by {path} on port {port} of {}", other.ip)
        } else {
            format!(
                "runs {what} for {} over HTTP, by {path} on port {port}",
                other.ip
            )
        };
        Finding {
            signature: SPEC.id,
            subject: format!("{}:{port}", other.ip),
            actor: actor.clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: Some(other.clone()),
                port: Some(port),
                protocol: Some("http"),
                domain: None,
            }],
            target_count: 1,
            evidence,
            flows: self.samples.clone(),
            summary,
        }
    }
}

/// Kinds of commands, as people call them.
fn words(kinds: Commands) -> String {
    let words: Vec<&str> = NAMES
        .iter()
        .filter(|(kind, _)| kinds.contains(*kind))
        .map(|(_, name)| *name)
        .collect();
    words.join(", ")
}

const NAMES: &[(Commands, &str)] = &[
    (Commands::ID, "id"),
    (Commands::USER, "whoami"),
    (Commands::SYSTEM, "uname"),
    (Commands::FILES, "ls"),
    (Commands::ACCOUNTS, "the file of accounts"),
    (Commands::PROCESSES, "ps"),
    (Commands::INTERFACES, "ip"),
    (Commands::SOCKETS, "ss"),
    (Commands::ENVIRONMENT, "env"),
    (Commands::DISKS, "df"),
    (Commands::PLACE, "pwd"),
    (Commands::TOKEN, "the pod's token"),
];

impl Detector for WebShell {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        if let EventKind::Transaction {
            flow,
            transaction: Transaction::Command(run),
        } = &event.kind
        {
            self.take(flow, run, event.time, context, out);
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        let open = |pair: &&mut Pair| pair.mark > 0 && pair.count > pair.mark;
        for pair in self.pairs.values_mut().filter(open) {
            pair.mark = pair.count;
            out.push(pair.finding(pair.evidence(context)));
        }
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.pairs.len() + self.passed.len(),
            limit: self.pairs.limit() + self.passed.limit(),
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}
