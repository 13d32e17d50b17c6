//! What was seen of the conversations asked for, and how well the baseline knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Selector;
use crate::alert::{Acquaintance, Alert, Conversation, Familiarity};
use crate::baseline::Feature;
use crate::detectors::Context;
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::features::{Contact, Role};
use crate::flow::Outcome;

/// Conversations listed.
const MOST: usize = 64;
/// Example flows of each.
const SAMPLES: usize = 4;
/// Protocols of each.
const APPS: usize = 4;

/// What was seen of what is asked for.
#[derive(Default, Debug)]
pub(super) struct Conversations {
    seen: BTreeMap<(IpAddr, Contact), Conversation>,
    more: u64,
}

impl Conversations {
    /// Notes an event, if it is about what is asked for.
    pub(super) fn observe(
        &mut self,
        selector: &Selector,
        event: &Event,
        context: &Context<'_>,
    ) -> bool {
        let Some(flow) = event.flow() else {
            let EventKind::Resolution { actor, target, .. } = &event.kind else {
                return false;
            };
            return selector
                .ends(actor, Some(target), None, context.peers)
                .is_some();
        };
        let Some(role) = selector.flow(flow, context.peers) else {
            return false;
        };
        if let Some(one) = self.entry(flow, role, context) {
            one.last = one.last.max(event.time);
            match &event.kind {
                EventKind::FlowOpened(_) => one.flows += 1,
                EventKind::FlowOutcome { outcome, .. } => {
                    let answered = *outcome == Outcome::Answered;
                    one.answered += u64::from(answered);
                    one.failed += u64::from(!answered);
                }
                EventKind::Recognised { app, .. } if one.apps.len() < APPS => {
                    one.apps.insert(app);
                }
                EventKind::FlowEnded { record, .. } => {
                    for (all, more) in one.bytes.iter_mut().zip(record.payload_bytes) {
                        *all = all.saturating_add(more);
                    }
                }
                _ => {}
            }
        } else if matches!(event.kind, EventKind::FlowOpened(_)) {
            self.more += 1;
        }
        true
    }

    /// Notes the flows of an alert.
    pub(super) fn of_alert(&mut self, alert: &Alert, context: &Context<'_>) {
        for flow in &alert.flows {
            let ours = flow.info.resp.ip == alert.actor.ip;
            let role = if ours { Role::Server } else { Role::Client };
            if let Some(one) = self.entry(&flow.info, role, context) {
                one.flows += 1;
                one.last = one.last.max(alert.last);
                one.apps.extend(flow.totals.and_then(|totals| totals.app));
            }
        }
    }

    /// Whether a conversation between two ends is noted.
    pub(super) fn is_between(&self, one: &Endpoint, other: &Endpoint) -> bool {
        let between = |a: &Endpoint, b: &Endpoint| {
            self.seen
                .values()
                .any(|known| known.me.ip == a.ip && known.other.ip == b.ip)
        };
        between(one, other) || between(other, one)
    }

    fn entry(
        &mut self,
        flow: &Arc<FlowInfo>,
        role: Role,
        context: &Context<'_>,
    ) -> Option<&mut Conversation> {
        // The side of whoever has a baseline, if only one can.
        let ours = |end: &Endpoint| end.who.identity.workload.is_some();
        let role = match (ours(&flow.orig), ours(&flow.resp)) {
            (true, false) => Role::Client,
            (false, true) => Role::Server,
            _ => role,
        };
        let (me, other) = match role {
            Role::Client => (&flow.orig, &flow.resp),
            Role::Server => (&flow.resp, &flow.orig),
        };
        let known = match role {
            Role::Client => context.peers.client_contact(flow),
            Role::Server => context.peers.server_contact(flow),
        };
        let contact = known.unwrap_or_else(|| Contact {
            role,
            peer: context.peers.name(me, other),
            port: flow.resp_port,
            protocol: flow.protocol.number(),
        });
        let key = (me.ip, contact);
        if self.seen.len() >= MOST && !self.seen.contains_key(&key) {
            return None;
        }
        let one = self
            .seen
            .entry(key)
            .or_insert_with_key(|(_, contact)| Conversation {
                me: me.clone(),
                other: other.clone(),
                contact: contact.clone(),
                flows: 0,
                answered: 0,
                failed: 0,
                bytes: [0, 0],
                first: flow.start,
                last: flow.start,
                apps: BTreeSet::new(),
                samples: Vec::new(),
                familiarity: Familiarity::NoBaseline,
            });
        if one.samples.len() < SAMPLES && one.samples.iter().all(|known| known.id != flow.id) {
            one.samples.push(Arc::clone(flow));
        }
        Some(one)
    }

    /// The conversations, those that the baseline knows last, else in the order of their beginning; and how many flows of
    /// others found no room.
    pub(super) fn finish(self, context: &Context<'_>) -> (Vec<Conversation>, u64) {
        let mut all: Vec<Conversation> = self.seen.into_values().collect();
        for one in &mut all {
            one.familiarity = familiarity(one, context);
        }
        all.sort_by_key(|one| (one.familiarity.is_known(), one.first));
        (all, self.more)
    }
}

fn familiarity(one: &Conversation, context: &Context<'_>) -> Familiarity {
    let Some(lineage) = context.lineage(&one.me) else {
        return if context.baseline.is_none() {
            Familiarity::NoBaseline
        } else {
            Familiarity::NoWorkload
        };
    };
    let Some(profile) = lineage.profile() else {
        return Familiarity::UnknownWorkload;
    };
    let (contact, role) = (&one.contact, one.contact.role);
    let feature = Feature::Peers(role);
    let met = profile.contact(contact);
    Familiarity::Known(Box::new(Acquaintance {
        feature,
        standing: profile.standing(feature, one.last),
        met,
        by_network: met.is_none() && profile.knows(contact),
        peers: profile.peer_count(role),
        contacts: profile.contacts(role),
        once: profile.met_once(role),
        own_bits: profile.novelty_bits(role),
        bits: lineage.contact_bits(contact),
        schedule: profile.schedule(contact),
        hour_bits: profile.hour_bits(contact, one.first),
    }))
}
