//! TCP (RFC 9293) as Linux speaks it: handshake with options, segments, acknowledgements, ends; and attempts that fail.

use std::time::Duration;

use etherparse::{TcpHeader, TcpOptionElement};

use super::datagram;
use crate::testkit::scene::{Route, Scene};
use crate::testkit::wire::{self, Host};
use crate::time::Timestamp;

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The end that called.
    Client,
    /// The end that was called.
    Server,
}

use Side::{Client, Server};

impl Side {
    const fn other(self) -> Self {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

/// Payload of a full segment on Ethernet, with timestamps.
const SEGMENT: usize = 1448;
/// How long Linux waits with an acknowledgement that might ride on data.
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// Windows as they are after scaling was agreed.
const WINDOW: u16 = 502;
const SYN_WINDOW: u16 = 64_240;
/// The window of a scanner's hand-made SYN.
const RAW_WINDOW: u16 = 1024;
/// When a SYN without an answer is sent again: after 1 s, then after 2 s more.
const SYN_RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flags {
    Syn,
    SynAck,
    Ack,
    PushAck,
    FinAck,
    Rst,
    RstAck,
}

/// An open connection. Times move on with what is said.
#[derive(Debug)]
pub struct Session {
    route: Route,
    now: Timestamp,
    spoke: Side,
    ends: [End; 2],
    segment: usize,
}

#[derive(Debug)]
struct End {
    port: u16,
    /// Sequence number of the next byte.
    next: u32,
    /// IPv4 identification of the next packet.
    id: u16,
    /// The host's clock of milliseconds, as its timestamps show it, at the epoch.
    clock: u32,
    /// The other end's clock as last heard.
    heard: u32,
    /// Since when it owes an acknowledgement.
    owes: Option<Timestamp>,
    /// When it last sent something; it sends nothing before that any more.
    sent: Timestamp,
}

impl Session {
    /// Connects from a free port.
    pub fn open(scene: &mut Scene, route: Route, at: Timestamp) -> Self {
        let port = scene.port(route.client.ip);
        let mut session = Self::ready(scene, route, port, at);
        session.send(scene, Client, Flags::Syn, &[]);
        session.turn(scene, Server);
        session.send(scene, Server, Flags::SynAck, &[]);
        session.turn(scene, Client);
        session.send(scene, Client, Flags::Ack, &[]);
        session
    }

    fn ready(scene: &mut Scene, route: Route, port: u16, at: Timestamp) -> Self {
        let mut end = |port| End {
            port,
            next: scene.rng.bits() as u32,
            id: scene.rng.bits() as u16,
            clock: scene.rng.bits() as u32,
            heard: 0,
            owes: None,
            sent: at,
        };
        Self {
            route,
            now: at,
            spoke: Client,
            ends: [end(port), end(route.port)],
            segment: SEGMENT,
        }
    }

    /// Sends larger segments from here on: with segmentation offload a capture shows them before they are cut.
    #[must_use]
    pub const fn offloading(mut self, segment: usize) -> Self {
        self.segment = segment;
        self
    }

    /// When the last frame passed.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Who talks to whom.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// Nobody says anything for a while.
    pub fn wait(&mut self, scene: &mut Scene, pause: Duration) {
        let until = self.now.after(pause);
        for side in [Client, Server] {
            self.acknowledge(scene, side, DELAYED_ACK, until);
        }
        self.now = until;
    }

    /// Nobody says anything until then, if it is still to come.
    pub fn wait_until(&mut self, scene: &mut Scene, time: Timestamp) {
        self.wait(scene, time.since(self.now));
    }

    /// One end sends bytes.
    pub fn say(&mut self, scene: &mut Scene, side: Side, bytes: &[u8]) {
        self.turn(scene, side);
        let last = bytes.len().div_ceil(self.segment).saturating_sub(1);
        for (number, chunk) in bytes.chunks(self.segment).enumerate() {
            let flags = if number == last {
                Flags::PushAck
            } else {
                Flags::Ack
            };
            self.send(scene, side, flags, chunk);
            let listener = side.other();
            self.end(listener).owes = Some(self.now);
            if number % 2 == 1 && number != last {
                self.acknowledge(scene, listener, Duration::ZERO, Timestamp::MAX);
            }
            if number != last {
                self.now = self.now.after(
                    scene
                        .rng
                        .between(Duration::from_micros(3), Duration::from_micros(25)),
                );
            }
        }
    }

    /// The client asks, the server thinks and answers.
    pub fn ask(&mut self, scene: &mut Scene, question: &[u8], think: Duration, answer: &[u8]) {
        self.say(scene, Client, question);
        let think = scene.rng.about(think);
        self.wait(scene, think);
        self.say(scene, Server, answer);
    }

    /// Both ends close, `side` first. The time of the last frame.
    pub fn close(mut self, scene: &mut Scene, side: Side) -> Timestamp {
        self.turn(scene, side);
        self.send(scene, side, Flags::FinAck, &[]);
        self.turn(scene, side.other());
        self.send(scene, side.other(), Flags::FinAck, &[]);
        self.turn(scene, side);
        self.send(scene, side, Flags::Ack, &[]);
        self.now
    }

    /// One end aborts. The time of the last frame.
    pub fn abort(mut self, scene: &mut Scene, side: Side) -> Timestamp {
        self.turn(scene, side);
        self.send(scene, side, Flags::RstAck, &[]);
        self.now
    }

    const fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Moves on to when `side` can speak, having heard what was said before.
    fn turn(&mut self, scene: &mut Scene, side: Side) {
        let pause = if self.spoke == side {
            Duration::from_micros(20)
        } else {
            self.distance(side)
        };
        self.now = self.now.after(scene.rng.about(pause));
        self.spoke = side;
    }

    const fn distance(&self, side: Side) -> Duration {
        match side {
            Client => self.route.client.distance,
            Server => self.route.server.distance,
        }
    }

    /// Lets `side` acknowledge what it heard a while ago, if that is still before `deadline`. It doesn't hold up anybody.
    fn acknowledge(
        &mut self,
        scene: &mut Scene,
        side: Side,
        patience: Duration,
        deadline: Timestamp,
    ) {
        let Some(since) = self.end(side).owes else {
            return;
        };
        let due = since.after(patience + scene.rng.about(self.distance(side)));
        if due < deadline {
            let now = std::mem::replace(&mut self.now, due);
            self.send(scene, side, Flags::Ack, &[]);
            self.now = now;
        }
    }

    fn send(&mut self, scene: &mut Scene, side: Side, flags: Flags, payload: &[u8]) {
        self.now = self.now.max(self.end(side).sent);
        self.end(side).sent = self.now;
        let (header, id) = self.segment(side, flags, payload.len());
        scene.pass(self.now, &self.route, side == Client, |from, to| {
            wire::tcp(from, to, id, header, payload)
        });
    }

    /// The next header of an end, and its packet's identification.
    fn segment(&mut self, side: Side, flags: Flags, payload_len: usize) -> (TcpHeader, u16) {
        let Self { ends, now, .. } = self;
        let [client, server] = ends;
        let (me, other) = match side {
            Client => (client, server),
            Server => (server, client),
        };
        let clock = me.clock.wrapping_add((now.nanos() / 1_000_000) as u32);
        let stamp = TcpOptionElement::Timestamp(clock, me.heard);
        let mut header = TcpHeader::new(me.port, other.port, me.next, WINDOW);
        set_flags(&mut header, flags);
        if header.ack {
            header.acknowledgment_number = other.next;
        }
        if header.syn {
            header.window_size = SYN_WINDOW;
            let options = [
                TcpOptionElement::MaximumSegmentSize(1460),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                stamp,
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(7),
            ];
            set_options(&mut header, &options);
        } else if header.rst {
            header.window_size = 0;
        } else {
            let pad = TcpOptionElement::Noop;
            set_options(&mut header, &[pad.clone(), pad, stamp]);
        }
        let id = me.id;
        me.id = id.wrapping_add(1);
        me.owes = None;
        other.heard = clock;
        me.next = me
            .next
            .wrapping_add(payload_len as u32 + u32::from(header.syn || header.fin));
        (header, id)
    }
}

/// A connection that the other host refuses. The time of the last frame.
pub fn refused(scene: &mut Scene, route: Route, at: Timestamp) -> Timestamp {
    let port = scene.port(route.client.ip);
    let mut session = Session::ready(scene, route, port, at);
    session.send(scene, Client, Flags::Syn, &[]);
    session.turn(scene, Server);
    session.end(Server).next = 0;
    session.send(scene, Server, Flags::RstAck, &[]);
    session.now
}

/// A connection that nobody answers, tried again `retries` times (at most twice). The time of the last frame.
pub fn silent(scene: &mut Scene, route: Route, at: Timestamp, retries: usize) -> Timestamp {
    let port = scene.port(route.client.ip);
    let mut session = Session::ready(scene, route, port, at);
    let first = session.end(Client).next;
    session.send(scene, Client, Flags::Syn, &[]);
    for &retry in SYN_RETRIES.iter().take(retries) {
        session.now = at.after(retry + scene.rng.about(Duration::from_millis(15)));
        session.end(Client).next = first;
        session.send(scene, Client, Flags::Syn, &[]);
    }
    session.now
}

/// A connection by a service to a pod that is gone: the node asks for it in vain, then says so.
pub fn unreachable(scene: &mut Scene, route: Route, router: Host, at: Timestamp) {
    let port = scene.port(route.client.ip);
    let mut session = Session::ready(scene, route, port, at);
    let (header, id) = session.segment(Client, Flags::Syn, 0);
    let to_router = Host {
        mac: router.mac,
        ..route.server
    };
    let syn = wire::tcp(&route.client, &to_router, id, header, &[]);
    scene.show(at, syn.clone());
    datagram::ask_in_vain(scene, router, route.server.ip, 3, at);
    let gave_up = at.after(Duration::from_secs(3) + scene.rng.about(Duration::from_millis(70)));
    datagram::host_unreachable(scene, router, route.client, &syn, gave_up);
}

/// How a port takes a scanner's SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// Somebody listens.
    Open,
    /// Nobody does, and the host says so.
    Closed,
    /// A filter swallows it.
    Filtered,
}

/// A half-open probe: a hand-made SYN from `source_port`, and a reset if it is answered.
pub fn half_open(scene: &mut Scene, route: Route, source_port: u16, port: Port, at: Timestamp) {
    let (syn, answer) = (scene.rng.bits() as u32, scene.rng.bits() as u32);
    let id = scene.rng.bits() as u16;
    let mut header = TcpHeader::new(source_port, route.port, syn, RAW_WINDOW);
    set_flags(&mut header, Flags::Syn);
    set_options(&mut header, &[TcpOptionElement::MaximumSegmentSize(1460)]);
    scene.pass(at, &route, true, |from, to| {
        wire::tcp(from, to, id, header, &[])
    });
    if port == Port::Filtered {
        return;
    }
    let at = at.after(scene.rng.about(route.server.distance));
    let mut header = TcpHeader::new(route.port, source_port, 0, 0);
    header.acknowledgment_number = syn.wrapping_add(1);
    set_flags(&mut header, Flags::RstAck);
    if port == Port::Open {
        header.sequence_number = answer;
        header.window_size = SYN_WINDOW;
        set_flags(&mut header, Flags::SynAck);
        set_options(&mut header, &[TcpOptionElement::MaximumSegmentSize(1460)]);
    }
    scene.pass(at, &route, false, |from, to| {
        wire::tcp(from, to, 0, header, &[])
    });
    if port == Port::Open {
        let at = at.after(scene.rng.about(route.client.distance));
        let mut header = TcpHeader::new(source_port, route.port, syn.wrapping_add(1), 0);
        set_flags(&mut header, Flags::Rst);
        scene.pass(at, &route, true, |from, to| {
            wire::tcp(from, to, 0, header, &[])
        });
    }
}

fn set_flags(header: &mut TcpHeader, flags: Flags) {
    header.syn = matches!(flags, Flags::Syn | Flags::SynAck);
    header.ack = !matches!(flags, Flags::Syn | Flags::Rst);
    header.psh = flags == Flags::PushAck;
    header.fin = flags == Flags::FinAck;
    header.rst = matches!(flags, Flags::Rst | Flags::RstAck);
}

fn set_options(header: &mut TcpHeader, options: &[TcpOptionElement]) {
    header
        .set_options(options)
        .expect("these options fit a TCP header");
}

#[cfg(test)]
mod tests;
