//! TCP connections inside encrypted ones, packet by packet, by the sizes of records alone.
//!
//! What carries IP packets seals each in a record of its own, or in one of few for a packet cut in two. So the carried
//! connections' own ways show: a handshake (a packet of bare headers and options, another one back, then the bare headers),
//! the same bare headers over and over in answer to whatever came, from both ends and of one size, and no packet larger
//! than a link takes. RFC 9293 has the header, RFC 7323 the options. An application over TLS has neither acknowledgements
//! nor such a limit: TLS and TCP below it look after both.
//!
//! Sizes are those of plaintext, in the order of both directions. Ciphers of blocks hide too much of them.

use std::ops::RangeInclusive;

use super::nested::Sized;

/// Bare headers of IP and TCP, with time stamps and what the carrier adds, IPv6 included.
const BARE: RangeInclusive<u32> = 40..=120;
/// The largest packet of an ordinary link, less the bare headers.
const MOST_CARRIED: u32 = 1460;
/// What the options of a first packet add to bare headers: of the systems in use, with time stamps granted or not.
const SYN_OPTIONS: [u32; 4] = [8, 12, 20, 24];
/// A server may grant fewer, down to the largest segment alone.
const SYN_ACK_OPTIONS: [u32; 5] = [4, 8, 12, 20, 24];
/// Records of other connections that may come between the packets of a handshake.
const BETWEEN: usize = 3;
/// Acknowledgements from which on they are a habit, and how many must directly answer something larger.
const FEWEST_ACKS: usize = 8;
const FEWEST_ANSWERS: usize = 4;
/// The least share of them in all.
const LEAST_SHARE: usize = 6;

/// How many acknowledgements the records show, if they carry TCP connections packet by packet; the size of one, too.
pub fn carries_tcp(records: &[Sized]) -> Option<(usize, u32)> {
    let mut tried = Vec::new();
    (0..records.len()).find_map(|at| {
        let (bare, then) = handshake(records, at)?;
        if tried.contains(&bare) {
            return None;
        }
        tried.push(bare);
        let after = records.get(then..)?;
        acknowledges(after, bare).map(|acks| (acks, bare))
    })
}

/// A handshake that begins with the record at `at`: the size of its last packet, and where that is.
fn handshake(records: &[Sized], at: usize) -> Option<(u32, usize)> {
    let &(asker, syn) = records.get(at)?;
    let next = |from: usize, theirs: bool| {
        let mut following = records.iter().enumerate().skip(from).take(BETWEEN + 1);
        following.find(|(_, (direction, _))| (*direction != asker) == theirs)
    };
    let (answered, &(_, syn_ack)) = next(at + 1, true)?;
    let (done, &(_, bare)) = next(answered + 1, false)?;
    let adds = |size: u32, options: &[u32]| {
        size.checked_sub(bare)
            .is_some_and(|more| options.contains(&more))
    };
    let fits = BARE.contains(&bare)
        && syn_ack <= syn
        && adds(syn, &SYN_OPTIONS)
        && adds(syn_ack, &SYN_ACK_OPTIONS);
    fits.then_some((bare, done))
}

/// How many records of this size answer whatever came, if that is what most of them do and all keep to a link's limit.
fn acknowledges(records: &[Sized], bare: u32) -> Option<usize> {
    let sizes = || records.iter().map(|(_, size)| *size);
    let acks = sizes().filter(|size| *size == bare).count();
    let smaller = sizes().filter(|size| *size < bare).count();
    let too_large = sizes().any(|size| size > bare + MOST_CARRIED);
    let (mut answers, mut both) = (0, [false; 2]);
    for pair in records.windows(2) {
        let [(_, before), (direction, size)] = pair else {
            continue;
        };
        if *size == bare {
            answers += usize::from(*before > bare);
            if let Some(seen) = both.get_mut(*direction as usize) {
                *seen = true;
            }
        }
    }
    let fits = !too_large
        && acks >= FEWEST_ACKS
        && acks * LEAST_SHARE >= records.len()
        && answers >= FEWEST_ANSWERS
        && smaller * LEAST_SHARE <= records.len()
        && both == [true; 2];
    fits.then_some(acks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Direction::{self, Orig, Resp};
    use crate::testkit::rng::Rng;

    /// A carrier's first words, then connections through it: bare headers, what a first packet's options add at either end,
    /// and what the carrier adds to each.
    fn tunnel(rng: &mut Rng, bare: u32, options: (u32, u32), carrier: u32) -> Vec<Sized> {
        let mut said = vec![(Orig, 525), (Resp, 770), (Orig, 42), (Resp, 42), (Orig, 42)];
        for _ in 0..6 {
            let mut packets = vec![
                (Orig, bare + options.0),
                (Resp, bare + options.1),
                (Orig, bare),
            ];
            packets.push((Orig, bare + rng.within(70..500) as u32));
            packets.push((Resp, bare));
            for _ in 0..rng.within(1..4) {
                packets.push((Resp, bare + MOST_CARRIED.min(rng.within(90..3000) as u32)));
                packets.push((Orig, bare));
            }
            packets.extend([(Resp, bare), (Orig, bare), (Orig, bare), (Resp, bare)]);
            said.extend(packets.into_iter().map(|(end, size)| (end, size + carrier)));
        }
        said.truncate(80);
        said
    }

    #[test]
    fn packets_show_whatever_carries_them_and_whoever_sends_them() {
        let mut rng = Rng::new(1);
        // Linux, macOS, Windows; with time stamps granted, or not; IPv6.
        for (bare, options) in [
            (52, (8, 8)),
            (52, (12, 8)),
            (40, (12, 12)),
            (40, (20, 4)),
            (40, (24, 12)),
            (72, (8, 8)),
        ] {
            for carrier in [0, 4, 8, 24, 32] {
                let said = tunnel(&mut rng, bare, options, carrier);
                assert!(
                    carries_tcp(&said).is_some_and(|(_, size)| size == bare + carrier),
                    "{bare} {options:?} {carrier}: {said:?}"
                );
                // Somebody comes in through it.
                let turned: Vec<_> = said
                    .iter()
                    .map(|(end, size)| (end.reverse(), *size))
                    .collect();
                assert!(carries_tcp(&turned).is_some());
            }
        }
    }

    /// What applications say: calls of some size and their answers, signs of life of one size both ways, control frames.
    fn application(rng: &mut Rng) -> Vec<Sized> {
        let (call, answer) = (rng.within(30..400), rng.within(30..1400));
        let spread = rng.within(1..60);
        let ping = rng.within(6..100) as u32;
        let mut said: Vec<(Direction, u32)> = vec![(Orig, 64), (Resp, 233)];
        while said.len() < 80 {
            if rng.chance(25) {
                said.extend([(Orig, ping), (Resp, ping)]);
            }
            said.push((Orig, (call + rng.below(spread)) as u32));
            if rng.chance(20) {
                said.push((Orig, 13));
            }
            for _ in 0..rng.within(1..4) {
                said.push((Resp, (answer + rng.below(spread)) as u32));
            }
        }
        said.truncate(80);
        said
    }

    #[test]
    fn applications_neither_acknowledge_nor_shake_hands() {
        let mut rng = Rng::new(2);
        let taken = (0..20_000).filter(|_| carries_tcp(&application(&mut rng)).is_some());
        let taken = taken.count();
        assert!(taken <= 2, "{taken} of 20000");
    }

    #[test]
    fn larger_records_than_packets_are_none() {
        let mut rng = Rng::new(3);
        let mut said = tunnel(&mut rng, 52, (8, 8), 8);
        assert!(carries_tcp(&said).is_some());
        said.push((Resp, 16_384));
        assert!(carries_tcp(&said).is_none());
        assert!(carries_tcp(&[]).is_none());
    }
}
