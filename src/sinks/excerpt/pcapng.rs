//! pcapng blocks, as far as an excerpt needs them: section, interface, packet with a comment
//! (<https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/>).

use crate::capture::{Frame, LinkType};

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// `opt_comment`, `if_tsresol`, `shb_userappl`.
const COMMENT: u16 = 1;
const RESOLUTION: u16 = 9;
const PROGRAM: u16 = 4;
/// Type, length, length again.
const AROUND: usize = 12;

/// Begins a file.
pub(super) fn section(file: &mut Vec<u8>, comment: &str) {
    block(file, SECTION, |body| {
        body.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        body.extend_from_slice(&1_u16.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        // Its length isn't told.
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        option(body, COMMENT, comment.as_bytes());
        option(body, PROGRAM, b"spanwatch");
        option(body, 0, b"");
    });
}

/// Adds an interface; they are numbered in their order. Its stamps are nanoseconds.
pub(super) fn interface(file: &mut Vec<u8>, link: LinkType) {
    // 101 is how files call what libpcap has as 12.
    let number = match link {
        LinkType::RawIp => 101,
        other => other.dlt() as u16,
    };
    block(file, INTERFACE, |body| {
        body.extend_from_slice(&number.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        body.extend_from_slice(&(super::SNAPLEN as u32).to_le_bytes());
        option(body, RESOLUTION, &[9]);
        option(body, 0, b"");
    });
}

/// Adds a packet.
pub(super) fn packet(file: &mut Vec<u8>, interface: usize, frame: &Frame<'_>, comment: &str) {
    let stamp = frame.time.nanos() as u64;
    block(file, PACKET, |body| {
        for field in [
            interface as u32,
            (stamp >> 32) as u32,
            stamp as u32,
            frame.data.len() as u32,
            frame.wire_len,
        ] {
            body.extend_from_slice(&field.to_le_bytes());
        }
        body.extend_from_slice(frame.data);
        pad(body);
        option(body, COMMENT, comment.as_bytes());
        option(body, 0, b"");
    });
}

/// Bytes that such a packet takes.
pub(super) const fn packet_len(data: usize, comment: &str) -> usize {
    AROUND + 20 + data.next_multiple_of(4) + 4 + comment.len().next_multiple_of(4) + 4
}

fn block(file: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = file.len();
    file.extend_from_slice(&kind.to_le_bytes());
    file.extend_from_slice(&0_u32.to_le_bytes());
    write(file);
    let length = (file.len() - start + 4) as u32;
    file.extend_from_slice(&length.to_le_bytes());
    if let Some(place) = file.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Adds an option. Everything before is a multiple of four long, and so is what is added. A value is at most 64 kB by its form.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
