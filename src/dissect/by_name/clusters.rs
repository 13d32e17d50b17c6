//! Probes of what members of a cluster say to one another.

use super::{Probe, Segment};

/// ZooKeeper's servers among themselves: in elections versions are below zero, and the server's number follows; a follower or observer
/// tells the leader who it is, which is 12 or 20 bytes in a packet.
pub(super) fn zookeeper(segment: &Segment<'_>) -> Probe {
    match segment.data {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0 | 1, 0, 0, 0, 0, ..]
        | [
            0,
            0,
            0,
            11 | 16,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            0,
            0,
            0,
            12 | 20,
            ..,
        ] => Probe::Certain,
        [0, 0, 0, 11 | 16, rest @ ..] if rest.len() < 12 => Probe::Unsure,
        [] | [0] | [0, 0] | [0, 0, 0] => Probe::Unsure,
        short if short.len() < 12 && short.iter().take(6).all(|byte| *byte == 0xff) => {
            Probe::Unsure
        }
        _ => Probe::NotForUs,
    }
}

/// Dask's ends agree on how they pack: lengths of all and of the one frame, 64 bits each, and what can be compressed how.
pub(super) fn dask(segment: &Segment<'_>) -> Probe {
    const LENGTHS: usize = 24;
    const PACKS: &[u8] = b"\x83\xabcompression";
    const ALL: usize = LENGTHS + PACKS.len();
    let is_so = |(at, byte): (usize, &u8)| match at {
        0 | 1 | 16 | 17 => true,
        8 => *byte == 1,
        _ => {
            let packs = at.checked_sub(LENGTHS).and_then(|at| PACKS.get(at));
            packs.unwrap_or(&0) == byte
        }
    };
    if !segment.data.iter().take(ALL).enumerate().all(is_so) {
        Probe::NotForUs
    } else if segment.data.len() < ALL {
        Probe::Unsure
    } else {
        Probe::Certain
    }
}
