//! What many flows at once take: bytes for each, all that is remembered and the program's own tables included, and time for each
//! packet.
//!
//! `cargo bench --bench concurrent` opens a thousand, a hundred thousand and a million flows of a cluster of 4096 pods, half of them
//! TLS and half HTTP/1 that are kept open, and then lets one after the other ask something and be answered, in an order in
//! which no processor's cache helps. Each number has a process of its own, whose peak memory is that of its flows. All detectors
//! judge.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use spanwatch::alert::Exceptions;
use spanwatch::capture::{Frame, LinkType};
use spanwatch::identity::Journal;
use spanwatch::memory::Share;
use spanwatch::pipeline::{Pipeline, Task};
use spanwatch::signature::SignatureSet;
use spanwatch::testkit::cluster::START;
use spanwatch::testkit::pcap::records;
use spanwatch::testkit::scene::{BRIDGE, Route, Scene};
use spanwatch::testkit::talk::http::Request;
use spanwatch::testkit::talk::tcp::Session;
use spanwatch::testkit::talk::tls;
use spanwatch::testkit::wire::Host;
use spanwatch::time::Timestamp;

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NUMBERS: [u32; 3] = [1000, 100_000, 1_000_000];
/// Pods; each calls a few hundred others.
const PODS: u32 = 4096;
/// Exchanges that are timed, whatever the number of flows.
const EXCHANGES: u32 = 1_000_000;
/// Enough for the largest number.
const SHARE: Share = Share::of(2 << 30);

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--flows") => run(args.next().unwrap().parse().unwrap()),
        Some("--bench") => {
            let own = std::env::current_exe().unwrap();
            for number in NUMBERS {
                let mut command = Command::new(&own);
                let number = number.to_string();
                let status = command.args(["--flows", &number]).status().unwrap();
                assert!(status.success());
            }
        }
        // Tests of all targets have nothing to do here.
        _ => {}
    }
}

/// The frames of one flow, to be given the addresses and numbers of another.
struct Template {
    opening: Vec<Vec<u8>>,
    exchange: Vec<Vec<u8>>,
    /// Bytes that either end says in an exchange: the client, the server.
    said: [u32; 2],
}

impl Template {
    fn new(
        port: u16,
        open: impl Fn(&mut Scene, &mut Session),
        ask: impl Fn(&mut Scene, &mut Session),
    ) -> Self {
        let frames = |exchanges| {
            let mut scene = Scene::new(1);
            let route = Route::direct(host([10, 244, 0, 1]), host([10, 245, 0, 1]), port);
            let mut session = Session::open(&mut scene, route, START);
            open(&mut scene, &mut session);
            for _ in 0..exchanges {
                ask(&mut scene, &mut session);
            }
            let image = scene.finish();
            let frames = records(&image).map(|(_, frame)| frame.to_vec());
            frames.collect::<Vec<_>>()
        };
        let opening = frames(0);
        let mut exchange = frames(1);
        exchange.drain(..opening.len());
        let said = [true, false].map(|client| {
            let own = exchange.iter().filter(|frame| is_client(frame) == client);
            own.map(|frame| payload(frame)).sum()
        });
        Self {
            opening,
            exchange,
            said,
        }
    }
}

const fn host([a, b, c, d]: [u8; 4]) -> Host {
    Host {
        mac: BRIDGE,
        ip: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        ttl: 64,
        distance: Duration::from_micros(300),
    }
}

fn is_client(frame: &[u8]) -> bool {
    frame[27] == 244
}

/// Bytes of payload of a TCP segment over IPv4 without options of IP.
fn payload(frame: &[u8]) -> u32 {
    let all = u16::from_be_bytes([frame[16], frame[17]]);
    u32::from(all) - 20 - u32::from(frame[46] >> 4) * 4
}

/// A flow's place among all: who, with whom, from which port.
#[derive(Clone, Copy)]
struct Flow(u32);

impl Flow {
    /// Gives a frame of the template's this flow's addresses, a number of its own, and the numbers of an exchange so much later.
    fn claim(self, frame: &mut [u8], number: u16, later: u32, template: &Template) {
        let [_, _, c, d] = (self.0 % PODS).to_be_bytes();
        // Pods call others of a few hundred.
        let [_, _, e, f] = (self.0 / 7 % 300).to_be_bytes();
        let port = (20_000 + self.0 / PODS % 40_000) as u16;
        let client = is_client(frame);
        let (own, other) = if client { (26, 30) } else { (30, 26) };
        frame[own + 2..own + 4].copy_from_slice(&[c, d]);
        frame[other + 2..other + 4].copy_from_slice(&[e, f]);
        let place = if client { 34 } else { 36 };
        frame[place..place + 2].copy_from_slice(&port.to_be_bytes());
        frame[18..20].copy_from_slice(&number.to_be_bytes());
        let [asked, answered] = template.said.map(|said| said.wrapping_mul(later));
        let (next, seen) = if client {
            (asked, answered)
        } else {
            (answered, asked)
        };
        for (place, more) in [(38, next), (42, seen)] {
            let number = frame[place..place + 4].try_into().unwrap();
            let number = u32::from_be_bytes(number).wrapping_add(more);
            frame[place..place + 4].copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// Where the frames go.
struct Feed {
    pipeline: Pipeline,
    time: Timestamp,
    packets: u64,
    frame: Vec<u8>,
}

impl Feed {
    fn pass(&mut self, flow: Flow, frames: &[Vec<u8>], later: u32, template: &Template) {
        for one in frames {
            self.frame.clear();
            self.frame.extend_from_slice(one);
            flow.claim(&mut self.frame, self.packets as u16, later, template);
            self.time = self.time.after(Duration::from_micros(20));
            self.packets += 1;
            self.pipeline.frame(&Frame {
                time: self.time,
                link: LinkType::Ethernet,
                wire_len: self.frame.len() as u32,
                interface: 0,
                data: &self.frame,
            });
        }
    }
}

fn run(number: u32) {
    let encrypted = Template::new(
        443,
        |scene, session| tls::handshake(scene, session, &tls::GO, "api.example"),
        |scene, session| tls::exchange(scene, session, 200, 1000),
    );
    let web = Template::new(
        8080,
        |_, _| (),
        |scene, session| {
            let request = Request::get("shop.example", "/item/1", "bench/1.0").bytes();
            let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
            answer.resize(answer.len() + 1000, b'x');
            session.ask(scene, &request, Duration::from_millis(4), &answer);
        },
    );
    let template = |flow| if flow % 2 == 0 { &encrypted } else { &web };
    let task = Task::Analyze {
        signatures: SignatureSet::builtin().unwrap(),
        baseline: None,
        exceptions: Exceptions::default(),
    };
    let journal = Arc::new(Journal::default());
    let mut feed = Feed {
        pipeline: Pipeline::new(SHARE, journal, task).unwrap(),
        time: START,
        packets: 0,
        frame: Vec::new(),
    };
    let idle = kib("VmRSS:");
    for flow in 0..number {
        let template = template(flow);
        feed.pass(Flow(flow), &template.opening, 0, template);
        feed.pass(Flow(flow), &template.exchange, 0, template);
    }
    let (before, from) = (feed.packets, processor_time());
    let (mut flow, mut later) = (0, 1);
    for _ in 0..EXCHANGES {
        let template = template(flow);
        feed.pass(Flow(flow), &template.exchange, later, template);
        // A prime: every flow has its turn, far from the last one's.
        flow = (flow + 611_953) % number;
        later += u32::from(flow == 0);
    }
    let took = processor_time().saturating_sub(from);
    let stats = feed.pipeline.stats();
    assert_eq!(
        stats.flows,
        u64::from(number),
        "none ended, none was evicted"
    );
    println!(
        "{number:9} flows: {:6} bytes each, {:5.0} ns/packet",
        kib("VmHWM:").saturating_sub(idle) * 1024 / u64::from(number),
        took.as_nanos() as f64 / (feed.packets - before) as f64
    );
}

/// Processor time of this thread, which other programs on the machine disturb less than the time on the wall.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A figure of this process's memory.
fn kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
