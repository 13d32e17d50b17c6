//! What each detector is shown: an attack, and an honest twin that looks much like it, both on an ordinary day.
//!
//! One file per detector, named like it. A case says what must be found; the catalogue turns cases into files.

pub mod arp_spoof;
pub mod beacon;
pub mod control_plane_probe;
pub mod cracking_rig;
pub mod credential_dump;
pub mod darknet;
pub mod db_abuse;
pub mod db_bruteforce;
pub mod db_bulk_read;
pub mod db_enumeration;
pub mod db_injection;
pub mod db_novel_client;
pub mod db_sweep;
pub mod demo;
pub mod dns_beacon;
pub mod dns_tunnel;
pub mod exfiltration;
pub mod host_sweep;
pub mod http_bruteforce;
pub mod http_tunnel;
pub mod icmp_tunnel;
pub mod intrusion;
pub mod lateral_login;
pub mod long_connection;
pub mod miner;
pub mod novel_peer;
pub mod policy_gap;
pub mod port_forward;
pub mod port_scan;
pub mod post_deployment;
pub mod rate_shift;
mod registry;
pub mod registry_pull;
pub mod registry_push;
pub mod relay_pivot;
pub mod resource_spike;
pub mod reverse_shell;
pub mod service_enumeration;
pub mod ssh_bruteforce;
pub mod ssh_tunnel;
pub mod tls_c2;
pub mod undeclared_port;
pub mod unknown_container;
pub mod vpn_tunnel;
pub mod web_shell;
pub mod websocket_tunnel;

use std::time::Duration;

use super::background;
use super::cluster::{Cluster, Pod};
use super::scene::Scene;
use crate::time::Timestamp;

/// How long the captures last.
pub const LENGTH: Duration = Duration::from_mins(3);

/// A detector's captures.
#[derive(Clone, Debug)]
pub struct Case {
    /// The detector's id, which names the folder too.
    pub id: &'static str,
    /// The captures.
    pub parts: Vec<Part>,
    /// What must be found in the attack.
    pub expect: Vec<Expect>,
}

/// One capture of a case.
#[derive(Clone, Debug)]
pub struct Part {
    /// `attack`, `benign` or `learn`: what it is for.
    pub role: &'static str,
    /// The capture's file name.
    pub file: &'static str,
    /// What goes on in it.
    pub story: &'static str,
    /// The seed it grows from.
    pub seed: u64,
    /// Writes it.
    pub record: fn(u64) -> Vec<u8>,
    /// Who is who in it.
    pub inventory: Inventory,
}

/// What goes beside a capture to tell who is who.
#[derive(Clone, Debug)]
pub enum Inventory {
    /// The list that most captures share.
    Shared,
    /// A list of the case's own.
    List(Cluster),
    /// The case's own watch events: pods come and go, and none that was deleted is in a list any more.
    Watch(Cluster),
}

/// An alert that must come.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The signature.
    pub signature: &'static str,
    /// Its category.
    pub category: &'static str,
    /// The pod that does it.
    pub pod: String,
    /// Its workload, as `namespace/Kind/name`.
    pub workload: String,
    /// When it begins, from the capture's first moment.
    pub begins: Duration,
    /// How long after that the alert may take at most.
    pub within: Duration,
    /// How many targets it must name at least.
    pub targets: u64,
}

impl Expect {
    fn new(signature: &'static str, category: &'static str, actor: &Pod, begins: Duration) -> Self {
        Self {
            signature,
            category,
            pod: actor.name.clone(),
            workload: actor.workload.to_string(),
            begins,
            within: Duration::from_secs(90),
            targets: 1,
        }
    }

    const fn within(mut self, secs: u64) -> Self {
        self.within = Duration::from_secs(secs);
        self
    }

    const fn targets(mut self, at_least: u64) -> Self {
        self.targets = at_least;
        self
    }
}

/// Every case, by id.
pub fn all() -> Vec<Case> {
    vec![
        arp_spoof::case(),
        beacon::case(),
        control_plane_probe::case(),
        cracking_rig::case(),
        credential_dump::case(),
        darknet::case(),
        db_abuse::case(),
        db_bruteforce::case(),
        db_bulk_read::case(),
        db_enumeration::case(),
        db_injection::case(),
        db_novel_client::case(),
        db_sweep::case(),
        demo::case(),
        dns_beacon::case(),
        dns_tunnel::case(),
        exfiltration::case(),
        host_sweep::case(),
        http_bruteforce::case(),
        http_tunnel::case(),
        icmp_tunnel::case(),
        intrusion::case(),
        lateral_login::case(),
        long_connection::case(),
        miner::case(),
        novel_peer::case(),
        policy_gap::case(),
        port_forward::case(),
        port_scan::case(),
        post_deployment::case(),
        rate_shift::case(),
        registry_pull::case(),
        registry_push::case(),
        relay_pivot::case(),
        resource_spike::case(),
        reverse_shell::case(),
        service_enumeration::case(),
        ssh_bruteforce::case(),
        ssh_tunnel::case(),
        tls_c2::case(),
        undeclared_port::case(),
        unknown_container::case(),
        vpn_tunnel::case(),
        web_shell::case(),
        websocket_tunnel::case(),
    ]
}

/// A scene with an ordinary day already in it.
fn ordinary(seed: u64, cluster: &Cluster, from: Timestamp, length: Duration) -> Scene {
    let mut scene = Scene::new(seed);
    background::play(&mut scene, cluster, from, length);
    registry::play(&mut scene, cluster);
    scene
}

/// `secs` seconds into a capture that begins at the usual time.
fn at(secs: u64) -> Timestamp {
    super::cluster::START.after(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests;
