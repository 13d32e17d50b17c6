//! What a live run costs and changes: nothing for the pods, and every packet accounted for however many there are.

use std::fmt::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use spanwatch::testkit::bulk;

use crate::lab::{Lab, Pod, Running, run};
use crate::live::{SOON, account, get, metric};

/// Takes datagrams until one says `end`, and what a connection brings; prints each datagram as it came.
const RECEIVER: &str = r#"
import socket, threading, zlib
tcp = socket.create_server(("0.0.0.0", 9998))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 9999))
udp.settimeout(30)
def serve():
    got = b""
    with tcp.accept()[0] as peer:
        while part := peer.recv(65536):
            got += part
            peer.sendall(part)
    total.append(f"stream {len(got)} {zlib.crc32(got)}")
total = []
stream = threading.Thread(target=serve)
stream.start()
while True:
    data, who = udp.recvfrom(65536)
    print(who[1], len(data), zlib.crc32(data))
    if data == b"end":
        break
    udp.sendto(data[:8], who)
stream.join()
print(*total)
"#;

/// Sends datagrams one after the other, each once the last was answered, then a stream that is echoed.
const SENDER: &str = r#"
import random, socket, sys, zlib
to = sys.argv[1]
rng = random.Random(7)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 4567))
udp.settimeout(10)
for n in range(500):
    udp.sendto(n.to_bytes(8, "big") + rng.randbytes(rng.randrange(1400)), (to, 9999))
    assert udp.recv(100) == n.to_bytes(8, "big"), n
data = rng.randbytes(1 << 20)
tcp = socket.create_connection((to, 9998))
tcp.sendall(data[:1 << 16])
back = b""
for at in range(0, len(data), 1 << 16):
    if at: tcp.sendall(data[at:at + (1 << 16)])
    while len(back) < at + (1 << 16):
        back += tcp.recv(65536)
assert back == data
tcp.close()
udp.sendto(b"end", (to, 9999))
udp.settimeout(0.5)
try:
    print("twice", udp.recv(100))
except TimeoutError:
    pass
"#;

/// What the kernel of a pod counts, by name, of protocols that count nothing else meanwhile.
fn counters(pod: &Pod, names: &[&str]) -> Vec<u64> {
    let text = pod.exec(&["cat", "/proc/net/snmp"]);
    let lines: Vec<&str> = text.lines().collect();
    let value = |name: &&str| {
        let (protocol, field) = name.split_once('.').unwrap();
        let of = |line: &&&str| line.starts_with(&format!("{protocol}:"));
        let mut pair = lines.iter().filter(of);
        let heads = pair.next().unwrap().split(' ');
        let values = pair.next().unwrap().split(' ');
        let mut both = heads.zip(values);
        both.find(|(head, _)| *head == field)
            .unwrap()
            .1
            .parse()
            .unwrap()
    };
    names.iter().map(value).collect()
}

/// How the node's interfaces stand: their flags, and how many want them promiscuous.
fn links(lab: &Lab) -> Vec<String> {
    let text = lab.on_node("ip -details -oneline link show");
    let state = |line: &str| {
        let flags = line.split(" mtu ").next().unwrap().to_owned();
        let wanted = line.split("promiscuity ").nth(1).unwrap();
        format!("{flags} {}", wanted.split(' ').next().unwrap())
    };
    text.lines().map(state).collect()
}

#[test]
fn the_agent_changes_no_production_traffic() {
    const COUNTED: [&str; 4] = [
        "Udp.InDatagrams",
        "Udp.InErrors",
        "Udp.NoPorts",
        "Tcp.InErrs",
    ];
    let Some(lab) = Lab::new(&["python3"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let cni = cni.to_str().unwrap();
    let mut results = Vec::new();
    let as_it_was = links(&lab);
    for taps in [None, Some(&[][..]), Some(&["-i", "cni0"][..])] {
        let agent = taps.map(|taps| {
            let args = [&["agent", "--inventory", cni], taps].concat();
            lab.spanwatch(&args)
        });
        assert_eq!(links(&lab), as_it_was, "with {taps:?}");
        if agent.is_some() {
            // It sends nothing of its own to a pod that is quiet. What is received, but for somebody else, is not
            // counted: a bridge itself says twice, with seconds between, which multicast groups it listens to.
            let before = counters(&web, &["Ip.InDelivers"]);
            thread::sleep(Duration::from_secs(2));
            assert_eq!(counters(&web, &["Ip.InDelivers"]), before);
        }
        let before = counters(&web, &COUNTED);
        let receiver = web
            .command(&["python3", "-c", RECEIVER])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + SOON;
        while !web.exec(&["ss", "-Hlun"]).contains(":9999") {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(50));
        }
        let said = worker.exec(&["python3", "-c", SENDER, &web.ip]);
        assert_eq!(said, "", "with {taps:?}");
        let output = receiver.wait_with_output().unwrap();
        let received = String::from_utf8(output.stdout).unwrap();
        assert_eq!(received.lines().count(), 502, "with {taps:?}: {received}");
        let after = counters(&web, &COUNTED);
        let counted: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        if let Some(agent) = agent {
            let (code, _, said) = agent.stop();
            assert_eq!(code, Some(0), "{said}");
        }
        results.push((received, counted));
    }
    let (unwatched, counted) = &results[0];
    assert_eq!(counted, &[501, 0, 0, 0]);
    for (what, (received, counts)) in ["pods", "bridge"].iter().zip(&results[1..]) {
        let other = unwatched.lines().zip(received.lines());
        let other = other
            .enumerate()
            .find(|(_, (without, with))| without != with);
        assert_eq!(other, None, "the {what} watched");
        assert_eq!(counts, counted, "the {what} watched");
    }
}

/// How many packets `tcpreplay` says that it sent.
fn sent(said: &str) -> u64 {
    let line = said.lines().find(|line| line.starts_with("Actual: "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A cable, and a capture to send through it.
fn cable(lab: &Lab) -> String {
    lab.on_node("ip link add span0 type veth peer name span1");
    for end in ["span0", "span1"] {
        lab.on_node(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        lab.on_node(&format!("ip link set {end} mtu 65535 up"));
    }
    let capture = lab.path("bulk.pcap");
    std::fs::write(&capture, bulk::mixed(1, 60_000, 6_000)).unwrap();
    capture
}

/// Sends it at so many packets a second, or as near to that as can be; how many it sent.
fn replay(lab: &Lab, capture: &str, rate: u64) -> u64 {
    let (rate, span) = (format!("--pps={rate}"), format!("--duration={SPAN}"));
    let args = [
        "tcpreplay",
        "-q",
        "-K",
        "-i",
        "span0",
        "--loop=0",
        &rate,
        &span,
        capture,
    ];
    let output = lab.command(&args).output().unwrap();
    sent(&String::from_utf8(output.stdout).unwrap())
}

/// Seconds for which packets are sent at one rate.
const SPAN: u64 = 2;
/// The kernel's buffer: what the agent asks for unless told otherwise, in KiB.
const BUFFER: &str = "16384";
/// Packets a second: where the search for what tcpdump sustains begins, and where it ends at the latest.
const RATES: [u64; 2] = [16_000, 512_000];

/// What tcpdump says of packets: received by the filter, dropped by the kernel.
fn tcpdump(lab: &Lab, during: impl FnOnce()) -> [u64; 2] {
    let said = lab.path("tcpdump.log");
    let args = [
        "tcpdump",
        "-p",
        "-n",
        "-i",
        "span1",
        "-B",
        BUFFER,
        "-Z",
        "root",
        "-w",
        "/dev/null",
    ];
    let mut dump = lab.command(&args);
    let log = std::fs::File::create(&said).unwrap();
    let mut dump = Running(dump.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    let text = || std::fs::read_to_string(&said).unwrap();
    let until = Instant::now() + SOON;
    while !text().contains("listening on") {
        assert!(Instant::now() < until, "{}", text());
        thread::sleep(Duration::from_millis(50));
    }
    during();
    let pid = dump.0.id().to_string();
    run(std::process::Command::new("kill").args(["-INT", &pid]));
    dump.0.wait().unwrap();
    let text = text();
    ["received by filter", "dropped by kernel"].map(|what| {
        let line = text.lines().find(|line| line.ends_with(what));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        line.split(' ').next().unwrap().parse().unwrap()
    })
}

/// The highest rate, by doubling, at which tcpdump loses nothing of what was sent.
fn sustained(lab: &Lab, capture: &str) -> u64 {
    let [mut rate, most] = RATES;
    while rate < most {
        let mut sent = 0;
        let next = rate * 2;
        let [received, dropped] = tcpdump(lab, || sent = replay(lab, capture, next));
        // Nor is anything gained where sending itself comes to its end.
        if received < sent || dropped > 0 || sent < next * SPAN / 10 * 9 {
            break;
        }
        rate = next;
    }
    rate
}

#[test]
fn at_the_rate_that_tcpdump_sustains_and_twice_that_every_packet_is_accounted_for() {
    let Some(lab) = Lab::new(&["tcpreplay", "tcpdump"]) else {
        return;
    };
    let capture = cable(&lab);
    let rate = sustained(&lab, &capture);
    let mut told = format!("tcpdump sustains {rate} packets a second");
    for rate in [rate, rate * 2] {
        let agent = lab.spanwatch(&["agent", "-i", "span1", "--listen", "127.0.0.1:9474"]);
        let (sent, page) = thread::scope(|scope| {
            let sending = scope.spawn(|| replay(&lab, &capture, rate));
            // It answers while it has most to do.
            thread::sleep(Duration::from_secs(1));
            let page = get(&lab, "/metrics");
            (sending.join().unwrap(), page)
        });
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        let resident = agent.resident();
        assert!(resident < 512 << 20, "{} MiB", resident >> 20);
        let (code, _, said) = agent.stop();
        assert_eq!(code, Some(0), "{said}");
        let (received, became) = account(&said, "span1");
        assert_eq!(received, became.iter().sum::<u64>(), "{said}");
        assert!(received <= sent && became[0] > 0, "{said}");
        let account = said.lines().find(|line| line.starts_with("span1: "));
        write!(
            told,
            "; at {rate} the agent, of {sent}: {}",
            account.unwrap()
        )
        .unwrap();
    }
    println!("{told}");
}

#[test]
fn replayed_packets_are_processed_or_named_as_lost_at_any_rate() {
    let Some(lab) = Lab::new(&["tcpreplay"]) else {
        return;
    };
    let capture = cable(&lab);
    let args = [
        "sensor",
        "-i",
        "span1",
        "--promisc",
        "--listen",
        "127.0.0.1:9474",
        "--buffer",
        "4",
        "--ring",
        "4",
    ];

    // As slow as any machine can take it: nothing is lost on the way.
    let sensor = lab.spanwatch(&args);
    let replay = ["tcpreplay", "-q", "-i", "span0"];
    let slow = [&replay[..], &["--pps=2000", "--limit=6000", &capture]].concat();
    let said = String::from_utf8(lab.command(&slow).output().unwrap().stdout).unwrap();
    let sent_slowly = sent(&said);
    assert_eq!(sent_slowly, 6000);
    let (code, _, said) = sensor.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        account(&said, "span1"),
        (sent_slowly, vec![sent_slowly]),
        "{said}"
    );

    // As fast as this one can send: it answers, keeps within its memory, and its numbers add up.
    let sensor = lab.spanwatch(&args);
    let fast = [&replay[..], &["--topspeed", "--loop=8", &capture]].concat();
    let flood = lab.command(&fast).stdout(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    let asked = Instant::now();
    let page = get(&lab, "/metrics");
    assert!(metric(&page, "spanwatch_packets_total") > 0.0, "{page}");
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    let output = flood.wait_with_output().unwrap();
    let sent_fast = sent(&String::from_utf8(output.stdout).unwrap());
    let resident = sensor.resident();
    let asked = Instant::now();
    let (code, _, said) = sensor.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(asked.elapsed() < SOON, "it ends when asked to");
    let (received, became) = account(&said, "span1");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
    // The sending kernel may drop what the receiving one has no room for, before anybody could see it.
    assert!(received <= sent_fast && became[0] > 0, "{said}");
    assert!(resident < 512 << 20, "{} MiB", resident >> 20);
}
