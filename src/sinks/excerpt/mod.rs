//! The packets of an alert's flows, as a pcapng file that names the pods: what an analyst opens first.
//!
//! An [`Excerpt`] is the file in the making, bounded in bytes; [`PacketRing`] has the packets of a live run from shortly before;
//! [`ExcerptFolder`] keeps the files, and as many of them as there is room for.

mod folder;
mod pcapng;
mod ring;

use std::fmt::Write;

use crate::alert::{Alert, subject_of_sentence};
use crate::capture::{Frame, LinkType};
use crate::event::{Endpoint, FlowInfo};
use crate::flow::{FlowId, Protocol};

pub use folder::ExcerptFolder;
pub use ring::PacketRing;

/// Bytes of a file at most; each of its flows has an equal share.
const MAX_BYTES: usize = 2 << 20;
/// Bytes kept of a packet: what tells its story are its first ones.
pub(super) const SNAPLEN: usize = 2048;
/// Interfaces in one file. Of further ones the packets are left out.
const MAX_INTERFACES: usize = 256;

/// The packets of an alert's flows.
#[derive(Clone, Debug)]
pub struct Excerpt {
    alert: String,
    about: String,
    flows: Vec<Followed>,
    interfaces: Vec<(u32, LinkType)>,
    blocks: Vec<u8>,
    packets: u64,
    left_out: u64,
    /// How far the ring was searched.
    searched: u64,
}

#[derive(Clone, Debug)]
struct Followed {
    id: FlowId,
    comment: String,
    bytes: usize,
}

impl Excerpt {
    /// One without packets yet; none for an alert without flows, as one of ARP is.
    pub fn of(alert: &Alert) -> Option<Self> {
        let flows = alert.flows.iter().map(|flow| Followed {
            id: flow.info.id,
            comment: comment(&flow.info),
            bytes: 0,
        });
        let mut flows: Vec<Followed> = flows.collect();
        flows.sort_by_key(|flow| flow.id);
        flows.dedup_by_key(|flow| flow.id);
        let summary = alert.summary.trim().trim_end_matches('.');
        let signature = &alert.signature.id;
        let severity = alert.severity.label();
        let actor = subject_of_sentence(&alert.actor);
        (!flows.is_empty()).then(|| Self {
            alert: alert.id.clone(),
            about: format!("{severity} {signature} {}: {actor} {summary}.", alert.id),
            flows,
            interfaces: Vec::new(),
            blocks: Vec::new(),
            packets: 0,
            left_out: 0,
            searched: 0,
        })
    }

    /// The alert's id.
    pub fn alert(&self) -> &str {
        &self.alert
    }

    /// The flows whose packets are wanted.
    pub fn flows(&self) -> impl Iterator<Item = FlowId> {
        self.flows.iter().map(|flow| flow.id)
    }

    /// Packets in it.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes a packet if it is one of its flows', and there is room.
    pub fn push(&mut self, frame: &Frame<'_>, flow: FlowId) {
        let share = MAX_BYTES / self.flows.len().max(1);
        let Ok(at) = self.flows.binary_search_by_key(&flow, |flow| flow.id) else {
            return;
        };
        let Some(followed) = self.flows.get_mut(at) else {
            return;
        };
        let data = frame.data.get(..SNAPLEN).unwrap_or(frame.data);
        let source = (frame.interface, frame.link);
        let known = self.interfaces.iter().position(|&one| one == source);
        let interface = known.unwrap_or(self.interfaces.len());
        let cost = pcapng::packet_len(data.len(), &followed.comment);
        if followed.bytes + cost > share || interface >= MAX_INTERFACES {
            self.left_out += 1;
            return;
        }
        if known.is_none() {
            self.interfaces.push(source);
            pcapng::interface(&mut self.blocks, frame.link);
        }
        followed.bytes += cost;
        self.packets += 1;
        let frame = Frame { data, ..*frame };
        pcapng::packet(&mut self.blocks, interface, &frame, &followed.comment);
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        let mut about = self.about.clone();
        if self.left_out > 0 {
            // A string takes everything.
            write!(about, " {} more packets had no room here.", self.left_out).ok();
        }
        let mut file = Vec::with_capacity(self.blocks.len() + about.len() + 64);
        pcapng::section(&mut file, &about);
        file.extend_from_slice(&self.blocks);
        file
    }
}

/// Who spoke with whom.
fn comment(flow: &FlowInfo) -> String {
    let ported = !matches!(flow.protocol, Protocol::Icmp | Protocol::Icmpv6);
    let end = |end: &Endpoint, port: u16| {
        let mut at = end.ip.to_string();
        if ported {
            at = std::net::SocketAddr::new(end.ip, port).to_string();
        }
        let who = &end.who.identity;
        match (&who.namespace, &who.name) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name} ({at})"),
            (None, Some(name)) => format!("{name} ({at})"),
            (_, None) => at,
        }
    };
    let (orig, resp) = (
        end(&flow.orig, flow.orig_port),
        end(&flow.resp, flow.resp_port),
    );
    format!("{orig} → {resp}")
}
