//! WebSocket (RFC 6455): the upgrade, and messages in frames.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tcp::Side;
use crate::testkit::rng::Rng;

/// First byte of a whole message of text.
pub const TEXT: u8 = 0x81;
/// First byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// First byte of a ping.
pub const PING: u8 = 0x89;
/// First byte of a whole message of text that is compressed (RFC 7692).
pub const COMPRESSED: u8 = 0xc1;

/// The request that asks for the upgrade. An empty `subprotocol` asks for none.
pub fn request(rng: &mut Rng, host: &str, path: &str, agent: &str, subprotocol: &str) -> Vec<u8> {
    let key = STANDARD.encode(rng.array::<16>());
    let subprotocol = header(subprotocol);
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{subprotocol}\r\n"
    )
    .into_bytes()
}

/// The server agrees.
pub fn switched(rng: &mut Rng, subprotocol: &str) -> Vec<u8> {
    let accept = STANDARD.encode(rng.array::<20>());
    let subprotocol = header(subprotocol);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{subprotocol}\r\n"
    )
    .into_bytes()
}

fn header(subprotocol: &str) -> String {
    if subprotocol.is_empty() {
        String::new()
    } else {
        format!("Sec-WebSocket-Protocol: {subprotocol}\r\n")
    }
}

/// A frame; clients mask theirs.
pub fn frame(rng: &mut Rng, side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = side == Side::Client;
    let flag = u8::from(masked) << 7;
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => bytes.push(flag | len as u8),
        Ok(len) => {
            bytes.push(flag | 0x7e);
            bytes.extend(len.to_be_bytes());
        }
        Err(_) => {
            bytes.push(flag | 0x7f);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = if masked { rng.array() } else { [0; 4] };
    if masked {
        bytes.extend(mask);
    }
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_masks() {
        let mut rng = Rng::new(1);
        assert_eq!(frame(&mut rng, Side::Server, TEXT, b"hi"), b"\x81\x02hi");
        let bytes = frame(&mut rng, Side::Client, BINARY, &[7; 300]);
        assert_eq!(bytes[..4], [0x82, 0xfe, 1, 44]);
        let plain = bytes[8..].iter().zip(bytes[4..8].iter().cycle());
        assert!(
            plain.clone().count() == 300
                && plain.map(|(byte, key)| byte ^ key).all(|byte| byte == 7)
        );
        assert_eq!(
            frame(&mut rng, Side::Server, BINARY, &vec![0; 70_000])[1..10],
            [127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
    }
}
