//! Whom a flow really reaches: the workload, service or domain behind an address, so that a baseline outlives addresses.

use std::net::IpAddr;
use std::sync::Arc;

use super::{ClusterName, DomainName, Interner, Lately};
use crate::dissect::{DnsAnswer, Transaction};
use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::flow::Protocol;
use crate::identity::{IdentityKind, WorkloadId};
use crate::memory::Share;

/// DNS answers remembered, per client and address.
const MAX_ANSWERS: usize = 1 << 16;

/// Which end of a conversation a workload was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// It began.
    Client,
    /// It was addressed.
    Server,
}

impl Role {
    /// The word used in stored baselines and alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Where the other end of a conversation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerClass {
    /// In the cluster: a workload, a service, a private address that nobody knows.
    Inside,
    /// A node's own address.
    Node,
    /// Anywhere else.
    Outside,
}

impl PeerClass {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Inside, Self::Node, Self::Outside];

    /// The word used in stored baselines and sentences.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Node => "node",
            Self::Outside => "outside",
        }
    }

    /// Where an end is.
    pub fn of(end: &Endpoint) -> Self {
        match end.who.identity.kind {
            IdentityKind::External => Self::Outside,
            IdentityKind::Node => Self::Node,
            _ => Self::Inside,
        }
    }
}

/// One workload's side of a conversation, in terms that survive rollouts and address changes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Contact {
    /// Which side the workload was.
    pub role: Role,
    /// Who the other side was: `prod/Deployment/api`, `service:prod/web`, `domain:example.com`, `net:203.0.113.0/24`,
    /// `node`, `ip:10.244.1.99`.
    pub peer: Arc<str>,
    /// The server's port; 0 for protocols without.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
}

/// Remembers which names led clients to which addresses, and names the ends of flows by them.
#[derive(Debug)]
pub struct PeerNamer {
    /// (client, address it was told) → registered domain.
    answers: Lately<Arc<str>>,
    /// Clients that were told any address, be it of a service inside.
    askers: Lately,
    /// Those of them that were told one by a name outside.
    seekers: Lately,
    /// Clients that were told where a service of the cluster's is, by its name.
    insiders: Lately,
    domains: Interner,
}

impl Default for PeerNamer {
    fn default() -> Self {
        Self::within(Share::WHOLE)
    }
}

impl PeerNamer {
    /// No answer seen yet, and no more remembered than a share of memory allows.
    pub fn within(share: Share) -> Self {
        let max = share.part(MAX_ANSWERS);
        Self {
            answers: Lately::new(max),
            askers: Lately::new(max),
            seekers: Lately::new(max),
            insiders: Lately::new(max),
            domains: Interner::default(),
        }
    }

    /// Learns from DNS answers.
    pub fn observe(&mut self, event: &Event) {
        let EventKind::Transaction {
            flow,
            transaction: Transaction::Dns(message),
        } = &event.kind
        else {
            return;
        };
        if !message.response {
            return;
        }
        let addresses = || {
            message.answers.iter().filter_map(|answer| match answer {
                DnsAnswer::Address(ip) => Some(*ip),
                DnsAnswer::Alias(_) => None,
            })
        };
        if addresses().next().is_none() {
            return;
        }
        self.askers.put(&flow.orig.ip, ());
        if ClusterName::parse(&message.name).is_some_and(|name| !name.wildcard) {
            self.insiders.put(&flow.orig.ip, ());
        }
        let Some(site) = DomainName::site(&message.name) else {
            return;
        };
        self.seekers.put(&flow.orig.ip, ());
        let domain = self.domains.intern(site);
        for ip in addresses() {
            self.answers.put(&(flow.orig.ip, ip), Arc::clone(&domain));
        }
    }

    /// The registered domain by which `client` was told of `address`.
    pub fn domain(&self, client: IpAddr, address: IpAddr) -> Option<&Arc<str>> {
        self.answers.get(&(client, address))
    }

    /// Whether a client was seen to find addresses by DNS.
    pub fn asks(&self, client: IpAddr) -> bool {
        self.askers.contains(&client)
    }

    /// Whether a client was seen to find addresses outside by DNS.
    pub fn asks_outside(&self, client: IpAddr) -> bool {
        self.seekers.contains(&client)
    }

    /// Whether a client was seen to find the cluster's services by their names, as hardly anybody but pods does.
    pub fn finds_services(&self, client: IpAddr) -> bool {
        self.insiders.contains(&client)
    }

    /// The originator's side of a flow, if it is a workload's.
    pub fn client_contact(&self, flow: &FlowInfo) -> Option<Contact> {
        workload(&flow.orig)?;
        // A service's name says more than the address of a backend that nobody knows.
        let called = match &flow.service {
            Some(service) if workload(&flow.resp).is_none() => &service.0,
            _ => &flow.resp,
        };
        Some(Contact {
            role: Role::Client,
            peer: self.name(&flow.orig, called),
            port: server_port(flow),
            protocol: flow.protocol.number(),
        })
    }

    /// The responder's side of a flow, if it is a workload's.
    pub fn server_contact(&self, flow: &FlowInfo) -> Option<Contact> {
        workload(&flow.resp)?;
        Some(Contact {
            role: Role::Server,
            // Who comes from outside is the world's choice, not the workload's.
            peer: if flow.orig.who.identity.kind == IdentityKind::External {
                "external".into()
            } else {
                self.name(&flow.resp, &flow.orig)
            },
            port: server_port(flow),
            protocol: flow.protocol.number(),
        })
    }

    /// The network that a client's contact outside is in, where it has a better name: by it the contact is known again
    /// when the name isn't seen, for its look-up was before the capture began.
    pub fn client_network(&self, flow: &FlowInfo) -> Option<Contact> {
        workload(&flow.orig)?;
        if flow.resp.who.identity.kind != IdentityKind::External {
            return None;
        }
        self.domain(flow.orig.ip, flow.resp.ip)?;
        Some(Contact {
            role: Role::Client,
            peer: network_name(flow.resp.ip).into(),
            port: server_port(flow),
            protocol: flow.protocol.number(),
        })
    }

    /// What `me` knows `other` by, as in [`Contact::peer`].
    pub fn name(&self, me: &Endpoint, other: &Endpoint) -> Arc<str> {
        let identity = &other.who.identity;
        if let Some(workload) = &identity.workload {
            return workload.to_string().into();
        }
        match identity.kind {
            IdentityKind::Node => "node".into(),
            IdentityKind::Service => {
                let namespace = identity.namespace.as_deref().unwrap_or_default();
                let name = identity.name.as_deref().unwrap_or("?");
                format!("service:{namespace}/{name}").into()
            }
            IdentityKind::External => match self.domain(me.ip, other.ip) {
                Some(domain) => format!("domain:{domain}").into(),
                None => network_name(other.ip).into(),
            },
            IdentityKind::Pod | IdentityKind::Unknown => format!("ip:{}", other.ip).into(),
        }
    }
}

fn server_port(flow: &FlowInfo) -> u16 {
    match flow.protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => flow.resp_port,
        _ => 0,
    }
}

fn workload(end: &Endpoint) -> Option<&WorkloadId> {
    end.who.identity.workload.as_ref()
}

/// What an outside address without a better name is called: the /24 or /48 it is in, for clouds move services about inside
/// such blocks.
pub fn network_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("net:{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("net:{a:x}:{b:x}:{c:x}::/48")
        }
    }
}
