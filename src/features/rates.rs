//! How much of something a pod does per minute: one number per pod, rate and minute of packet time.
//!
//! A number belongs to a pod's minute and not to its workload's, so that scaling a workload changes nothing: ten
//! replicas give ten samples a minute, each as large as before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::dissect::{DatabaseEvent, Transaction};
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::features::{DomainName, PeerClass, Role, information_bits};
use crate::flow::{Outcome, Protocol};
use crate::identity::WorkloadId;
use crate::time::Timestamp;

/// A windowed rate: per pod and minute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rate {
    /// Payload bytes sent to addresses outside the cluster, counted when the flow ends.
    BytesOut,
    /// Payload bytes sent to servers inside the cluster, counted when the flow ends.
    BytesInside,
    /// Payload bytes received from servers outside the cluster, counted when the flow ends.
    BytesBack,
    /// DNS queries sent.
    DnsQueries,
    /// Bits of information in the parts of queried names below the registered domain.
    DnsSubdomainBits,
    /// Flows begun that were refused, unreachable or left without answer.
    FailedFlows,
    /// Flows begun.
    Flows,
    /// Different addresses that flows were begun to.
    Hosts,
    /// Different ports of TCP and UDP that flows were begun to.
    Ports,
    /// Packets sent and received in conversations that it began, DNS apart, counted as they are.
    Packets,
    /// HTTP requests sent.
    Requests,
    /// Statements sent to databases.
    Statements,
    /// Bytes of rows and values received from databases.
    ResultBytes,
    /// Logins of its own that databases refused.
    FailedLogins,
    /// Flows of others that reached it.
    ServedFlows,
    /// Different addresses whose flows reached it.
    ServedHosts,
    /// Payload bytes sent to clients, counted when the flow ends.
    ServedBytes,
    /// Logins of others that it refused, as a database.
    ServedFailedLogins,
}

/// A row of the table.
struct Row {
    rate: Rate,
    name: &'static str,
    role: Role,
    /// What is too little to matter, whatever was seen before.
    floor: f64,
}

const fn row(rate: Rate, name: &'static str, role: Role, floor: f64) -> Row {
    Row {
        rate,
        name,
        role,
        floor,
    }
}

/// The table, in the order of the variants.
const ROWS: &[Row] = &[
    row(
        Rate::BytesOut,
        "flow.bytes_out_per_min",
        Role::Client,
        65_536.0,
    ),
    row(
        Rate::BytesInside,
        "flow.bytes_inside_per_min",
        Role::Client,
        262_144.0,
    ),
    row(
        Rate::BytesBack,
        "flow.bytes_back_per_min",
        Role::Client,
        1_048_576.0,
    ),
    row(Rate::DnsQueries, "dns.queries_per_min", Role::Client, 30.0),
    row(
        Rate::DnsSubdomainBits,
        "dns.subdomain_bits_per_min",
        Role::Client,
        500.0,
    ),
    row(Rate::FailedFlows, "flow.failed_per_min", Role::Client, 5.0),
    row(Rate::Flows, "flow.count_per_min", Role::Client, 20.0),
    row(Rate::Hosts, "flow.hosts_per_min", Role::Client, 5.0),
    row(Rate::Ports, "flow.ports_per_min", Role::Client, 5.0),
    row(Rate::Packets, "flow.packets_per_min", Role::Client, 2000.0),
    row(Rate::Requests, "http.requests_per_min", Role::Client, 30.0),
    row(
        Rate::Statements,
        "db.statements_per_min",
        Role::Client,
        30.0,
    ),
    row(
        Rate::ResultBytes,
        "db.result_bytes_per_min",
        Role::Client,
        65_536.0,
    ),
    row(
        Rate::FailedLogins,
        "db.failed_logins_per_min",
        Role::Client,
        3.0,
    ),
    row(
        Rate::ServedFlows,
        "served.count_per_min",
        Role::Server,
        30.0,
    ),
    row(Rate::ServedHosts, "served.hosts_per_min", Role::Server, 5.0),
    row(
        Rate::ServedBytes,
        "served.bytes_per_min",
        Role::Server,
        1_048_576.0,
    ),
    row(
        Rate::ServedFailedLogins,
        "served.failed_logins_per_min",
        Role::Server,
        5.0,
    ),
];

const RATES: usize = ROWS.len();

impl Rate {
    /// Every rate.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ROWS.iter().map(|row| row.rate)
    }

    /// The dotted name used in stored baselines and evidence.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// The rate of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        ROWS.iter().find(|row| row.name == name).map(|row| row.rate)
    }

    /// Which end of the conversations it counts.
    pub fn role(self) -> Role {
        self.row().map_or(Role::Client, |row| row.role)
    }

    /// What is too little to matter, whatever was seen before: a pod that always had three peers and now has four does
    /// nothing remarkable.
    pub fn floor(self) -> f64 {
        self.row().map_or(1.0, |row| row.floor)
    }

    fn row(self) -> Option<&'static Row> {
        ROWS.get(self as usize)
    }
}

/// One pod's number for one minute.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The pod's workload.
    pub workload: &'a WorkloadId,
    /// The pod's address.
    pub pod: IpAddr,
    /// The minute's start.
    pub minute: Timestamp,
    /// What was counted.
    pub rate: Rate,
    /// How much.
    pub value: f64,
}

const MINUTE: i64 = 60_000_000_000;
/// Pods counted in one minute; an attacker can't make up more than the inventory names.
const MAX_PODS: usize = 100_000;
/// Different addresses or ports told apart per pod and minute; more is as much.
const MAX_DISTINCT: usize = 1024;
/// The same over all pods.
const MAX_DISTINCT_IN_ALL: usize = 1 << 18;

/// Counts events of the current minute, and yields the minute's numbers when it is over.
#[derive(Debug, Default)]
pub struct RateWindows {
    minute: Option<i64>,
    /// An address may change hands within a minute.
    pods: BTreeMap<IpAddr, Vec<Pod>>,
    distinct: usize,
}

#[derive(Debug)]
struct Pod {
    workload: WorkloadId,
    counts: [f64; RATES],
    hosts: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    clients: BTreeSet<IpAddr>,
}

impl RateWindows {
    /// Takes an event. When it begins a new minute, the past one's numbers go to `out` first, pod by pod, a zero for
    /// each rate that a pod seen in that minute did not show.
    pub fn observe(&mut self, event: &Event, out: impl FnMut(&Sample<'_>)) {
        let minute = event.time.nanos().div_euclid(MINUTE);
        if self.minute.is_some_and(|current| minute > current) {
            self.flush(out);
        }
        // Events that come late are counted where they arrive.
        self.minute = Some(self.minute.map_or(minute, |current| current.max(minute)));
        match &event.kind {
            EventKind::FlowOpened(flow) => self.opened(flow),
            EventKind::FlowOutcome { flow, outcome } if *outcome != Outcome::Answered => {
                self.add(&flow.orig, Rate::FailedFlows, 1.0);
            }
            EventKind::Transaction { flow, transaction } => self.said(flow, transaction),
            EventKind::Turn { flow, turn } => {
                self.add(&flow.orig, Rate::Packets, f64::from(turn.packets));
            }
            EventKind::FlowEnded { flow, record } => {
                let [there, back] = record.payload_bytes;
                match PeerClass::of(&flow.resp) {
                    PeerClass::Outside => {
                        self.add(&flow.orig, Rate::BytesOut, there as f64);
                        self.add(&flow.orig, Rate::BytesBack, back as f64);
                    }
                    PeerClass::Inside | PeerClass::Node => {
                        self.add(&flow.orig, Rate::BytesInside, there as f64);
                    }
                }
                self.add(&flow.resp, Rate::ServedBytes, back as f64);
            }
            _ => {}
        }
    }

    /// Ends the current minute.
    pub fn flush(&mut self, mut out: impl FnMut(&Sample<'_>)) {
        let start = self.minute.unwrap_or_default().saturating_mul(MINUTE);
        for (&address, pods) in &std::mem::take(&mut self.pods) {
            for pod in pods {
                for (row, value) in ROWS.iter().zip(pod.counts) {
                    let value = match row.rate {
                        Rate::Hosts => pod.hosts.len() as f64,
                        Rate::Ports => pod.ports.len() as f64,
                        Rate::ServedHosts => pod.clients.len() as f64,
                        _ => value,
                    };
                    out(&Sample {
                        workload: &pod.workload,
                        pod: address,
                        minute: Timestamp::from_nanos(start),
                        rate: row.rate,
                        value,
                    });
                }
            }
        }
        self.distinct = 0;
    }

    fn opened(&mut self, flow: &FlowInfo) {
        self.add(&flow.orig, Rate::Flows, 1.0);
        self.add(&flow.resp, Rate::ServedFlows, 1.0);
        let room = self.distinct < MAX_DISTINCT_IN_ALL;
        let mut new = 0;
        if let Some(pod) = self.pod(&flow.orig) {
            new += note(&mut pod.hosts, flow.resp.ip, room);
            if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) {
                new += note(&mut pod.ports, flow.resp_port, room);
            }
        }
        if let Some(pod) = self.pod(&flow.resp) {
            new += note(&mut pod.clients, flow.orig.ip, room);
        }
        self.distinct += new;
    }

    fn said(&mut self, flow: &FlowInfo, transaction: &Transaction) {
        match transaction {
            Transaction::Dns(message) if !message.response => {
                self.add(&flow.orig, Rate::DnsQueries, 1.0);
                if let Some(name) = DomainName::split(&message.name) {
                    let bits = information_bits(name.left);
                    self.add(&flow.orig, Rate::DnsSubdomainBits, bits);
                }
            }
            Transaction::HttpRequest(_) => self.add(&flow.orig, Rate::Requests, 1.0),
            Transaction::Database(message) => match &message.event {
                DatabaseEvent::Statement { .. } => self.add(&flow.orig, Rate::Statements, 1.0),
                DatabaseEvent::Result { bytes, .. } => {
                    self.add(&flow.orig, Rate::ResultBytes, *bytes as f64);
                }
                DatabaseEvent::LoginResult { success: false, .. } => {
                    self.add(&flow.orig, Rate::FailedLogins, 1.0);
                    self.add(&flow.resp, Rate::ServedFailedLogins, 1.0);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn add(&mut self, end: &Endpoint, rate: Rate, amount: f64) {
        if let Some(pod) = self.pod(end)
            && let Some(count) = pod.counts.get_mut(rate as usize)
        {
            *count += amount;
        }
    }

    fn pod(&mut self, end: &Endpoint) -> Option<&mut Pod> {
        let workload = end.who.identity.workload.as_ref()?;
        let room = self.pods.len() < MAX_PODS;
        if !room && !self.pods.contains_key(&end.ip) {
            return None;
        }
        let pods = self.pods.entry(end.ip).or_default();
        let at = pods.iter().position(|pod| pod.workload == *workload);
        let at = at.unwrap_or_else(|| {
            pods.push(Pod {
                workload: workload.clone(),
                counts: [0.0; RATES],
                hosts: BTreeSet::new(),
                ports: BTreeSet::new(),
                clients: BTreeSet::new(),
            });
            pods.len() - 1
        });
        pods.get_mut(at)
    }
}

/// Notes a member of a set, if there is room. How many members that made.
fn note<T: Ord>(set: &mut BTreeSet<T>, member: T, room: bool) -> usize {
    usize::from(room && set.len() < MAX_DISTINCT && set.insert(member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.rate as usize, at, "{}", row.name);
            assert_eq!(Rate::from_name(row.name), Some(row.rate));
            assert!(row.floor >= 1.0);
        }
    }

    #[test]
    fn a_set_grows_to_its_bound_only() {
        let mut set = BTreeSet::new();
        let grown: usize = (0..5000).map(|n| note(&mut set, n, true)).sum();
        assert_eq!((set.len(), grown), (MAX_DISTINCT, MAX_DISTINCT));
        assert_eq!(note(&mut set, 0, true), 0);
        assert_eq!(note(&mut BTreeSet::new(), 0, false), 0);
    }
}
