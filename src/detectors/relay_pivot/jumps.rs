//! An SSH server in a pod by which somebody reaches others (`ssh -L`, `-D`, `-J` through it).
//!
//! What the connection carries is hidden, and padded. But the server connects when it is asked to: between a request of the
//! client's, as far as its length shows, and what may be a yes to it, the pod opens a connection of its own. A session does
//! not do so time and again: its commands are answered before they have connected anywhere. Jump hosts are meant for it,
//! and are known by having served from the start, by their many clients, or by the baseline.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::judge::{BITS_LEARNED, BITS_WELL_KNOWN, TERMINALS, WELL_KNOWN, lateness};
use super::{Context, Endpoint, Evidence, Finding, FlowInfo, SourceKey, Target, source_key};
use crate::detectors::Family;
use crate::detectors::forwards::Forwards;
use crate::features::{Bounded, Callee, Role, database_product, push_tight};
use crate::flow::{FlowId, Protocol, Turn};
use crate::memory::Share;
use crate::time::Timestamp;

/// Two connections made on request might be chance on a busy pod,
const FEWEST: u64 = 2;
/// and each further one is that much less likely so.
const BITS_EACH: f64 = 3.0;
const BITS_FIRST: f64 = 2.0;
const MOST_BITS: f64 = 14.0;
/// A database or a terminal is reached inside SSH,
const BITS_HIDDEN: f64 = 6.0;
/// or another SSH server, which is what jump hosts are for.
const BITS_JUMP: f64 = -4.0;
const MOST_BITS_NOVEL: f64 = 10.0;
const MAX_OPEN: usize = 4096;
const MAX_SERVERS: usize = 1024;
/// Connections of a server's remembered, the latest.
const MAX_DIALLED: usize = 16;
const MAX_TARGETS: usize = 8;
const MAX_SAMPLES: usize = 8;

/// SSH servers in pods, and what they connected to on request.
pub(super) struct Jumps {
    /// Connections to them whose keys were agreed on.
    open: Bounded<FlowId, Forwards>,
    /// What each server has called lately.
    dialled: Bounded<IpAddr, VecDeque<Arc<FlowInfo>>>,
    /// By the pod and the port that it serves on.
    seen: Bounded<(SourceKey, u16), Jump>,
    evicted: u64,
}

struct Jump {
    first: Timestamp,
    last: Timestamp,
    targets: Vec<(Endpoint, u16)>,
    flows: Vec<Arc<FlowInfo>>,
    count: u64,
    told: u64,
}

impl Jumps {
    pub(super) fn new(share: Share) -> Self {
        Self {
            open: Bounded::new(share.part(MAX_OPEN)),
            dialled: Bounded::new(share.part(MAX_SERVERS)),
            seen: Bounded::new(share.part(MAX_SERVERS)),
            evicted: 0,
        }
    }

    /// Keys were agreed on with a server inside.
    pub(super) fn encrypted(&mut self, flow: &FlowInfo) {
        self.open.put(flow.id, Forwards::default());
        let ip = flow.resp.ip;
        let (_, gone) = self.dialled.entry_or_insert_with(ip, VecDeque::new);
        self.evicted += u64::from(gone.is_some());
    }

    /// Somebody calls somebody: one of the servers?
    pub(super) fn opened(&mut self, flow: &Arc<FlowInfo>) {
        if flow.protocol == Protocol::Tcp
            && let Some(dialled) = self.dialled.peek_mut(&flow.orig.ip)
        {
            if dialled.len() >= MAX_DIALLED {
                dialled.pop_front();
            }
            dialled.push_back(Arc::clone(flow));
        }
    }

    pub(super) fn ended(&mut self, flow: &FlowInfo) {
        self.open.pop(&flow.id);
    }

    /// A turn of any flow's. The server that it belongs to, if it had connected to somebody before it spoke.
    pub(super) fn turn(&mut self, flow: &Arc<FlowInfo>, turn: &Turn) -> Option<(SourceKey, u16)> {
        let forwards = self.open.peek_mut(&flow.id)?;
        let since = forwards.may_grant(turn);
        forwards.take(turn);
        let since = since?;
        let dialled = self.dialled.peek(&flow.resp.ip)?;
        let made = dialled.iter().rev().find(|made| {
            made.start >= since && made.start <= turn.start && made.resp.ip != flow.orig.ip
        })?;
        let key = (source_key(&flow.resp), flow.resp_port);
        let (seen, gone) = self.seen.entry_or_insert_with(key.clone(), || Jump {
            first: since,
            last: turn.end,
            targets: Vec::new(),
            flows: Vec::new(),
            count: 0,
            told: 0,
        });
        self.evicted += u64::from(gone.is_some());
        seen.last = seen.last.max(turn.end);
        seen.count = seen.count.saturating_add(1);
        let target = (made.resp.clone(), made.resp_port);
        let known = |(end, port): &(Endpoint, u16)| end.ip == target.0.ip && *port == target.1;
        if seen.targets.len() < MAX_TARGETS && !seen.targets.iter().any(known) {
            push_tight(&mut seen.targets, target);
        }
        for one in [flow, made] {
            if seen.flows.len() < MAX_SAMPLES && seen.flows.iter().all(|kept| kept.id != one.id) {
                push_tight(&mut seen.flows, Arc::clone(one));
            }
        }
        (seen.count >= FEWEST && seen.count >= seen.told.saturating_mul(2)).then_some(key)
    }

    /// What is to be told of a server.
    pub(super) fn finding(
        &self,
        key: &(SourceKey, u16),
        flow: &FlowInfo,
        context: &Context<'_>,
    ) -> Option<Finding> {
        Some(self.seen.peek(key)?.finding(flow, context))
    }

    pub(super) fn told(&mut self, key: &(SourceKey, u16)) {
        if let Some(jump) = self.seen.peek_mut(key) {
            jump.told = jump.count;
        }
    }

    /// Remembered at the moment.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.dialled.len() + self.seen.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.open.limit() + self.dialled.limit() + self.seen.limit()
    }

    /// Forgotten for want of room.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl Jump {
    fn finding(&self, flow: &FlowInfo, context: &Context<'_>) -> Finding {
        let client = &flow.orig;
        let listed: Vec<String> = self
            .targets
            .iter()
            .map(|(end, port)| format!("{}:{port}", end.ip))
            .collect();
        let listed = listed.join(", ");
        let reached = self.targets.iter().map(|(end, port)| Target {
            endpoint: Some(end.clone()),
            port: Some(*port),
            protocol: Some("tcp"),
            domain: None,
        });
        let from = Target {
            endpoint: Some(client.clone()),
            port: None,
            protocol: Some("ssh"),
            domain: None,
        };
        let connects = Evidence {
            feature: "relay.ssh_connects",
            family: Family::Volume,
            observed: self.count as f64,
            expected: "a session: a terminal, a command, a copy".into(),
            bits: BITS_EACH
                .mul_add(self.count as f64, BITS_FIRST)
                .min(MOST_BITS),
            signature_grade: false,
            text: format!(
                "{} times its SSH client asked for something, and it called {listed} before it said yes",
                self.count
            ),
        };
        Finding {
            signature: super::SPEC.id,
            subject: format!("port {}", flow.resp_port),
            actor: flow.resp.clone(),
            first: self.first,
            last: self.last,
            targets: reached.chain([from]).collect(),
            target_count: self.targets.len() as u64,
            evidence: vec![connects, self.protocol(), self.novelty(flow, context)],
            flows: self.flows.clone(),
            summary: format!(
                "is an SSH server on port {} by which {} reaches {listed}: {} connections, made as they were asked for",
                flow.resp_port, client.ip, self.count
            ),
        }
    }

    fn protocol(&self) -> Evidence {
        let bits = |port: u16| match port {
            22 => BITS_JUMP,
            _ if database_product(port).is_some() || TERMINALS.contains(&port) => BITS_HIDDEN,
            _ => 0.0,
        };
        let most = |most: f64, bits: f64| most.max(bits);
        let ports = self.targets.iter().map(|(_, port)| bits(*port));
        Evidence {
            feature: "relay.protocol",
            family: Family::Protocol,
            observed: self.targets.len() as f64,
            expected: "jump hosts lead to SSH servers".into(),
            bits: ports.fold(BITS_JUMP, most),
            signature_grade: false,
            text: "what is reached is inside SSH".into(),
        }
    }

    /// How new it is, by the baseline of the pod's workload, or by when the pod began to.
    fn novelty(&self, flow: &FlowInfo, context: &Context<'_>) -> Evidence {
        let evidence = |bits: f64, text: String| Evidence {
            feature: "relay.newness",
            family: Family::Novelty,
            observed: bits,
            expected: "a server from the start, or one with many clients".into(),
            bits,
            signature_grade: false,
            text,
        };
        let seen = context.debuts.seen(flow.resp.ip);
        let age = seen.map_or(Duration::ZERO, |seen| self.first.since(seen));
        if let Some(profile) = context.profile(&flow.resp) {
            let contact = context.peers.server_contact(flow);
            if contact.is_some_and(|contact| profile.knows(&contact)) {
                return evidence(BITS_LEARNED, "the baseline knows such clients of it".into());
            }
            let bits = profile.novelty_bits(Role::Server).max(lateness(age));
            let text = "such clients aren't in the workload's baseline".into();
            return evidence(bits.min(MOST_BITS_NOVEL), text);
        }
        let door = Callee::Address(flow.resp.ip, flow.resp_port);
        let crowd = if context.debuts.callers(&door) >= WELL_KNOWN {
            BITS_WELL_KNOWN
        } else {
            0.0
        };
        let secs = age.as_secs();
        let text = format!("first {secs} s after the pod was first seen");
        evidence(lateness(age) + crowd, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::testing::{Bench, end, pod};
    use crate::dissect::{SshMessage, Transaction};
    use crate::event::EventKind;
    use crate::flow::Direction::{self, Orig, Resp};
    use crate::flow::Outcome;
    use crate::identity::IdentityKind;

    /// A pod that has been there for `secs` serves SSH to somebody outside, who says `said` and is answered; if `connects`, the
    /// pod has called a database before.
    fn session(secs: f64, times: u32, said: &[u32], answered: &[u32], connects: bool) -> Bench {
        let (web, db) = (pod("10.244.1.7", "web"), pod("10.244.1.3", "db"));
        let outside = end("203.0.113.9", IdentityKind::External, None);
        let mut bench = Bench::new("relay-pivot");
        bench.tcp(
            0.0,
            (&web, &pod("10.244.1.8", "api")),
            80,
            Outcome::Answered,
            500,
        );
        let flow = bench.begin(secs, (&outside, &web), Protocol::Tcp, 2022);
        bench.says(secs, &flow, Transaction::Ssh(SshMessage::Encrypted));
        let mut now = secs;
        let mut turn = |bench: &mut Bench, direction: Direction, sizes: &[u32]| {
            now += 0.01;
            let time = Timestamp::from_secs_f64(now);
            let turn = Turn {
                direction,
                start: time,
                end: time,
                packets: sizes.len() as u32,
                bytes: sizes.iter().copied().map(u64::from).sum(),
                smallest: sizes.iter().copied().min().unwrap(),
                largest: sizes.iter().copied().max().unwrap(),
            };
            let flow = Arc::clone(&flow);
            bench.event(now, EventKind::Turn { flow, turn });
            now += 2.0;
            now
        };
        turn(&mut bench, Orig, &[308]);
        turn(&mut bench, Resp, &[28]);
        for _ in 0..times {
            let asked = turn(&mut bench, Orig, said) - 2.0;
            if connects {
                bench.begin(asked + 0.5, (&web, &db), Protocol::Tcp, 5432);
            }
            turn(&mut bench, Resp, answered);
        }
        bench
    }

    #[test]
    fn a_database_reached_through_an_ssh_server_in_a_pod() {
        let bench = session(30.0, 5, &[108], &[44], true);
        assert!(bench.alerts(), "{} bits", bench.bits());
        let last = bench.findings.last().unwrap();
        assert_eq!(last.actor.ip.to_string(), "10.244.1.7");
        assert!(last.summary.contains("10.244.1.3:5432"));
        // Somebody who greets first comes with the yes.
        let bench = session(30.0, 5, &[108], &[44, 140], true);
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn sessions_and_jump_hosts_are_left_alone() {
        // Typing, and output as long as a yes.
        let bench = session(30.0, 20, &[36], &[44], true);
        assert!(!bench.alerts(), "too short for a request");
        let bench = session(30.0, 20, &[108], &[28], true);
        assert!(!bench.alerts(), "no yes");
        let bench = session(30.0, 20, &[108], &[44], false);
        assert!(!bench.alerts(), "called nobody");
        let bench = session(1.0, 20, &[108], &[44], true);
        assert!(!bench.alerts(), "a jump host from the start");
    }
}
