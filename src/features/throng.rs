//! A throng: first contacts in vain from ever new addresses that never took part in a conversation.
//!
//! Whoever makes up the addresses that a scan comes from can make up thousands a second, each good for a contact or two, so
//! that no source ever tries enough to be one. But those who are really there have mostly said something before, and
//! hundreds of strangers don't come within seconds to fail at dozens of ends: servers that are down are few, however many
//! clients miss them. So strangers are counted together.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::contacts::{FirstContact, Member};
use crate::event::{Endpoint, FlowInfo};
use crate::time::Timestamp;

/// New strangers in so much time,
const MANY: u64 = 256;
const SOON: Duration = Duration::from_secs(10);
/// and ends that they failed at.
const MANY_ENDS: usize = 64;
/// So long after the last of them it is thought to go on.
const LINGERS: Duration = Duration::from_mins(5);
/// Ends and flows remembered.
const MAX_ENDS: usize = 512;
const MAX_SAMPLES: usize = 16;

/// Strangers that came together.
#[derive(Debug)]
pub struct Throng {
    /// The first of them.
    pub actor: Endpoint,
    /// When it came, and when the last did.
    pub first: Timestamp,
    /// The last contact of a new one.
    pub last: Timestamp,
    /// How many, those that were forgotten and came again counted again.
    pub sources: u64,
    /// What they failed at, the first few.
    pub ends: BTreeSet<Member>,
    /// The same, as an alert shows them.
    pub targets: Vec<(Endpoint, u16)>,
    /// Example flows.
    pub samples: Vec<Arc<FlowInfo>>,
    /// How many there were when it was told; 0 if it wasn't.
    pub told: u64,
    /// Since when the last few are counted, and how many they are.
    window: (Timestamp, u64),
    is_one: bool,
}

impl Throng {
    /// A first stranger.
    pub(super) fn new(actor: &Endpoint, time: Timestamp) -> Self {
        Self {
            actor: actor.clone(),
            first: time,
            last: time,
            sources: 0,
            ends: BTreeSet::new(),
            targets: Vec::new(),
            samples: Vec::new(),
            told: 0,
            window: (time, 0),
            is_one: false,
        }
    }

    /// One more stranger makes a first contact, in vain. `None` if it comes too late to be of these.
    pub(super) fn join(&mut self, contact: &FirstContact<'_>) -> Option<()> {
        let (since, count) = &mut self.window;
        if contact.time.since(*since) > SOON {
            let patience = if self.is_one { LINGERS } else { SOON };
            if !self.is_one || contact.time.since(self.last) > patience {
                return None;
            }
            (*since, *count) = (contact.time, 0);
        }
        *count += 1;
        self.sources += 1;
        self.last = self.last.max(contact.time);
        let (_, port) = contact.member;
        if self.ends.len() < MAX_ENDS
            && self.ends.insert(contact.member)
            && self.targets.len() < MAX_SAMPLES
        {
            self.targets.push((contact.target.clone(), port));
        }
        if let Some(flow) = contact.flow
            && self.samples.len() < MAX_SAMPLES
        {
            self.samples.push(Arc::clone(flow));
        }
        self.is_one |= self.window.1 >= MANY && self.ends.len() >= MANY_ENDS;
        Some(())
    }

    /// Whether so many came so soon that it isn't chance, and may be coming yet.
    pub fn is_here(&self, now: Timestamp) -> bool {
        self.is_one && now.since(self.last) <= LINGERS
    }

    /// Different ends of those remembered: hosts, and ports.
    pub fn breadth(&self) -> (usize, usize) {
        let hosts: BTreeSet<IpAddr> = self.ends.iter().map(|(ip, _)| *ip).collect();
        let ports: BTreeSet<u16> = self.ends.iter().map(|(_, port)| *port).collect();
        (hosts.len(), ports.len())
    }
}
