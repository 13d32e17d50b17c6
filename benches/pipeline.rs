//! What each stage costs per packet, beside libpcap's own read loop in the same run.
//!
//! What dissectors cost, by protocol, is measured on the conversations of the bundled captures; and a flow past its budget
//! beside one that never had a dissector.
//!
//! `cargo bench --bench pipeline` builds a capture of a million packets and a hundred thousand flows from a seed, writes
//! it to a temporary file, and prints criterion's statistics and then a table of ns/packet and ratios.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use rustix::time::{ClockId, clock_gettime};
use spanwatch::alert::Exceptions;
use spanwatch::capture::{CaptureFile, Frame, LinkType, PacketSource};
use spanwatch::decode::{Content, decode};
use spanwatch::dissect::{Carrier, FlowDissector, LOOK_BUDGET, Progress, Segment};
use spanwatch::flow::{
    Chunk, Direction, FlowConfig, FlowRecord, FlowSink, FlowStart, FlowTable, Interest, Outcome,
    Protocol, Turn,
};
use spanwatch::identity::{InventoryOptions, Journal, load_inventory};
use spanwatch::memory::Share;
use spanwatch::pipeline::{Pipeline, Task};
use spanwatch::signature::SignatureSet;
use spanwatch::testkit::bulk;
use spanwatch::testkit::catalogue::files;
use spanwatch::testkit::cluster::{START, on_bridge};
use spanwatch::testkit::pcap::records;
use spanwatch::testkit::scene::{Route, Scene};
use spanwatch::testkit::talk::tcp::{Session, Side};
use spanwatch::time::Timestamp;

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PACKETS: usize = 1_000_000;
const FLOWS: usize = 100_000;
/// Full passes over the capture per stage for the table; the fastest counts, for it is the least disturbed.
const PASSES: usize = 5;

/// Hears flows and wants nothing.
struct Deaf;

impl FlowSink for Deaf {
    type State = ();
    fn opened(&mut self, _: &FlowStart) {}
    fn outcome(&mut self, (): &mut (), _: Timestamp, _: Outcome) {}
    fn turn(&mut self, (): &mut (), _: &Turn) {}
    fn payload(&mut self, (): &mut (), _: &Chunk<'_>) -> Interest {
        Interest::Enough
    }
    fn ended(&mut self, (): (), record: FlowRecord) {
        black_box(record);
    }
}

/// The capture's frames in memory, for stages that begin behind the reader.
struct Memory {
    frames: Vec<(Timestamp, u32, std::ops::Range<usize>)>,
    bytes: Vec<u8>,
}

impl Memory {
    fn load(path: &Path) -> Self {
        let mut source = CaptureFile::open(path).unwrap();
        let mut memory = Self {
            frames: Vec::new(),
            bytes: Vec::new(),
        };
        while let Some(frame) = source.next_frame().unwrap() {
            let start = memory.bytes.len();
            memory.bytes.extend(frame.data);
            memory
                .frames
                .push((frame.time, frame.wire_len, start..memory.bytes.len()));
        }
        memory
    }

    fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|(time, wire_len, range)| Frame {
            time: *time,
            link: LinkType::Ethernet,
            wire_len: *wire_len,
            interface: 0,
            data: &self.bytes[range.clone()],
        })
    }
}

fn libpcap(path: &Path) -> u64 {
    let mut capture = pcap::Capture::from_file(path).unwrap();
    let mut bytes = 0;
    while let Ok(packet) = capture.next_packet() {
        bytes += u64::from(packet.header.len);
        black_box(packet.data);
    }
    bytes
}

fn reader(path: &Path) -> u64 {
    let mut source = CaptureFile::open(path).unwrap();
    let mut bytes = 0;
    while let Some(frame) = source.next_frame().unwrap() {
        bytes += u64::from(frame.wire_len);
        black_box(frame.data);
    }
    bytes
}

fn decoding(memory: &Memory) {
    for frame in memory.frames() {
        black_box(decode(&frame));
    }
}

fn flows(memory: &Memory) {
    let mut table = FlowTable::new(FlowConfig::default());
    for frame in memory.frames() {
        let packet = decode(&frame);
        if let Content::Ip(ip) = &packet.content {
            table.packet(&packet, ip, &mut Deaf);
        }
    }
    table.finish(&mut Deaf);
    black_box(table.opened());
}

fn whole(path: &Path, journal: &Arc<Journal>) {
    let task = Task::Analyze {
        signatures: SignatureSet::builtin().unwrap(),
        baseline: None,
        exceptions: Exceptions::default(),
    };
    let mut pipeline = Pipeline::new(Share::WHOLE, Arc::clone(journal), task).unwrap();
    let mut source = CaptureFile::open(path).unwrap();
    while let Some(frame) = source.next_frame().unwrap() {
        pipeline.frame(&frame);
    }
    black_box(pipeline.finish());
}

/// A flow's payload as dissectors are given it.
struct Conversation {
    start: FlowStart,
    dissector: FlowDissector,
    pieces: Vec<(Timestamp, Direction, u32, Vec<u8>)>,
}

/// Conversations by what they speak.
#[derive(Default)]
struct Conversations(BTreeMap<&'static str, Vec<Conversation>>);

const fn carrier(start: &FlowStart) -> Carrier {
    match start.protocol {
        Protocol::Tcp => Carrier::Tcp,
        _ => Carrier::Udp,
    }
}

impl FlowSink for Conversations {
    type State = Conversation;
    fn opened(&mut self, start: &FlowStart) -> Conversation {
        Conversation {
            start: *start,
            dissector: FlowDissector::new(carrier(start)),
            pieces: Vec::new(),
        }
    }
    fn outcome(&mut self, _: &mut Conversation, _: Timestamp, _: Outcome) {}
    fn turn(&mut self, _: &mut Conversation, _: &Turn) {}
    fn payload(&mut self, state: &mut Conversation, chunk: &Chunk<'_>) -> Interest {
        let piece = (chunk.time, chunk.direction, chunk.gap, chunk.data.to_vec());
        let progress = state
            .dissector
            .feed(&segment(&state.start, &piece), &mut Vec::new());
        state.pieces.push(piece);
        match progress {
            Progress::More => Interest::More,
            Progress::Done | Progress::Desynced => Interest::Enough,
        }
    }
    fn ended(&mut self, state: Conversation, _: FlowRecord) {
        if let Some(app) = state.dissector.app() {
            self.0.entry(app).or_default().push(state);
        }
    }
}

fn segment<'a>(
    start: &FlowStart,
    (time, direction, gap, data): &'a (Timestamp, Direction, u32, Vec<u8>),
) -> Segment<'a> {
    Segment {
        time: *time,
        direction: *direction,
        orig_port: start.orig.1,
        resp_port: start.resp.1,
        data,
        gap: *gap,
    }
}

/// The conversations of every bundled capture.
fn conversations() -> Conversations {
    let mut found = Conversations::default();
    for (path, bytes) in files() {
        if Path::new(&path)
            .extension()
            .is_none_or(|kind| kind != "pcap")
        {
            continue;
        }
        let mut table = FlowTable::new(FlowConfig::default());
        for (time, data) in records(&bytes) {
            let frame = ethernet(time, data);
            let packet = decode(&frame);
            if let Content::Ip(ip) = &packet.content
                && ip.fragment.is_none()
            {
                table.packet(&packet, ip, &mut found);
            }
        }
        table.finish(&mut found);
    }
    found
}

fn dissect(conversations: &[Conversation]) {
    let mut out = Vec::new();
    for conversation in conversations {
        let mut dissector = FlowDissector::new(carrier(&conversation.start));
        for piece in &conversation.pieces {
            black_box(dissector.feed(&segment(&conversation.start, piece), &mut out));
            out.clear();
        }
        dissector.finish(&mut out);
        out.clear();
    }
}

const fn ethernet(time: Timestamp, data: &[u8]) -> Frame<'_> {
    Frame {
        time,
        link: LinkType::Ethernet,
        wire_len: data.len() as u32,
        interface: 0,
        data,
    }
}

/// Bytes of a long transfer.
const TRANSFER: usize = 32 << 20;

/// A transfer of which a dissector looks at every byte until that is too many, and one that is nobody's.
fn transfers() -> [(&'static str, Vec<u8>); 2] {
    let chunks = b"1\r\nx\r\n".repeat(TRANSFER / 6);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let transfer = |first: &[u8], rest: &[u8]| {
        let mut scene = Scene::new(3);
        let route = Route::direct(on_bridge(10), on_bridge(20), 8080);
        let mut session = Session::open(&mut scene, route, START);
        session.say(&mut scene, Side::Server, first);
        session.say(&mut scene, Side::Client, &[0xff; 600]);
        session.say(&mut scene, Side::Server, rest);
        session.close(&mut scene, Side::Server);
        scene.finish()
    };
    [
        ("past its budget", transfer(head, &chunks)),
        ("without dissector", transfer(&[0xfe; 600], &chunks)),
    ]
}

/// Through all stages but detection, once the budget is spent: time and packets.
fn tail(capture: &[u8], journal: &Arc<Journal>) -> (Duration, u64) {
    let mut pipeline = Pipeline::new(Share::WHOLE, Arc::clone(journal), Task::List).unwrap();
    let (mut bytes, mut packets, mut begun) = (0, 0, None);
    for (time, data) in records(capture) {
        if bytes > 2 * LOOK_BUDGET as usize {
            begun.get_or_insert_with(processor_time);
            packets += 1;
        }
        bytes += data.len();
        pipeline.frame(&ethernet(time, data));
    }
    let took = processor_time().saturating_sub(begun.unwrap());
    black_box(pipeline.finish());
    (took, packets)
}

/// Processor time of this thread, which other programs on the machine disturb less than the time on the wall.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn fastest(mut pass: impl FnMut()) -> Duration {
    (0..PASSES)
        .map(|_| {
            let start = processor_time();
            pass();
            processor_time().saturating_sub(start)
        })
        .min()
        .unwrap()
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bulk.pcap");
    std::fs::write(&path, bulk::mixed(1, PACKETS as u64, FLOWS as u64)).unwrap();
    let inventory = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/cluster.json");
    let (journal, _) = load_inventory(&[inventory], &InventoryOptions::default()).unwrap();
    let journal = Arc::new(journal);
    let memory = Memory::load(&path);
    let packets = memory.frames.len() as u64;

    let mut criterion = Criterion::default()
        .sample_size(10)
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(packets));
    group.bench_function("libpcap read loop", |b| b.iter(|| libpcap(&path)));
    group.bench_function("read", |b| b.iter(|| reader(&path)));
    group.bench_function("decode", |b| b.iter(|| decoding(&memory)));
    group.bench_function("decode + flow", |b| b.iter(|| flows(&memory)));
    group.bench_function("whole (read to alerts)", |b| {
        b.iter(|| whole(&path, &journal));
    });
    group.finish();

    if std::env::args().any(|arg| arg == "--bench") {
        let base = fastest(|| {
            black_box(libpcap(&path));
        });
        let stages: [(&str, Duration); 5] = [
            ("libpcap read loop", base),
            (
                "read",
                fastest(|| {
                    black_box(reader(&path));
                }),
            ),
            ("decode", fastest(|| decoding(&memory))),
            ("decode + flow", fastest(|| flows(&memory))),
            ("whole (read to alerts)", fastest(|| whole(&path, &journal))),
        ];
        println!("\n{packets} packets, processor time, fastest of {PASSES} passes:");
        for (stage, time) in stages {
            let per_packet = time.as_secs_f64() * 1e9 / packets as f64;
            let ratio = time.as_secs_f64() / base.as_secs_f64();
            println!("{stage:24} {per_packet:7.1} ns/packet  {ratio:5.2} × libpcap");
        }

        println!("\ndissectors, on the bundled captures' conversations, packets with payload:");
        for (app, conversations) in &conversations().0 {
            let packets: usize = conversations.iter().map(|one| one.pieces.len()).sum();
            let time = fastest(|| dissect(conversations));
            let per_packet = time.as_secs_f64() * 1e9 / packets as f64;
            println!("dissect/{app:16} {per_packet:7.1} ns/packet  ({packets} packets)");
        }

        println!("\na long transfer, read to flows, after twice the budget:");
        for (name, capture) in transfers() {
            let passes = (0..PASSES).map(|_| tail(&capture, &journal));
            let (time, packets) = passes.min().unwrap();
            let per_packet = time.as_secs_f64() * 1e9 / packets as f64;
            println!("{name:24} {per_packet:7.1} ns/packet");
        }
    }
}
