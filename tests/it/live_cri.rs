//! Who is who by a container runtime alone: neither the state of a CNI nor an API of a cluster is read here.

use std::time::{Duration, Instant};

use spanwatch::identity::{Listed, Sandboxes};

use crate::containerd::Containerd;
use crate::criserver::{CriServer, Mood};
use crate::lab::Lab;
use crate::live::{SOON, get, is, metric};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:9474"];

/// Waits until `/readyz` has these words.
fn ready(lab: &Lab, words: &str) {
    let until = Instant::now() + SOON;
    loop {
        let page = get(lab, "/readyz");
        if page.contains(words) {
            return;
        }
        assert!(Instant::now() < until, "never {words:?}: {page}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_runtime_names_pods_and_is_asked_for_each_once() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.nameless_pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.nameless_pod("worker-6b8f5d7c9b-4qk7z");
    let socket = lab.path("cri.sock");
    let runtime = CriServer::start(&socket);
    runtime.put(&web);
    let mut agent = lab.spanwatch(&[&["agent", "--cri", &socket], &LISTEN[..]].concat());
    ready(&lab, "container runtime: 1 pods, asked");
    // One more, while it runs.
    runtime.put(&worker);
    ready(&lab, "container runtime: 2 pods, asked");
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, |alert| {
        is("port-scan")(alert) && alert["actor"]["pod"] == worker.name
    });
    assert_eq!(alert["actor"]["namespace"], "shop", "{alert}");
    assert_eq!(alert["actor"]["workload"], "shop/Deployment/worker");
    assert_eq!(alert["actor"]["labels"]["tier"], "back", "{alert}");
    assert_eq!(alert["targets"][0]["pod"], web.name, "{alert}");
    assert_eq!(alert["attribution"]["source"], "cri", "{alert}");
    assert!(runtime.called("ListPodSandbox") > 2);
    assert_eq!(runtime.called("PodSandboxStatus"), 2);
    let page = get(&lab, "/metrics");
    for (name, value) in [("spanwatch_cri_up", 1.0), ("spanwatch_cri_sandboxes", 2.0)] {
        assert!((metric(&page, name) - value).abs() < 0.1, "{page}");
    }
    runtime.remove(&web);
    ready(&lab, "container runtime: 1 pods, asked");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("none of ours"), "{said}");
}

#[test]
fn without_the_runtime_names_stay_and_analysis_goes_on() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let web = lab.nameless_pod("web-7d4b9c8f5d-x2x9k");
    let worker = lab.nameless_pod("worker-6b8f5d7c9b-4qk7z");
    let socket = lab.path("cri.sock");
    // Not there yet.
    let mut agent = lab.spanwatch(&[&["agent", "--cri", &socket], &LISTEN[..]].concat());
    agent.hear("can't be asked: No such file or directory");
    let runtime = CriServer::start(&socket);
    runtime.put(&web);
    runtime.put(&worker);
    ready(&lab, "container runtime: 2 pods, asked");
    for (mood, why) in [
        (Mood::Closing, "2 pods, not asked (the container runtime at"),
        (Mood::Ignorant, "its CRI may be switched off"),
    ] {
        runtime.mood(mood);
        ready(&lab, why);
    }
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], worker.name, "{alert}");
    assert!(metric(&get(&lab, "/metrics"), "spanwatch_cri_failures_total") >= 2.0);
    runtime.mood(Mood::Well);
    ready(&lab, "container runtime: 2 pods, asked");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.matches("can't be asked").count() <= 3, "{said}");
}

#[test]
fn a_real_containerd_names_its_pods() {
    let Some(lab) = Lab::new(&["nmap"]) else {
        return;
    };
    let Some(runtime) = Containerd::start(&lab) else {
        return;
    };
    let Some(web) = runtime.run("web-7d4b9c8f5d-x2x9k", false) else {
        return;
    };
    let mut agent = lab.spanwatch(&[&["agent", "--cri", &runtime.socket], &LISTEN[..]].concat());
    ready(&lab, "container runtime: 1 pods, asked");
    let worker = runtime.run("worker-6b8f5d7c9b-4qk7z", false).unwrap();
    let exporter = runtime.run("exporter-x2x9k", true).unwrap();
    ready(&lab, "container runtime: 3 pods, asked");
    // Nobody is left to be asked for: also not the one in the node's network, which has no address of its own.
    let mut known = Sandboxes::default();
    let list = || runtime.call("ListPodSandbox", &[]).unwrap();
    let unknown = known.list(&list()).unwrap().unknown;
    assert_eq!(unknown.len(), 3);
    for id in unknown {
        let question = Sandboxes::question(&id);
        let status = runtime.call("PodSandboxStatus", &question).unwrap();
        assert!(known.status(&status).unwrap(), "{id}");
    }
    assert_eq!(known.list(&list()).unwrap(), Listed::default());
    worker.exec(&["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &web.ip]);
    let alert = agent.alert(SOON, |alert| {
        is("port-scan")(alert) && alert["actor"]["identity"] == "pod"
    });
    let actor = &alert["actor"];
    assert_eq!(actor["pod"], "worker-6b8f5d7c9b-4qk7z", "{alert}");
    assert_eq!(actor["workload"], "shop/Deployment/worker", "{alert}");
    assert_eq!(actor["labels"]["tier"], "back", "{alert}");
    assert_eq!(alert["targets"][0]["pod"], "web-7d4b9c8f5d-x2x9k");
    assert_eq!(alert["attribution"]["source"], "cri", "{alert}");
    // In the node's network lives none of whom an address could tell.
    assert!(metric(&get(&lab, "/metrics"), "spanwatch_identity_claims") < 3.0);
    for gone in [&web, &exporter] {
        runtime.remove(&gone.id);
    }
    ready(&lab, "container runtime: 1 pods, asked");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
}
