//! What needs no connection: UDP questions and answers, pings, address resolution, clock reading.

use std::net::IpAddr;
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Type, icmpv4};

use crate::testkit::scene::{Route, Scene};
use crate::testkit::wire::{self, Host};
use crate::time::Timestamp;

/// Seconds from NTP's epoch (1900) to Unix's.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// What Linux's ping sends after its time stamp.
const PING_FILLER: std::ops::Range<u8> = 0x10..0x38;

/// One datagram of a client.
pub fn question(scene: &mut Scene, route: &Route, port: u16, payload: &[u8], at: Timestamp) {
    let id = scene.rng.bits() as u16;
    scene.pass(at, route, true, |from, to| {
        wire::udp(from, to, id, (port, route.port), payload)
    });
}

/// One datagram of a server.
pub fn answer(scene: &mut Scene, route: &Route, port: u16, payload: &[u8], at: Timestamp) {
    let id = scene.rng.bits() as u16;
    scene.pass(at, route, false, |from, to| {
        wire::udp(from, to, id, (route.port, port), payload)
    });
}

/// A client reads a time server's clock (RFC 5905, version 4). The time of the answer.
pub fn read_clock(scene: &mut Scene, route: &Route, at: Timestamp) -> Timestamp {
    let port = scene.port(route.client.ip);
    let mut ask = [0; 48];
    ask[0] = 0x23;
    ask[40..48].copy_from_slice(&ntp_time(at));
    question(scene, route, port, &ask, at);
    let back = at.after(scene.rng.about(route.server.distance));
    let mut tell = [0; 48];
    // No warning, version 4, server; stratum 2, poll 2^6 s, precision 2^-24 s.
    tell[..4].copy_from_slice(&[0x24, 2, 6, 0xe8]);
    tell[4..12].copy_from_slice(&[0, 0, 1, 0x4a, 0, 0, 0, 0x52]);
    tell[12..16].copy_from_slice(&[198, 51, 100, 2]);
    tell[16..24].copy_from_slice(&ntp_time(at.before(Duration::from_secs(37))));
    tell[24..32].copy_from_slice(&ntp_time(at));
    tell[32..40].copy_from_slice(&ntp_time(
        at.after(scene.rng.about(Duration::from_millis(3))),
    ));
    tell[40..48].copy_from_slice(&ntp_time(
        at.after(scene.rng.about(Duration::from_millis(3))),
    ));
    answer(scene, route, port, &tell, back);
    back
}

fn ntp_time(time: Timestamp) -> [u8; 8] {
    let nanos = u64::try_from(time.nanos()).unwrap_or(0);
    let secs = nanos / 1_000_000_000 + NTP_TO_UNIX;
    let fraction = ((nanos % 1_000_000_000) << 32) / 1_000_000_000;
    (secs << 32 | fraction).to_be_bytes()
}

/// One ping of a run with identifier `id`. Whether it is answered is for the caller to know.
pub fn ping(
    scene: &mut Scene,
    from: Host,
    to: Host,
    (id, seq): (u16, u16),
    alive: bool,
    at: Timestamp,
) {
    let mut payload = Ping::stamp(at).to_vec();
    payload.extend(PING_FILLER);
    let reply = alive.then_some(&payload[..]);
    echo(scene, from, to, (id, seq), &payload, reply, at);
}

/// What pings are made of.
#[derive(Debug)]
pub struct Ping;

impl Ping {
    /// The time stamp that Linux's ping puts first.
    pub fn stamp(at: Timestamp) -> [u8; 16] {
        let mut stamp = [0; 16];
        stamp[..8].copy_from_slice(&(at.nanos() / 1_000_000_000).to_le_bytes());
        stamp[8..].copy_from_slice(&(at.nanos() / 1_000 % 1_000_000).to_le_bytes());
        stamp
    }
}

/// An echo request with a payload, and a reply with one if there is any. The time of the reply.
pub fn echo(
    scene: &mut Scene,
    from: Host,
    to: Host,
    (id, seq): (u16, u16),
    ask: &[u8],
    reply: Option<&[u8]>,
    at: Timestamp,
) -> Timestamp {
    let route = Route::direct(from, to, 0);
    let echo = IcmpEchoHeader { id, seq };
    let ip_id = scene.rng.bits() as u16;
    scene.pass(at, &route, true, |from, to| {
        wire::icmp(from, to, ip_id, Icmpv4Type::EchoRequest(echo), ask)
    });
    let Some(reply) = reply else {
        return at;
    };
    let back = at.after(scene.rng.about(to.distance));
    scene.pass(back, &route, false, |from, to| {
        wire::icmp(from, to, ip_id ^ 0x5a5a, Icmpv4Type::EchoReply(echo), reply)
    });
    back
}

/// `router` tells the sender of `packet` (a frame with IPv4) that the host it is for can't be reached.
pub fn host_unreachable(scene: &mut Scene, router: Host, to: Host, packet: &[u8], at: Timestamp) {
    let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
    // RFC 792 asks for the header and 8 bytes; Linux quotes all of a small packet.
    let quoted = packet.get(14..).unwrap_or_default();
    let id = scene.rng.bits() as u16;
    scene.show(at, wire::icmp(&router, &to, id, kind, quoted));
}

/// A host asks for another's Ethernet address and hears it.
pub fn resolve(scene: &mut Scene, from: Host, to: Host, at: Timestamp) {
    ask_in_vain(scene, from, to.ip, 1, at);
    let back = at.after(scene.rng.about(to.distance));
    scene.show(back, wire::arp_reply(&to, &from));
}

/// A host asks for the Ethernet address of nobody, `tries` times, a second apart.
pub fn ask_in_vain(scene: &mut Scene, from: Host, whom: IpAddr, tries: u32, at: Timestamp) {
    if let IpAddr::V4(address) = whom {
        for number in 0..tries {
            let at = at.after(Duration::from_millis(1024) * number);
            scene.show(at, wire::arp_request(&from, address));
        }
    }
}
