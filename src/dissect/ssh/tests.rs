//! Handshakes as clients and servers have them, in any pieces, and what isn't one.

use super::*;
use crate::time::Timestamp;

use Direction::{Orig, Resp};

fn segment(direction: Direction, data: &[u8]) -> Segment<'_> {
    Segment {
        time: Timestamp::from_nanos(0),
        direction,
        orig_port: 40000,
        resp_port: 22,
        data,
        gap: 0,
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 6).to_be_bytes();
    [&length[..], &[4, kind], body, &[0; 4]].concat()
}

/// What comes of a conversation, and how it ends; the same however it is cut.
fn messages(turns: &[(Direction, Vec<u8>)]) -> (Vec<SshMessage>, Progress) {
    let run = |size: usize| {
        let mut ssh = Ssh::default();
        let mut out = Vec::new();
        for (direction, data) in turns {
            for piece in data.chunks(size) {
                let progress = ssh.feed(&segment(*direction, piece), &mut out);
                if progress != Progress::More {
                    return (out, progress);
                }
            }
        }
        (out, Progress::More)
    };
    let (whole, progress) = run(usize::MAX);
    for size in [1, 2, 3, 7] {
        assert_eq!(run(size), (whole.clone(), progress));
    }
    let messages = whole.into_iter().map(|transaction| match transaction {
        Transaction::Ssh(message) => message,
        other => panic!("{other:?}"),
    });
    (messages.collect(), progress)
}

fn names() -> [SshMessage; 2] {
    [
        SshMessage::Server("OpenSSH_9.6p1 Debian-3".into()),
        SshMessage::Client("libssh-0.11".into()),
    ]
}

#[test]
fn names_of_both_ends_then_keys() {
    let server = b"Keep out\r\nSSH-2.0-OpenSSH_9.6p1 Debian-3\r\n";
    let (found, progress) = messages(&[
        (Resp, server.to_vec()),
        (
            Orig,
            [b"SSH-2.0-libssh-0.11\n", &packet(20, &[7; 900])[..]].concat(),
        ),
        (Resp, packet(20, &[7; 900])),
        (Orig, packet(30, &[7; 32])),
        (Resp, [packet(31, &[7; 200]), packet(NEWKEYS, b"")].concat()),
        (Orig, [&packet(NEWKEYS, b"")[..], &[0xff; 99]].concat()),
    ]);
    let [one, two] = names();
    assert_eq!(found, [one, two, SshMessage::Encrypted]);
    assert_eq!(progress, Progress::Done);
}

#[test]
fn a_tunnel_that_calls_its_version_by_its_own_name() {
    let (found, progress) = messages(&[
        (Resp, b"SSH-chisel-v3-server\r\n".to_vec()),
        (Orig, b"SSH-chisel-v3-client\r\n".to_vec()),
        (Orig, packet(20, &[7; 900])),
    ]);
    let names = [
        SshMessage::Server("chisel-v3-server".into()),
        SshMessage::Client("chisel-v3-client".into()),
    ];
    assert_eq!((found, progress), (names.to_vec(), Progress::More));
}

#[test]
fn what_is_not_a_handshake_loses_it() {
    let cases = [
        (
            b"SSH-2.0-x\r\nGET / HTTP/1.1\r\n".to_vec(),
            1,
            Progress::Desynced,
        ),
        (b"x\n".repeat(50), 0, Progress::Desynced),
        (vec![b'x'; 256], 0, Progress::Desynced),
        (b"SSH-1.5-old\r\n".to_vec(), 1, Progress::Done),
    ];
    for (data, count, expected) in cases {
        let (found, progress) = messages(&[(Resp, data)]);
        assert_eq!((found.len(), progress), (count, expected));
    }
    // A hole in a packet's body is nothing; elsewhere it is the end.
    let mut ssh = Ssh::default();
    let mut out = Vec::new();
    let head = [b"SSH-2.0-x\r\n", &packet(20, &[7; 900])[..100]].concat();
    assert_eq!(ssh.feed(&segment(Orig, &head), &mut out), Progress::More);
    for (gap, expected) in [(800, Progress::More), (800, Progress::Desynced)] {
        let lost = Segment {
            gap,
            ..segment(Orig, &[0])
        };
        assert_eq!(ssh.feed(&lost, &mut out), expected);
    }
}

#[test]
fn recognised_by_the_first_line() {
    let cases: [(&[u8], Probe); 4] = [
        (b"SSH-", Probe::Unsure),
        (b"SSH-2.0-", Probe::Certain),
        (b"SSH-3.0-", Probe::NotForUs),
        (b"SSDP", Probe::NotForUs),
    ];
    for (data, expected) in cases {
        assert_eq!(probe(&segment(Resp, data)), expected);
    }
}
