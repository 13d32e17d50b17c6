//! What one tap on a node's CNI bridge would record.
//!
//! Conversations are written one after the other, each with its own times; the recording puts the frames in order. Knows
//! how the bridge shows a frame, and which ports are taken; nothing of what is said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::pcap::Recording;
use super::rng::Rng;
use super::wire::{self, Host, Mac};
use crate::time::Timestamp;

/// The bridge's own Ethernet address.
pub const BRIDGE: Mac = [0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x01];

/// Linux's ephemeral ports.
const EPHEMERAL: std::ops::Range<u64> = 32_768..60_999;

/// Whom a client calls, and how its frames get there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// Who calls.
    pub client: Host,
    /// Who is called.
    pub server: Host,
    /// The port called.
    pub port: u16,
    /// Whether the client called a service address. The node translates it as the frame enters the bridge and routes it
    /// back out to the pod behind, so each of the client's frames shows twice: from the client to the bridge, and one
    /// hop older from the bridge to the pod. Answers go straight back and show once.
    pub service: bool,
}

impl Route {
    /// To an address of the server's own.
    pub const fn direct(client: Host, server: Host, port: u16) -> Self {
        Self {
            client,
            server,
            port,
            service: false,
        }
    }

    /// To a service address that leads to `backend`.
    pub const fn service(client: Host, backend: Host, port: u16) -> Self {
        Self {
            client,
            server: backend,
            port,
            service: true,
        }
    }
}

/// A recording in the making.
#[derive(Debug)]
pub struct Scene {
    /// Where all chance comes from.
    pub rng: Rng,
    recording: Recording,
    ports: BTreeMap<IpAddr, u16>,
}

impl Scene {
    /// An empty scene.
    pub fn new(seed: u64) -> Self {
        Self::with_capacity(seed, 0)
    }

    /// An empty scene with room for a file of `bytes`.
    pub fn with_capacity(seed: u64, bytes: usize) -> Self {
        Self {
            rng: Rng::new(seed),
            recording: Recording::with_capacity(bytes),
            ports: BTreeMap::new(),
        }
    }

    /// The next free port of a client.
    pub fn port(&mut self, client: IpAddr) -> u16 {
        let last = match self.ports.get(&client) {
            Some(&port) => u64::from(port),
            None => self.rng.within(EPHEMERAL),
        };
        let step = 1 + self.rng.below(3) * 2;
        let next =
            EPHEMERAL.start + (last + step - EPHEMERAL.start) % (EPHEMERAL.end - EPHEMERAL.start);
        self.ports.insert(client, next as u16);
        next as u16
    }

    /// Shows a frame as it is.
    pub fn show(&mut self, at: Timestamp, frame: Vec<u8>) {
        self.recording.push(at, frame);
    }

    /// Shows what `from` sends `to` on a route, as often as the bridge does.
    pub fn pass(
        &mut self,
        at: Timestamp,
        route: &Route,
        from_client: bool,
        build: impl FnOnce(&Host, &Host) -> Vec<u8>,
    ) {
        let (from, to) = if from_client {
            (route.client, route.server)
        } else {
            (route.server, route.client)
        };
        if route.service && from_client {
            let first = build(&from, &Host { mac: BRIDGE, ..to });
            let second = wire::forwarded(&first, BRIDGE, to.mac);
            let later = self
                .rng
                .between(Duration::from_micros(2), Duration::from_micros(30));
            self.show(at, first);
            self.show(at.after(later), second);
        } else {
            self.show(at, build(&from, &to));
        }
    }

    /// Frames shown so far.
    pub const fn frames(&self) -> u64 {
        self.recording.frames()
    }

    /// Settles what came before `time`: nothing earlier will be shown.
    pub fn write_until(&mut self, time: Timestamp) {
        self.recording.write_until(time);
    }

    /// The recording as a pcap file.
    pub fn finish(self) -> Vec<u8> {
        self.recording.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::pcap::records;

    fn host(last: u8) -> Host {
        Host {
            mac: [0x0a, 0x58, 10, 244, 1, last],
            ip: format!("10.244.1.{last}").parse().unwrap(),
            ttl: 64,
            distance: Duration::from_micros(50),
        }
    }

    #[test]
    fn a_call_to_a_service_shows_twice_and_its_answer_once() {
        let mut scene = Scene::new(1);
        let route = Route::service(host(5), host(9), 53);
        let now = Timestamp::from_secs(10);
        scene.pass(now, &route, true, |a, b| {
            wire::udp(a, b, 1, (40_000, 53), b"q")
        });
        let later = now.after(Duration::from_millis(1));
        scene.pass(later, &route, false, |a, b| {
            wire::udp(a, b, 2, (53, 40_000), b"a")
        });
        let file = scene.finish();
        let shown: Vec<(Mac, Mac, u8)> = records(&file)
            .map(|(_, frame)| {
                let mac = |at: usize| std::array::from_fn(|i| frame[at + i]);
                (mac(6), mac(0), frame[22])
            })
            .collect();
        let (client, server) = (host(5).mac, host(9).mac);
        assert_eq!(
            shown,
            [
                (client, BRIDGE, 64),
                (BRIDGE, server, 63),
                (server, client, 64)
            ]
        );
    }

    #[test]
    fn ports_of_a_client_are_ephemeral_and_all_different() {
        let mut scene = Scene::new(1);
        let mut ports: Vec<u16> = (0..500).map(|_| scene.port(host(5).ip)).collect();
        assert!(
            ports
                .iter()
                .all(|&port| EPHEMERAL.contains(&u64::from(port)))
        );
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 500);
    }
}
