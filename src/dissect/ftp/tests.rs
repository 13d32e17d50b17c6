//! Sessions whole, cut, torn and damaged.

use super::super::testing::{any_bytes_return, conversation, segment};
use super::*;
use Direction::{Orig, Resp};

fn build() -> Box<dyn Dissector> {
    Box::new(Ftp::default())
}

fn told(turns: &[(Direction, &[u8])]) -> Vec<String> {
    let told = conversation(build, turns);
    assert!(told.iter().all(|line| !line.contains("s3cret")), "{told:?}");
    told
}

#[test]
fn logins_and_their_outcome() {
    let told = told(&[
        (Resp, b"220 (vsFTPd 3.0.5)\r\n"),
        (Orig, b"USER admin\r\n"),
        (Resp, b"331 Please specify the password.\r\n"),
        (Orig, b"PASS s3cret\r\n"),
        (Resp, b"530 Login incorrect.\r\n"),
        (Orig, b"user root\r\npass s3cret2\r\n"),
        (Resp, b"331 Password\r\n230-Welcome\r\n 530 is no reply\r\n530 neither\r\n230 Login successful.\r\n"),
    ]);
    assert_eq!(
        told,
        [
            "Login(Login { protocol: \"ftp\", user: Some(\"admin\"), success: false, code: Some(\"530\") })",
            "Login(Login { protocol: \"ftp\", user: Some(\"root\"), success: true, code: Some(\"230\") })",
        ]
    );
}

#[test]
fn files_and_the_connections_that_carry_them() {
    let told = told(&[
        (Orig, b"PASV\r\n"),
        (Resp, b"227 Entering Passive Mode (192,0,2,7,195,80).\r\n"),
        (Orig, b"STOR dump.sql.gz\r\n"),
        (Resp, b"150 Ok to send data.\r\n226 Transfer complete.\r\n"),
        (Orig, b"EPSV\r\n"),
        (Resp, b"229 Entering Extended Passive Mode (|||6446|)\r\n"),
        (Orig, b"APPE a b\r\n"),
        (Resp, b"550 Permission denied.\r\n"),
        (Orig, b"PORT 10,244,1,7,4,1\r\n"),
        (Resp, b"200 PORT command successful.\r\n"),
        (Orig, b"RETR tool\r\n"),
        (Resp, b"226 Done at once.\r\n"),
        (Orig, b"EPRT |2|fd00::7|6275|\r\n"),
        (Resp, b"200 EPRT command successful.\r\n"),
        (Orig, b"STOU\r\n"),
        (Resp, b"125 FILE: x\r\n"),
        // A list is no file; a refused port is none.
        (Orig, b"LIST\r\n"),
        (Resp, b"150 Here it comes\r\n226 Sent\r\n"),
        (Orig, b"PORT 10,244,1,7,4,2\r\n"),
        (Resp, b"500 Illegal PORT command.\r\n200 Noop\r\n"),
    ]);
    assert_eq!(
        told,
        [
            "Ftp(Data { listener: Resp, address: Some(192.0.2.7), port: 50000 })",
            "Ftp(Transfer { verb: \"STOR\", path: Some(\"dump.sql.gz\"), accepted: true, by_hand: false })",
            "Ftp(Data { listener: Resp, address: None, port: 6446 })",
            "Ftp(Transfer { verb: \"APPE\", path: Some(\"a b\"), accepted: false, by_hand: false })",
            "Ftp(Data { listener: Orig, address: Some(10.244.1.7), port: 1025 })",
            "Ftp(Transfer { verb: \"RETR\", path: Some(\"tool\"), accepted: true, by_hand: false })",
            "Ftp(Data { listener: Orig, address: Some(fd00::7), port: 6275 })",
            "Ftp(Transfer { verb: \"STOU\", path: None, accepted: true, by_hand: false })",
        ]
    );
}

#[test]
fn what_goes_on_as_tls_is_handed_over() {
    let agreed = told(&[(Orig, b"AUTH TLS\r\n"), (Resp, b"234 Proceed\r\n")]);
    assert_eq!(agreed, ["starts tls"]);
    let unanswered = told(&[(Orig, b"AUTH SSL\r\n"), (Orig, b"\x16")]);
    assert_eq!(unanswered, ["starts tls"]);
    // Refused, it goes on in clear.
    let told = self::told(&[
        (Orig, b"AUTH TLS\r\n"),
        (Resp, b"530 Please login with USER and PASS.\r\n"),
        (Orig, b"STOR x\r\n"),
        (Resp, b"150 Go\r\n"),
    ]);
    assert_eq!(told.len(), 1);
}

#[test]
fn addresses_and_ports_that_are_none() {
    for wrong in [
        "",
        "1,2,3,4,5",
        "1,2,3,4,5,256",
        "1,2,3,4,0,0",
        "a",
        "1,,2,3,4,5",
        "-1,2,3,4,5,6",
    ] {
        assert_eq!(port(wrong.as_bytes()), None, "{wrong}");
    }
    for wrong in [
        "",
        "|",
        "|1|10.0.0.7|",
        "|1|10.0.0.7|0|",
        "|1|x|7|",
        "|1|10.0.0.7|65536|",
    ] {
        assert_eq!(extended_port(wrong.as_bytes()), None, "{wrong}");
    }
    for wrong in ["", "(", "(|||", "(||||)", "(|||0|)", "(||!7|)", "6446"] {
        assert_eq!(extended_passive(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(extended_passive(b" ok (!!!7!)"), Some(7));
}

#[test]
fn a_line_whose_beginning_is_missing_is_passed_over() {
    let mut ftp = Ftp::default();
    let mut out = Vec::new();
    ftp.feed(&segment(Orig, b"STOR a\r\nST"), &mut out);
    let torn = Segment {
        gap: 9,
        ..segment(Orig, b"RETR b\r\nNOOP\r\n")
    };
    ftp.feed(&torn, &mut out);
    ftp.feed(&segment(Resp, b"150 Go\r\n"), &mut out);
    assert_eq!(out.len(), 1);
    assert!(format!("{out:?}").contains("STOR"));
}

#[test]
fn long_lines_stay_bounded() {
    let mut ftp = Ftp::default();
    let mut out = Vec::new();
    for _ in 0..1000 {
        ftp.feed(&segment(Orig, &[b'x'; 1000]), &mut out);
        ftp.feed(&segment(Resp, &[b'2'; 1000]), &mut out);
    }
    assert!(ftp.lines.orig.held.capacity() <= KEEP && ftp.lines.resp.held.capacity() <= KEEP);
    let long = [b"STOR ".as_slice(), &[b'y'; 5000], b"\r\n"].concat();
    ftp.feed(&segment(Orig, b"\n"), &mut out);
    ftp.feed(&segment(Resp, b"\n"), &mut out);
    ftp.feed(&segment(Orig, &long), &mut out);
    ftp.feed(&segment(Resp, b"150 Go\r\n"), &mut out);
    let Some(Transaction::Ftp(FtpMessage::Transfer {
        path: Some(path), ..
    })) = out.last()
    else {
        panic!("{out:?}");
    };
    assert_eq!(path.len(), MAX_PATH);
}

#[test]
fn any_bytes_at_all() {
    any_bytes_return(build, |_| super::super::Probe::Unsure);
}

/// Whether a file that is stored at the end of a session was stored by hand. Between a reply and what is asked next so many
/// seconds pass.
fn by_hand(asked: &[(f64, &str)]) -> bool {
    let mut ftp = Ftp::default();
    let (mut out, mut at) = (Vec::new(), 0.0);
    let mut said = |secs: f64, direction, text: &[u8], out: &mut Vec<Transaction>| {
        let segment = Segment {
            time: Timestamp::from_secs_f64(secs),
            ..segment(direction, text)
        };
        ftp.feed(&segment, out);
    };
    for (pause, line) in asked.iter().chain([&(0.0, "STOR a.csv\r\n")]) {
        at += pause;
        said(at, Orig, line.as_bytes(), &mut out);
        // A slow server is not a slow client.
        at += 3.0;
        said(at, Resp, b"150 Go on\r\n", &mut out);
    }
    let Some(Transaction::Ftp(FtpMessage::Transfer { by_hand, .. })) = out.last() else {
        panic!("{out:?}");
    };
    *by_hand
}

#[test]
fn people_look_round_and_hesitate() {
    let list = "LIST\r\n";
    assert!(by_hand(&[
        (0.1, list),
        (1.5, "CWD backup\r\n"),
        (0.1, list),
        (4.0, "TYPE I\r\n")
    ]));
    assert!(by_hand(&[
        (0.1, "PWD\r\n"),
        (2.0, "NLST\r\n"),
        (5.0, "mlsd /srv\r\n")
    ]));
    // A mirror lists what is there; a job waits for its next file; a session without a look.
    assert!(!by_hand(&[
        (0.1, list),
        (0.1, "CWD backup\r\n"),
        (0.1, list),
        (0.2, list)
    ]));
    assert!(!by_hand(&[
        (0.1, list),
        (30.0, "NOOP\r\n"),
        (30.0, "NOOP\r\n")
    ]));
    assert!(!by_hand(&[(0.1, list), (0.1, list), (30.0, "TYPE I\r\n")]));
}
