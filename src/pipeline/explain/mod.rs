//! Why something alerted, or didn't: what was asked for beside a run, in the run's own words.
//!
//! A second set of detectors sees the same events with every bar lifted: whatever it weighs it reports, so that it can be
//! told by how many bits something fell short. What a detector passes over before it weighs anything it may remark on
//! ([`crate::detectors::Context::remark`]). Nothing flows back: the run's alerts are what they are without anybody's asking.

mod facts;
mod select;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use select::{Selector, SelectorError};

use super::BuildError;
use crate::alert::{self, Alert, Ending, Explanation, Quiet, Weighing};
use crate::detectors::{Context, DETECTORS, Detector, Finding, Findings, Remark, Trace};
use crate::event::{Event, EventKinds};
use crate::memory::Share;
use crate::signature::{Signature, SignatureSet};
use crate::time::Timestamp;

use facts::Conversations;

/// Weighings kept for a selector.
const MOST_WEIGHINGS: usize = 4096;
/// Remarks kept for a selector.
const MOST_REMARKS: usize = 1024;
/// Ends named in a remark.
const MOST_NAMED: usize = 3;

/// The kinds of events in words, in their order.
const KINDS: [&str; 17] = [
    "flows",
    "answers to flows",
    "recognised protocols",
    "turns of a conversation",
    "questions with answers",
    "ended flows",
    "ARP",
    "DNS",
    "TLS",
    "HTTP",
    "tunnels",
    "database statements",
    "SSH",
    "first bytes",
    "logins",
    "mining",
    "echoed bytes",
];

/// What makes findings one weighing.
type Key = (&'static str, IpAddr, String);

/// A signature, and the ends that something is said of.
type About = (&'static str, IpAddr, Option<(IpAddr, u16)>);

/// What is noted of one selector.
#[derive(Debug)]
struct Asked {
    selector: Selector,
    conversations: Conversations,
    /// Events seen, by kind.
    kinds: [u64; EventKinds::COUNT],
    weighed: BTreeMap<Key, (f64, Finding)>,
    /// The latest remark of a signature on a pair of ends, and whom it is about.
    remarks: BTreeMap<About, (String, String)>,
}

/// Explains a run beside it.
pub(super) struct Explainer {
    asked: Vec<Asked>,
    detectors: Vec<(EventKinds, Box<dyn Detector>)>,
    signatures: SignatureSet,
    trace: Trace,
}

impl Explainer {
    pub(super) fn new(
        selectors: Vec<Selector>,
        signatures: &SignatureSet,
        share: Share,
    ) -> Result<Self, BuildError> {
        let lifted = signatures.without_bars();
        let mut detectors = Vec::new();
        for spec in DETECTORS {
            if let Some(signature) = lifted.get(spec.id) {
                let detector =
                    (spec.build)(&signature.within(share)).map_err(|source| BuildError {
                        id: spec.id,
                        source: Box::new(source),
                    })?;
                detectors.push((spec.sees, detector));
            }
        }
        let asked = selectors.into_iter().map(|selector| Asked {
            selector,
            conversations: Conversations::default(),
            kinds: [0; EventKinds::COUNT],
            weighed: BTreeMap::new(),
            remarks: BTreeMap::new(),
        });
        Ok(Self {
            asked: asked.collect(),
            detectors,
            signatures: signatures.clone(),
            trace: Trace::default(),
        })
    }

    pub(super) fn observe(&mut self, event: &Event, context: &Context<'_>) {
        let kind = EventKinds::of(&event.kind);
        self.judge(context, |detectors, context, findings| {
            for (sees, detector) in detectors {
                if sees.contains(kind) && !detector.follows().passes_over(event) {
                    detector.observe(event, context, findings);
                }
            }
        });
        for asked in &mut self.asked {
            let of = asked.conversations.observe(&asked.selector, event, context);
            if let Some(count) = asked.kinds.get_mut(kind.place()).filter(|_| of) {
                *count += 1;
            }
        }
    }

    pub(super) fn tick(&mut self, now: Timestamp, context: &Context<'_>) {
        self.judge(context, |detectors, context, findings| {
            for (_, detector) in detectors {
                detector.tick(now, context, findings);
            }
        });
    }

    /// The input is over. `told` and `allowed` are what came of the run.
    pub(super) fn finish(
        mut self,
        context: &Context<'_>,
        told: &[Alert],
        allowed: &[Alert],
    ) -> Vec<Explanation> {
        self.judge(context, |detectors, context, findings| {
            for (_, detector) in detectors {
                detector.finish(context, findings);
            }
        });
        let outcome = Outcome { told, allowed };
        let signatures = &self.signatures;
        let asked = self.asked.into_iter();
        asked
            .map(|asked| asked.explain(context, signatures, &outcome))
            .collect()
    }

    fn judge(
        &mut self,
        context: &Context<'_>,
        show: impl FnOnce(&mut [(EventKinds, Box<dyn Detector>)], &Context<'_>, &mut Findings),
    ) {
        let Self {
            asked,
            detectors,
            trace,
            ..
        } = self;
        let mut findings = Findings::new();
        let context = Context {
            trace: Some(trace),
            ..*context
        };
        show(detectors, &context, &mut findings);
        let remarks = trace.take();
        for asked in asked {
            for finding in &findings {
                asked.weigh(finding, &context);
            }
            for remark in &remarks {
                asked.note(remark, &context);
            }
        }
    }
}

/// What the run came to.
struct Outcome<'a> {
    told: &'a [Alert],
    allowed: &'a [Alert],
}

impl Outcome<'_> {
    /// What came of evidence of so many bits.
    fn of(&self, signature: &Signature, finding: &Finding, bits: f64) -> Ending {
        let is_it = |alert: &&Alert| {
            alert.actor.ip == finding.actor.ip
                && finding.first <= alert.last
                && finding.last >= alert.first
        };
        let own = |alert: &&Alert| {
            alert.signature.id == signature.id && is_it(alert) && share_targets(alert, finding)
        };
        if let Some(alert) = self.told.iter().find(own) {
            return Ending::Told(alert.id.clone());
        }
        if let Some(alert) = self.allowed.iter().find(own) {
            let why = alert.suppressed.as_ref().map(ToString::to_string);
            return Ending::Allowed(alert.id.clone(), why.unwrap_or_default());
        }
        if bits < signature.alert_bits {
            return Ending::Short(signature.alert_bits - bits);
        }
        let larger = |alert: &&Alert| signature.part_of.contains(&alert.signature.id);
        let whole = self.told.iter().find(|alert| larger(alert) && is_it(alert));
        whole.map_or(Ending::Waits, |alert| {
            Ending::Part(alert.id.clone(), alert.signature.id.clone())
        })
    }

    fn alert(&self, id: &str) -> Option<&Alert> {
        let mut all = self.told.iter().chain(self.allowed);
        all.find(|alert| alert.id == id)
    }
}

/// Whether an alert may be about what a finding is aimed at.
fn share_targets(alert: &Alert, finding: &Finding) -> bool {
    let ip = |target: &crate::detectors::Target| target.endpoint.as_ref().map(|end| end.ip);
    alert.targets.is_empty()
        || finding.targets.is_empty()
        || alert.target_count > alert.targets.len() as u64
        || finding.targets.iter().any(|target| {
            alert.targets.iter().any(|other| {
                ip(target) == ip(other) && ip(target).is_some()
                    || target.domain == other.domain && target.domain.is_some()
            })
        })
}

impl Asked {
    /// Of findings of one attack the weightiest stays.
    fn weigh(&mut self, finding: &Finding, context: &Context<'_>) {
        if finding.evidence.is_empty() || !self.selector.finding(finding, context.peers) {
            return;
        }
        let bits = alert::score(&finding.evidence);
        let key = (finding.signature, finding.actor.ip, finding.subject.clone());
        let room = self.weighed.len() < MOST_WEIGHINGS;
        match self.weighed.get_mut(&key) {
            Some((most, known)) if bits >= *most => (*most, *known) = (bits, finding.clone()),
            None if room => {
                self.weighed.insert(key, (bits, finding.clone()));
            }
            Some(_) | None => {}
        }
    }

    fn note(&mut self, remark: &Remark, context: &Context<'_>) {
        let (with, port) = match &remark.with {
            Some((with, port)) => (Some(with), Some(*port)),
            None => (None, None),
        };
        let asked = self.selector.ends(&remark.actor, with, port, context.peers);
        let flow = with.is_some_and(|with| self.conversations.is_between(&remark.actor, with));
        if asked.is_none() && !flow {
            return;
        }
        let key = (
            remark.signature,
            remark.actor.ip,
            with.map(|with| with.ip).zip(port),
        );
        if self.remarks.len() < MOST_REMARKS || self.remarks.contains_key(&key) {
            let whom = with.map(|with| context.peers.name(&remark.actor, with));
            let whom = whom.unwrap_or_else(|| remark.actor.ip.to_string().into());
            let said = (remark.text.clone(), whom.to_string());
            self.remarks.insert(key, said);
        }
    }

    fn explain(
        mut self,
        context: &Context<'_>,
        signatures: &SignatureSet,
        outcome: &Outcome<'_>,
    ) -> Explanation {
        let by_id = self.selector.alert().map(str::to_owned);
        if let Some(id) = by_id {
            let alert = outcome.alert(&id);
            if let Some(alert) = alert {
                self.conversations.of_alert(alert, context);
            }
            self.weighed.retain(|(signature, ip, _), (_, finding)| {
                alert.is_some_and(|alert| {
                    let larger = |part: &Arc<Signature>| part.part_of.contains(&alert.signature.id);
                    alert.actor.ip == *ip
                        && (alert.signature.id == *signature
                            || signatures.get(signature).is_some_and(larger))
                        && share_targets(alert, finding)
                })
            });
        }
        let mut remarks = std::mem::take(&mut self.remarks);
        let mut remarks_of = |id: &str| {
            let ours = remarks.extract_if(.., |(signature, ..), _| *signature == id);
            together(ours.map(|(_, said)| said))
        };
        let weighed = std::mem::take(&mut self.weighed);
        let weighings = weighed.into_values().filter_map(|(bits, finding)| {
            let signature = Arc::clone(signatures.get(finding.signature)?);
            Some(Weighing {
                end: outcome.of(&signature, &finding, bits),
                remarks: remarks_of(finding.signature),
                signature,
                finding,
                bits,
            })
        });
        let mut weighings: Vec<Weighing> = weighings.collect();
        weighings.sort_by(|a, b| {
            let lack = |one: &Weighing| one.signature.alert_bits - one.bits;
            lack(a)
                .total_cmp(&lack(b))
                .then_with(|| a.signature.id.cmp(&b.signature.id))
        });
        // Who asks for an alert asks why it is one, and not what else might have been.
        let mut quiet = Vec::new();
        if self.selector.alert().is_none() {
            for spec in DETECTORS {
                let weighed = weighings.iter().any(|one| one.signature.id == spec.id);
                let Some(signature) = signatures.get(spec.id).filter(|_| !weighed) else {
                    continue;
                };
                let places: Vec<usize> = spec.sees.places().collect();
                let count = |place: &usize| self.kinds.get(*place).copied().unwrap_or(0);
                let looked = places.iter().map(count).sum();
                let needs = places.iter().filter_map(|place| KINDS.get(*place).copied());
                quiet.push(Quiet {
                    signature: Arc::clone(signature),
                    looked,
                    needs: if looked == 0 {
                        needs.collect()
                    } else {
                        Vec::new()
                    },
                    remarks: remarks_of(spec.id),
                });
            }
        }
        let (conversations, more) = self.conversations.finish(context);
        Explanation {
            asked: self.selector.text().to_owned(),
            conversations,
            more,
            weighings,
            quiet,
        }
    }
}

/// Remarks that say the same of several as one.
fn together(said: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (text, whom) in said {
        by_text.entry(text).or_default().insert(whom);
    }
    let one = |(text, whom): (String, BTreeSet<String>)| {
        let more = match whom.len().saturating_sub(MOST_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named: Vec<String> = whom.into_iter().take(MOST_NAMED).collect();
        format!("{}{more}: {text}", named.join(", "))
    };
    by_text.into_iter().map(one).collect()
}
