//! Alerts of live runs, delivered to servers that are down, busy, slow, and to runs that are killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::spanwatch;
use crate::lab::{Lab, Pod, Running};
use crate::live::{SOON, get, is, metric};

/// A server that is busy at first, then writes down what it is sent: path, authorization and body, one request a line.
const RECEIVER: &str = r#"
import http.server, sys
class Receiver(http.server.BaseHTTPRequestHandler):
    busy = 1
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        status = 503 if Receiver.busy else 200
        Receiver.busy = 0
        if status == 200:
            with open(sys.argv[1], "a") as log:
                log.write(self.path + " " + self.headers["authorization"] + " " + body + "\n")
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", 9093), Receiver).serve_forever()
"#;

#[test]
fn alerts_wait_for_a_server_that_is_down_and_busy() {
    let Some(lab) = Lab::new(&["nmap", "python3"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let (cni, token, log) = (lab.cni(), lab.path("token"), lab.path("received"));
    std::fs::write(&token, "s3cret\n").unwrap();
    let mut agent = lab.spanwatch(&[
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--alertmanager",
        "http://127.0.0.1:9093",
        "--webhook-token",
        &token,
        "--listen",
        "127.0.0.1:9474",
    ]);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    agent.hear("alerts wait for 127.0.0.1:9093");
    assert!(metric(&get(&lab, "/metrics"), "spanwatch_forwarding_queue") >= 1.0);
    let mut server = lab
        .command(&["python3", "-c", RECEIVER, &log])
        .spawn()
        .unwrap();
    agent.hear("127.0.0.1:9093 takes alerts again");
    let (code, alerts, said) = agent.stop();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(code, Some(0), "{said}");
    let mut got = Vec::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let body = line.strip_prefix("/api/v2/alerts Bearer s3cret ");
        let body: Vec<Value> = serde_json::from_str(body.unwrap()).unwrap();
        got.extend(body);
    }
    assert_eq!(
        got.len(),
        alerts.len(),
        "each that was written was also sent"
    );
    let labels = &got[0]["labels"];
    assert_eq!(labels["alertname"], "port-scan");
    assert_eq!(labels["alert_id"], alert["id"]);
    assert_eq!(labels["pod"], worker.name);
    assert!(got.iter().all(|one| one["labels"] == *labels), "{got:#?}");
    assert_eq!(got[0]["startsAt"], alert["time"]["first"]);
}

/// Starts the receiver.
fn receiver(lab: &Lab, log: &str) -> Running {
    let mut command = lab.command(&["python3", "-c", RECEIVER, log]);
    Running(command.stderr(Stdio::null()).spawn().unwrap())
}

/// What the receiver wrote down so far, alert by alert.
fn received(log: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let body = |line: &str| {
        let (_, body) = line.split_once(" Bearer s3cret ").unwrap();
        serde_json::from_str::<Vec<Value>>(body).unwrap()
    };
    text.lines().flat_map(body).collect()
}

#[test]
fn alerts_outlive_a_kill_while_their_server_is_down() {
    let Some(lab) = Lab::new(&["nmap", "python3"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let (cni, token, log, spool) = (
        lab.cni(),
        lab.path("token"),
        lab.path("received"),
        lab.path("spool"),
    );
    std::fs::write(&token, "s3cret\n").unwrap();
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--webhook",
        "http://127.0.0.1:9093/alerts",
        "--webhook-token",
        &token,
        "--spool",
        &spool,
        "--listen",
        "127.0.0.1:9474",
    ];
    let mut told = Vec::new();
    // Killed, and killed once more, then ended as it should be: what they told waits.
    for kill in [true, true, false] {
        let mut agent = lab.spanwatch(&args);
        if !told.is_empty() {
            agent.hear(&format!("{} alerts of an earlier run wait", told.len()));
        }
        worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
        agent.alert(SOON, is("port-scan"));
        agent.hear("alerts wait for 127.0.0.1:9093");
        assert!(metric(&get(&lab, "/metrics"), "spanwatch_spool_up") > 0.0);
        if kill {
            // Everything that was told has been told for good.
            let seen = agent.kill();
            told.extend(seen);
        } else {
            let asked = Instant::now();
            let (code, alerts, said) = agent.stop();
            assert_eq!(code, Some(0), "{said}");
            assert!(
                asked.elapsed() < Duration::from_secs(4),
                "it waits for nobody"
            );
            told.extend(alerts);
            assert!(
                said.contains(&format!("{} alerts wait", told.len())),
                "{said}"
            );
        }
    }
    let _server = receiver(&lab, &log);
    let agent = lab.spanwatch(&args);
    let until = Instant::now() + SOON;
    while received(&log).len() < told.len() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    told.extend(alerts);
    assert_eq!(
        received(&log),
        told,
        "each once, in the order of telling: {said}"
    );

    // And nothing is left for another run.
    let mut agent = lab.spanwatch(&args);
    agent.hear("started");
    let (_, _, said) = agent.stop();
    assert!(!said.contains("of an earlier run"), "{said}");
    assert_eq!(received(&log).len(), told.len());
}

#[test]
fn an_attack_stays_the_same_alert_when_the_agent_is_killed() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let (cni, state) = (lab.cni(), lab.path("state"));
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--state",
        &state,
    ];
    let scan = |ports: &str| worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", ports, &web.ip]);
    let mut agent = lab.spanwatch(&args);
    scan("-p1-300");
    let alert = agent.alert(SOON, is("port-scan"));
    // A second later it is kept for sure.
    std::thread::sleep(Duration::from_millis(1500));
    agent.kill();

    let mut agent = lab.spanwatch(&args);
    agent.hear("1 alerts of an earlier run go on");
    scan("-p1-2000");
    std::thread::sleep(Duration::from_secs(3));
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!alerts.is_empty());
    for again in &alerts {
        assert_eq!(again["id"], alert["id"], "{again}");
        assert_ne!(again["status"], "open", "it was opened before");
        assert_eq!(again["time"]["first"], alert["time"]["first"]);
        assert_eq!(again["actor"]["pod"], worker.name);
    }
    assert_eq!(alerts.last().unwrap()["status"], "closed");

    // Ended as it should be: what goes on right after is opened anew, under its id.
    let mut agent = lab.spanwatch(&args);
    scan("-p1-300");
    let again = agent.alert(SOON, is("port-scan"));
    assert_eq!(
        (&again["id"], &again["status"]),
        (&alert["id"], &"open".into())
    );
    agent.stop();
}

#[test]
fn what_was_learned_outlives_a_kill() {
    let Some(lab) = Lab::new(&["socat"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let _server = web.start(&["socat", "TCP-LISTEN:8080,fork,reuseaddr", "PIPE"]);
    for keeps in [true, false] {
        let (baseline, state) = (lab.path(&format!("baseline-{keeps}")), lab.path("state"));
        let mut args = vec![
            "agent",
            "--inventory",
            cni.to_str().unwrap(),
            "--baseline",
            &baseline,
            "--learn",
        ];
        if keeps {
            args.extend(["--state", &state]);
        }
        let mut agent = lab.spanwatch(&args);
        let calls = format!(
            "for i in 1 2 3; do exec 3<>/dev/tcp/{}/8080; echo x >&3; read -u 3 y; done; sleep 3",
            web.ip
        );
        worker.exec(&["bash", "-c", &calls]);
        // Saved each minute, and when asked to.
        agent.signal("HUP");
        agent.hear("baseline saved in");
        agent.kill();

        let (code, _, said) = lab.spanwatch(&args).stop();
        assert_eq!(code, Some(0), "{said}");
        let shown = spanwatch(&["baseline", "show", "--baseline", &baseline]);
        // It is minutes old: without the alerts that may cover it, it is forgotten.
        assert_eq!(
            shown.out.contains("shop/Deployment/worker"),
            keeps,
            "{}",
            shown.out
        );
    }
}

#[test]
fn a_mirror_port_that_falls_silent_is_told() {
    let Some(lab) = Lab::new(&["python3"]) else {
        return;
    };
    let (token, log) = (lab.path("token"), lab.path("received"));
    std::fs::write(&token, "s3cret\n").unwrap();
    lab.on_node("ip link add span0 type veth peer name span1");
    for end in ["span0", "span1"] {
        lab.on_node(&format!("sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
        lab.on_node(&format!("ip link set {end} up"));
    }
    let _server = receiver(&lab, &log);
    let mut sensor = lab.spanwatch(&[
        "sensor",
        "-i",
        "span1",
        "--promisc",
        "--alarm-silence",
        "1",
        "--alertmanager",
        "http://127.0.0.1:9093",
        "--webhook-token",
        &token,
        "--listen",
        "127.0.0.1:9474",
    ]);
    let silent = |page: &str| metric(page, "spanwatch_alarm{condition=\"silence\"}") > 0.0;
    assert!(!silent(&get(&lab, "/metrics")));
    std::thread::sleep(Duration::from_mins(1));
    sensor.hear("alarm: no packet for 1 minutes on span1");
    assert!(silent(&get(&lab, "/metrics")));
    assert!(get(&lab, "/readyz").contains("alarm: no packet for 1 minutes on span1"));

    // Somebody asks for an address on the other end of the cable.
    lab.on_node("ip addr add 10.77.0.1/24 dev span0");
    lab.command(&["ping", "-c1", "-W1", "10.77.0.2"])
        .output()
        .unwrap();
    lab.command(&["bash", "-c", "echo > /dev/udp/10.77.0.2/9"])
        .output()
        .unwrap();
    sensor.hear("alarm over: no packet for 1 minutes on span1");
    assert!(!silent(&get(&lab, "/metrics")));
    let (code, alerts, said) = sensor.stop();
    assert_eq!((code, alerts.len()), (Some(0), 0), "{said}");
    let [raised, over] = received(&log).try_into().unwrap();
    for alarm in [&raised, &over] {
        assert_eq!(alarm["labels"]["alertname"], "SpanwatchAlarm");
        assert_eq!(alarm["labels"]["condition"], "silence");
        assert_eq!(alarm["labels"]["subject"], "span1");
        assert!(alarm["labels"]["node"].is_string());
    }
    assert!(raised["endsAt"].is_null() && over["endsAt"].is_string());
}

#[test]
fn alerts_go_to_syslog() {
    let Some(lab) = Lab::new(&["nmap", "socat"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let (cni, log) = (lab.cni(), lab.path("log"));
    let mut agent = lab.spanwatch(&[
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--syslog",
        "tcp://127.0.0.1:6010",
    ]);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    agent.hear("alerts wait for 127.0.0.1:6010");
    let to = format!("OPEN:{log},creat,append");
    let server = lab
        .command(&["socat", "-u", "TCP-LISTEN:6010,fork,reuseaddr", &to])
        .spawn()
        .unwrap();
    let _server = Running(server);
    agent.hear("127.0.0.1:6010 takes alerts again");
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let until = Instant::now() + SOON;
    loop {
        // Count, space, message; one after the other.
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let mut rest = &text[..];
        let mut got = Vec::new();
        while let Some((length, more)) = rest.split_once(' ') {
            let Some((message, left)) = more.split_at_checked(length.parse().unwrap()) else {
                break;
            };
            assert!(message.contains(" spanwatch "), "{message}");
            let (_, json) = message.split_once('\u{feff}').unwrap();
            got.push(serde_json::from_str::<Value>(json).unwrap());
            rest = left;
        }
        if got.len() >= alerts.len() {
            assert_eq!(got, alerts);
            assert_eq!(got[0]["id"], alert["id"]);
            break;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_full_disk_costs_nothing_but_the_safety_of_what_waits() {
    let Some(lab) = Lab::new(&["nmap", "unshare"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let other = lab.pod("other-5f6d8c7b9d-8xq2p");
    let (cni, disk) = (lab.cni(), lab.path("disk"));
    std::fs::create_dir(&disk).unwrap();
    let (spool, state, full) = (
        format!("{disk}/spool"),
        format!("{disk}/state"),
        format!("{disk}/full"),
    );
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--webhook",
        "http://127.0.0.1:9093/",
        "--spool",
        &spool,
        "--state",
        &state,
        "--listen",
        "127.0.0.1:9474",
    ];
    let mut agent = lab.spanwatch_with_disk(&disk, 8192, &args);
    let up = || metric(&get(&lab, "/metrics"), "spanwatch_spool_up") > 0.0;
    assert!(up());
    let filled = agent.beside(&format!("cat /dev/zero > {full}"));
    assert!(String::from_utf8_lossy(&filled.stderr).contains("No space left"));
    let scan = |pod: &Pod| pod.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    scan(&worker);
    agent.alert(SOON, is("port-scan"));
    agent.hear("alerts wait in memory only");
    agent.hear("open alerts are not kept over a restart");
    assert!(!up());

    agent.beside(&format!("rm {full}"));
    scan(&other);
    agent.hear("alerts wait on disk again");
    agent.hear("open alerts are kept again");
    assert!(up());
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let waiting = format!("{} alerts wait for 127.0.0.1:9093", alerts.len());
    assert!(said.contains(&waiting), "{waiting}: {said}");
}
