//! Packets as sqlplus, JDBC and listeners send them.

use super::super::testing::{any_bytes_return, conversation, probed};
use super::*;

use Direction::{Orig, Resp};

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 8).to_be_bytes();
    [&length[..], &[0, 0, kind, 0, 0, 0], body].concat()
}

/// As since 12.2: lengths of four bytes.
fn long_packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 8).to_be_bytes();
    [&length[..], &[kind, 0, 0, 0], body].concat()
}

fn data(payload: &[u8]) -> Vec<u8> {
    packet(DATA, &[&[0, 0], payload].concat())
}

fn connect(description: &str, apart: bool) -> Vec<u8> {
    let mut body = vec![0; 50];
    body[..4].copy_from_slice(&[1, 0x3b, 1, 0x2c]);
    body[16..18].copy_from_slice(&(description.len() as u16).to_be_bytes());
    body[18..20].copy_from_slice(&58_u16.to_be_bytes());
    if !apart {
        body.extend(description.as_bytes());
        return packet(CONNECT, &body);
    }
    [packet(CONNECT, &body), data(description.as_bytes())].concat()
}

const DESCRIPTION: &str = "(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=shop)(CID=(PROGRAM=sqlplus)(HOST=h)(USER=root)))(ADDRESS=(PROTOCOL=TCP)(HOST=10.0.0.1)(PORT=1521)))";

fn accept() -> Vec<u8> {
    packet(ACCEPT, &[&[1, 0x3b, 0, 0, 0x20, 0][..], &[0; 18]].concat())
}

fn refuse(reason: &str) -> Vec<u8> {
    let length = (reason.len() as u16).to_be_bytes();
    packet(
        REFUSE,
        &[&[0x22, 0][..], &length, reason.as_bytes()].concat(),
    )
}

/// The beginning of a login by sqlplus.
fn login(user: &str) -> Vec<u8> {
    let length = user.len() as u8;
    let payload = [
        &[
            3, 0x76, 2, 0xfe, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0x21, 0, 0, 0, length,
        ][..],
        user.as_bytes(),
        &[0x27, 0, 0, 0, 13],
        b"AUTH_TERMINAL\x0f\0\0\0\x05pts/0\0\0\0\0",
    ]
    .concat();
    data(&payload)
}

fn run(sql: &str) -> Vec<u8> {
    let length = sql.len() as u8;
    let payload = [
        &[3, 0x5e, 9, 0x61, 0x80, 0, 0, 0, 0, 0, 1, length][..],
        sql.as_bytes(),
        &[1, 0, 0],
    ]
    .concat();
    data(&payload)
}

fn events(turns: &[(Direction, &[u8])]) -> Vec<String> {
    conversation(ORACLE.build, turns)
}

#[test]
fn a_client_logs_in_and_asks() {
    let session = data(b"\x08\x2e\0\x13AUTH_VERSION_STRING\0\x0fAUTH_SESSION_ID\x05\0\x051234");
    let piggybacked = [
        &[0x11, 0x69, 8, 1, 1, 1, 1][..],
        &run("select * from dba_users")[10..],
    ]
    .concat();
    for apart in [false, true] {
        let found = events(&[
            (Orig, &connect(DESCRIPTION, apart)),
            (Resp, &packet(RESEND, &[])),
            (Orig, &connect(DESCRIPTION, apart)),
            (Resp, &accept()),
            (Orig, &data(b"\xde\xad\xbe\xef\0\x9a")),
            (Resp, &data(b"\xde\xad\xbe\xef\0\x75")),
            (Orig, &login("sys")),
            (Resp, &data(b"\x08\x05\0\x0cAUTH_SESSKEY\x40")),
            (Orig, &data(b"\x03\x73\x03proof")),
            (Resp, &session),
            (
                Orig,
                &run("select table_name from all_tables where owner='SECRET'"),
            ),
            (Resp, &data(&[7; 90])),
            (Resp, &data(b"\x04ORA-01403: no data found\n")),
            (Orig, &data(&piggybacked)),
            (
                Resp,
                &data(b"\x04ORA-00942: table or view does not exist\n"),
            ),
            (Orig, &data(&[3, 0x0e, 12])),
            (Resp, &data(&[9, 1])),
            (Orig, &data(&[3, 9, 13])),
        ]);
        assert_eq!(
            found,
            [
                "hello TNS 315",
                "login sys shop sqlplus",
                "let in -",
                "SELECT Catalogue",
                "result - 120 -",
                "SELECT CredentialTable BULK_READ",
                "result - 43 ORA-00942",
                "COMMIT Transaction",
                "result - 4 -",
            ],
            "{apart}"
        );
    }
}

#[test]
fn a_wrong_password_is_ora_01017() {
    let found = events(&[
        (Orig, &connect(DESCRIPTION, false)),
        (Resp, &accept()),
        (Orig, &login("system")),
        (Resp, &data(b"\x08\x05\0\x0cAUTH_SESSKEY\x40")),
        (Orig, &data(b"\x03\x73\x03proof")),
        (Resp, &packet(12, &[1, 0, 1])),
        (Orig, &packet(12, &[1, 0, 2])),
        (
            Resp,
            &data(b"\x04\x01ORA-01017: invalid username/password; logon denied\n"),
        ),
    ]);
    assert_eq!(
        found,
        [
            "hello TNS 315",
            "login system shop sqlplus",
            "refused ORA-01017"
        ]
    );
}

#[test]
fn an_unknown_service_is_refused_by_the_listener() {
    let found = events(&[
        (
            Orig,
            &connect(
                "(DESCRIPTION=(CONNECT_DATA=(SID=guess)(CID=(PROGRAM=x))))",
                false,
            ),
        ),
        (
            Resp,
            &refuse(
                "(DESCRIPTION=(TMP=)(VSNNUM=186647552)(ERR=12505)(ERROR_STACK=(ERROR=(CODE=12505)(EMFI=4))))",
            ),
        ),
    ]);
    assert_eq!(found, ["login - guess x", "refused ORA-12505"]);
}

#[test]
fn listeners_are_asked_for_themselves() {
    let found = events(&[
        (
            Orig,
            &connect("(DESCRIPTION=(CONNECT_DATA=(COMMAND=status)))", false),
        ),
        (Resp, &packet(RESEND, &[])),
        (
            Orig,
            &connect("(DESCRIPTION=(CONNECT_DATA=(COMMAND=status)))", false),
        ),
        (Resp, &refuse("(DESCRIPTION=(ERR=1189)(VSNNUM=1))")),
    ]);
    assert_eq!(found, ["status Catalogue", "result - 46 ORA-01189"]);
}

#[test]
fn lengths_have_two_forms_and_drivers_differ() {
    // JDBC writes shorter numbers.
    let login = [
        &[0, 0, 3, 0x76, 1, 1, 1, 6][..],
        b"system",
        &[1, 13, 13],
        b"AUTH_TERMINAL\x01\x07",
    ]
    .concat();
    let found = events(&[
        (Orig, &connect(DESCRIPTION, false)),
        (Resp, &accept()),
        (Orig, &long_packet(DATA, &login)),
        (
            Resp,
            &long_packet(DATA, b"\0\0ORA-28000: the account is locked\n"),
        ),
    ]);
    assert_eq!(
        found,
        [
            "hello TNS 315",
            "login system shop sqlplus",
            "refused ORA-28000"
        ]
    );
}

#[test]
fn recognised_by_kind_and_version() {
    use Probe::{Certain, NotForUs};
    assert_eq!(probed(probe, Orig, &connect(DESCRIPTION, false)), Certain);
    assert_eq!(probed(probe, Resp, &packet(RESEND, &[])), Certain);
    assert_eq!(probed(probe, Resp, &accept()), Certain);
    assert_eq!(
        probed(probe, Resp, &refuse("(DESCRIPTION=(ERR=12514))")),
        Certain
    );
    assert_eq!(probed(probe, Orig, &[0; 80]), NotForUs);
    assert_eq!(
        probed(probe, Orig, b"\x00\x1c\x12\x34\x01\0\0\x01\0\0\0\0\0\0"),
        NotForUs
    );
    assert_eq!(probed(probe, Orig, &data(b"\x03\x5e")), NotForUs);
}

#[test]
fn any_bytes_are_survived() {
    any_bytes_return(ORACLE.build, probe);
}
