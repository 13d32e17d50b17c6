//! SSH (RFC 4253, 4254) as far as it shows: banners and key exchange in clear, then packets of which only the sizes tell.
//!
//! Conversations are lists of steps, so that they can be spoken on a connection of their own or inside another one.

use std::time::Duration;

use super::tcp::{Session, Side};
use crate::testkit::rng::Rng;
use crate::testkit::scene::Scene;

use Side::{Client, Server};

/// A step of a conversation.
#[derive(Clone, Debug)]
pub enum Step {
    /// One end sends bytes.
    Say(Side, Vec<u8>),
    /// Nobody says anything.
    Pause(Duration),
}

use Step::{Pause, Say};

const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const KEX_INIT: u8 = 30;
const KEX_REPLY: u8 = 31;
/// What encryption adds to a packet: the length, and chacha20-poly1305's tag.
const SEAL: usize = 4 + 16;
/// What stands before the data of a channel.
const CHANNEL_HEADER: usize = 9;

const KEY_EXCHANGES: &str = "sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256";
const HOST_KEYS: &str = "rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519";
const CIPHERS: &str = "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com";
const MACS: &str = "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-64@openssh.com,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1";
const MORE_HOST_KEYS: &str = ",ssh-ed25519-cert-v01@openssh.com,ecdsa-sha2-nistp256-cert-v01@openssh.com,ecdsa-sha2-nistp384-cert-v01@openssh.com,ecdsa-sha2-nistp521-cert-v01@openssh.com,rsa-sha2-512-cert-v01@openssh.com,rsa-sha2-256-cert-v01@openssh.com";

/// Both ends name themselves, agree on keys, and the client logs in with a key of its own.
pub fn login(rng: &mut Rng, client: &str, server: &str) -> Vec<Step> {
    let mut steps = agree(rng, client, server);
    steps.extend([
        Say(Client, sealed(rng, 110)),
        Pause(Duration::from_millis(4)),
        Say(Server, sealed(rng, 68)),
        Say(Client, sealed(rng, 197)),
        Pause(Duration::from_millis(9)),
        Say(Server, sealed(rng, 1)),
    ]);
    steps
}

/// Both ends name themselves and agree on keys, and the client tries passwords, each after a `pause`. The server thinks
/// for two seconds before it refuses one; only the last may be right.
pub fn passwords(
    rng: &mut Rng,
    (client, server): (&str, &str),
    tries: usize,
    right: bool,
    pause: Duration,
) -> Vec<Step> {
    let mut steps = agree(rng, client, server);
    for number in 1..=tries {
        let let_in = right && number == tries;
        let think = if let_in {
            Duration::from_millis(12)
        } else {
            rng.about(Duration::from_secs(2))
        };
        steps.extend([
            Pause(rng.about(pause)),
            Say(Client, sealed(rng, 130)),
            Pause(think),
            Say(Server, sealed(rng, if let_in { 1 } else { 30 })),
        ]);
    }
    steps
}

/// Both ends name themselves and agree on keys, and the client makes requests of these sizes, all refused at once.
pub fn refused(rng: &mut Rng, (client, server): (&str, &str), requests: &[usize]) -> Vec<Step> {
    let mut steps = agree(rng, client, server);
    for size in requests {
        steps.extend([
            Say(Client, sealed(rng, *size)),
            Pause(rng.about(Duration::from_millis(8))),
            Say(Server, sealed(rng, 30)),
        ]);
    }
    steps
}

/// Both ends name themselves and agree on keys; the client asks for the service, and which methods there are.
fn agree(rng: &mut Rng, client: &str, server: &str) -> Vec<Step> {
    let lists = |more: &str| {
        let host_keys = format!("{HOST_KEYS}{more}");
        let lists = [
            KEY_EXCHANGES,
            &host_keys,
            CIPHERS,
            CIPHERS,
            MACS,
            MACS,
            "none,zlib@openssh.com",
            "none,zlib@openssh.com",
            "",
            "",
        ];
        lists.map(str::to_owned)
    };
    let offer = |rng: &mut Rng, more: &str| {
        let mut body = rng.bytes(16);
        for list in lists(more) {
            body.extend((list.len() as u32).to_be_bytes());
            body.extend(list.as_bytes());
        }
        body.extend([0; 5]);
        packet(rng, KEXINIT, &body)
    };
    let share = string(&rng.bytes(32));
    let host_key = [
        string(&rng.bytes(51)),
        string(&rng.bytes(32)),
        string(&rng.bytes(83)),
    ];
    let reply = [
        packet(rng, KEX_REPLY, &host_key.concat()),
        packet(rng, NEWKEYS, &[]),
        sealed(rng, 200),
    ];
    vec![
        Say(Client, format!("SSH-2.0-{client}\r\n").into_bytes()),
        Say(Server, format!("SSH-2.0-{server}\r\n").into_bytes()),
        Say(Client, offer(rng, MORE_HOST_KEYS)),
        Say(Server, offer(rng, "")),
        Say(Client, packet(rng, KEX_INIT, &share)),
        Pause(Duration::from_millis(3)),
        Say(Server, reply.concat()),
        Say(Client, packet(rng, NEWKEYS, &[])),
        Say(Client, sealed(rng, 17)),
        Say(Server, sealed(rng, 17)),
        Say(Client, sealed(rng, 45)),
        Say(Server, sealed(rng, 30)),
    ]
}

/// A terminal is opened; the server says hello with its prompt.
pub fn shell(rng: &mut Rng) -> Vec<Step> {
    vec![
        Say(Client, sealed(rng, 28)),
        Say(Server, sealed(rng, 17)),
        Say(Client, sealed(rng, 340)),
        Pause(Duration::from_millis(20)),
        Say(Server, sealed(rng, 9)),
        Say(Server, data(rng, 310)),
        Say(Server, data(rng, 26)),
    ]
}

/// Somebody types `commands` lines: each key is echoed, each line answered.
pub fn typing(rng: &mut Rng, commands: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..commands {
        for _ in 0..rng.within(3..14) {
            steps.push(Pause(
                rng.between(Duration::from_millis(70), Duration::from_millis(420)),
            ));
            steps.push(Say(Client, data(rng, 1)));
            steps.push(Say(Server, data(rng, 1)));
        }
        let output = rng.within(30..1400) as usize;
        steps.push(Say(Client, data(rng, 1)));
        steps.push(Say(Server, data(rng, 2)));
        steps.push(Say(Server, data(rng, output)));
        steps.push(Pause(
            rng.between(Duration::from_millis(900), Duration::from_secs(4)),
        ));
    }
    steps
}

/// The client asks the server to listen and to pass on what comes (`ssh -R`), without a terminal.
pub fn ask_for_reverse(rng: &mut Rng) -> Vec<Step> {
    vec![
        Say(Client, sealed(rng, 38)),
        Pause(Duration::from_millis(2)),
        Say(Server, sealed(rng, 5)),
    ]
}

/// One end opens a channel to something beyond the other, and asks and is answered there; then it is closed.
pub fn forwarded(rng: &mut Rng, opener: Side, exchanges: &[(usize, usize)]) -> Vec<Step> {
    let other = match opener {
        Client => Server,
        Server => Client,
    };
    let mut steps = vec![
        Say(opener, sealed(rng, 66)),
        Pause(Duration::from_millis(1)),
        Say(other, sealed(rng, 17)),
    ];
    for &(asked, answered) in exchanges {
        steps.push(Say(opener, data(rng, asked)));
        steps.push(Pause(rng.about(Duration::from_millis(3))));
        steps.push(Say(other, data(rng, answered)));
        steps.push(Pause(rng.about(Duration::from_millis(30))));
    }
    steps.extend([
        Say(opener, sealed(rng, 5)),
        Say(other, [sealed(rng, 5), sealed(rng, 5)].concat()),
        Say(opener, sealed(rng, 5)),
    ]);
    steps
}

/// Takes the steps on a connection, each saying put into `wrap`.
pub fn play(
    scene: &mut Scene,
    session: &mut Session,
    steps: &[Step],
    mut wrap: impl FnMut(&mut Rng, Side, &[u8]) -> Vec<u8>,
) {
    for step in steps {
        match step {
            Say(side, bytes) => {
                let wrapped = wrap(&mut scene.rng, *side, bytes);
                session.say(scene, *side, &wrapped);
            }
            Pause(pause) => session.wait(scene, *pause),
        }
    }
}

/// As it is, for [`play`].
pub fn bare(_: &mut Rng, _: Side, bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// A channel's data, in as many packets as it takes.
pub fn data(rng: &mut Rng, len: usize) -> Vec<u8> {
    const PIECE: usize = 32_000;
    let pieces = (0..len.max(1)).step_by(PIECE);
    pieces
        .flat_map(|from| sealed(rng, CHANNEL_HEADER + PIECE.min(len.saturating_sub(from))))
        .collect()
}

/// A packet in clear.
fn packet(rng: &mut Rng, kind: u8, body: &[u8]) -> Vec<u8> {
    let pad = padding(5 + 1 + body.len());
    let length = (1 + 1 + body.len() + pad) as u32;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend([pad as u8, kind]);
    bytes.extend(body);
    bytes.extend(rng.bytes(pad));
    bytes
}

/// A packet under encryption, whose length isn't part of the padded blocks.
fn sealed(rng: &mut Rng, payload: usize) -> Vec<u8> {
    let padded = 1 + payload + padding(1 + payload);
    rng.bytes(padded + SEAL)
}

/// Padding to blocks of eight, at least four bytes.
const fn padding(len: usize) -> usize {
    let short = 8 - len % 8;
    if short < 4 { short + 8 } else { short }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_in_clear_are_whole_blocks_and_say_their_length() {
        let mut rng = Rng::new(1);
        for len in 0..40 {
            let bytes = packet(&mut rng, KEXINIT, &vec![7; len]);
            let said = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            assert_eq!((bytes.len() % 8, said), (0, bytes.len() - 4));
            assert!(bytes[4] >= 4);
        }
    }

    #[test]
    fn encrypted_packets_lie_on_a_grid_of_eight() {
        let mut rng = Rng::new(1);
        for len in 0..40 {
            assert_eq!(sealed(&mut rng, len).len() % 8, 4);
        }
        assert_eq!(data(&mut rng, 1).len(), 36);
    }
}
