//! ICMP and ICMPv6 echo (ping): what its payload is like, whether it changes, and whether a reply returns it.
//!
//! An echo's payload is filler: a time stamp, then a pattern that stays the same; whoever is asked returns it unchanged
//! (RFC 1122 3.2.2.6, RFC 4443 4.2). What rides in it must change. So a flow's echoes are told only where they differ
//! from the one before, and an honest ping amounts to one request and one reply.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use super::ByteMix;
use crate::decode::Icmp;
use crate::flow::Direction;

/// One for all runs: words are told apart by 16 bits, so chance collisions must be the same in every run.
const HASHER: FixedState = FixedState::with_seed(0x7370_616e_7761_7463);

/// An echo request or reply that differs from the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Who sent it.
    pub direction: Direction,
    /// Whether it asks.
    pub request: bool,
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub seq: u16,
    /// Payload bytes, as far as they were captured.
    pub len: u32,
    /// Hashes of the payload's words of eight bytes, as many as there are whole ones; for comparing within this run.
    pub words: [u16; Self::WORDS],
    /// Hash of what follows those: of all of it, or of its beginning if it is a pattern.
    pub rest: u32,
    /// What the payload is, beyond a time stamp.
    pub fill: EchoFill,
    /// For a reply: whether it returns what was asked.
    pub returned: Returned,
    /// Echoes in this direction since the last one told, that were like it.
    pub alike: u32,
}

impl Echo {
    /// Words told apart.
    pub const WORDS: usize = 8;
    /// Bytes in a word.
    pub const WORD_LEN: usize = 8;

    /// How many words of the payload are told apart, the rest counted by its length.
    pub fn word_count(&self) -> usize {
        (self.len as usize)
            .wrapping_div(Self::WORD_LEN)
            .min(Self::WORDS)
    }
}

/// What an echo's payload is, beyond the time stamp at its start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EchoFill {
    /// Nothing, or no more than a time stamp.
    None,
    /// Repeated or counting bytes, as every ping program sends.
    Pattern,
    /// Text.
    Text,
    /// Other bytes.
    Binary,
    /// Bytes as good as random.
    Random,
    /// An IP packet.
    IpPacket,
}

/// Whether a reply is what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Returned {
    /// It returns the request's payload, or the beginning of it (some hosts cut what is long).
    Same,
    /// It bears something else.
    Different,
    /// No request with its number was seen; or this is a request.
    Unknown,
}

/// Requests remembered per flow.
const RING: usize = 8;
/// A time stamp and what tools put beside it.
const STAMP_LEN: usize = 24;
/// The longest unit of a repeated pattern.
const MAX_PERIOD: usize = 32;
/// Lengths at which a cut reply is compared.
const CUTS: [usize; 3] = [16, 48, 64];
/// How deep inside an IP packet is looked for: behind a tunnel's own header.
const MAX_HEADER: usize = 32;

/// The echoes of one flow.
#[derive(Debug, Default)]
pub struct Echoes {
    requests: [Option<Asked>; RING],
    next: usize,
    /// The last one told, for each direction.
    told: [Option<Echo>; 2],
}

/// A request as far as its reply needs it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    direction: Direction,
    seq: u16,
    len: u32,
    whole: u64,
    cuts: [u64; CUTS.len()],
}

impl Echoes {
    /// Takes a message with its payload. Gives it if it is an echo that says something new.
    pub fn feed(&mut self, icmp: &Icmp, direction: Direction, payload: &[u8]) -> Option<Echo> {
        let request = match icmp.kind {
            8 | 128 => true,
            0 | 129 => false,
            _ => return None,
        };
        let returned = if request {
            self.remember(icmp.seq, direction, payload);
            Returned::Unknown
        } else {
            self.compare(icmp.seq, direction, payload)
        };
        let fill = EchoFill::of(payload);
        let echo = Echo {
            direction,
            request,
            id: icmp.id,
            seq: icmp.seq,
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            words: words(payload),
            rest: rest(payload, fill),
            fill,
            returned,
            alike: 0,
        };
        let told = match (&mut self.told, direction) {
            ([orig, _], Direction::Orig) => orig,
            ([_, resp], Direction::Resp) => resp,
        };
        if let Some(before) = told
            && is_alike(before, &echo)
        {
            before.alike = before.alike.saturating_add(1);
            return None;
        }
        let alike = told.map_or(0, |before| before.alike);
        *told = Some(echo);
        Some(Echo { alike, ..echo })
    }

    fn remember(&mut self, seq: u16, direction: Direction, payload: &[u8]) {
        let asked = Asked {
            direction,
            seq,
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            whole: HASHER.hash_one(payload),
            cuts: CUTS.map(|cut| payload.get(..cut).map_or(0, |part| HASHER.hash_one(part))),
        };
        if let Some(slot) = self.requests.get_mut(self.next) {
            *slot = Some(asked);
        }
        self.next = self.next.wrapping_add(1).wrapping_rem(RING);
    }

    /// The best that can be said of a reply: tunnels use one number for all, and a request may be seen twice.
    fn compare(&self, seq: u16, direction: Direction, payload: &[u8]) -> Returned {
        let mut verdict = Returned::Unknown;
        for asked in self.requests.iter().flatten() {
            if asked.seq != seq || asked.direction == direction {
                continue;
            }
            if asked.returns(payload) {
                return Returned::Same;
            }
            verdict = Returned::Different;
        }
        verdict
    }
}

impl Asked {
    fn returns(&self, payload: &[u8]) -> bool {
        let len = payload.len();
        if len >= self.len as usize {
            return len == self.len as usize && HASHER.hash_one(payload) == self.whole;
        }
        CUTS.into_iter()
            .zip(self.cuts)
            .rev()
            .find_map(|(cut, hash)| Some(HASHER.hash_one(payload.get(..cut)?) == hash))
            .unwrap_or(false)
    }
}

/// Whether only what time stamps change has changed.
fn is_alike(before: &Echo, now: &Echo) -> bool {
    let stamp = STAMP_LEN.wrapping_div(Echo::WORD_LEN);
    before.request == now.request
        && before.len == now.len
        && before.rest == now.rest
        && before.fill == now.fill
        && before.returned == now.returned
        && before
            .words
            .iter()
            .skip(stamp)
            .eq(now.words.iter().skip(stamp))
}

fn words(payload: &[u8]) -> [u16; Echo::WORDS] {
    let mut words = [0; Echo::WORDS];
    for (word, bytes) in words.iter_mut().zip(payload.chunks_exact(Echo::WORD_LEN)) {
        *word = HASHER.hash_one(bytes) as u16;
    }
    words
}

fn rest(payload: &[u8], fill: EchoFill) -> u32 {
    let rest = payload
        .get(Echo::WORDS.wrapping_mul(Echo::WORD_LEN)..)
        .unwrap_or_default();
    let part = if fill == EchoFill::Pattern {
        rest.get(..Echo::WORD_LEN).unwrap_or_default()
    } else {
        rest
    };
    if part.is_empty() {
        0
    } else {
        HASHER.hash_one(part) as u32
    }
}

impl EchoFill {
    fn of(payload: &[u8]) -> Self {
        if (0..MAX_HEADER).any(|at| is_ip_packet(payload.get(at..).unwrap_or_default())) {
            return Self::IpPacket;
        }
        // Short payloads are pattern alone, or stamp alone.
        let body = payload.get(STAMP_LEN..).unwrap_or_default();
        if is_pattern(payload) || !body.is_empty() && is_pattern(body) {
            return Self::Pattern;
        }
        let printable = body
            .iter()
            .filter(|byte| matches!(byte, b' '..=b'~'))
            .count();
        match ByteMix::of(body, printable) {
            _ if body.is_empty() => Self::None,
            ByteMix::Text => Self::Text,
            ByteMix::Random => Self::Random,
            ByteMix::Few if printable == body.len() => Self::Text,
            ByteMix::Few | ByteMix::Structured => Self::Binary,
        }
    }
}

/// Whether the bytes count (0x10, 0x11, …), or repeat a short unit, but for a few.
fn is_pattern(body: &[u8]) -> bool {
    if body.len() < 4 {
        return false;
    }
    let odd_ones = |after: &dyn Fn(u8, u8) -> bool, period: usize| {
        let later = body.get(period..).unwrap_or_default();
        body.iter()
            .zip(later)
            .filter(|(a, b)| !after(**a, **b))
            .take(body.len())
            .count()
    };
    let few = body.len().wrapping_div(16);
    odd_ones(&|a, b| b == a.wrapping_add(1), 1) <= few
        || (1..=MAX_PERIOD.min(body.len().wrapping_div(2)))
            .any(|period| odd_ones(&|a, b| a == b, period) == 0)
}

/// Whether this is an IP packet to its last byte. By chance one in 2²⁴ is.
fn is_ip_packet(data: &[u8]) -> bool {
    match data {
        [
            first @ 0x45..=0x4f,
            _,
            high,
            low,
            _,
            _,
            _,
            _,
            ttl,
            protocol,
            ..,
        ] => {
            let header = usize::from(first & 0x0f).wrapping_mul(4);
            usize::from(u16::from_be_bytes([*high, *low])) == data.len()
                && data.len() >= header
                && *ttl > 0
                && matches!(protocol, 1 | 2 | 6 | 17 | 47 | 50 | 58 | 89 | 132)
        }
        // The seconds of a ping's time stamp have the same first byte for years: the addresses must be some, too.
        [0x60..=0x6f, _, _, _, high, low, next, _, ends @ ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_add(40) == data.len()
                && matches!(next, 0 | 6 | 17 | 44 | 58)
                && is_address(ends)
                && is_address(ends.get(16..).unwrap_or_default())
        }
        _ => false,
    }
}

/// Whether an IPv6 address that is in use begins so: of one host or of many, anywhere, or of IPv4's (RFC 6052).
const fn is_address(data: &[u8]) -> bool {
    matches!(
        data,
        [0x20..=0x3f | 0xfc..=0xff, ..] | [0, 0x64, 0xff, 0x9b, ..]
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn icmp(kind: u8, seq: u16) -> Icmp {
        Icmp {
            kind,
            code: 0,
            id: 7,
            seq,
            quoted: None,
            neighbour: None,
        }
    }

    fn linux(secs: u64, len: usize) -> Vec<u8> {
        let mut payload = [secs.to_le_bytes(), (secs * 7919 % 1_000_000).to_le_bytes()].concat();
        payload.extend((0x10..).take(len - 16).map(|n: usize| n as u8));
        payload
    }

    /// A request that is answered by `reply`.
    fn exchange(echoes: &mut Echoes, seq: u16, ask: &[u8], reply: &[u8]) -> Vec<Echo> {
        let asked = echoes.feed(&icmp(8, seq), Direction::Orig, ask);
        let answered = echoes.feed(&icmp(0, seq), Direction::Resp, reply);
        asked.into_iter().chain(answered).collect()
    }

    #[test]
    fn an_honest_ping_is_told_once() {
        let mut echoes = Echoes::default();
        let mut told = Vec::new();
        for n in 0..100 {
            let payload = linux(1_700_000_000 + n, 56);
            told.extend(exchange(&mut echoes, n as u16, &payload, &payload));
        }
        assert_eq!(told.len(), 2);
        assert_eq!(
            (told[0].fill, told[0].len, told[0].word_count()),
            (EchoFill::Pattern, 56, 7)
        );
        assert_eq!((told[1].request, told[1].returned), (false, Returned::Same));
        // Another size is news, and says how often the old one came.
        let long = linux(1_700_000_200, 1000);
        told = exchange(&mut echoes, 200, &long, &long[..64]);
        assert_eq!(
            (told[0].alike, told[0].fill, told[0].len),
            (99, EchoFill::Pattern, 1000)
        );
        assert_eq!(
            (told[1].alike, told[1].returned),
            (99, Returned::Same),
            "cut, as some hosts do"
        );
    }

    #[test]
    fn what_changes_or_does_not_return_is_told() {
        let mut echoes = Echoes::default();
        let one = b"AAAABBBBCCCCDDDDEEEEFFFF the first part of it........";
        let two = b"AAAABBBBCCCCDDDDEEEEFFFF something else altogether...";
        assert_eq!(exchange(&mut echoes, 0, one, one).len(), 2);
        // One number for all, as tunnels do: the newest request counts, or any before it.
        let told = exchange(&mut echoes, 0, two, one);
        assert_eq!(
            (told.len(), told[0].fill),
            (1, EchoFill::Text),
            "an old one returned"
        );
        let told = exchange(&mut echoes, 0, two, b"whoami");
        assert_eq!(told[0].returned, Returned::Different);
        let told = exchange(&mut echoes, 1, b"", b"cat /etc/passwd");
        assert_eq!((told[0].len, told[1].returned), (0, Returned::Different));
        let unasked = echoes.feed(&icmp(0, 99), Direction::Resp, two).unwrap();
        assert_eq!(unasked.returned, Returned::Unknown);
    }

    #[test]
    fn fillers_of_common_tools_are_patterns() {
        let mut busybox = vec![0; 56];
        busybox[..4].copy_from_slice(&[0x9a, 0x42, 0x17, 0x03]);
        let go = [&[0x17, 0x9a, 1, 2, 3, 4, 5, 6][..], &[0xc3; 16], &[1; 32]].concat();
        let cases: [&[u8]; 6] = [
            &linux(1_700_000_000, 56),
            b"abcdefghijklmnopqrstuvwabcdefghi",
            &busybox,
            &go,
            &[&[0; 16][..], &b"\xde\xad\xbe\xef".repeat(10)].concat(),
            &b"SUPERMAN".repeat(8),
        ];
        for payload in cases {
            assert_eq!(
                EchoFill::of(payload),
                EchoFill::Pattern,
                "{}",
                payload.escape_ascii()
            );
        }
        assert_eq!(
            EchoFill::of(&linux(1_700_000_000, 56)[..16]),
            EchoFill::None
        );
        assert_eq!(EchoFill::of(b""), EchoFill::None);
    }

    #[test]
    fn packets_inside_are_seen_behind_a_header() {
        let packet =
            b"E\0\0\x20\x12\x34\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x35\0\x35\0\x0c\0\0abcd";
        assert_eq!(EchoFill::of(packet), EchoFill::IpPacket);
        assert_eq!(
            EchoFill::of(&[b"TUNL\x01", &packet[..]].concat()),
            EchoFill::IpPacket
        );
        assert_ne!(EchoFill::of(&packet[..30]), EchoFill::IpPacket);
        let ends = [[0xfd; 16], [0x20; 16]].concat();
        let newer = [&b"\x60\0\0\0\0\x04\x11\x40"[..], &ends, b"\0\x35\0\x35"].concat();
        assert_eq!(EchoFill::of(&newer), EchoFill::IpPacket);
    }

    #[test]
    fn a_time_stamp_is_no_packet() {
        // Each of these microseconds makes a length and a protocol that fit after a version.
        for (second, third) in [(13, 0), (13, 6), (13, 17), (13, 44), (13, 58)] {
            let mut ping = linux(0x6b0a_f086, 56);
            ping[8..12].copy_from_slice(&[second, third, 7, 0]);
            assert_eq!(EchoFill::of(&ping), EchoFill::Pattern, "{third}");
        }
    }

    proptest! {
        #[test]
        fn any_messages_are_survived(
            messages in proptest::collection::vec(
                (any::<u8>(), any::<u16>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..40),
        ) {
            let mut echoes = Echoes::default();
            for (kind, seq, orig, payload) in &messages {
                let direction = if *orig { Direction::Orig } else { Direction::Resp };
                echoes.feed(&icmp(*kind, *seq), direction, payload);
                echoes.feed(&icmp(kind & 8, *seq), direction, payload);
            }
        }
    }
}
