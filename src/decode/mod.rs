//! One frame to one borrowed packet: stateless and total.
//!
//! Contract: [`decode`] returns for any bytes, never panics, allocates nothing. What could not be followed is said in
//! [`Packet::content`] and [`Packet::anomalies`]; nothing is thrown away before it was counted. Checksums are not looked
//! at, since frames captured on a host rarely bear right ones, and a frame may hold 64 kB of one offloaded segment.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod anomaly;
mod fragment;
mod link;
mod network;
mod transport;
mod tunnel;

use std::net::IpAddr;
use std::ops::Deref;

use crate::address::{Mac, NetworkId};
use crate::capture::Frame;
use crate::time::Timestamp;

pub use anomaly::Anomalies;
pub use fragment::{Datagram, Fragment, Head};
pub use transport::{Icmp, Neighbour, Quoted, Tcp, TcpFlags, Transport};
pub use tunnel::{MAX_DEPTH, Tunnel, TunnelKind};

/// A frame, understood as far as it goes. If it was tunnelled, this is the innermost packet that could be read, and
/// `tunnel` says in what it came.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// When it was captured.
    pub time: Timestamp,
    /// Length of the whole frame on the wire, in bytes, with all it was wrapped in.
    pub wire_len: u32,
    /// How many frames it took: 1, unless it was put together from fragments.
    pub frames: u32,
    /// The virtual network it was in: the VLAN tags of the innermost Ethernet frame, none for bare IP in an IP tunnel.
    pub network: NetworkId,
    /// In what it came wrapped.
    pub tunnel: Option<Tunnel>,
    /// Which of the source's interfaces saw it (as in [`Frame::interface`]), and the index that a Linux cooked capture
    /// notes, in the lower half.
    pub interface: u64,
    /// What was captured in front of the IP header: the link layer, and all wraps. Empty for anything but IP.
    pub link: &'a [u8],
    /// What it carried.
    pub content: Content<'a>,
    /// What was odd about it.
    pub anomalies: Anomalies,
}

/// What a frame carried.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// An IP packet.
    Ip(IpPacket<'a>),
    /// An ARP request or reply for IPv4.
    Arp(Arp),
    /// Something that is no IP (spanning tree, LLDP, …): counted, not followed.
    Other,
    /// Something too short or malformed to say.
    Undecodable,
}

/// The headers of an IP packet, and its payload.
#[derive(Clone, Debug)]
pub struct IpPacket<'a> {
    /// Source address, canonical (see [`crate::address::canonical`]).
    pub src: IpAddr,
    /// Destination address, canonical.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// The number of IPv4 that tells a sender's datagrams apart, 0 in IPv6. Linux leaves it 0 where nothing can be in pieces.
    pub id: u16,
    /// IANA number of the protocol after any extension headers.
    pub protocol: u8,
    /// The transport header, as far as it was captured.
    pub transport: Transport,
    /// The bytes of the transport header, as far as they were captured.
    pub header: &'a [u8],
    /// The piece of a datagram that this is, if it isn't a whole one.
    pub fragment: Option<Fragment<'a>>,
    /// The transport's payload, as far as it was captured.
    pub payload: &'a [u8],
    /// The payload's length on the wire in bytes; at least `payload.len()`.
    pub payload_len: u32,
}

/// An ARP message (RFC 826) for IPv4 over Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Who speaks.
    pub sender: IpAddr,
    /// The address asked for, or spoken to.
    pub target: IpAddr,
    /// The Ethernet address at which the sender says it is.
    pub hardware: Mac,
    /// Whether it is a reply.
    pub reply: bool,
}

/// Whether a tunnel between two addresses, source and destination, may be opened.
pub type Trust<'t> = &'t dyn Fn(IpAddr, IpAddr) -> bool;

/// A frame, or what was inside a wrap of it, on its way through the layers.
#[derive(Clone, Copy)]
struct Input<'t, 'a> {
    frame: Frame<'a>,
    /// The captured frame, of which `frame` is what the wraps opened so far left.
    whole: &'a [u8],
    trusts: Trust<'t>,
}

impl<'a> Deref for Input<'_, 'a> {
    type Target = Frame<'a>;

    fn deref(&self) -> &Frame<'a> {
        &self.frame
    }
}

/// Reads a frame, opening every tunnel.
pub fn decode<'a>(frame: &Frame<'a>) -> Packet<'a> {
    let mut packet = Packet::unread(frame);
    packet.read(frame, &|_, _| true);
    packet
}

impl<'a> Packet<'a> {
    /// A frame of which nothing was read yet.
    pub fn unread(frame: &Frame<'a>) -> Self {
        let mut anomalies = Anomalies::default();
        if (frame.data.len() as u64) < u64::from(frame.wire_len) {
            anomalies.insert(Anomalies::SNAPLEN);
        }
        Self {
            time: frame.time,
            wire_len: frame.wire_len,
            frames: 1,
            network: NetworkId::default(),
            tunnel: None,
            interface: u64::from(frame.interface) << 32,
            link: &[],
            content: Content::Undecodable,
            anomalies,
        }
    }

    /// The Ethernet address of who sent the frame, where nothing wraps it. Read when it is asked for.
    pub fn sender(&self) -> Option<Mac> {
        let place = match self.link.len() {
            _ if self.tunnel.is_some() => return None,
            // Ethernet, with up to two VLAN tags, and Linux's cooked header.
            14 | 16 | 18 | 22 => 6..12,
            // The second version of that.
            20 => 12..18,
            _ => return None,
        };
        self.link.get(place)?.try_into().ok()
    }

    /// Reads the frame, opening only the tunnels whose ends `trusts` accepts. A pod that wraps a packet of its own making
    /// could otherwise speak in any other's name. In place, for what comes of it is large.
    pub fn read(&mut self, frame: &Frame<'a>, trusts: Trust<'_>) {
        let input = Input {
            frame: *frame,
            whole: frame.data,
            trusts,
        };
        link::decode(&input, self);
    }
}

#[cfg(test)]
mod tests;
