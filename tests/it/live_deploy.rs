//! The containers of `deploy/`, run here with the arguments, files and rights that their manifests give them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::apiserver::ApiServer;
use crate::command::{Folder, repository};
use crate::criserver::CriServer;
use crate::deploy::{Deployed, asked, documented, granted};
use crate::lab::{Lab, present, skipped};
use crate::live::{SOON, get, is};
use crate::live_kubernetes::object;

/// What starts a program with the rights that a container has by its manifest, and no others.
fn confined(deployed: &Deployed) -> Vec<String> {
    let security = &deployed.container["securityContext"];
    let added = security["capabilities"]["add"].as_array().unwrap();
    let added = added
        .iter()
        .map(|one| format!(",+{}", one.as_str().unwrap().to_lowercase()));
    let sets = format!("-all{}", added.collect::<String>());
    let mut starter = vec![
        "setpriv".to_owned(),
        format!("--bounding-set={sets}"),
        format!("--inh-caps={sets}"),
    ];
    if security["allowPrivilegeEscalation"] == false {
        starter.push("--no-new-privs".to_owned());
    }
    starter
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The answer's lines that have values: names, and labels with theirs.
fn exported(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let lines = page.lines().filter(|line| line.starts_with("spanwatch_"));
    let pair = |pair: &str| {
        let (label, value) = pair.split_once('=').unwrap();
        (label.to_owned(), value.trim_matches('"').to_owned())
    };
    lines
        .map(|line| {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',');
            let labels = labels.filter(|one| !one.is_empty()).map(pair);
            (name.to_owned(), labels.collect())
        })
        .collect()
}

/// Prometheus' own checker, where somebody has it.
fn promtool() -> Option<String> {
    if present("promtool") {
        return Some("promtool".to_owned());
    }
    let unpacked = fs::read_dir(repository("target"))
        .ok()?
        .map_while(Result::ok);
    let mut unpacked = unpacked.map(|entry| entry.path().join("usr/bin/promtool"));
    let unpacked = unpacked.find(|path| path.is_file());
    unpacked.map(|path| path.display().to_string())
}

#[test]
fn the_daemonset_runs_as_its_manifest_has_it() {
    let Some(lab) = Lab::new(&["nmap", "setpriv"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let manifest = "deploy/kubernetes/daemonset.yaml";
    let deployed = Deployed::read(manifest);
    // As the node's own directories would have it.
    let own = deployed.here("/var/lib/cni");
    let copied = Command::new("cp")
        .arg("-rT")
        .arg(lab.cni())
        .arg(&own)
        .status();
    assert!(copied.unwrap().success());
    let api = ApiServer::start(lab.listen("127.0.0.1:6443"));
    for pod in [&web, &worker] {
        api.put(object(pod, "node-1"));
    }
    // In a cluster the pod's account leads to the API, and here a file. The rest is what has metrics of its own.
    let (kubeconfig, spool, evidence) = (
        lab.path("kubeconfig"),
        deployed.here("/state/spool"),
        deployed.here("/state/evidence"),
    );
    let cri = lab.path("cri.sock");
    CriServer::start(&cri).put(&web);
    api.kubeconfig(&kubeconfig);
    let more = [
        "--inventory",
        &own,
        "--kubeconfig",
        &kubeconfig,
        "--cri",
        &cri,
        "--alertmanager",
        "http://127.0.0.1:9",
        "--spool",
        &spool,
        "--evidence",
        &evidence,
    ];
    let arguments = deployed.arguments();
    let arguments = [&borrowed(&arguments)[..], &more].concat();
    let mut agent = lab.spanwatch_by(&borrowed(&confined(&deployed)), &arguments);
    agent.hear("2 pods of node node-1");
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], worker.name, "{alert}");
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = deployed.container[probe]["httpGet"]["path"]
            .as_str()
            .unwrap();
        assert!(get(&lab, path).starts_with("HTTP/1.1 200"), "{path}");
    }
    std::thread::sleep(Duration::from_secs(2));
    let page = get(&lab, "/metrics");
    watched(&page);
    let asked: BTreeSet<(String, String)> = api
        .requests(&[])
        .iter()
        .map(|target| verb(target))
        .collect();
    assert_eq!(asked, granted(manifest));

    let patience = deployed.pod["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    let stopping = std::time::Instant::now();
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(stopping.elapsed() < Duration::from_secs(patience), "{said}");
    assert!(!said.contains("not confined"), "{said}");
    for file in ["baseline", "alerts", "spool"] {
        let path = deployed.here(&format!("/state/{file}"));
        assert!(fs::metadata(&path).unwrap().len() > 0, "{path}");
    }
    assert!(fs::read_dir(evidence).unwrap().count() > 0, "{said}");
}

/// What a request is in terms of a role.
fn verb(target: &str) -> (String, String) {
    let (path, query) = target.split_once('?').unwrap();
    let verb = if query.contains("watch=1") {
        "watch"
    } else {
        "list"
    };
    (path.to_owned(), verb.to_owned())
}

/// The page has all that is asked for, is documented as it is, and is as Prometheus wants it.
fn watched(page: &str) {
    let exported = exported(page);
    for (name, matchers) in asked() {
        let series: Vec<_> = exported.iter().filter(|(one, _)| *one == name).collect();
        assert!(!series.is_empty(), "{name} is not exported: {page}");
        for (label, values) in matchers.iter().filter(|(label, _)| label != "instance") {
            for value in values {
                let there = |(_, labels): &&&(String, Vec<(String, String)>)| {
                    labels.contains(&(label.clone(), value.clone()))
                };
                assert!(
                    series.iter().any(|one| there(&one)),
                    "{name}: {label}={value}"
                );
            }
        }
    }
    let mut documented = documented();
    for (name, labels) in &exported {
        let known = documented.get(name).unwrap_or_else(|| panic!("{name}"));
        let labels: BTreeSet<String> = labels.iter().map(|(label, _)| label.clone()).collect();
        assert_eq!(*known, labels, "{name}");
    }
    for (name, _) in &exported {
        documented.remove(name);
    }
    assert_eq!(
        documented.len(),
        0,
        "documented and not exported: {documented:?}"
    );
    let Some(promtool) = promtool() else {
        skipped("needs promtool for the last check: scripts/check-deploy gets it");
        return;
    };
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let folder = Folder::new();
    let file = folder.file("page", body.as_bytes());
    let check = format!("{promtool} check metrics < {file}");
    let checked = Command::new("sh").args(["-c", &check]).output().unwrap();
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{told}{body}");
}

#[test]
fn the_sidecar_runs_as_its_manifest_has_it() {
    let Some(lab) = Lab::new(&["nmap", "setpriv"]) else {
        return;
    };
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let deployed = Deployed::read("deploy/kubernetes/sidecar.yaml");
    let list = json!({"kind": "List", "apiVersion": "v1", "items": [object(&web, "n"), object(&worker, "n")]});
    fs::write(deployed.here("/inventory/pods.json"), list.to_string()).unwrap();
    let arguments = deployed.arguments();
    let mut sidecar = worker.spanwatch_by(&borrowed(&confined(&deployed)), &borrowed(&arguments));
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = sidecar.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], worker.name, "{alert}");
    assert_eq!(alert["targets"][0]["pod"], web.name, "{alert}");
    let (code, _, said) = sidecar.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("not confined"), "{said}");
}

/// The system calls that a set of systemd's has, with those of the sets in it.
fn calls_of(set: &str) -> BTreeSet<String> {
    let told = Command::new("systemd-analyze")
        .args(["syscall-filter", set])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let lines = told.lines().skip(1).map(str::trim);
    let mut calls = BTreeSet::new();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('@') {
            calls.extend(calls_of(line));
        } else {
            calls.insert(line.to_owned());
        }
    }
    calls
}

#[test]
fn the_unit_lets_it_make_the_calls_that_it_makes() {
    let Some(lab) = Lab::new(&["strace", "systemd-analyze", "nmap"]) else {
        return;
    };
    let unit = fs::read_to_string(repository("deploy/systemd/spanwatch-sensor.service")).unwrap();
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("SystemCallFilter="));
    // Always let through.
    let mut allowed = calls_of("@default");
    for word in line.unwrap().split(' ') {
        if word.starts_with('@') {
            allowed.extend(calls_of(word));
        } else {
            allowed.insert(word.to_owned());
        }
    }
    let web = lab.pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
    let trace = lab.path("trace");
    let config = fs::read_to_string(repository("deploy/systemd/sensor.toml")).unwrap();
    let here = lab.path("here");
    fs::create_dir(&here).unwrap();
    let config = config
        .replace("/var/lib/spanwatch", &here)
        .replace("/var/log/spanwatch", &here)
        .replace("/etc/spanwatch", &here);
    let file = lab.path("sensor.toml");
    fs::write(&file, config).unwrap();
    let (spool, evidence) = (format!("{here}/spool"), format!("{here}/evidence"));
    let arguments = [
        "sensor",
        "--config",
        &file,
        "--interface",
        "cni0",
        "--alertmanager",
        "http://127.0.0.1:9",
        "--spool",
        &spool,
        "--evidence",
        &evidence,
    ];
    let starter = ["strace", "-D", "-f", "-qq", "-o", &trace];
    let mut sensor = lab.spanwatch_by(&starter, &arguments);
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-300", &web.ip]);
    std::thread::sleep(Duration::from_secs(4));
    get(&lab, "/metrics");
    sensor.signal("HUP");
    sensor.hear("signatures read again");
    let (code, _, said) = sensor.stop();
    assert_eq!(code, Some(0), "{said}");
    let told = fs::read_to_string(format!("{here}/alerts.jsonl")).unwrap();
    assert!(told.contains("port-scan"), "{said}");

    let trace = fs::read_to_string(trace).unwrap();
    let mut made = BTreeSet::new();
    for line in trace.lines() {
        let call = line
            .split_once(' ')
            .map_or("", |(_, rest)| rest.trim_start());
        let Some((name, _)) = call.split_once('(') else {
            continue;
        };
        if name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            made.insert(name.to_owned());
        }
    }
    assert!(made.len() > 30 && made.contains("seccomp"), "{made:?}");
    // systemd itself starts it.
    made.remove("execve");
    let refused: Vec<&String> = made.difference(&allowed).collect();
    assert_eq!(refused, [] as [&str; 0], "{:?}", Value::from(said));
}
