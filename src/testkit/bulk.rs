//! A large mixed capture for benchmarks: many flows of every kind, made in one pass with little memory beside the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::cluster::START;
use super::scene::{BRIDGE, Route, Scene};
use super::talk::dns::{self, Answer, Data, Question};
use super::talk::http::Request;
use super::talk::tcp::{self, Port, Session, Side};
use super::talk::{datagram, tls};
use super::wire::Host;
use crate::time::Timestamp;

/// Mean time between the beginnings of two flows.
const BETWEEN_FLOWS: Duration = Duration::from_micros(400);
/// What a frame takes in the file on average: room is made for that much.
const BYTES_PER_PACKET: usize = 500;
/// Clients and servers.
const HOSTS: u64 = 4096;
/// Frames of a flow of each kind that carry no data of varying length: handshake, hellos, acknowledgements, end.
const SHORT_TCP: u64 = 9;
const TLS: u64 = 13;

/// A pcap image of at least that many packets over at least that many flows, TCP mostly: web traffic in clear and over
/// TLS, name look-ups, some other datagrams, pings, and a sprinkle of scans. One in twenty flows is IPv6. With ten packets
/// to a flow, frames have a little under 500 bytes on average; with fewer, there are more look-ups, and frames are smaller.
pub fn mixed(seed: u64, packets: u64, flows: u64) -> Vec<u8> {
    let room = packets as usize * (BYTES_PER_PACKET + 16);
    let mut bulk = Bulk {
        scene: Scene::with_capacity(seed, room),
        filler: Vec::new(),
        now: START,
    };
    bulk.filler = bulk.scene.rng.bytes(1 << 16);
    for number in 0..flows {
        let left = packets.saturating_sub(bulk.scene.frames());
        bulk.flow(left / (flows - number));
        let pause = bulk.scene.rng.pause(BETWEEN_FLOWS);
        bulk.now = bulk.now.after(pause);
        bulk.scene.write_until(bulk.now);
    }
    while bulk.scene.frames() < packets {
        let left = packets - bulk.scene.frames();
        bulk.web(left.min(200));
        bulk.now = bulk.now.after(BETWEEN_FLOWS);
        bulk.scene.write_until(bulk.now);
    }
    bulk.scene.finish()
}

struct Bulk {
    scene: Scene,
    /// Bytes without a pattern, cut from where more are needed.
    filler: Vec<u8>,
    now: Timestamp,
}

impl Bulk {
    /// One flow, of about `mean` packets where its kind lets it choose.
    fn flow(&mut self, mean: u64) {
        // A conversation takes 15 packets at least, all else about two.
        let conversations = (mean * 8).saturating_sub(16).min(60);
        if self.scene.rng.chance(conversations) {
            let size = self.size(mean);
            if self.scene.rng.chance(47) {
                self.web(size);
            } else {
                self.encrypted(size);
            }
            return;
        }
        match self.scene.rng.below(40) {
            0..30 => self.name(),
            30..34 => self.datagrams(mean),
            34..36 => self.ping(),
            36..38 => self.refused(),
            _ => self.half_open(),
        }
    }

    /// Packets of a conversation, so that flows of all kinds have `mean` on average: a few conversations are long.
    fn size(&mut self, mean: u64) -> u64 {
        let rng = &mut self.scene.rng;
        let mean = mean * 100 / 62;
        if rng.chance(10) {
            rng.within(mean..mean * 9)
        } else {
            rng.within(mean / 3..mean)
        }
    }

    fn web(&mut self, packets: u64) {
        let route = self.route(80);
        let mut session = Session::open(&mut self.scene, route, self.now);
        let path = format!("/item/{}", self.scene.rng.below(100_000));
        let request = Request::get("shop.example", &path, "bench/1.0").bytes();
        session.say(&mut self.scene, Side::Client, &request);
        let len = body(packets.saturating_sub(SHORT_TCP));
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: {len}\r\n\r\n"
        );
        let mut answer = head.into_bytes();
        self.fill(&mut answer, len);
        session.wait(&mut self.scene, Duration::from_millis(3));
        session.say(&mut self.scene, Side::Server, &answer);
        session.close(&mut self.scene, Side::Client);
    }

    fn encrypted(&mut self, packets: u64) {
        let route = self.route(443);
        let mut session = Session::open(&mut self.scene, route, self.now);
        let name = format!("s{}.web.example", self.scene.rng.below(5000));
        let stack = self.scene.rng.pick(&[tls::GO, tls::OPENSSL]);
        tls::handshake(&mut self.scene, &mut session, &stack, &name);
        let mut answer = vec![23, 3, 3];
        let len = body(packets.saturating_sub(TLS)).min(16_000);
        answer.extend((len as u16).to_be_bytes());
        self.fill(&mut answer, len);
        for _ in 0..=packets.saturating_sub(TLS) / 18 {
            let mut question = vec![23, 3, 3, 0, 200];
            self.fill(&mut question, 200);
            session.ask(
                &mut self.scene,
                &question,
                Duration::from_millis(4),
                &answer,
            );
        }
        session.close(&mut self.scene, Side::Client);
    }

    fn name(&mut self) {
        let route = self.route(53);
        let port = self.scene.port(route.client.ip);
        let name = format!(
            "h{}.zone{}.example",
            self.scene.rng.below(50_000),
            self.scene.rng.below(300)
        );
        let question = Question {
            name: &name,
            kind: dns::A,
            edns: None,
        };
        let id = self.scene.rng.bits() as u16;
        datagram::question(&mut self.scene, &route, port, &question.ask(id), self.now);
        let ip = Ipv4Addr::from_bits(self.scene.rng.bits() as u32);
        let answer = question.answer(id, &Answer::Records(60, vec![Data::A(ip)]), false);
        let back = self.now.after(self.scene.rng.about(route.server.distance));
        datagram::answer(&mut self.scene, &route, port, &answer, back);
    }

    /// Datagrams of no known protocol, back and forth.
    fn datagrams(&mut self, packets: u64) {
        let route = self.route(4433);
        let port = self.scene.port(route.client.ip);
        let mut at = self.now;
        for number in 0..packets.max(2) {
            let len = self.scene.rng.within(60..1200) as usize;
            let mut payload = vec![0x40];
            self.fill(&mut payload, len);
            if number % 2 == 0 {
                datagram::question(&mut self.scene, &route, port, &payload, at);
            } else {
                datagram::answer(&mut self.scene, &route, port, &payload, at);
            }
            at = at.after(self.scene.rng.about(Duration::from_millis(5)));
        }
    }

    fn ping(&mut self) {
        let (client, server) = self.v4();
        let id = self.scene.rng.bits() as u16;
        datagram::ping(&mut self.scene, client, server, (id, 1), true, self.now);
    }

    fn refused(&mut self) {
        let port = self.scene.rng.within(1..10_000) as u16;
        let route = self.route(port);
        tcp::refused(&mut self.scene, route, self.now);
    }

    fn half_open(&mut self) {
        let port = self.scene.rng.within(1..10_000) as u16;
        let route = self.route(port);
        let source_port = self.scene.port(route.client.ip);
        tcp::half_open(
            &mut self.scene,
            route,
            source_port,
            Port::Filtered,
            self.now,
        );
    }

    fn route(&mut self, port: u16) -> Route {
        let (client, server) = if self.scene.rng.chance(5) {
            (self.v6(), self.v6())
        } else {
            self.v4()
        };
        Route::direct(client, server, port)
    }

    fn v4(&mut self) -> (Host, Host) {
        let mut end = |network: [u8; 2]| {
            let [high, low] = (self.scene.rng.below(HOSTS) as u16).to_be_bytes();
            let [a, b] = network;
            host(Ipv4Addr::new(a, b, high, low).into())
        };
        (end([10, 244]), end([10, 245]))
    }

    fn v6(&mut self) -> Host {
        let number = self.scene.rng.below(HOSTS) as u16;
        host(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number + 1).into())
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, len: usize) {
        let mut left = len;
        while left > 0 {
            let start = self.scene.rng.below(self.filler.len() as u64 / 2) as usize;
            let part = left.min(self.filler.len() / 2);
            bytes.extend_from_slice(&self.filler[start..start + part]);
            left -= part;
        }
    }
}

/// Bytes that take so many packets one way: two segments for each acknowledgement.
const fn body(packets: u64) -> usize {
    200 + (packets * 2 / 3 * 1448) as usize
}

const fn host(ip: IpAddr) -> Host {
    Host {
        mac: BRIDGE,
        ip,
        ttl: 64,
        distance: Duration::from_micros(300),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::pcap::records;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_as_many_packets_and_flows_as_asked_for() {
        let file = mixed(1, 20_000, 2_000);
        let (mut packets, mut bytes, mut last) = (0_u64, 0, Timestamp::MIN);
        let mut flows = BTreeSet::new();
        for (time, frame) in records(&file) {
            assert!(time >= last, "frames are in order");
            last = time;
            packets += 1;
            bytes += frame.len() as u64;
            // Addresses and ports, whichever way; an address and a port take 6 bytes of IPv4.
            if frame[12..14] == [8, 0] && frame[23] != 1 {
                let from = (&frame[26..30], &frame[34..36]);
                let to = (&frame[30..34], &frame[36..38]);
                flows.insert((from.min(to), from.max(to)));
            }
        }
        assert!((20_000..22_000).contains(&packets), "{packets}");
        assert!(flows.len() > 1_700, "{}", flows.len());
        assert!(
            (330..500).contains(&(bytes / packets)),
            "{}",
            bytes / packets
        );
    }
}
