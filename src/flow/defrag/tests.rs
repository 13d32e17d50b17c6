//! Datagrams cut up and dealt out in every way, and floods of pieces.

use proptest::prelude::*;

use super::*;
use crate::decode::{Anomalies, Content, Transport};

const V4: (&str, &str) = ("10.244.1.7", "10.244.2.9");
const V6: (&str, &str) = ("fd00::7", "fd00::9");

/// A defragmenter, and what it lost.
struct Desk {
    defrag: Defrag,
    losses: LossCounts,
}

/// A piece as it is handed in: offset, whether more follow, bytes.
type Cut<'a> = (u32, bool, &'a [u8]);

impl Desk {
    fn new() -> Self {
        Self::with(&FlowConfig::default())
    }

    fn with(config: &FlowConfig) -> Self {
        Self {
            defrag: Defrag::new(config),
            losses: LossCounts::default(),
        }
    }

    fn push(&mut self, secs: i64, ends: (&str, &str), id: u32, cut: Cut<'_>) -> Option<Datagram> {
        let (offset, more, data) = cut;
        let fragment = Fragment {
            id,
            protocol: 17,
            offset,
            more,
            data,
            len: data.len() as u32,
        };
        let ip = IpPacket {
            src: ends.0.parse().unwrap(),
            dst: ends.1.parse().unwrap(),
            ttl: 64,
            id: id as u16,
            protocol: 17,
            header: &[],
            transport: Transport::Fragment,
            fragment: Some(fragment),
            payload: data,
            payload_len: data.len() as u32,
        };
        let packet = Packet {
            time: Timestamp::from_secs(secs),
            wire_len: 34 + data.len() as u32,
            frames: 1,
            network: NetworkId::default(),
            tunnel: None,
            interface: 0,
            link: &[],
            content: Content::Other,
            anomalies: Anomalies::default(),
        };
        let whole = self.defrag.push(&packet, &ip, &fragment, &mut self.losses);
        while self
            .defrag
            .given_up(packet.time, &mut self.losses)
            .is_some()
        {}
        whole
    }

    fn lost(&self) -> (u64, u64) {
        let of = |loss| self.losses.get(loss);
        (of(Loss::Fragment), of(Loss::FragmentOverlap))
    }
}

/// A UDP datagram 40000 → 53 with `len` bytes of payload that count up.
fn udp(len: u16) -> Vec<u8> {
    let mut bytes = vec![0x9c, 0x40, 0, 53];
    bytes.extend((len + 8).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((0..len).map(|at| at as u8));
    bytes
}

/// The payload that decoding finds in a datagram, with frames and bytes on the wire.
fn payload(datagram: &Datagram) -> (Vec<u8>, u32, u32, u32) {
    let packet = datagram.decode(&|_, _| true);
    let Content::Ip(ip) = &packet.content else {
        panic!("{:?}", packet.content)
    };
    let ports = Transport::Ports {
        src_port: 40000,
        dst_port: 53,
    };
    assert_eq!((ip.transport, ip.fragment), (ports, None));
    (
        ip.payload.to_vec(),
        ip.payload_len,
        packet.frames,
        packet.wire_len,
    )
}

#[test]
fn pieces_in_any_order_make_the_datagram_and_all_frames_count() {
    let whole = udp(100);
    for ends in [V4, V6] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut desk = Desk::new();
            let cuts: [Cut<'_>; 3] = [
                (0, true, &whole[..8]),
                (8, true, &whole[8..64]),
                (64, false, &whole[64..]),
            ];
            let mut made = order.map(|at| desk.push(1, ends, 9, cuts[at]));
            let (last, early) = made.split_last_mut().unwrap();
            assert_eq!(early, [None, None]);
            let (bytes, len, frames, wire_len) = payload(&last.take().unwrap());
            assert_eq!((&bytes[..], len), (&whole[8..], 100));
            assert_eq!((frames, wire_len), (3, 3 * 34 + 108));
            assert_eq!((desk.lost(), desk.defrag.bytes()), ((0, 0), 0));
        }
    }
}

/// Who may share a queue: ends, number, network and, in IPv4, the protocol.
#[test]
fn datagrams_are_kept_apart() {
    let whole = udp(16);
    let mut desk = Desk::new();
    assert_eq!(desk.push(1, V4, 9, (0, true, &whole[..16])), None);
    assert_eq!(desk.push(1, V4, 10, (16, false, &whole[16..])), None);
    assert_eq!(
        desk.push(1, (V4.1, V4.0), 9, (16, false, &whole[16..])),
        None
    );
    assert_eq!(desk.push(1, V6, 9, (16, false, &whole[16..])), None);
    assert!(desk.push(1, V4, 9, (16, false, &whole[16..])).is_some());
}

/// Teardrop: the second piece begins inside the first and ends before it does, or after.
#[test]
fn an_overlap_takes_the_datagram_with_it_and_a_copy_does_not() {
    let whole = udp(56);
    let mut desk = Desk::new();
    desk.push(1, V4, 1, (0, true, &whole[..32]));
    assert_eq!(desk.push(1, V4, 1, (24, false, &whole[24..])), None);
    assert_eq!((desk.lost(), desk.defrag.bytes()), ((0, 2), 0));

    // Inside, with other bytes: left out; the first copy stands.
    let mut desk = Desk::new();
    desk.push(1, V4, 1, (0, true, &whole[..32]));
    desk.push(1, V4, 1, (0, true, &whole[..32]));
    desk.push(1, V4, 1, (8, true, &[0xee; 16]));
    assert_eq!(desk.lost(), (0, 1));
    let made = desk.push(1, V4, 1, (32, false, &whole[32..])).unwrap();
    let (bytes, _, frames, _) = payload(&made);
    assert_eq!((&bytes[..], frames), (&whole[8..], 2));

    // Two ends, or bytes after the end.
    for second in [(24, false, &whole[24..40]), (40, true, &whole[40..48])] {
        let mut desk = Desk::new();
        desk.push(1, V4, 1, (32, false, &whole[32..40]));
        desk.push(1, V4, 1, second);
        desk.push(1, V4, 1, (48, false, &whole[48..]));
        assert!(desk.lost().1 > 0, "{second:?}");
    }
}

#[test]
fn pieces_that_no_datagram_can_have_are_counted() {
    let mut desk = Desk::new();
    desk.push(1, V4, 1, (65_528, false, &[1; 64])); // ping of death
    desk.push(1, V4, 2, (0, true, &[])); // nothing
    desk.push(1, V4, 3, (0, true, &[1; 7])); // not even one unit
    desk.push(1, V6, 4, (0, true, &[1; 20])); // not whole units
    assert_eq!((desk.lost(), desk.defrag.bytes()), ((4, 0), 0));
}

#[test]
fn what_never_becomes_whole_is_given_up_in_time_and_its_first_piece_handed_on() {
    let whole = udp(100);
    let mut desk = Desk::new();
    desk.push(1, V4, 1, (0, true, &whole[..48]));
    desk.push(1, V4, 1, (48, true, &whole[48..56]));
    desk.push(1, V4, 1, (80, false, &whole[80..])); // 56..80 is missing
    desk.push(2, V4, 2, (48, false, &whole[48..]));
    let at = |secs| Timestamp::from_secs(secs);
    assert_eq!(desk.defrag.given_up(at(31), &mut desk.losses), None);
    let part = desk.defrag.given_up(at(40), &mut desk.losses).unwrap();
    let (bytes, len, frames, wire_len) = payload(&part);
    assert_eq!(&bytes[..], &whole[8..56]);
    assert_eq!((len, frames, wire_len), (76, 3, 3 * 34 + 84));
    assert_eq!(part.decode(&|_, _| true).time, at(40));
    assert_eq!(desk.defrag.given_up(at(40), &mut desk.losses), None);
    assert_eq!((desk.lost(), desk.defrag.bytes()), ((4, 0), 0));
}

/// A piece cut by the snap length holds its place; the datagram is known up to there.
#[test]
fn what_the_snap_length_cut_is_missing_but_counted() {
    let whole = udp(100);
    let mut desk = Desk::new();
    desk.push(1, V4, 1, (56, false, &whole[56..]));
    let fragment = Fragment {
        id: 1,
        protocol: 17,
        offset: 0,
        more: true,
        data: &whole[..40],
        len: 56,
    };
    let head = Head {
        src: V4.0.parse().unwrap(),
        dst: V4.1.parse().unwrap(),
        id: 1,
        protocol: 17,
        ttl: 64,
        network: NetworkId::default(),
        tunnel: None,
    };
    let waiting = desk.defrag.waiting.values_mut().next().unwrap();
    assert!(matches!(waiting.take(head, &fragment), Fit::New));
    let (bytes, len, ..) = payload(&waiting.datagram(Timestamp::from_secs(1), 108));
    assert_eq!((&bytes[..], len), (&whole[8..40], 100));
}

/// Another tap shows the fragments again while their datagram waits, and when it is whole already.
#[test]
fn fragments_seen_again_are_copies() {
    let whole = udp(24);
    let mut desk = Desk::new();
    let (first, last) = ((0, true, &whole[..16]), (16, false, &whole[16..]));
    desk.push(1, V4, 1, first);
    desk.push(1, V4, 1, first);
    assert!(desk.push(1, V4, 1, last).is_some());
    assert_eq!(desk.push(1, V4, 1, last), None);
    assert_eq!((desk.defrag.copies(), desk.lost()), (2, (0, 0)));
    assert!(desk.defrag.is_empty());
    // Later, the number is used again.
    desk.push(2, V4, 1, first);
    assert!(desk.push(2, V4, 1, last).is_some());
}

/// Floods of first, of last and of tiny pieces: bounded, and every one accounted for.
#[test]
fn floods_stay_within_the_bound() {
    let config = FlowConfig {
        max_fragment_bytes: 1 << 16,
        ..FlowConfig::default()
    };
    let mut desk = Desk::with(&config);
    let flood: [fn(u32) -> (u32, u32); 3] = [
        |n| (n, 0),             // first pieces of ever new datagrams
        |n| (n, 8000),          // late ones
        |n| (7, n % 4096 * 16), // every other unit of one datagram
    ];
    let mut sent = 0;
    for piece in flood {
        for n in 0..20_000 {
            let (id, offset) = piece(n);
            desk.push(1, V4, id, (offset, true, &[1; 8]));
            sent += 1;
            assert!(desk.defrag.bytes() <= 1 << 16);
            assert!(desk.defrag.order.len() <= 2 * desk.defrag.waiting.len() + 65);
        }
    }
    while desk.defrag.rest(&mut desk.losses).is_some() {}
    let (lost, overlapped) = desk.lost();
    let copies = sent - lost - overlapped;
    assert!(desk.defrag.is_empty() && desk.defrag.order.is_empty());
    assert_eq!(desk.defrag.bytes(), 0);
    assert!(copies < 20_000, "only the third flood repeats itself");
}

/// Datagrams that become whole at once leave nothing behind, however many there are.
#[test]
fn whole_datagrams_cost_nothing_afterwards() {
    let whole = udp(24);
    let mut desk = Desk::new();
    for id in 0..50_000 {
        desk.push(1, V4, id, (0, true, &whole[..16]));
        assert!(desk.push(1, V4, id, (16, false, &whole[16..])).is_some());
    }
    assert_eq!(desk.defrag.bytes(), 0);
    assert!(desk.defrag.order.len() <= 64);
}

/// A datagram cut into units of eight bytes, as the policy has it: each unit's first copy, unless something clashed.
#[derive(Default)]
struct Model {
    units: Vec<Option<u8>>,
    end: Option<usize>,
    runs: Vec<(usize, usize)>,
}

impl Model {
    /// Returns whether the datagram survives.
    fn take(&mut self, from: usize, to: usize, last: bool, byte: u8) -> bool {
        let highest = self.runs.iter().map(|run| run.1).max().unwrap_or(0);
        let agrees = match self.end {
            Some(end) => to <= end && (!last || to == end),
            None => !last || to >= highest,
        };
        let known = |units: &[Option<u8>]| units.iter().filter(|unit| unit.is_some()).count();
        let overlap = known(&self.units[from..to]);
        if !agrees || (overlap > 0 && overlap < to - from) {
            return false;
        }
        if overlap == 0 {
            self.units[from..to].fill(Some(byte));
            self.runs.push((from, to));
            if last {
                self.end = Some(to);
            }
        }
        true
    }

    fn whole(&self) -> Option<Vec<u8>> {
        let units = self.units[..self.end?].iter();
        units
            .flat_map(|unit| [unit.map(|byte| vec![byte; 8])])
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat())
    }
}

proptest! {
    /// Whatever the pieces, their order and their overlaps: what comes out is what the policy says.
    #[test]
    fn any_pieces_give_what_the_policy_says(
        pieces in prop::collection::vec((0usize..12, 1usize..6, any::<bool>()), 1..30),
    ) {
        let mut desk = Desk::new();
        let fresh = || Model { units: vec![None; 24], ..Model::default() };
        let mut model = fresh();
        for (number, (from, len, last)) in pieces.into_iter().enumerate() {
            let data = vec![number as u8; len * 8];
            let made = desk.push(number as i64, V4, 5, ((from * 8) as u32, !last, &data));
            if !model.take(from, from + len, last, number as u8) {
                model = fresh();
            }
            let expected = model.whole();
            if expected.is_some() {
                model = fresh();
            }
            let got = made.map(|datagram| {
                let packet = datagram.decode(&|_, _| true);
                let Content::Ip(ip) = &packet.content else { panic!("{:?}", packet.content) };
                let headers = ip.payload_len as usize;
                (headers, ip.payload.to_vec())
            });
            match (expected, got) {
                (Some(expected), Some((len, payload))) => {
                    prop_assert_eq!(len, expected.len() - 8);
                    prop_assert_eq!(&payload[..], &expected[8..]);
                }
                (None, None) => {}
                (expected, got) => prop_assert!(false, "{:?} against {:?}", expected, got),
            }
        }
    }
}
