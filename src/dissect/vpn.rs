//! Virtual private networks by their handshakes: WireGuard, OpenVPN, IKE and what follows it. Recognised by the whole
//! structure of a first message, on any port; what comes after is encrypted and not looked at.

use super::by_name::done;
use super::{Carrier, DissectorSpec, Probe, Segment};

/// WireGuard.
pub(super) const WIREGUARD: DissectorSpec = DissectorSpec {
    name: "wireguard",
    carrier: Carrier::Udp,
    probe: probe_wireguard,
    build: done,
};

/// OpenVPN over UDP.
pub(super) const OPENVPN_UDP: DissectorSpec = DissectorSpec {
    name: "openvpn",
    carrier: Carrier::Udp,
    probe: |segment| sure(is_reset(segment.data, segment)),
    build: done,
};

/// OpenVPN over TCP, each message after its length.
pub(super) const OPENVPN_TCP: DissectorSpec = DissectorSpec {
    name: "openvpn",
    carrier: Carrier::Tcp,
    probe: probe_openvpn_stream,
    build: done,
};

/// IKE, both versions.
pub(super) const IKE: DissectorSpec = DissectorSpec {
    name: "ike",
    carrier: Carrier::Udp,
    probe: |segment| sure(is_ike(segment)),
    build: done,
};

/// IPsec in UDP (RFC 3948), when the keys were exchanged before the capture began.
pub(super) const ESP: DissectorSpec = DissectorSpec {
    name: "esp",
    carrier: Carrier::Udp,
    probe: |segment| sure(is_esp(segment)),
    build: done,
};

const NAT_PORT: u16 = 4500;

const fn sure(is: bool) -> Probe {
    if is { Probe::Certain } else { Probe::NotForUs }
}

/// Initiation, response, cookie, and data of a session that is young enough for a counter below 2²⁴ (the WireGuard paper,
/// 5.4).
fn probe_wireguard(segment: &Segment<'_>) -> Probe {
    let data = segment.data;
    let is = match (data, data.len()) {
        ([1, 0, 0, 0, ..], 148) | ([2, 0, 0, 0, ..], 92) => true,
        // Its nonce is 24 random bytes: they don't count up or repeat.
        ([3, 0, 0, 0, ..], 64) => data.get(8..32).is_some_and(varied),
        ([4, 0, 0, 0, ..], len) => {
            let counter = data.get(8..16).unwrap_or_default();
            len >= 32
                && len.wrapping_rem(16) == 0
                && matches!(counter, [_, _, _, 0, 0, 0, 0, 0])
                && data.get(16..32).is_some_and(varied)
        }
        _ => false,
    };
    sure(is)
}

/// Whether no value stands out, as in random bytes.
fn varied(bytes: &[u8]) -> bool {
    let mut sorted = bytes.to_vec();
    sorted.sort_unstable();
    !sorted.is_empty() && sorted.chunk_by(|a, b| a == b).all(|same| same.len() <= 4)
}

/// Hard resets: opcode and key 0. Client's, server's, client's with a wrapped key.
const RESET_CLIENT: u8 = 7 << 3;
const RESET_SERVER: u8 = 8 << 3;
const RESET_CLIENT_WRAPPED: u8 = 10 << 3;
/// Lengths of the HMACs that `--auth` knows (MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512); 0 without `--tls-auth`.
const HMACS: [usize; 7] = [0, 16, 20, 28, 32, 48, 64];
/// Opcode and session identifier.
const START: usize = 9;
/// Packet identifier and time, which protect against replay.
const REPLAY: usize = 8;
/// HMAC and the encrypted rest of a reset under `--tls-crypt`.
const CRYPT: usize = 32 + 5;
/// What the server's reset has beyond the client's: an acknowledgement, and whose session it is for.
const ACK: usize = 12;

/// A first message of either end, by its length and all the fields that must be as they are.
fn is_reset(data: &[u8], segment: &Segment<'_>) -> bool {
    let Some((&opcode, _)) = data.split_first() else {
        return false;
    };
    let acks = match opcode {
        RESET_CLIENT => 0,
        RESET_SERVER => ACK,
        RESET_CLIENT_WRAPPED => return is_wrapped(data, segment),
        _ => return false,
    };
    let plain = HMACS.into_iter().any(|hmac| {
        let replay = if hmac == 0 { 0 } else { REPLAY };
        let tail = START.saturating_add(hmac).saturating_add(replay);
        data.len() == tail.saturating_add(acks).saturating_add(5)
            && (hmac == 0 || is_fresh(data, START.saturating_add(hmac), segment))
            && data
                .get(tail..)
                .is_some_and(|rest| is_first(rest, acks > 0))
    });
    let crypt = START.saturating_add(REPLAY).saturating_add(CRYPT);
    plain || data.len() == crypt.saturating_add(acks) && is_fresh(data, START, segment)
}

/// The end of a reset: nothing, or message 0 acknowledged, and this is message 0.
fn is_first(rest: &[u8], acknowledges: bool) -> bool {
    match rest {
        [0, 0, 0, 0, 0] => !acknowledges,
        [1, 0, 0, 0, 0, _, _, _, _, _, _, _, _, 0, 0, 0, 0] => acknowledges,
        _ => false,
    }
}

/// A client's first message that brings its key along, wrapped; its length stands last (tls-crypt-v2).
fn is_wrapped(data: &[u8], segment: &Segment<'_>) -> bool {
    let own = START.saturating_add(REPLAY).saturating_add(CRYPT);
    let Some(&[high, low]) = data.last_chunk::<2>() else {
        return false;
    };
    let key = usize::from(u16::from_be_bytes([high, low]));
    key > 64 && data.len() == own.saturating_add(key) && is_fresh(data, START, segment)
}

/// One of the first packet identifiers, with a time of this age: within ten years of the capture's.
fn is_fresh(data: &[u8], at: usize, segment: &Segment<'_>) -> bool {
    const TEN_YEARS: u64 = 10 * 366 * 86_400;
    let Some(&[_, _, i2, i3, t0, t1, t2, t3]) = data.get(at..).and_then(<[u8]>::first_chunk) else {
        return false;
    };
    let time = i64::from(u32::from_be_bytes([t0, t1, t2, t3]));
    let now = segment.time.nanos().div_euclid(1_000_000_000);
    u16::from_be_bytes([i2, i3]) <= 16 && now.abs_diff(time) < TEN_YEARS
}

fn probe_openvpn_stream(segment: &Segment<'_>) -> Probe {
    let [high, low, rest @ ..] = segment.data else {
        return Probe::Unsure;
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    match rest.first() {
        Some(&(RESET_CLIENT | RESET_SERVER | RESET_CLIENT_WRAPPED)) | None
            if (14..1500).contains(&len) =>
        {
            match rest.get(..len) {
                Some(message) => sure(is_reset(message, segment)),
                None if len > super::PROBE_WINDOW => Probe::NotForUs,
                None => Probe::Unsure,
            }
        }
        _ => Probe::NotForUs,
    }
}

/// An ISAKMP header (RFC 2408 3.1, RFC 7296 3.1) that tells the datagram's length.
fn is_ike(segment: &Segment<'_>) -> bool {
    let nat = segment.orig_port == NAT_PORT || segment.resp_port == NAT_PORT;
    let data = match segment.data {
        [0, 0, 0, 0, rest @ ..] if nat => rest,
        data => data,
    };
    let Some(&head) = data.first_chunk::<28>() else {
        return false;
    };
    let [
        spi @ ..,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        version,
        exchange,
        _,
        _,
        _,
        _,
        _,
        l0,
        l1,
        l2,
        l3,
    ] = head;
    let spi: [u8; 8] = spi;
    let known = match version {
        0x10 => matches!(exchange, 1..=6 | 32..=34),
        0x20 => matches!(exchange, 34..=43),
        _ => false,
    };
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    // A message cut by the capture or in fragments is longer than what is here.
    known && spi != [0; 8] && length >= data.len() && length < 65_536
}

fn is_esp(segment: &Segment<'_>) -> bool {
    let nat = segment.orig_port == NAT_PORT && segment.resp_port == NAT_PORT;
    match segment.data {
        // Identifiers up to 255 are reserved; numbers start small.
        [0, 0, 0, _, ..] => false,
        [_, _, _, _, 0, _, _, _, rest @ ..] => {
            nat && rest.len() >= 16 && varied(rest.get(..16).unwrap_or(rest))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::segment;
    use super::*;
    use crate::flow::Direction::{Orig, Resp};
    use crate::time::Timestamp;

    /// Bytes that don't repeat.
    fn noise(len: usize) -> Vec<u8> {
        (0..len)
            .map(|n| (n.wrapping_mul(167) ^ (n >> 3)) as u8)
            .collect()
    }

    fn on(port: u16, data: &[u8]) -> Segment<'_> {
        Segment {
            resp_port: port,
            time: Timestamp::from_secs(1_700_000_000),
            ..segment(Orig, data)
        }
    }

    fn datagram(spec: &DissectorSpec, data: &[u8]) -> bool {
        (spec.probe)(&on(7777, data)) == Probe::Certain
    }

    #[test]
    fn wireguard_by_kind_and_length() {
        let message = |kind: u8, len: usize| {
            let mut data = noise(len);
            data[..4].copy_from_slice(&[kind, 0, 0, 0]);
            data
        };
        for (kind, len) in [(1, 148), (2, 92), (3, 64)] {
            assert!(datagram(&WIREGUARD, &message(kind, len)));
            assert!(!datagram(&WIREGUARD, &message(kind, len + 1)));
        }
        let mut data = message(4, 112);
        assert!(!datagram(&WIREGUARD, &data), "a counter beyond belief");
        data[8..16].copy_from_slice(&[5, 1, 0, 0, 0, 0, 0, 0]);
        assert!(datagram(&WIREGUARD, &data));
        assert!(!datagram(&WIREGUARD, &data[..100]));
        let mut dull = vec![0; 112];
        dull[0] = 4;
        assert!(!datagram(&WIREGUARD, &dull));
    }

    /// Resets of client and server with an HMAC of some length.
    fn resets(hmac: usize) -> [Vec<u8>; 2] {
        let mut head = noise(hmac);
        if hmac > 0 {
            head.extend([0, 0, 0, 1]);
            head.extend(1_699_000_000_u32.to_be_bytes());
        }
        let session = [9, 8, 7, 6, 5, 4, 3, 2];
        [
            [&[RESET_CLIENT][..], &session, &head, &[0; 5]].concat(),
            [
                &[RESET_SERVER][..],
                &session,
                &head,
                &[1, 0, 0, 0, 0],
                &session,
                &[0; 4],
            ]
            .concat(),
        ]
    }

    #[test]
    fn openvpn_with_any_protection() {
        for hmac in HMACS {
            for reset in resets(hmac) {
                assert!(datagram(&OPENVPN_UDP, &reset), "{hmac}");
                let framed = [&(reset.len() as u16).to_be_bytes()[..], &reset, b"more"].concat();
                for len in 1..=framed.len() {
                    let expected = if len < reset.len() + 2 {
                        Probe::Unsure
                    } else {
                        Probe::Certain
                    };
                    assert_eq!(
                        (OPENVPN_TCP.probe)(&on(443, &framed[..len])),
                        expected,
                        "{hmac} {len}"
                    );
                }
                let mut wrong = reset;
                let last = wrong.len() - 1;
                wrong[last] = 1;
                assert!(!datagram(&OPENVPN_UDP, &wrong));
            }
        }
        let fresh = [&[0, 0, 0, 1][..], &1_699_000_000_u32.to_be_bytes()].concat();
        let crypt = [&[RESET_CLIENT][..], &noise(8), &fresh, &noise(37)].concat();
        assert!(datagram(&OPENVPN_UDP, &crypt));
        let mut wrapped = [
            &[RESET_CLIENT_WRAPPED][..],
            &noise(8),
            &fresh,
            &noise(37),
            &noise(298),
        ]
        .concat();
        wrapped.extend([1, 44]);
        assert!(datagram(&OPENVPN_UDP, &wrapped));
        wrapped.push(0);
        assert!(!datagram(&OPENVPN_UDP, &wrapped));
    }

    #[test]
    fn ike_on_both_ports_and_esp_on_one() {
        let mut head = noise(8);
        head.extend([0; 8]);
        head.extend([33, 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 40]);
        head.extend(noise(12));
        assert!(datagram(&IKE, &head));
        let marked = [&[0; 4][..], &head].concat();
        assert!((IKE.probe)(&on(4500, &marked)) == Probe::Certain);
        assert!(!datagram(&IKE, &marked));
        assert!(!datagram(&IKE, &[&head[..], b"x"].concat()));
        let esp = [&[0xc1, 2, 3, 4, 0, 0, 0, 1][..], &noise(64)].concat();
        let natted = Segment {
            orig_port: 4500,
            ..on(4500, &esp)
        };
        assert_eq!((ESP.probe)(&natted), Probe::Certain);
        assert_eq!(
            (ESP.probe)(&Segment {
                direction: Resp,
                ..on(9, &esp)
            }),
            Probe::NotForUs
        );
    }
}
