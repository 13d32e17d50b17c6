//! A real `kubectl port-forward`, watched wherever somebody may stand: on the node's loopback, on the pod's, and on the bridge, which
//! shows nothing of it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, Pod, Running, present, run, skipped};
use crate::live::{SOON, account, is};
use crate::streamserver::StreamServer;

/// Where the pod's server listens, and kubectl for it.
const PORT: u16 = 8080;
const LOCAL: u16 = 28080;
/// Fetches a page three times; prints how long it is.
const FETCH: &str = "
import sys, time, urllib.request
for _ in range(3):
    print(len(urllib.request.urlopen(sys.argv[1], timeout=20).read()))
    time.sleep(0.3)
";
const PAGE: usize = 200_000;

/// A pod whose server answers, also on its loopback.
fn serving(lab: &Lab, name: &str) -> (Pod, Running) {
    let pod = lab.pod(name);
    let folder = lab.path(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(format!("{folder}/page"), vec![b'x'; PAGE]).unwrap();
    let port = PORT.to_string();
    let serve = [
        "python3",
        "-m",
        "http.server",
        &port,
        "--directory",
        &folder,
    ];
    let server = pod.start(&serve);
    let until = Instant::now() + SOON;
    while !pod.exec(&["ss", "-Hltn"]).contains(&format!(":{PORT}")) {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    (pod, server)
}

/// Starts kubectl on the node, and waits until it forwards.
fn kubectl(lab: &Lab, server: &StreamServer, pod: &Pod) -> Running {
    let (server, home) = (
        format!("--server=http://{}", server.address),
        lab.path("home"),
    );
    let (pod, ports) = (format!("pod/{}", pod.name), format!("{LOCAL}:{PORT}"));
    let args = [
        "kubectl",
        &server,
        "-n",
        "shop",
        "port-forward",
        &pod,
        &ports,
    ];
    let mut kubectl = lab.command(&args);
    kubectl.env("HOME", &home).env("KUBECONFIG", "/dev/null");
    let said = lab.path("kubectl.log");
    let log = std::fs::File::create(&said).unwrap();
    kubectl
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap());
    let running = Running(kubectl.stdout(log).spawn().unwrap());
    let text = || std::fs::read_to_string(&said).unwrap();
    let until = Instant::now() + SOON;
    while !text().contains("Forwarding from 127.0.0.1") {
        assert!(Instant::now() < until, "{}", text());
        std::thread::sleep(Duration::from_millis(50));
    }
    running
}

fn flows(file: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(file).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Flows to a port, and the most that one of them brought back.
fn to(flows: &[Value], port: u16) -> (usize, u64) {
    let found: Vec<&Value> = flows
        .iter()
        .filter(|flow| flow["dst"]["port"] == port)
        .collect();
    let back = found
        .iter()
        .map(|flow| flow["payload_bytes"][1].as_u64().unwrap());
    (found.len(), back.max().unwrap_or_default())
}

#[test]
fn a_forwarded_port_is_seen_where_it_can_be_seen() {
    if !present("kubectl") {
        return skipped("needs kubectl (Debian: kubernetes-client)");
    }
    for websockets in [true, false] {
        let Some(lab) = Lab::new(&["python3"]) else {
            return;
        };
        watched(&lab, websockets);
    }
}

fn watched(lab: &Lab, websockets: bool) {
    let (web, _server) = serving(lab, "web-7d4b9c8f5d-x2x9k");
    let cni = lab.cni();
    let cni = cni.to_str().unwrap();
    let logs = ["node", "pod", "bridge"].map(|name| lab.path(&format!("{name}.jsonl")));
    let [on_node, in_pod, on_bridge] = logs
        .each_ref()
        .map(|log| ["agent", "--inventory", cni, "--flows", log, "-i"]);
    let mut node = lab.spanwatch(&[&on_node[..], &["lo"]].concat());
    let mut pod = web.spanwatch(&[&in_pod[..], &["lo", "-i", "eth0"]].concat());
    let bridge = lab.spanwatch(&[&on_bridge[..], &["cni0"]].concat());

    // What the pod asks itself comes through no forwarded port.
    let own = format!("http://127.0.0.1:{PORT}/page");
    web.exec(&["python3", "-c", FETCH, &own]);
    let api = StreamServer::start(lab.listen("127.0.0.1:0"), &web, PORT, websockets);
    let forwarding = kubectl(lab, &api, &web);
    let forwarded = format!("http://127.0.0.1:{LOCAL}/page");
    let fetched = run(&mut lab.command(&["python3", "-c", FETCH, &forwarded]));
    assert_eq!(fetched, format!("{PAGE}\n").repeat(3), "{websockets}");

    let alert = node.alert(SOON, is("port-forward"));
    let summary = alert["summary"].as_str().unwrap();
    let named = format!("reached into shop/{} by port-forward", web.name);
    assert!(summary.contains(&named), "{websockets}: {alert}");
    assert_eq!(alert["targets"][0]["port"], api.address.port(), "{alert}");
    let alert = pod.alert(SOON, is("port-forward"));
    assert_eq!(alert["targets"][0]["port"], PORT, "{alert}");
    drop(forwarding);

    let [node, pod, bridge] = [node, pod, bridge].map(|run| {
        let (code, alerts, said) = run.stop();
        assert_eq!(code, Some(0), "{said}");
        (alerts, said)
    });
    for (alerts, said) in [&node, &pod] {
        assert!(alerts.iter().all(is("port-forward")), "{alerts:#?} {said}");
        let (received, became) = account(said, "lo");
        assert_eq!(received, became.iter().sum::<u64>(), "{said}");
    }
    // What the pod asked itself is not among it.
    let told = pod.0.last().unwrap();
    assert_eq!(told["flows"].as_array().unwrap().len(), 3, "{told}");
    let [on_node, in_pod, on_bridge] = logs.each_ref().map(|log| flows(log));
    // kubectl's own port, and behind it the pod's; the pod's own questions are seen by itself alone.
    assert!(to(&on_node, LOCAL).0 == 3 && to(&on_node, LOCAL).1 > PAGE as u64);
    assert_eq!(to(&on_node, PORT).0, 0);
    assert!(to(&in_pod, PORT).0 == 6 && to(&in_pod, PORT).1 > PAGE as u64);
    for port in [LOCAL, PORT, api.address.port()] {
        assert_eq!(to(&on_bridge, port).0, 0, "{on_bridge:#?}");
    }
    let (alerts, said) = bridge;
    assert!(alerts.is_empty(), "{alerts:#?}");
    // At the start and at the end; the others are not.
    let blind = "blind here: port-forward needs the node's own interface";
    assert_eq!(said.matches(blind).count(), 2, "{said}");
    for (_, said) in [&node, &pod] {
        assert!(!said.contains(blind), "{said}");
    }
}
