//! `spanwatch sensor` at a mirror port, whatever the mirror wraps frames in, tells what the agent on the node tells.

use std::thread;

use etherparse::PacketBuilder;
use pcap::{Active, Capture};
use serde_json::Value;

use crate::lab::Lab;
use crate::live::{SOON, account, is};

/// What a mirror makes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mirror {
    Plain,
    Vxlan,
    /// ERSPAN of type II or III.
    Erspan(u8),
}

const SESSION: u8 = 42;

#[test]
fn a_mirror_port_tells_the_same() {
    mirrored(Mirror::Plain);
}

#[test]
fn a_mirror_that_comes_through_a_tunnel_tells_the_same() {
    mirrored(Mirror::Vxlan);
}

#[test]
fn a_mirror_that_a_switch_sends_over_gre_tells_the_same() {
    mirrored(Mirror::Erspan(2));
    mirrored(Mirror::Erspan(3));
}

/// Copies what every pod's port sees to a mirror port, and looks from both sides.
fn mirrored(mirror: Mirror) {
    let Some(lab) = Lab::new(&["nmap", "tc"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    cable(&lab, "span");
    lab.on_node("ip addr add 10.77.0.1/24 dev span0");
    lab.on_node("ip neigh add 10.77.0.2 lladdr 02:00:00:00:00:02 dev span0");
    let to = match mirror {
        Mirror::Plain => "span0",
        Mirror::Vxlan => {
            lab.on_node("ip link add vx0 type vxlan id 77 remote 10.77.0.2 dstport 4789 dev span0");
            lab.on_node("ip link set vx0 up");
            "vx0"
        }
        Mirror::Erspan(kind) => erspan(&lab, kind),
    };
    for port in lab.ports() {
        lab.on_node(&format!("tc qdisc add dev {port} clsact"));
        for direction in ["ingress", "egress"] {
            lab.on_node(&format!(
                "tc filter add dev {port} {direction} protocol all u32 match u32 0 0 action mirred egress mirror dev {to}"
            ));
        }
    }
    let cni = lab.cni();
    let cni = cni.to_str().unwrap();
    let flows = lab.path("flows.jsonl");
    let args = [
        "-i",
        "span1",
        "--promisc",
        "--inventory",
        cni,
        "--flows",
        &flows,
    ];
    let mut sensor = lab.spanwatch(&[&["sensor"], &args[..]].concat());
    let mut agent = lab.spanwatch(&["agent", "--inventory", cni]);
    // Of connections, which differ in more than a port: two probes may look like one whose address was changed.
    worker.exec(&["nmap", "-n", "-Pn", "-sT", "-T4", "-p1-600", &web.ip]);
    let alert = sensor.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], worker.name);
    assert_eq!(alert["targets"][0]["pod"], web.name, "{alert}");
    agent.alert(SOON, is("port-scan"));
    let [told, on_node] = [(sensor, "span1"), (agent, "any")].map(|(run, interface)| {
        let (code, alerts, said) = run.stop();
        assert_eq!(code, Some(0), "{said}");
        let (received, became) = account(&said, interface);
        assert_eq!(received, became.iter().sum::<u64>(), "{said}");
        assert!(became[0] >= 2400, "{said}");
        finally(alerts)
    });
    assert_eq!(told, on_node, "{mirror:?}");
    let log = std::fs::read_to_string(flows).unwrap();
    let mut log = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let flow: Value = log
        .find(|flow: &Value| flow["dst"]["pod"] == web.name)
        .unwrap();
    let kind = match mirror {
        Mirror::Plain => Value::Null,
        Mirror::Vxlan => "vxlan".into(),
        Mirror::Erspan(_) => "erspan".into(),
    };
    assert_eq!(flow["tunnel"]["kind"], kind, "{flow}");
}

/// The last word on each alert, but for when each tap saw how many packets, and of what length with what is in front of them.
fn finally(alerts: Vec<Value>) -> Vec<Value> {
    let ended = alerts
        .into_iter()
        .filter(|alert| alert["status"] == "closed");
    let mut ended: Vec<Value> = ended.collect();
    for alert in ended.iter_mut().map(|alert| alert.as_object_mut().unwrap()) {
        for own in ["id", "time", "coverage"] {
            alert.remove(own).unwrap();
        }
        for flow in alert["flows"].as_array_mut().unwrap() {
            flow.as_object_mut().unwrap().remove("bytes").unwrap();
        }
    }
    ended
}

/// Two ends, which nothing of the node's own is sent through.
fn cable(lab: &Lab, name: &str) {
    lab.on_node(&format!("ip link add {name}0 type veth peer name {name}1"));
    for end in [0, 1].map(|end| format!("{name}{end}")) {
        lab.on_node(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        lab.on_node(&format!("ip link set {end} mtu 9000 up"));
    }
}

/// An interface that wraps frames and sends them to `span0`: the kernel's, or else one that is read, and written, here.
fn erspan(lab: &Lab, kind: u8) -> &'static str {
    let version = match kind {
        2 => "erspan_ver 1 erspan 7",
        _ => "erspan_ver 2 erspan_dir ingress erspan_hwid 7",
    };
    let add = format!(
        "ip link add er0 type erspan seq key {SESSION} local 10.77.0.1 remote 10.77.0.2 {version}"
    );
    let args: Vec<&str> = add.split(' ').collect();
    if lab.command(&args).output().unwrap().status.success() {
        lab.on_node("ip link set er0 up");
        return "er0";
    }
    cable(lab, "copy");
    // Room for all that comes while the sender doesn't run.
    let open = |interface: &str| -> Capture<Active> {
        let capture = Capture::from_device(interface).unwrap();
        let capture = capture.immediate_mode(true).snaplen(2048);
        capture.buffer_size(16 << 20).open().unwrap()
    };
    let (mut copies, mut out) = lab.there(move || (open("copy1"), open("span0")));
    thread::spawn(move || {
        let mut sent = 0_u32;
        // Until the interface is gone.
        loop {
            match copies.next_packet() {
                Ok(frame) => {
                    out.sendpacket(wrapped(kind, sent, frame.data)).ok();
                    sent += 1;
                }
                Err(pcap::Error::TimeoutExpired) => {}
                Err(_) => return,
            }
        }
    });
    "copy0"
}

/// A frame as a switch sends it on (draft-foschiano-erspan 4.2 and 4.3), with GRE's sequence number.
fn wrapped(kind: u8, number: u32, frame: &[u8]) -> Vec<u8> {
    let number = number.to_be_bytes();
    let (ether_type, head) = if kind == 2 {
        ([0x88, 0xbe], vec![0x10, 1, 0, SESSION, 0, 0, 0, 7])
    } else {
        // With a time stamp, and a subheader of the platform's that the last bit announces.
        let head = vec![0x20, 1, 0, SESSION, 1, 2, 3, 4, 0, 0, 0, 1];
        let platform = vec![0xc, 0, 0, 0, 0, 0, 0, 7];
        ([0x22, 0xeb], [head, platform].concat())
    };
    let content = [&[0x10, 0], &ether_type[..], &number, &head, frame].concat();
    let mut whole = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 77, 0, 1], [10, 77, 0, 2], 64)
        .write(&mut whole, etherparse::IpNumber::GRE, &content)
        .unwrap();
    whole
}
