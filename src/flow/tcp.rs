//! One TCP connection: its state in Zeek's terms, and which bytes of each direction were seen.
//!
//! Policy: a byte of the stream counts once, at its first sight; the first copy wins where copies differ. Bytes that
//! arrive late fill the hole they left (the last [`MAX_HOLES`] holes of a direction are remembered). Bytes that never
//! come are counted as missing.

use super::{ConnState, Direction};
use crate::decode::{Tcp, TcpFlags};

/// Holes remembered per direction; older ones stay missing.
const MAX_HOLES: usize = 8;
/// How far the halves of one connection may be apart when the second is seen: bytes on their way, a lost packet or two.
const HALVES_APART: u32 = 1 << 20;
/// A jump in sequence numbers wider than any window (RFC 7323 allows 2^30) is not loss but another connection's packet.
const MAX_JUMP: u32 = 1 << 30;

/// What a TCP packet did to its connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Seen {
    /// Payload bytes seen for the first time.
    pub(super) fresh: u32,
    /// Payload bytes seen before.
    pub(super) repeated: u32,
    /// Bytes newly found missing before this packet.
    pub(super) missing: u32,
    /// Bytes found missing earlier that this packet brought.
    pub(super) filled: u32,
}

/// Connection state, small enough to live in the flow's slot.
#[derive(Debug, Default)]
pub(super) struct Connection {
    halves: [Half; 2],
    /// Who sent the first reset.
    reset: Option<Direction>,
    holes: Option<Box<[Vec<Hole>; 2]>>,
}

/// Sequence numbers `[start, end)` never seen.
type Hole = (u32, u32);

#[derive(Clone, Copy, Default, Debug)]
struct Half {
    /// The sequence number after the highest byte seen; meaningful once `started`.
    right: u32,
    /// The last acknowledgment sent; meaningful once there was the flag.
    ack: u32,
    /// The initial sequence number, likewise.
    isn: u32,
    /// Flags seen.
    flags: u8,
    started: bool,
    /// Whether `right` is an empty segment's in the middle of a connection, and nothing came since.
    supposed: bool,
}

impl Half {
    const fn ack(&self) -> Option<u32> {
        if self.flags & TcpFlags::ACK != 0 {
            Some(self.ack)
        } else {
            None
        }
    }

    const fn isn(&self) -> Option<u32> {
        if self.flags & TcpFlags::SYN != 0 {
            Some(self.isn)
        } else {
            None
        }
    }
}

impl Connection {
    /// Takes a packet and says which of its `payload_len` bytes are new.
    pub(super) fn packet(&mut self, from: Direction, tcp: &Tcp, payload_len: u32) -> Seen {
        let half = self.half(from);
        half.flags |= tcp.flags.0;
        if tcp.flags.any(TcpFlags::ACK) {
            half.ack = tcp.ack;
        }
        let mut seq = tcp.seq;
        if tcp.flags.any(TcpFlags::SYN) {
            half.isn = tcp.seq;
            seq = seq.wrapping_add(1);
            if !half.started {
                half.started = true;
                half.right = seq;
            }
        }
        if tcp.flags.any(TcpFlags::RST) {
            // A reset's sequence number is often made up, and its payload is a diagnostic text, not stream.
            self.reset.get_or_insert(from);
            return Seen::default();
        }
        if !half.started {
            half.started = true;
            half.supposed = true;
            half.right = seq;
        }
        // A keep-alive bears the number before the next byte's (RFC 1122, 4.2.3.6).
        if half.supposed && seq == half.right.wrapping_add(1) {
            half.right = seq;
        }
        if payload_len == 0 {
            return Seen::default();
        }
        half.supposed = false;
        self.account(from, seq, payload_len)
    }

    fn half(&mut self, from: Direction) -> &mut Half {
        let [orig, resp] = &mut self.halves;
        match from {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    fn account(&mut self, from: Direction, seq: u32, len: u32) -> Seen {
        let half = self.half(from);
        let ahead = seq.wrapping_sub(half.right);
        if ahead == 0 {
            half.right = seq.wrapping_add(len);
            return Seen {
                fresh: len,
                ..Seen::default()
            };
        }
        if ahead < MAX_JUMP {
            let hole = (half.right, seq);
            half.right = seq.wrapping_add(len);
            let holes = self.holes(from);
            if holes.len() == MAX_HOLES {
                holes.remove(0);
            }
            holes.push(hole);
            return Seen {
                fresh: len,
                missing: ahead,
                ..Seen::default()
            };
        }
        let behind = half.right.wrapping_sub(seq);
        if behind >= MAX_JUMP {
            // Neither ahead nor behind within reason: start over from here.
            half.right = seq.wrapping_add(len);
            return Seen {
                fresh: len,
                ..Seen::default()
            };
        }
        let beyond = len.saturating_sub(behind);
        half.right = half.right.wrapping_add(beyond);
        let filled = self.fill(from, seq, len.saturating_sub(beyond));
        let fresh = beyond.saturating_add(filled);
        Seen {
            fresh,
            repeated: len.saturating_sub(fresh),
            missing: 0,
            filled,
        }
    }

    fn holes(&mut self, from: Direction) -> &mut Vec<Hole> {
        let [orig, resp] = &mut **self.holes.get_or_insert_default();
        match from {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    /// Takes `[seq, seq + len)` out of the remembered holes and returns how much of it lay in them.
    fn fill(&mut self, from: Direction, seq: u32, len: u32) -> u32 {
        if self.holes.is_none() || len == 0 {
            return 0;
        }
        let holes = self.holes(from);
        let mut filled = 0_u32;
        let mut left = Vec::with_capacity(holes.len().saturating_add(1));
        for &(start, end) in holes.iter() {
            // Offsets relative to the hole's start, so that comparisons survive the wrap of sequence numbers.
            let hole_len = end.wrapping_sub(start);
            let from = i64::from(seq.wrapping_sub(start).cast_signed());
            let to = from.saturating_add(i64::from(len));
            let cut_from = from.clamp(0, i64::from(hole_len)) as u32;
            let cut_to = to.clamp(0, i64::from(hole_len)) as u32;
            if cut_from >= cut_to {
                left.push((start, end));
                continue;
            }
            filled = filled.saturating_add(cut_to.saturating_sub(cut_from));
            if cut_from > 0 {
                left.push((start, start.wrapping_add(cut_from)));
            }
            if cut_to < hole_len {
                left.push((start.wrapping_add(cut_to), end));
            }
        }
        left.truncate(MAX_HOLES);
        *holes = left;
        filled
    }

    /// The initial sequence number of a direction, if its SYN was seen.
    pub(super) fn isn(&self, from: Direction) -> Option<u32> {
        let [orig, resp] = &self.halves;
        match from {
            Direction::Orig => orig.isn(),
            Direction::Resp => resp.isn(),
        }
    }

    /// Whether a packet that nobody addressed to this connection, and that the other end than `from` may have sent, goes on
    /// with what was heard from `from` alone: it opens or accepts or refuses the very connection, or both its numbers are
    /// where that end expects them.
    pub(super) fn is_answered_by(&self, from: Direction, tcp: &Tcp) -> bool {
        let [orig, resp] = &self.halves;
        let half = match from {
            Direction::Orig => orig,
            Direction::Resp => resp,
        };
        let ack = tcp.flags.any(TcpFlags::ACK).then_some(tcp.ack);
        if tcp.flags.is_open() {
            return half.isn().is_some() && half.ack() == Some(tcp.seq.wrapping_add(1));
        }
        if ack.is_some() && half.isn().map(|isn| isn.wrapping_add(1)) == ack {
            return true;
        }
        let near = |a: u32, b: u32| a.wrapping_sub(b).cast_signed().unsigned_abs() <= HALVES_APART;
        match (ack, half.ack()) {
            (Some(ack), Some(expected)) => near(ack, half.right) && near(tcp.seq, expected),
            _ => false,
        }
    }

    /// Flags seen, `[originator, responder]`.
    pub(super) fn flags(&self) -> [u8; 2] {
        let [orig, resp] = &self.halves;
        [orig.flags, resp.flags]
    }

    /// Whether both ends are done with it.
    pub(super) fn is_closed(&self) -> bool {
        let [orig, resp] = self.flags();
        self.reset.is_some() || orig & resp & TcpFlags::FIN != 0
    }

    /// How the connection went.
    pub(super) fn state(&self) -> ConnState {
        let [orig, resp] = self.flags();
        let opened = orig & TcpFlags::SYN != 0;
        let accepted = resp & TcpFlags::SYN != 0;
        let (orig_fin, resp_fin) = (orig & TcpFlags::FIN != 0, resp & TcpFlags::FIN != 0);
        match (opened, accepted, self.reset) {
            (true, true, None) => match (orig_fin, resp_fin) {
                (true, true) => ConnState::Sf,
                (true, false) => ConnState::S2,
                (false, true) => ConnState::S3,
                (false, false) => ConnState::S1,
            },
            (true, true, Some(Direction::Orig)) => ConnState::Rsto,
            (true, true, Some(Direction::Resp)) => ConnState::Rstr,
            (true, false, Some(Direction::Resp)) => ConnState::Rej,
            (true, false, Some(Direction::Orig)) => ConnState::Rstos0,
            (true, false, None) if orig_fin => ConnState::Sh,
            (true, false, None) => ConnState::S0,
            (false, true, Some(Direction::Resp)) => ConnState::Rstrh,
            (false, true, None) if resp_fin => ConnState::Shr,
            (false, _, _) => ConnState::Oth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(seq: u32, flags: u8) -> Tcp {
        Tcp {
            src_port: 1,
            dst_port: 2,
            seq,
            ack: 0,
            flags: TcpFlags(flags),
            window: 0,
        }
    }

    #[test]
    fn each_byte_counts_once() {
        let mut connection = Connection::default();
        let start = u32::MAX - 5; // the stream wraps
        connection.packet(Direction::Orig, &tcp(start, TcpFlags::SYN), 0);
        let first = start.wrapping_add(1);
        let at = |offset: u32| first.wrapping_add(offset);
        let mut feed =
            |offset, len| connection.packet(Direction::Orig, &tcp(at(offset), TcpFlags::ACK), len);
        assert_eq!(feed(0, 10).fresh, 10);
        assert_eq!(feed(0, 10).repeated, 10); // retransmitted
        let gap = feed(30, 10); // 10..30 not seen
        assert_eq!((gap.fresh, gap.missing), (10, 20));
        let late = feed(15, 10); // reordered into the middle of the hole
        assert_eq!((late.fresh, late.filled, late.repeated), (10, 10, 0));
        let wide = feed(5, 40); // covers everything and five more
        assert_eq!((wide.fresh, wide.filled, wide.repeated), (15, 10, 25));
    }

    #[test]
    fn a_keep_alive_in_the_middle_leaves_no_hole() {
        let mut connection = Connection::default();
        let ack = TcpFlags::ACK;
        connection.packet(Direction::Orig, &tcp(99, ack), 0);
        let seen = connection.packet(Direction::Orig, &tcp(100, ack), 10);
        assert_eq!((seen.fresh, seen.missing), (10, 0));
        // From then on what is missing is.
        let seen = connection.packet(Direction::Orig, &tcp(111, ack), 10);
        assert_eq!((seen.fresh, seen.missing), (10, 1));
    }

    #[test]
    fn states_as_zeek_names_them() {
        use Direction::{Orig, Resp};
        let (syn, ack, fin, rst) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST);
        let state = |packets: &[(Direction, u8)]| {
            let mut connection = Connection::default();
            for &(from, flags) in packets {
                connection.packet(from, &tcp(5, flags), 0);
            }
            connection.state()
        };
        assert_eq!(state(&[(Orig, syn)]), ConnState::S0);
        assert_eq!(state(&[(Orig, syn), (Resp, rst | ack)]), ConnState::Rej);
        assert_eq!(state(&[(Orig, syn), (Orig, rst)]), ConnState::Rstos0);
        assert_eq!(state(&[(Orig, syn), (Orig, fin)]), ConnState::Sh);
        let open = [(Orig, syn), (Resp, syn | ack)];
        let then = |more: &[(Direction, u8)]| state(&[&open[..], more].concat());
        assert_eq!(then(&[]), ConnState::S1);
        assert_eq!(then(&[(Orig, fin)]), ConnState::S2);
        assert_eq!(then(&[(Resp, fin)]), ConnState::S3);
        assert_eq!(then(&[(Orig, fin), (Resp, fin)]), ConnState::Sf);
        assert_eq!(then(&[(Orig, rst)]), ConnState::Rsto);
        assert_eq!(then(&[(Resp, rst)]), ConnState::Rstr);
        assert_eq!(state(&[(Resp, syn | ack), (Resp, rst)]), ConnState::Rstrh);
        assert_eq!(state(&[(Resp, syn | ack), (Resp, fin)]), ConnState::Shr);
        assert_eq!(state(&[(Orig, ack)]), ConnState::Oth);
    }
}
