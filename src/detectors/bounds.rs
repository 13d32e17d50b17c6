//! Whatever number of strangers there is, a detector remembers no more than it says it will.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::testing::{end, pod, record};
use super::{Context, DETECTORS, Detector, DetectorSpec, Findings};
use crate::address::NetworkId;
use crate::dissect::{
    CommandRun, Commands, DatabaseEvent, DatabaseMessage, DnsMessage, FtpMessage, HttpRequest,
    Login, Marks, SshMessage, StatementClass, StratumMessage, TlsClientHello, Transaction,
};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Acquaintances, Debuts, Habits, PeerNamer, Releases, Replicas};
use crate::flow::{Direction, Exchange, FlowId, Outcome, Protocol, Turn};
use crate::identity::{IdentityKind, Journal, Source};
use crate::signature::SignatureSet;
use crate::time::Timestamp;

/// More than any table has room for.
const STRANGERS: u32 = 1 << 16;

fn said(n: u32) -> Transaction {
    let name: Arc<str> = format!("n{n}.example").into();
    match n % 10 {
        0 => Transaction::HttpRequest(HttpRequest {
            method: "PUT".into(),
            host: Some(name),
            path: format!("/v2/r{n}/manifests/v1").into(),
            ..HttpRequest::default()
        }),
        1 => Transaction::TlsClient(TlsClientHello {
            sni: Some(format!("registry.{name}").into()),
            ..TlsClientHello::default()
        }),
        2 => Transaction::Ssh(SshMessage::Client(name)),
        3 => Transaction::Ftp(FtpMessage::Data {
            listener: Direction::Orig,
            address: None,
            port: 1 + (n % 60_000) as u16,
        }),
        4 => Transaction::Login(Login {
            protocol: "ftp",
            user: Some(name),
            success: false,
            code: None,
        }),
        5 => Transaction::Stratum(StratumMessage::Login { agent: Some(name) }),
        6 => Transaction::Dns(DnsMessage {
            name,
            query_type: 1,
            ..DnsMessage::default()
        }),
        7 => Transaction::Database(DatabaseMessage {
            product: "postgresql",
            event: DatabaseEvent::LoginResult {
                success: false,
                code: Some("28P01".into()),
            },
        }),
        8 => Transaction::Command(CommandRun {
            path: name,
            status: 200,
            asked: Commands::ID,
            printed: Commands::ID,
            ..CommandRun::default()
        }),
        _ => Transaction::Database(DatabaseMessage {
            product: "postgresql",
            event: DatabaseEvent::Statement {
                class: StatementClass::CredentialTable,
                marks: Marks::BULK_READ,
                verb: "SELECT",
                fingerprint: u64::from(n),
                length: 30,
            },
        }),
    }
}

fn stranger(n: u32) -> (Endpoint, Endpoint) {
    let ip = |first: u8, n: u32| {
        let [_, b, c, d] = n.to_be_bytes();
        IpAddr::from(Ipv4Addr::new(first, b, c, d)).to_string()
    };
    let orig = pod(&ip(10, n), &format!("w{n}"));
    let resp = match n % 3 {
        0 => end(&ip(203, n), IdentityKind::External, None),
        1 => pod(&ip(11, n), &format!("s{n}")),
        _ => {
            let mut nameless = end(&ip(12, n), IdentityKind::Unknown, None);
            nameless.who.source = Source::Cidr;
            nameless
        }
    };
    (orig, resp)
}

/// All that may happen between two who were never heard of before, and half of it without an end.
fn events(n: u32, now: Timestamp) -> Vec<EventKind> {
    let (orig, resp) = stranger(n);
    let ports = [21, 22, 80, 443, 5000, 5432, 6379, 10_250];
    let flow = Arc::new(FlowInfo {
        id: FlowId(u64::from(n)),
        network: NetworkId::default(),
        protocol: Protocol::Tcp,
        start: now,
        orig_port: 40_000,
        resp_port: ports[(n % 8) as usize],
        orig: orig.clone(),
        resp: resp.clone(),
        service: None,
        masquerade: None,
        sender: None,
        begun: true,
    });
    let turn = |direction, bytes| EventKind::Turn {
        flow: Arc::clone(&flow),
        turn: Turn {
            bytes,
            ..Turn::new(direction, now, 1400)
        },
    };
    let outcome = if n.is_multiple_of(2) {
        Outcome::Answered
    } else {
        Outcome::Refused
    };
    let mut events = vec![
        EventKind::FlowOpened(Arc::clone(&flow)),
        EventKind::FlowOutcome {
            flow: Arc::clone(&flow),
            outcome,
        },
        EventKind::Recognised {
            flow: Arc::clone(&flow),
            app: "ssh",
        },
        EventKind::Transaction {
            flow: Arc::clone(&flow),
            transaction: said(n),
        },
        turn(Direction::Orig, 400_000),
        turn(Direction::Resp, 300_000),
        EventKind::Exchange {
            flow: Arc::clone(&flow),
            exchange: Exchange {
                number: 0,
                asker: Direction::Orig,
                start: now,
                answer: Some(now),
                end: now,
                before: now,
                asked: 1400,
                answered: 1400,
            },
            app: None,
        },
        EventKind::Resolution {
            actor: orig,
            target: resp,
            network: NetworkId::default(),
            hardware: Some([
                2,
                0,
                (n >> 24) as u8,
                (n >> 16) as u8,
                (n >> 8) as u8,
                n as u8,
            ]),
            reply: n.is_multiple_of(2),
        },
    ];
    if n.is_multiple_of(2) {
        events.push(EventKind::FlowEnded {
            record: Box::new(record(now.secs_f64(), 1000)),
            flow,
        });
    }
    events
}

#[test]
fn a_detector_follows_what_it_sees() {
    let signatures = SignatureSet::builtin().unwrap();
    for spec in DETECTORS {
        let signature = signatures.get(spec.id).unwrap();
        let follows = (spec.build)(signature).unwrap().follows();
        assert!(spec.sees.contains(follows.kinds), "{}", spec.id);
        assert!(spec.sees.contains(follows.after), "{}", spec.id);
        assert!(!follows.kinds.meets(follows.after), "{}", spec.id);
    }
}

#[test]
fn no_number_of_strangers_fills_a_detector() {
    let signatures = SignatureSet::builtin().unwrap();
    let build = |spec: &&'static DetectorSpec| {
        let signature = signatures.get(spec.id).unwrap();
        (*spec, (spec.build)(signature).unwrap())
    };
    let mut detectors: Vec<(&DetectorSpec, Box<dyn Detector>)> =
        DETECTORS.iter().map(build).collect();
    let (journal, mut peers, mut debuts) =
        (Journal::default(), PeerNamer::default(), Debuts::default());
    let (mut acquaintances, mut habits) = (Acquaintances::default(), Habits::default());
    let (releases, replicas) = (Releases::default(), Replicas::default());
    let began = Timestamp::from_secs(1000);
    for n in 0..STRANGERS {
        let time = began.after(Duration::from_millis(1) * n);
        for kind in events(n, time) {
            let event = Event::new(time, kind);
            peers.observe(&event);
            debuts.observe(&event, &peers);
            let context = Context {
                baseline: None,
                journal: &journal,
                peers: &peers,
                acquaintances: &acquaintances,
                habits: &habits,
                debuts: &debuts,
                releases: &releases,
                replicas: &replicas,
                trace: None,
            };
            let kind = EventKinds::of(&event.kind);
            for (spec, detector) in &mut detectors {
                if spec.sees.contains(kind) {
                    detector.observe(&event, &context, &mut Findings::new());
                }
                if n.is_multiple_of(1024) {
                    detector.tick(time, &context, &mut Findings::new());
                }
            }
            acquaintances.observe(&event);
            habits.observe(&event);
        }
    }
    for (spec, detector) in &detectors {
        let size = detector.state_size();
        println!("{:20} {:6} of {:6}", spec.id, size.entries, size.limit);
        assert!(size.limit > 0 && size.entries <= size.limit, "{}", spec.id);
    }
}
