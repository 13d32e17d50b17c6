//! A pod that sends, and where it sends to: what is known of both.

use std::sync::Arc;

use crate::detectors::{Evidence, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::time::Timestamp;

/// Questions that make a pod one that is there to answer others.
const SERVES_FROM: u64 = 2;

/// What is known of a pod besides where it sends to.
#[derive(Default)]
pub(super) struct Source {
    /// Destinations it has had.
    pub(super) destinations: u64,
    /// Questions of others that it is there to answer: not those of nodes and monitors, nor statements to a database.
    pub(super) asked: u64,
    /// Bytes that those brought, fading.
    pub(super) brought: f64,
    pub(super) brought_at: Timestamp,
}

impl Source {
    pub(super) fn serves(&self) -> bool {
        self.asked >= SERVES_FROM
    }
}

pub(super) struct Destination {
    pub(super) actor: Endpoint,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) up: f64,
    pub(super) down: f64,
    pub(super) surprise: Evidence,
    /// That no name led there.
    pub(super) bare: Option<Evidence>,
    pub(super) domain: Option<Arc<str>>,
    /// Whether it was called by the name of an object store, and by no other.
    pub(super) store: Option<bool>,
    /// Files that it was asked to take, and did.
    pub(super) stored: u64,
    /// Of those, files that somebody stored by hand.
    pub(super) by_hand: u64,
    /// Whether a connection there carried nothing but bytes in no known protocol, one way.
    pub(super) raw: bool,
    /// Whether the pod was first seen when it began to send there.
    pub(super) from_the_start: bool,
    /// How often something was sent there, and how much at once.
    pub(super) times: u64,
    pub(super) largest: u64,
    pub(super) target: Target,
    pub(super) flows: Vec<Arc<FlowInfo>>,
    /// Bytes up when it was last reported.
    pub(super) reported: f64,
}
