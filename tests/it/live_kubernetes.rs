//! Who is who by the Kubernetes API alone: no state of a CNI is read here.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::apiserver::{ApiServer, Gone, Mood};
use crate::lab::{Lab, Pod};
use crate::live::{SOON, get, is, metric};

const NODE: &str = "node-1";

/// A pod's object, as a Deployment makes it.
pub(crate) fn object(pod: &Pod, node: &str) -> Value {
    let set = pod.name.rsplit_once('-').unwrap().0;
    let hash = set.rsplit_once('-').unwrap().1;
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": pod.name, "namespace": "shop", "uid": format!("uid-{}", pod.name),
                     "labels": {"app": "x", "pod-template-hash": hash},
                     "creationTimestamp": "2026-01-01T00:00:00Z",
                     "ownerReferences": [{"kind": "ReplicaSet", "name": set, "controller": true}]},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x:1", "env": [{"name": "PASSWORD", "value": "secret"}]}]},
        "status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": pod.ip}], "hostIP": "192.168.50.1",
                   "startTime": "2026-01-01T00:00:00Z"},
    })
}

fn node(name: &str, ip: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": format!("uid-{name}")},
           "spec": {"podCIDR": "10.88.7.0/27"}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}})
}

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

/// Waits until something is so.
fn until(so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !so() {
        assert!(Instant::now() < end, "never so");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Scene {
    lab: Lab,
    web: Pod,
    worker: Pod,
    api: ApiServer,
    config: String,
}

impl Scene {
    /// A node with two pods, of which the API knows, and another node's.
    fn new(address: &str) -> Option<Self> {
        let lab = Lab::new(&["nmap"])?;
        let web = lab.pod("web-7d4b9c8f5d-x2x9k");
        let worker = lab.pod("worker-6b8f5d7c9b-4qk7z");
        let api = ApiServer::start(lab.listen(address));
        for pod in [&web, &worker] {
            api.put(object(pod, NODE));
        }
        for (name, ip) in [(NODE, "192.168.50.1"), ("node-2", "192.168.50.2")] {
            api.put(node(name, ip));
        }
        let config = lab.path("kubeconfig");
        api.kubeconfig(&config);
        Some(Self {
            lab,
            web,
            worker,
            api,
            config,
        })
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let args = ["agent", "--kubeconfig", &self.config, "--node", NODE];
        [&args, more].concat()
    }

    fn scan(&self) {
        let all = ["nmap", "-n", "-Pn", "-sS", "-T4", "-p1-600", &self.web.ip];
        self.worker.exec(&all);
    }
}

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:9474"];

#[test]
fn an_api_that_answers_late_names_pods_afterwards() {
    let Some(scene) = Scene::new("127.0.0.1:6443") else {
        return;
    };
    let (lab, api) = (&scene.lab, &scene.api);
    api.mood(Mood::Silent);
    let mut elsewhere = scene.web.clone();
    "other-5c9b7d6f4d-abcde".clone_into(&mut elsewhere.name);
    "10.88.9.9".clone_into(&mut elsewhere.ip);
    api.put(object(&elsewhere, "node-2"));
    let mut agent = lab.spanwatch(&scene.args(&LISTEN));
    agent.hear("following the Kubernetes API");
    scene.scan();
    let nameless = agent.alert(SOON, is("port-scan"));
    assert_eq!(nameless["actor"]["pod"], Value::Null, "{nameless}");
    assert_eq!(nameless["actor"]["ip"], scene.worker.ip);
    ready(lab, "kubernetes pods: 0 known, not followed");

    api.mood(Mood::Well);
    let named = agent.alert(SOON, |alert| alert["actor"]["pod"] == scene.worker.name);
    assert_eq!(named["id"], nameless["id"]);
    assert_eq!(named["actor"]["workload"], "shop/Deployment/worker");
    assert_eq!(named["targets"][0]["pod"], scene.web.name, "{named}");
    assert_eq!(named["attribution"]["source"], "kubernetes-watch");
    assert!(!named.to_string().contains("secret"));
    // Its own node's pods alone, and every node.
    ready(lab, "kubernetes pods: 2 known, followed");
    ready(lab, "kubernetes nodes: 2 known, followed");
    let page = get(lab, "/metrics");
    for kind in ["pods", "services", "endpointslices", "nodes"] {
        let up = format!("spanwatch_kubernetes_up{{kind=\"{kind}\"}}");
        assert!((metric(&page, &up) - 1.0).abs() < 0.1, "{page}");
    }
    let documented = std::fs::read_to_string(crate::command::repository("docs/live.md")).unwrap();
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(documented.contains(&format!("`{name}`")), "{name}");
    }
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 pods of node node-1"), "{said}");
}

#[test]
fn watches_go_on_where_they_broke_off_and_begin_anew_where_they_must() {
    let Some(scene) = Scene::new("127.0.0.1:6443") else {
        return;
    };
    let (lab, api) = (&scene.lab, &scene.api);
    let agent = lab.spanwatch(&scene.args(&LISTEN));
    ready(lab, "kubernetes pods: 2 known, followed");
    let lists = || {
        api.requests(&["/api/v1/pods?limit", "nodeName%3Dnode-1"])
            .len()
    };
    let watches = || api.requests(&["/api/v1/pods?watch", "nodeName%3Dnode-1"]);
    let listed = lists();
    assert_eq!(listed, 1);

    // A new pod by an event, in two pieces; then the connection breaks in the middle of one.
    let mut third = scene.web.clone();
    "web-7d4b9c8f5d-third".clone_into(&mut third.name);
    "10.88.7.30".clone_into(&mut third.ip);
    api.put(object(&third, NODE));
    ready(lab, "kubernetes pods: 3 known, followed");
    let reached = api.bookmark();
    std::thread::sleep(Duration::from_millis(500));
    let before = watches().len();
    api.cut();
    until(|| watches().len() > before);
    api.delete("Pod", &third.name);
    ready(lab, "kubernetes pods: 2 known, followed");
    assert_eq!(lists(), listed, "{:?}", api.requests(&[]));
    let last = watches().pop().unwrap();
    assert!(
        last.ends_with(&format!(
            "resourceVersion={reached}&fieldSelector=spec.nodeName%3Dnode-1"
        )),
        "{last}"
    );

    // What it missed meanwhile it hears of by a new list, whichever way it is told that it has to.
    for (times, gone) in [(1, Gone::Answer), (2, Gone::Event)] {
        api.forget(gone);
        api.mood(Mood::Refusing(503));
        api.cut();
        ready(lab, "kubernetes pods: 2 known, not followed (503");
        api.put(object(&third, NODE));
        api.forget(gone);
        api.mood(Mood::Well);
        ready(lab, "kubernetes pods: 3 known, followed");
        assert_eq!(lists(), listed + 2 * times, "two pages each");
        api.delete("Pod", &third.name);
        ready(lab, "kubernetes pods: 2 known, followed");
    }
    let (code, alerts, said) = agent.stop();
    assert_eq!((code, alerts.len()), (Some(0), 0), "{said}");
}

#[test]
fn without_the_api_names_stay_and_analysis_goes_on() {
    let Some(scene) = Scene::new("127.0.0.1:6443") else {
        return;
    };
    let (lab, api) = (&scene.lab, &scene.api);
    let mut agent = lab.spanwatch(&scene.args(&LISTEN));
    ready(lab, "kubernetes pods: 2 known, followed");
    api.mood(Mood::Refusing(401));
    api.cut();
    agent.hear("is the token, or the certificate, still good?");
    ready(lab, "kubernetes pods: 2 known, not followed (401");
    ready(lab, "HTTP/1.1 200");
    scene.scan();
    let alert = agent.alert(SOON, is("port-scan"));
    assert_eq!(alert["actor"]["pod"], scene.worker.name);
    let page = get(lab, "/metrics");
    let failures = "spanwatch_kubernetes_failures_total{kind=\"pods\"}";
    assert!(metric(&page, failures) >= 1.0);
    api.mood(Mood::Well);
    agent.hear("the Kubernetes API is followed again: pods");
    let (code, _, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    let told = said.matches("pods of the Kubernetes API stay as they were");
    assert_eq!(told.count(), 1, "once, not at each attempt: {said}");
    assert!(!said.contains("not known"), "{said}");
}

#[test]
fn a_sidecar_that_follows_the_api_is_no_attack() {
    // The bridge's own address, which its pod reaches through its interface.
    let Some(scene) = Scene::new("0.0.0.0:6443") else {
        return;
    };
    let api = &scene.api;
    let config = std::fs::read_to_string(&scene.config).unwrap();
    std::fs::write(&scene.config, config.replace("0.0.0.0", "10.88.7.1")).unwrap();
    let args = ["-i", "lo", "-i", "eth0"];
    let mut agent = scene.worker.spanwatch(&scene.args(&args));
    agent.hear("2 pods of node node-1");
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(1));
        api.forget(Gone::Answer);
        api.cut();
    }
    let (code, alerts, said) = agent.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(alerts, [] as [Value; 0], "{said}");
    let watched = api.requests(&["/api/v1/pods?watch"]).len();
    assert!(watched >= 4, "{watched}");
}
