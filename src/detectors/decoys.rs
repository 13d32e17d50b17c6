//! Decoys: one scan that comes from many addresses.
//!
//! A scanner that hides sends each probe again from addresses it made up, so that whoever watches sees many scanners. But
//! they all touch the same ends at the same moments, which scanners that don't know of one another never do. So they are
//! told as one: by the pod among them, for a pod's address is lived at; else by the first. A pod is taken for a decoy only if
//! its probes came from another Ethernet address than its own, and from that of who scans. (Where the network routes, all come
//! from the router's, and nothing is told by it.)

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::{Context, Evidence, Family};
use crate::address::Mac;
use crate::features::{ContactLines, Line, Member, Source, SourceKey};
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Scans remembered, to find later ones that are the same.
const MAX_SCANS: usize = 64;
/// Ends compared.
const MAX_PROBES: usize = 512;
/// With fewer there is no telling.
const MIN_PROBES: usize = 4;
/// Shares of the lesser's ends that both must have touched.
const SAME: f64 = 0.8;
/// How far apart they may begin.
const TOGETHER: Duration = Duration::from_secs(2);
/// Decoys remembered of a scan, and shown.
const MAX_DECOYS: usize = 1024;
const MAX_SHOWN: usize = 8;
/// Strangers that begin to try the same ends within two seconds.
const BITS_DECOYS: f64 = 10.0;

/// Scans by what they touch and when.
#[derive(Debug, Default)]
pub(super) struct Decoys {
    scans: VecDeque<Scan>,
}

#[derive(Debug)]
struct Scan {
    by: SourceKey,
    is_pod: bool,
    /// The Ethernet address that its probes came from, and the one at which it lives.
    sender: Option<Mac>,
    home: Option<Mac>,
    began: Timestamp,
    probes: BTreeSet<Member>,
    decoys: BTreeSet<IpAddr>,
}

impl Scan {
    fn of<K>(key: &SourceKey, source: &Source<K>, context: &Context<'_>) -> Option<Self> {
        let lines = || source.lines.values();
        let known = lines().map(|line| line.first).min()?;
        let samples = || lines().flat_map(|line| &line.samples);
        // Silence is known late: when the first probe was sent is what counts.
        let sent = samples().map(|flow| flow.start);
        Some(Self {
            by: key.clone(),
            is_pod: source.actor.who.identity.kind == IdentityKind::Pod,
            sender: samples().next().and_then(|flow| flow.sender),
            home: context.acquaintances.home(source.actor.ip),
            began: sent.min().unwrap_or(known),
            probes: lines().flat_map(Line::guesses).take(MAX_PROBES).collect(),
            decoys: BTreeSet::new(),
        })
    }

    /// Whether the probes came from where their address doesn't live.
    fn is_made_up(&self) -> bool {
        matches!((self.sender, self.home), (Some(sender), Some(home)) if sender != home)
    }

    /// Whether a pod's probes were sent by who made this scan.
    fn sent(&self, other: &Self) -> bool {
        !self.is_made_up() && other.is_made_up() && self.sender == other.sender
    }

    /// Whether `other` is one with this scan, and not who makes it.
    fn is_decoyed_by(&self, other: &Self) -> bool {
        let apart = if self.began > other.began {
            self.began.since(other.began)
        } else {
            other.began.since(self.began)
        };
        let fewer = self.probes.len().min(other.probes.len());
        (!other.is_pod || self.sent(other))
            && apart <= TOGETHER
            && fewer >= MIN_PROBES
            && self.probes.intersection(&other.probes).count() as f64 >= SAME * fewer as f64
    }
}

impl Decoys {
    /// Of sources that are due to be told, those that are no decoys of another one's scan.
    pub(super) fn told<K: Ord + Copy>(
        &mut self,
        due: Vec<SourceKey>,
        lines: &mut ContactLines<K>,
        context: &Context<'_>,
    ) -> Vec<SourceKey> {
        let scan = |key: SourceKey| {
            let scan = lines
                .source(&key)
                .and_then(|source| Scan::of(&key, source, context));
            (key, scan)
        };
        let (pods, others): (Vec<_>, Vec<_>) = due.into_iter().map(scan).partition(|(_, scan)| {
            let lives = |scan: &Scan| scan.is_pod && !scan.is_made_up();
            scan.as_ref().is_some_and(lives)
        });
        let mut told = Vec::new();
        for (key, scan) in pods.into_iter().chain(others) {
            if scan.is_none_or(|scan| self.is_own(scan)) {
                told.push(key);
            }
        }
        told
    }

    /// Remembers a scan, unless it is another's decoy.
    fn is_own(&mut self, scan: Scan) -> bool {
        if let Some(before) = self.scans.iter_mut().find(|before| before.by == scan.by) {
            before.probes = scan.probes;
            return true;
        }
        if let Some(real) = self.scans.iter_mut().find(|real| real.is_decoyed_by(&scan)) {
            if real.decoys.len() < MAX_DECOYS {
                real.decoys.insert(scan.by.0);
            }
            return false;
        }
        if self.scans.len() >= MAX_SCANS {
            self.scans.pop_front();
        }
        self.scans.push_back(scan);
        true
    }

    /// What is told of the decoys of a source's scan.
    pub(super) fn evidence(&self, by: &SourceKey) -> Option<Evidence> {
        let scan = self.scans.iter().find(|scan| scan.by == *by)?;
        let count = scan.decoys.len();
        if count == 0 {
            return None;
        }
        let shown: Vec<String> = scan
            .decoys
            .iter()
            .take(MAX_SHOWN)
            .map(ToString::to_string)
            .collect();
        let more = if count > shown.len() { ", …" } else { "" };
        Some(Evidence {
            feature: "scan.decoys",
            family: Family::Deception,
            observed: count as f64,
            expected: "0: nobody else tries the same at the same moments".into(),
            bits: BITS_DECOYS,
            signature_grade: false,
            text: format!(
                "the same was tried at the same moments from {count} more {}, as decoys: {}{more}",
                if count == 1 { "address" } else { "addresses" },
                shown.join(", ")
            ),
        })
    }
}
