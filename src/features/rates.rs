//! How much of something happens per minute: one number per workload, rate and minute of packet time.

use std::collections::BTreeMap;

use crate::dissect::Transaction;
use crate::event::{Event, EventKind, FlowInfo};
use crate::features::{DomainName, information_bits};
use crate::flow::Outcome;
use crate::identity::{IdentityKind, WorkloadId};

/// A windowed rate. Units are per minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rate {
    /// Flows begun.
    Flows,
    /// Flows begun that were refused, unreachable or left without answer.
    FailedFlows,
    /// DNS queries sent.
    DnsQueries,
    /// Bits of information in the parts of queried names below the registered domain.
    DnsSubdomainBits,
    /// Payload bytes sent to addresses outside the cluster, counted when the flow ends.
    BytesOut,
}

impl Rate {
    /// Every rate, in the order of their names.
    pub const ALL: &[Self] = &[
        Self::BytesOut,
        Self::DnsQueries,
        Self::DnsSubdomainBits,
        Self::FailedFlows,
        Self::Flows,
    ];

    /// The dotted name used in stored baselines and evidence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flow.count_per_min",
            Self::FailedFlows => "flow.failed_per_min",
            Self::DnsQueries => "dns.queries_per_min",
            Self::DnsSubdomainBits => "dns.subdomain_bits_per_min",
            Self::BytesOut => "flow.bytes_out_per_min",
        }
    }

    /// The rate of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rate| rate.name() == name)
    }
}

const MINUTE: i64 = 60_000_000_000;
/// Workloads counted in one minute; a cluster has fewer, an attacker may invent more.
const MAX_WORKLOADS: usize = 50_000;

/// Counts events of the current minute, and yields the minute's numbers when it is over.
#[derive(Debug, Default)]
pub struct RateWindows {
    minute: Option<i64>,
    counts: BTreeMap<WorkloadId, BTreeMap<Rate, f64>>,
}

impl RateWindows {
    /// Takes an event. When it begins a new minute, the past one's numbers go to `out` first, workload by workload, a
    /// zero for each rate that a workload seen in that minute did not show.
    pub fn observe(&mut self, event: &Event, out: impl FnMut(&WorkloadId, Rate, f64)) {
        let minute = event.time.nanos().div_euclid(MINUTE);
        if self.minute.is_some_and(|current| minute > current) {
            self.flush(out);
        }
        // Events that come late are counted where they arrive.
        self.minute = Some(self.minute.map_or(minute, |current| current.max(minute)));
        match &event.kind {
            EventKind::FlowOpened(flow) => self.add(flow, Rate::Flows, 1.0),
            EventKind::FlowOutcome { flow, outcome } if *outcome != Outcome::Answered => {
                self.add(flow, Rate::FailedFlows, 1.0);
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Dns(message),
            } if !message.response => {
                self.add(flow, Rate::DnsQueries, 1.0);
                if let Some(name) = DomainName::split(&message.name) {
                    self.add(flow, Rate::DnsSubdomainBits, information_bits(name.left));
                }
            }
            EventKind::FlowEnded { flow, record }
                if flow.resp.who.identity.kind == IdentityKind::External =>
            {
                let [out_bytes, _] = record.payload_bytes;
                self.add(flow, Rate::BytesOut, out_bytes as f64);
            }
            _ => {}
        }
    }

    /// Ends the current minute.
    pub fn flush(&mut self, mut out: impl FnMut(&WorkloadId, Rate, f64)) {
        for (workload, counts) in &std::mem::take(&mut self.counts) {
            for &rate in Rate::ALL {
                out(workload, rate, counts.get(&rate).copied().unwrap_or(0.0));
            }
        }
    }

    fn add(&mut self, flow: &FlowInfo, rate: Rate, amount: f64) {
        let Some(workload) = &flow.orig.who.identity.workload else {
            return;
        };
        if let Some(counts) = self.counts.get_mut(workload) {
            *counts.entry(rate).or_default() += amount;
        } else if self.counts.len() < MAX_WORKLOADS {
            self.counts
                .insert(workload.clone(), BTreeMap::from([(rate, amount)]));
        }
    }
}
