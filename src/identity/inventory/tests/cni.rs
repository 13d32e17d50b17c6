//! A copied CNI directory, in every form it has had.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::identity::Allocation;

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"net-a","plugins":[
    {"type":"bridge","bridge":"cni0","isGateway":true,
     "ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}},
    {"type":"portmap"}]}"#;

/// A sandbox id as runtimes make them.
fn sandbox(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// A cached result as containerd leaves it.
fn cached(name: &str, uid: &str, sandbox: &str, ips: &[&str], conf: &str) -> String {
    json!({
        "kind": "cniCacheV1",
        "containerId": sandbox,
        "config": BASE64_STANDARD.encode(conf),
        "ifName": "eth0",
        "networkName": "net-a",
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", name], ["K8S_POD_UID", uid], ["K8S_POD_NAMESPACE", "shop"]],
        "capabilityArgs": {
            "io.kubernetes.cri.pod-annotations": {"password": "hunter2"},
            "dns": {"Servers": ["10.96.0.10"], "Searches": ["shop.svc.cluster.local", "svc.cluster.local"]},
        },
        "result": {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": ips.iter().map(|ip| json!({"address": ip, "gateway": "10.1.0.1", "interface": 2})).collect::<Vec<_>>(),
        },
    })
    .to_string()
}

#[test]
fn a_tree_is_read_from_any_depth() {
    for (dir, networks, results) in [
        ("cni", "networks", "results"),
        ("cni", "networks", "cache/results"),
        ("lib", "cni/networks", "cni/cache/results"),
        ("root", "var/lib/cni/networks", "var/lib/cni/results"),
        ("run", "cni-ipam-state", "saved"),
    ] {
        let files = Files::new();
        let id = sandbox('a');
        files.put(
            &format!("{dir}/{networks}/net-a/10.1.0.2"),
            format!("{id}\r\neth0"),
        );
        files.put(
            &format!("{dir}/{networks}/net-a/fd00:1::2"),
            format!("{id}\r\neth0"),
        );
        files.put(
            &format!("{dir}/{networks}/net-a/last_reserved_ip.0"),
            "10.1.0.2",
        );
        files.put(&format!("{dir}/{networks}/net-a/lock"), "");
        files.put(
            &format!("{dir}/{results}/net-a-{id}-eth0"),
            cached(
                "web-5d78c9869d-x2x9z",
                "uw",
                &id,
                &["10.1.0.2/24", "fd00:1::2/64"],
                CONF,
            ),
        );
        let (journal, report) = load_with_report(&[files.path(dir)]);
        for ip in ["10.1.0.2", "fd00:1::2"] {
            assert_eq!(
                who(&journal, ip, 5),
                "shop/web-5d78c9869d-x2x9z time",
                "{dir} {networks}"
            );
            assert_eq!(workload(&journal, ip, 5), "shop/Deployment/web");
        }
        assert_eq!(
            ask(&journal, "10.1.0.1", 5).identity.kind,
            IdentityKind::Node
        );
        assert_eq!(ask(&journal, "10.1.0.9", 5).source, Source::Cidr);
        assert_eq!(
            ask(&journal, "10.96.0.10", 5).identity.kind,
            IdentityKind::Service
        );
        assert_eq!(report.files[0].bindings, 2);
        assert_eq!(report.files[0].notes, [""; 0]);
        assert!(!exported(&journal).contains("hunter2"));
    }
}

#[test]
fn results_of_every_version_are_read_and_loopback_ones_are_not() {
    let files = Files::new();
    let id = sandbox('b');
    let loopback = json!({
        "kind": "cniCacheV1", "containerId": id, "ifName": "lo", "networkName": "cni-loopback",
        "cniArgs": [["K8S_POD_NAME", "web"], ["K8S_POD_NAMESPACE", "shop"]],
        "result": {"ips": [{"address": "127.0.0.1/8"}, {"address": "::1/128"}]},
    });
    files.put(
        &format!("cni/results/cni-loopback-{id}-lo"),
        loopback.to_string(),
    );
    // Since libcni 1.2 with its namespace; before 0.8 the result alone; before CNI 0.3 in another shape.
    let mut new: Value =
        serde_json::from_str(&cached("new", "un", &sandbox('c'), &["10.1.0.3/24"], CONF)).unwrap();
    new["netns"] = "/var/run/netns/cni-1".into();
    files.put("cni/results/net-a-new-eth0", new.to_string());
    let bare = json!({"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.4/24"}]});
    files.put(
        &format!("cni/results/net-a-{}-eth0", sandbox('d')),
        bare.to_string(),
    );
    let mut oldest: Value =
        serde_json::from_str(&cached("old", "uo", &sandbox('e'), &[], CONF)).unwrap();
    oldest["result"] = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1"}, "ip6": {"ip": "fd00:1::5/64"}});
    files.put("cni/results/net-a-old-eth0", oldest.to_string());

    let journal = load(&[files.path("cni")]);
    assert_eq!(who(&journal, "127.0.0.1", 5), "- unknown-private");
    assert_eq!(who(&journal, "10.1.0.3", 5), "shop/new time");
    let nameless = ask(&journal, "10.1.0.4", 5);
    assert_eq!(
        (nameless.identity.kind, nameless.confidence),
        (IdentityKind::Pod, Confidence::Time)
    );
    assert_eq!(nameless.identity.uid.as_deref(), Some(&*sandbox('d')));
    assert_eq!(who(&journal, "10.1.0.5", 5), "shop/old time");
    assert_eq!(who(&journal, "fd00:1::5", 5), "shop/old time");
    assert_eq!(journal.claims_count(), 4);
}

#[test]
fn the_lease_decides_between_two_results() {
    let files = Files::new();
    let (crashed, running) = (sandbox('a'), sandbox('b'));
    files.put("cni/networks/net-a/10.1.0.2", &running);
    files.put(
        "cni/results/stale",
        cached("crashed", "uc", &crashed, &["10.1.0.2/24"], CONF),
    );
    files.put(
        "cni/results/fresh",
        cached("running", "ur", &running, &["10.1.0.2/24"], CONF),
    );
    let (journal, report) = load_with_report(&[files.path("cni")]);
    assert_eq!(who(&journal, "10.1.0.2", 5), "shop/running time");
    assert!(
        report.files[0].notes[0].starts_with("1 files results of pods")
            || report.files[0].notes[0].contains("leased to another")
    );
}

#[test]
fn leases_without_a_name_are_somebodys() {
    let files = Files::new();
    // The id alone, as before plugins 0.8; an empty file, being written; one of Windows, without colons.
    files.put("networks/net-a/10.1.0.2", sandbox('a'));
    files.put("networks/net-a/10.1.0.3", "");
    files.put(
        "networks/net-a/fd00_1__4",
        format!("{}\r\neth0", sandbox('b')),
    );
    let (journal, report) = load_with_report(&[files.path("networks")]);
    for ip in ["10.1.0.2", "fd00:1::4"] {
        let answer = ask(&journal, ip, 5);
        assert_eq!(
            (answer.identity.kind, answer.source),
            (IdentityKind::Pod, Source::HostLocal)
        );
        assert_eq!(answer.identity.name, None);
    }
    assert_eq!(who(&journal, "10.1.0.3", 5), "- unknown-private");
    assert!(
        report.files[0].notes[0].contains("empty or cut short"),
        "{:?}",
        report.files[0].notes
    );
}

#[test]
fn damaged_files_cost_nothing_but_themselves() {
    let files = Files::new();
    let whole = cached(
        "web",
        "uw",
        &sandbox('a'),
        &["10.1.0.2/24", "nonsense", "10.1.0.300/24"],
        "not json",
    );
    files.put("cni/results/good", &whole);
    files.put("cni/results/half", &whole[..whole.len() / 2]);
    files.put("cni/results/other", "not JSON at all");
    files.put("cni/results/array", "[1,2]");
    files.put(
        "cni/results/odd",
        r#"{"containerId":"x","cniArgs":"none","result":[1],"ips":{"a":[]}}"#,
    );
    let (journal, report) = load_with_report(&[files.path("cni")]);
    assert_eq!(who(&journal, "10.1.0.2", 5), "shop/web time");
    assert_eq!(report.files[0].notes.len(), 1);
}

#[test]
fn configurations_give_ranges_but_those_of_outside_networks_do_not() {
    let files = Files::new();
    let single = r#"{"name":"old","type":"bridge","isGateway":true,"ipam":{"type":"host-local","subnet":"10.5.0.0/16","gateway":"10.5.0.254"}}"#;
    files.put("net.d/10-old.conf", single);
    files.put("net.d/20-new.conflist", CONF);
    let outside = r#"{"name":"lan","type":"macvlan","ipam":{"type":"host-local","subnet":"192.168.7.0/24","gateway":"192.168.7.1"}}"#;
    files.put("net.d/30-lan.conf", outside);
    let journal = load(&[files.path("net.d")]);
    let ranges: Vec<_> = journal
        .networks()
        .pod_cidrs()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["10.1.0.0/24", "10.5.0.0/16", "fd00:1::/64"]);
    for (ip, kind) in [
        ("10.5.0.254", IdentityKind::Node),
        ("10.5.0.1", IdentityKind::Unknown),
        ("10.1.0.1", IdentityKind::Node),
        ("192.168.7.1", IdentityKind::Unknown),
    ] {
        assert_eq!(ask(&journal, ip, 5).identity.kind, kind, "{ip}");
    }
}

#[test]
fn a_copy_and_the_api_make_one_picture_in_any_order() {
    let files = Files::new();
    let (a, b) = (sandbox('a'), sandbox('b'));
    for (dir, name, uid, id) in [("start", "a", "ua", &a), ("end", "b", "ub", &b)] {
        files.put(
            &format!("{dir}/networks/net-a/10.1.0.2"),
            format!("{id}\r\neth0"),
        );
        files.put(
            &format!("{dir}/results/r"),
            cached(name, uid, id, &["10.1.0.2/24"], CONF),
        );
    }
    let (mut pod_a, mut pod_b) = (
        pod("a", "ua", "10.1.0.2", 1000),
        pod("b", "ub", "10.1.0.2", 2000),
    );
    let list_a = list(&[revised(&mut pod_a, "10")]);
    let list_b = list(&[revised(&mut pod_b, "30")]);
    let deletion = event("DELETED", 1900.5, &revised(&mut pod_a, "20"));
    let paths = [
        files.path("start"),
        files.path("end"),
        files.put("pods_start.json", list_a),
        files.put("pods.json", list_b),
        files.put("watch.jsonl", deletion + &event("ADDED", 2000.5, &pod_b)),
    ];
    let mut pictures: Vec<_> = permutations(&paths)
        .iter()
        .map(|order| exported(&load(order)))
        .collect();
    pictures.dedup();
    assert_eq!(pictures.len(), 1);
    let journal = load(&paths);
    assert!(journal.disputed().is_empty());
    for (secs, expected) in [
        (990, "- unknown-private"),
        (1500, "shop/a exact"),
        (1950, "shop/a time"),
        (2500, "shop/b exact"),
    ] {
        assert_eq!(who(&journal, "10.1.0.2", secs), expected, "{secs}");
    }
    assert_eq!(
        ask(&journal, "10.1.0.1", 5).identity.name.as_deref(),
        Some("n1")
    );

    // Without times the two copies can't be told apart, and nobody is named.
    let copies = load(&paths[..2]);
    assert_eq!(who(&copies, "10.1.0.2", 1500), "- ambiguous");
    // With the later list alone, whoever else had the address had it before.
    let later = load(&[paths[0].clone(), paths[3].clone()]);
    assert_eq!(who(&later, "10.1.0.2", 1500), "shop/a time");
    assert_eq!(who(&later, "10.1.0.2", 2001), "shop/b exact");
}

#[test]
fn leases_make_a_darknet_of_the_rest_of_their_range() {
    let files = Files::new();
    files.put("cni/networks/net-a/10.1.0.2", sandbox('a'));
    files.put("cni/net.d/conf", CONF);
    let journal = load(&[files.path("cni")]);
    for (ip, expected) in [
        ("10.1.0.2", Allocation::Assigned),
        ("10.1.0.1", Allocation::Assigned),
        ("10.1.0.3", Allocation::Unassigned),
        ("10.1.0.255", Allocation::Unknown),
        ("10.2.0.3", Allocation::Unknown),
    ] {
        let allocation = journal.allocation(
            NetworkId::default(),
            ip.parse().unwrap(),
            Timestamp::from_secs(5),
        );
        assert_eq!(allocation, expected, "{ip}");
    }
    // Results alone don't say who else has a lease.
    files.put(
        "results/r",
        cached("web", "uw", &sandbox('a'), &["10.1.0.2/24"], CONF),
    );
    let results = load(&[files.path("results")]);
    let free = "10.1.0.3".parse().unwrap();
    assert_eq!(
        results.allocation(NetworkId::default(), free, Timestamp::from_secs(5)),
        Allocation::Unknown
    );
}

#[test]
fn the_age_of_a_lease_counts_unless_all_are_of_one_age() {
    let files = Files::new();
    let lease = |name: &str, secs: u64| {
        let path = files.put(&format!("cni/networks/net-a/{name}"), sandbox('a'));
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(secs))
            .unwrap();
    };
    files.put(
        "cni/results/r",
        cached("web", "uw", &sandbox('a'), &["10.1.0.2/24"], CONF),
    );
    lease("10.1.0.2", 50_000);
    lease("10.1.0.3", 50_005);
    assert_eq!(
        who(&load(&[files.path("cni")]), "10.1.0.2", 40_000),
        "shop/web time"
    );
    lease("10.1.0.3", 10_000);
    let timed = load(&[files.path("cni")]);
    assert_eq!(who(&timed, "10.1.0.2", 40_000), "- unknown-private");
    assert_eq!(who(&timed, "10.1.0.2", 60_000), "shop/web exact");
}
