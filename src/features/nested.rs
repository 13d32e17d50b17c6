//! Conversations inside encrypted ones, by the sizes of records alone.
//!
//! What is encrypted once more keeps its rhythm. SSH begins with a line from both ends, then a list of algorithms from
//! both, a key exchange, and a packet of exactly sixteen bytes; from there on all its packets are padded to blocks, so
//! that their sizes lie on a grid, whatever carries them adds to each. TLS begins with a hello of some hundred bytes, a
//! flight of some thousand back, and a short finish. Xue et al., "Fingerprinting Obfuscated Proxy Traffic with Encapsulated
//! TLS Handshakes" (USENIX Security 2024), have the idea; the bounds here follow from the protocols.
//!
//! Sizes are those of plaintext, in the order of both directions. A beginning alone is a chain of small coincidences that
//! HTTP/2 may produce, too: it counts together with the grid.

use std::collections::BTreeSet;

use crate::flow::Direction;

use Direction::{Orig, Resp};

/// A record: who sent it, and bytes of plaintext.
pub type Sized = (Direction, u32);

/// What a carrier may add to each record: frames of WebSockets (8), multiplexers (12), HTTP/2 (9), a header of its own.
const MAX_OVERHEAD: u32 = 40;
/// An SSH banner's longest line, and the least.
const BANNER: std::ops::RangeInclusive<u32> = 9..=255 + MAX_OVERHEAD;
/// SSH's list of algorithms: from the barest servers to clients that offer everything.
const ALGORITHMS: std::ops::RangeInclusive<u32> = 300..=4096;
const KEYS_FROM_CLIENT: std::ops::RangeInclusive<u32> = 40..=6000;
const KEYS_FROM_SERVER: std::ops::RangeInclusive<u32> = 150..=6000;
/// The packet that takes new keys into use.
const NEW_KEYS: u32 = 16;
/// It is mostly zeros: a carrier that compresses (WebSockets do, unless told otherwise) makes so much of it, its own frame
/// included.
const NEW_KEYS_COMPRESSED: u32 = 10;
/// How far apart the requests for a service and its grant may be: what carries one direction may add more.
const SERVICE_SLACK: u32 = 16;
/// SSH requests its service in a packet of this many bytes, whatever the cipher.
const SERVICE: std::ops::RangeInclusive<u32> = 32..=84 + MAX_OVERHEAD;
/// Records among which a beginning is looked for.
const WINDOW: usize = 48;

/// Where the records begin a conversation in SSH, after whatever prologue the carrier needs: at the client's new keys, from
/// which on all is packets of whole blocks.
pub fn begins_ssh(records: &[Sized]) -> Option<usize> {
    let records = records.get(..WINDOW).unwrap_or(records);
    let runs = runs(records);
    // The client's new keys end a run of its own, or begin one that goes on with the request for a service.
    let mut numbered = records.iter().enumerate();
    let found = numbered.find(|&(at, &(direction, bytes))| {
        direction == Orig
            && (NEW_KEYS_COMPRESSED..=NEW_KEYS + MAX_OVERHEAD).contains(&bytes)
            && starts_run(records, at)
            && exchanged_keys(&runs, at)
            && service_granted(
                records.get(at + 1..).unwrap_or_default(),
                bytes.saturating_sub(NEW_KEYS),
            )
    });
    found.map(|(at, _)| at)
}

/// A run of records in one direction: where it begins, whose it is, the sum, the smallest and the largest.
#[derive(Clone, Copy, Debug)]
struct Run {
    at: usize,
    direction: Direction,
    sum: u32,
    smallest: u32,
    largest: u32,
}

fn runs(records: &[Sized]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, &(direction, bytes)) in records.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.direction == direction => {
                run.sum += bytes;
                run.smallest = run.smallest.min(bytes);
                run.largest = run.largest.max(bytes);
            }
            _ => runs.push(Run {
                at,
                direction,
                sum: bytes,
                smallest: bytes,
                largest: bytes,
            }),
        }
    }
    runs
}

fn starts_run(records: &[Sized], at: usize) -> bool {
    at > 0
        && records
            .get(at - 1)
            .is_some_and(|(direction, _)| *direction == Resp)
}

/// Whether, before the run that begins at `at`, the server answered a key exchange, and before that both ends sent a line
/// and a list.
fn exchanged_keys(runs: &[Run], at: usize) -> bool {
    let Some(here) = runs.iter().position(|run| run.at == at) else {
        return false;
    };
    let Some([.., client, server]) = runs.get(..here) else {
        return false;
    };
    if !KEYS_FROM_SERVER.contains(&server.sum) || !KEYS_FROM_CLIENT.contains(&client.sum) {
        return false;
    }
    // Lists and lines go in whatever order, and a line may be in one record with its list.
    let said = |direction: Direction| {
        let before = runs.get(..=here.saturating_sub(2)).unwrap_or_default();
        let mine = before.iter().filter(move |run| run.direction == direction);
        let list = mine
            .clone()
            .any(|run| run.largest >= *ALGORITHMS.start() && run.sum <= *KEYS_FROM_CLIENT.end());
        let line = mine.clone().any(|run| BANNER.contains(&run.smallest));
        (list, line)
    };
    let ((client_list, client_line), (server_list, server_line)) = (said(Orig), said(Resp));
    client_list && server_list && client_line && server_line
}

/// Whether the client asks for a service next, and is granted it by a packet as long.
fn service_granted(after: &[Sized], overhead: u32) -> bool {
    let next = after.get(..6).unwrap_or(after);
    let asked = next.iter().find(|(direction, _)| *direction == Orig);
    let Some(&(_, asked)) = asked.filter(|(_, bytes)| SERVICE.contains(bytes)) else {
        return false;
    };
    asked > NEW_KEYS + overhead
        && next.iter().any(|&(direction, granted)| {
            direction == Resp && granted.abs_diff(asked) <= SERVICE_SLACK
        })
}

/// Different sizes from which a grid can be told.
const MIN_SIZES: usize = 8;
/// Carriers' headers grow with what they carry: frames of WebSockets at 126 bytes, and nothing else below 64 kB.
const SIZE_CLASS: u32 = 132;
/// A carrier's own signs of life are shorter; a packet with its check is not.
const SMALLEST_PACKET: u32 = 16;
const GRID: u32 = 4;

/// Bits by which sizes lie on a grid of four bytes, as those of SSH's padded packets do: −log2 of the probability that as
/// many of so many different sizes leave the same remainder by chance.
///
/// Small and large records are counted apart, for a carrier's header may grow; each direction, too. Sizes that come again
/// say nothing new.
pub fn grid_bits(records: &[Sized]) -> f64 {
    let mut bits = 0.0;
    let (mut different, mut groups) = (0, 0);
    for direction in [Orig, Resp] {
        for small in [true, false] {
            let sizes: BTreeSet<u32> = records
                .iter()
                .filter(|(from, bytes)| *from == direction && (*bytes < SIZE_CLASS) == small)
                .map(|(_, bytes)| *bytes)
                .filter(|bytes| *bytes >= SMALLEST_PACKET)
                .collect();
            different += sizes.len();
            let mut remainders = [0_usize; GRID as usize];
            for size in &sizes {
                if let Some(count) = remainders.get_mut((size % GRID) as usize) {
                    *count += 1;
                }
            }
            let most = remainders.into_iter().max().unwrap_or(0);
            if sizes.len() > 1 {
                groups += 1;
                bits += shared_remainder_bits(sizes.len(), most);
            }
        }
    }
    if different < MIN_SIZES {
        0.0
    } else {
        together(bits, groups)
    }
}

/// Bits of several independent tests together, from the sum of theirs (Fisher): several that are a little unlikely each are
/// not as unlikely as all their bits.
fn together(bits: f64, tests: u32) -> f64 {
    let sum = bits * std::f64::consts::LN_2;
    let (mut term, mut series) = (1.0, 0.0);
    for number in 1..=tests {
        series += term;
        term *= sum / f64::from(number);
    }
    (bits - series.max(1.0).log2()).max(0.0)
}

/// −log2 of the probability that `most` or more of `n` numbers leave the same remainder, whichever (Boole's bound).
fn shared_remainder_bits(n: usize, most: usize) -> f64 {
    let share = 1.0 / f64::from(GRID);
    let mut tail = 0.0;
    let mut choose = 1.0;
    // From all of them downwards.
    for k in (most..=n).rev() {
        let missed = n - k;
        if missed > 0 {
            choose *= (k + 1) as f64 / missed as f64;
        }
        tail += choose * share.powi(k as i32) * (1.0 - share).powi(missed as i32);
    }
    (-(tail * f64::from(GRID)).min(1.0).log2()).max(0.0)
}

/// A client's hello: from bare clients to those with large key shares and padding.
const HELLO: std::ops::RangeInclusive<u32> = 170..=2300;
/// A server's flight: hello, certificates, proof.
const FLIGHT: std::ops::RangeInclusive<u32> = 700..=9000;
/// A client's finish in TLS 1.3, alone in its record or before the request: with the dummy change of ciphers or without,
/// for both lengths of hash.
const FINISH: [u32; 4] = [58, 64, 74, 80];
/// A client's finish in TLS 1.2: key exchange, change of ciphers, finish.
const FINISH_1_2: std::ops::RangeInclusive<u32> = 93..=190;
/// A server's finish in TLS 1.2, with a ticket or without.
const SERVER_FINISH_1_2: std::ops::RangeInclusive<u32> = 51..=330;
/// Carriers of TLS in TLS add less: it is a relay's stream, or a frame.
const MAX_SMALL_OVERHEAD: u32 = 16;

/// Whether the records begin a conversation in TLS, after whatever prologue the carrier needs.
pub fn begins_tls(records: &[Sized]) -> bool {
    let records = records.get(..WINDOW).unwrap_or(records);
    let runs = runs(records);
    runs.windows(4).any(|window| {
        let [hello, flight, finish, then] = window else {
            return false;
        };
        if hello.direction != Orig
            || hello.smallest != hello.largest
            || !HELLO.contains(&hello.sum)
            || !FLIGHT.contains(&flight.sum)
        {
            return false;
        }
        let first = records.get(finish.at).map_or(0, |(_, bytes)| *bytes);
        let more = finish.sum > first;
        let modern = FINISH
            .iter()
            .any(|len| (*len..=len + MAX_SMALL_OVERHEAD).contains(&first));
        let old = FINISH_1_2.contains(&first) && !more && SERVER_FINISH_1_2.contains(&then.sum);
        // After its finish a client asks at once, and the server greets with tickets before it answers.
        modern && more || old
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::rng::Rng;

    /// OpenSSH inside WebSockets inside TLS: what a client and a server said, frames' headers included.
    fn ssh_in_websocket() -> Vec<Sized> {
        let said: [(Direction, &[u32]); 28] = [
            (Orig, &[52, 235]),
            (Resp, &[233, 233, 203]),
            (Orig, &[47]),
            (Resp, &[43, 1092]),
            (Orig, &[1568, 1216]),
            (Resp, &[1568]),
            (Orig, &[22, 50]),
            (Resp, &[46]),
            (Orig, &[66]),
            (Resp, &[78]),
            (Orig, &[148]),
            (Resp, &[102]),
            (Orig, &[316]),
            (Resp, &[30, 252, 136]),
            (Orig, &[136]),
            (Resp, &[110]),
            (Orig, &[30]),
            (Resp, &[94]),
            (Orig, &[50]),
            (Resp, &[46]),
            (Orig, &[42]),
            (Resp, &[94]),
            (Orig, &[66]),
            (Resp, &[94]),
            (Orig, &[140]),
            (Resp, &[152]),
            (Orig, &[508]),
            (Resp, &[110, 30, 94]),
        ];
        let each = said.into_iter();
        each.flat_map(|(end, sizes)| sizes.iter().map(move |&bytes| (end, bytes)))
            .collect()
    }

    #[test]
    fn ssh_begins_inside_whatever_carries_it() {
        let inside = ssh_in_websocket();
        assert_eq!(begins_ssh(&inside), Some(11));
        assert!(
            grid_bits(&inside[11..]) >= 8.0,
            "{}",
            grid_bits(&inside[11..])
        );
        assert_eq!(begins_ssh(&inside[5..]), Some(6), "without a prologue");
        for cut in 0..11 {
            assert_eq!(begins_ssh(&inside[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn ssh_begins_inside_a_carrier_that_compresses() {
        // The lists of algorithms and the packet of zeros shrink; what is encrypted grows, mostly by the same.
        let said: [(Direction, &[u32]); 24] = [
            (Orig, &[260]),
            (Resp, &[303]),
            (Orig, &[49]),
            (Resp, &[45]),
            (Orig, &[375]),
            (Resp, &[316]),
            (Orig, &[1222]),
            (Resp, &[1574]),
            (Orig, &[14, 56]),
            (Resp, &[52]),
            (Orig, &[72]),
            (Resp, &[84]),
            (Orig, &[154]),
            (Resp, &[108]),
            (Orig, &[322]),
            (Resp, &[34]),
            (Orig, &[124]),
            (Resp, &[674, 194]),
            (Orig, &[190]),
            (Resp, &[80]),
            (Orig, &[48]),
            (Resp, &[1862, 1862, 6]),
            (Orig, &[10]),
            (Resp, &[1862, 134]),
        ];
        let each = said.into_iter();
        let records: Vec<Sized> = each
            .flat_map(|(end, sizes)| sizes.iter().map(move |&bytes| (end, bytes)))
            .collect();
        assert_eq!(begins_ssh(&records), Some(8));
        let bits = grid_bits(&records[8..]);
        assert!(bits >= 8.0, "{bits}");
    }

    #[test]
    fn applications_neither_begin_so_nor_keep_to_a_grid() {
        let mut rng = Rng::new(3);
        let (mut begun, mut gridded) = (0, 0);
        for _ in 0..2000 {
            // HTTP/2: settings and a request, then small calls both ways.
            let mut records = vec![(Orig, 52), (Orig, 24 + 27 + 13), (Orig, 340)];
            records.extend([(Resp, 233), (Resp, 40), (Orig, 9)]);
            for _ in 0..20 {
                records.push((Orig, rng.within(20..130) as u32));
                records.push((Resp, rng.within(20..1500) as u32));
            }
            gridded += u32::from(grid_bits(&records) >= 8.0);
            if let Some(at) = begins_ssh(&records) {
                begun += 1;
                assert!(grid_bits(&records[at..]) < 8.0);
            }
        }
        assert!(begun < 500 && gridded < 16, "{begun} {gridded}");
    }

    #[test]
    fn tls_begins_inside() {
        let modern = [
            (Orig, 52),
            (Orig, 120),
            (Resp, 39),
            (Orig, 517),
            (Resp, 2700),
            (Orig, 64),
            (Orig, 120),
            (Resp, 400),
        ];
        assert!(begins_tls(&modern));
        let pages = [
            (Orig, 52),
            (Orig, 420),
            (Resp, 2700),
            (Orig, 430),
            (Resp, 9000),
            (Orig, 410),
            (Resp, 100),
        ];
        assert!(!begins_tls(&pages));
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(begins_ssh(&[]).is_none() && !begins_tls(&[]));
        assert_eq!(grid_bits(&[]), 0.0);
        assert_eq!(grid_bits(&[(Orig, 64); 40]), 0.0, "one size tells nothing");
    }
}
