//! Why something alerted, or didn't, for people: who spoke with whom, what the baseline knows of it, what each detector made
//! of it, and what was missing.

mod wire;

use super::human::{bytes, count, counted, duration, measure, printable, span};
use crate::alert::{
    Acquaintance, Conversation, Ending, Explanation, Familiarity, Quiet, Weighing, holder,
};
use crate::event::Endpoint;
use crate::features::Role;
use crate::signature::wrap;

pub use wire::{AcquaintanceV1, ConversationV1, ExplainedV1, ExplanationV1, OutcomeV1, WeighedV1};

const WIDTH: usize = 80;
/// Conversations told in full; more are counted.
const MOST_CONVERSATIONS: usize = 12;
/// Weighings told in full; more are named.
const MOST_WEIGHINGS: usize = 12;
/// Remarks under a signature.
const MOST_REMARKS: usize = 3;

/// The explanation as text; every line ends with a newline.
pub fn explanation_text(explanation: &Explanation) -> String {
    let mut lines = Lines::default();
    lines.put(0, &explanation.asked);
    if explanation.conversations.is_empty() && explanation.weighings.is_empty() {
        lines.put(2, "nothing like it in the captures");
        return lines.0;
    }
    let all = explanation.conversations.len();
    for one in explanation.conversations.iter().take(MOST_CONVERSATIONS) {
        conversation(&mut lines, one);
    }
    if all > MOST_CONVERSATIONS {
        let more = counted((all - MOST_CONVERSATIONS) as u64, "more conversation");
        lines.put(2, &format!("and {more}"));
    }
    if explanation.more > 0 {
        let more = counted(explanation.more, "flow");
        lines.put(2, &format!("and {more} of others that are not listed"));
    }
    lines.put(0, "");
    let (weighty, light): (Vec<_>, Vec<_>) =
        explanation.weighings.iter().partition(|one| one.bits > 0.0);
    for one in weighty.iter().take(MOST_WEIGHINGS) {
        weighing(&mut lines, one);
    }
    let mut names: Vec<String> = weighty
        .iter()
        .skip(MOST_WEIGHINGS)
        .chain(&light)
        .map(|one| {
            let (bits, bar) = (one.bits, one.signature.alert_bits);
            let who = who(one.actor());
            format!("{} of {who} ({bits:.1} of {bar:.1} bits)", one.signature.id)
        })
        .collect();
    names.dedup();
    lines.list("weighed less:", &names);
    for one in explanation
        .quiet
        .iter()
        .filter(|one| !one.remarks.is_empty())
    {
        lines.put(2, &format!("{}: nothing to weigh", one.signature.id));
        remarks(&mut lines, &one.remarks);
    }
    let idle = explanation
        .quiet
        .iter()
        .filter(|one| one.remarks.is_empty());
    let (looked, blind): (Vec<&Quiet>, Vec<&Quiet>) = idle.partition(|one| one.looked > 0);
    let ids = |all: &[&Quiet]| -> Vec<String> {
        all.iter().map(|one| one.signature.id.clone()).collect()
    };
    lines.list("looked, and found nothing to weigh:", &ids(&looked));
    lines.list("had nothing of theirs to look at:", &ids(&blind));
    lines.0
}

/// Lines of text, made harmless.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, indent: usize, text: &str) {
        let mut margin = indent;
        for line in wrap(&printable(text), WIDTH - indent) {
            let line = format!("{:margin$}{line}", "");
            self.0.push_str(line.trim_end());
            self.0.push('\n');
            margin = indent + 2;
        }
    }

    fn list(&mut self, label: &str, names: &[String]) {
        if !names.is_empty() {
            self.put(2, &format!("{label} {}", names.join(", ")));
        }
    }

    fn weighed(&mut self, bits: &str, text: &str) {
        let mut weight = bits;
        for line in wrap(&printable(text), WIDTH - 14) {
            for part in [&format!("{weight:>12}"), "  ", line.as_str(), "\n"] {
                self.0.push_str(part);
            }
            weight = "";
        }
    }
}

fn who(end: &Endpoint) -> String {
    match holder(end) {
        Some(name) => format!("{name} ({})", end.ip),
        None => end.ip.to_string(),
    }
}

fn conversation(lines: &mut Lines, one: &Conversation) {
    let contact = &one.contact;
    let at = match contact.port {
        0 => String::new(),
        port => format!(" port {port}"),
    };
    let (me, peer) = (who(&one.me), &contact.peer);
    let text = match contact.role {
        Role::Client => format!("{me} called {peer} ({}){at}", one.other.ip),
        Role::Server => format!("{me} was called by {peer} ({}){at}", one.other.ip),
    };
    lines.put(2, &text);
    let mut parts = vec![counted(one.flows, "flow")];
    if one.answered > 0 {
        parts.push(format!("{} answered", count(one.answered)));
    }
    if one.failed > 0 {
        parts.push(format!("{} failed", count(one.failed)));
    }
    let [there, back] = one.bytes;
    if there + back > 0 {
        parts.push(format!("{} there, {} back", bytes(there), bytes(back)));
    }
    parts.extend(one.apps.iter().map(|app| (*app).to_owned()));
    lines.put(
        4,
        &format!("{}; {}", parts.join(", "), span(one.first, one.last)),
    );
    match &one.familiarity {
        Familiarity::NoBaseline => lines.put(4, "no baseline was given: nothing is new or usual"),
        Familiarity::NoWorkload => {
            lines.put(
                4,
                "no inventory names a workload here, so no baseline can be its",
            );
        }
        Familiarity::UnknownWorkload => lines.put(
            4,
            "the baseline has never seen this workload: what it does is neither new nor usual",
        ),
        Familiarity::Known(known) => acquaintance(lines, known),
    }
}

fn acquaintance(lines: &mut Lines, known: &Acquaintance) {
    let text = match &known.met {
        Some(stat) => format!(
            "known to the baseline: met {}×, {}",
            count(stat.count),
            span(stat.first, stat.last)
        ),
        None if known.by_network => {
            "known to the baseline by its network, under another name".to_owned()
        }
        None => {
            let spared = if known.own_bits > known.bits + 0.05 {
                format!(
                    "; {:.1} by its own history alone, less by what its neighbours do",
                    known.own_bits
                )
            } else {
                String::new()
            };
            format!(
                "new to the baseline: {:.1} bits ({} of {} contacts with {} were with one met once{spared})",
                known.bits,
                count(known.once),
                count(known.contacts),
                counted(known.peers as u64, "peer"),
            )
        }
    };
    lines.put(4, &text);
    if let Some(plan) = &known.schedule {
        let (every, spread) = (duration(plan.every), duration(plan.spread));
        lines.put(
            4,
            &format!(
                "visited every {every} (± {spread}): this time weighs {:.1} bits",
                known.hour_bits
            ),
        );
    }
    if known.met.is_some() || known.by_network {
        return;
    }
    let missing = known.standing.missing();
    let state = known.standing.state.label();
    if missing.is_empty() {
        lines.put(4, &format!("{}: {state}", known.feature));
    } else {
        lines.put(
            4,
            &format!("{}: {state}, waits for {missing}", known.feature),
        );
    }
}

fn weighing(lines: &mut Lines, one: &Weighing) {
    let bar = one.signature.alert_bits;
    let end = match &one.end {
        Ending::Told(id) => format!("alert {id}"),
        Ending::Part(id, of) => format!("told with alert {id} ({of})"),
        Ending::Allowed(id, why) => format!("alert {id}, allowed: {why}"),
        Ending::Short(bits) => format!("{bits:.1} bits too few for an alert"),
        Ending::Waits => "bits enough, but not told: it waits for more of the same".to_owned(),
    };
    lines.put(2, &format!("{}: {end}", one.signature.id));
    lines.put(4, &format!("{} {}", who(one.actor()), one.finding.summary));
    for (evidence, counts) in one.evidence() {
        let bits = if counts {
            format!("{:.1}", evidence.bits)
        } else {
            format!("({:.1})", evidence.bits)
        };
        let expected = if evidence.expected.is_empty() {
            String::new()
        } else {
            format!(", normally {}", evidence.expected)
        };
        let text = format!(
            "{}: {} (measured {}{expected})",
            evidence.family.label(),
            evidence.text.trim().trim_end_matches('.'),
            measure(evidence.observed)
        );
        lines.weighed(&bits, &text);
    }
    lines.weighed(
        &format!("={:.1}", one.bits),
        &format!("of the {bar:.1} bits that raise an alert"),
    );
    remarks(lines, &one.remarks);
}

fn remarks(lines: &mut Lines, remarks: &[String]) {
    for remark in remarks.iter().take(MOST_REMARKS) {
        lines.put(4, remark);
    }
    if remarks.len() > MOST_REMARKS {
        let more = count((remarks.len() - MOST_REMARKS) as u64);
        lines.put(4, &format!("and {more} more like these"));
    }
}
