//! Kubernetes lists and watch events, and their traps.

use super::*;
use crate::identity::Allocation;

#[test]
fn every_way_in_which_kubectl_and_the_api_print_pods_is_read() {
    let (a, b) = (
        pod("a", "ua", "10.1.0.2", 1000),
        pod("b", "ub", "10.1.0.3", 1000),
    );
    let kindless = |pod: &Value| {
        let mut pod = pod.clone();
        pod.as_object_mut()
            .unwrap()
            .retain(|key, _| key != "kind" && key != "apiVersion");
        pod
    };
    let (bare_a, bare_b) = (kindless(&a), kindless(&b));
    for (form, text) in [
        ("a list", list(&[a.clone(), b.clone()])),
        (
            "a list of the API",
            format!(r#"{{"kind":"PodList","apiVersion":"v1","items":[{bare_a},{bare_b}]}}"#),
        ),
        (
            "the same with sorted keys",
            format!(r#"{{"apiVersion":"v1","items":[{bare_a},{bare_b}],"kind":"PodList"}}"#),
        ),
        ("objects one after the other", format!("{a}{b}")),
        ("lines", format!("{a}\n{b}\n")),
        ("an array", format!("[{a},{b}]")),
        (
            "watch events",
            event("ADDED", 2000.5, &a) + &event("MODIFIED", 2001.5, &b),
        ),
        (
            "with a byte order mark",
            format!("\u{feff}{}", list(&[a.clone(), b.clone()])),
        ),
    ] {
        let journal = load_text(text);
        assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/a exact", "{form}");
        assert_eq!(who(&journal, "10.1.0.3", 1500), "shop/b exact", "{form}");
        assert_eq!(
            who(&journal, "10.1.0.3", 900),
            "- unknown-private",
            "{form}"
        );
        assert_eq!(who(&journal, "172.18.0.2", 1500), "n1 node", "{form}");
    }
}

#[test]
fn compressed_files_are_read() {
    use std::io::Write;
    let files = Files::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(list(&[pod("a", "ua", "10.1.0.2", 1000)]).as_bytes())
        .unwrap();
    let journal = load(&[files.put("pods.json.gz", gzip.finish().unwrap())]);
    assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/a exact");
}

#[test]
fn an_address_of_three_pods_in_turn_is_each_ones_in_its_time() {
    let (a, b, c) = (
        pod("a", "ua", "10.1.0.2", 1000),
        pod("b", "ub", "10.1.0.2", 2000),
        pod("c", "uc", "10.1.0.2", 3000),
    );
    let watch = [
        event("ADDED", 1001.2, &a),
        event("DELETED", 1900.7, &a),
        event("ADDED", 2000.9, &b),
        event("MODIFIED", 2500.0, &b),
        event("ADDED", 3001.0, &c),
        // A late update of the superseded, and then its deletion.
        event("MODIFIED", 3010.0, &b),
        event("DELETED", 3020.0, &b),
        event("MODIFIED", 3030.0, &a),
    ]
    .concat();
    let journal = load_text(watch);
    for (secs, expected) in [
        (990, "- unknown-private"),
        (999, "shop/a time"),
        (1000, "shop/a exact"),
        (1900, "shop/a exact"),
        (1901, "shop/a time"),
        (1990, "- unknown-private"),
        (2000, "shop/b exact"),
        (2999, "shop/b exact"),
        // Accepted by its node at 3000, running at 3001.
        (3001, "shop/c exact"),
        (3025, "shop/c exact"),
        (9999, "shop/c exact"),
    ] {
        assert_eq!(who(&journal, "10.1.0.2", secs), expected, "{secs}");
    }
}

#[test]
fn a_new_sandbox_gives_the_old_address_back() {
    let before = pod("a", "ua", "10.1.0.2", 1000);
    let mut after = pod("a", "ua", "10.1.0.9", 1000);
    after["status"]["conditions"] = json!([
        {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": rfc3339(5002)},
    ]);
    after["status"]["containerStatuses"] = json!([{
        "restartCount": 1,
        "state": {"running": {"startedAt": rfc3339(5003)}},
        "lastState": {"terminated": {"startedAt": rfc3339(1001), "finishedAt": rfc3339(4990)}},
    }]);
    let journal = load_text(event("ADDED", 1001.0, &before) + &event("MODIFIED", 5004.0, &after));
    assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/a exact");
    assert_eq!(who(&journal, "10.1.0.2", 6000), "- unknown-private");
    assert_eq!(who(&journal, "10.1.0.9", 1500), "- unknown-private");
    assert_eq!(who(&journal, "10.1.0.9", 6000), "shop/a exact");
}

#[test]
fn a_restarted_container_does_not_move_the_start_of_its_pod() {
    let old = pod("old", "uo", "10.1.0.2", 100);
    let mut restarted = pod("new", "un", "10.1.0.2", 1000);
    restarted["status"]["containerStatuses"][0] = json!({
        "restartCount": 4,
        "state": {"running": {"startedAt": rfc3339(5000)}},
        "lastState": {"terminated": {"startedAt": rfc3339(4000), "finishedAt": rfc3339(4900)}},
    });
    let journal = load_text(list(&[old, restarted]));
    assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/new exact");
}

#[test]
fn finished_pods_end_though_they_still_show_an_address() {
    let mut done = pod("job", "uj", "10.1.0.2", 1000);
    done["status"]["phase"] = "Succeeded".into();
    done["status"]["containerStatuses"] = json!([
        {"state": {"terminated": {"startedAt": rfc3339(1001), "finishedAt": rfc3339(1100)}}},
        {"state": {"terminated": {"startedAt": rfc3339(1001), "finishedAt": rfc3339(1200)}}},
    ]);
    let mut evicted = pod("evicted", "ue", "10.1.0.3", 1000);
    evicted["status"]["phase"] = "Failed".into();
    evicted["status"]["containerStatuses"] = json!([]);
    evicted["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": rfc3339(1500)}]);
    let later = pod("later", "ul", "10.1.0.2", 1210);
    let journal = load_text(list(&[done, evicted, later]));
    assert_eq!(who(&journal, "10.1.0.2", 1150), "shop/job exact");
    // Whole seconds are cut off: it may have ended at 1200.9.
    assert_eq!(who(&journal, "10.1.0.2", 1200), "shop/job exact");
    assert_eq!(who(&journal, "10.1.0.2", 1201), "shop/job time");
    assert_eq!(who(&journal, "10.1.0.2", 1300), "shop/later exact");
    assert_eq!(who(&journal, "10.1.0.3", 1400), "shop/evicted exact");
    assert_eq!(who(&journal, "10.1.0.3", 1600), "- unknown-private");
}

#[test]
fn a_host_network_pod_is_its_node() {
    let mut exporter = pod("exporter", "ux", "172.18.0.9", 1000);
    exporter["spec"]["hostNetwork"] = true.into();
    exporter["status"]["hostIP"] = "172.18.0.9".into();
    let mut unmarked = pod("proxy", "uy", "172.18.0.8", 1000);
    unmarked["status"]["hostIP"] = "172.18.0.8".into();
    let slice = json!({
        "kind": "EndpointSlice",
        "metadata": {"name": "exporter-1", "namespace": "shop"},
        "endpoints": [{
            "addresses": ["172.18.0.9"],
            "targetRef": {"kind": "Pod", "name": "exporter", "namespace": "shop", "uid": "ux"},
        }],
    });
    let journal = load_text(list(&[slice, exporter, unmarked]));
    for ip in ["172.18.0.9", "172.18.0.8"] {
        let answer = ask(&journal, ip, 1500);
        assert_eq!(
            (answer.identity.kind, answer.confidence),
            (IdentityKind::Node, Confidence::Node)
        );
        assert_eq!(answer.identity.name.as_deref(), Some("n1"));
    }
    assert_eq!(journal.claims_count(), 0);
}

#[test]
fn both_families_of_a_pod_are_one_identity() {
    let mut both = pod("a", "ua", "10.1.0.2", 1000);
    both["status"]["podIPs"] =
        json!([{"ip": "10.1.0.2"}, {"ip": "fd00:1::2"}, {"ip": "::ffff:10.1.0.2"}]);
    let journal = load_text(list(&[both]));
    let (four, six) = (
        ask(&journal, "10.1.0.2", 1500),
        ask(&journal, "fd00:1:0::2", 1500),
    );
    assert!(std::sync::Arc::ptr_eq(&four.identity, &six.identity));
    assert_eq!(journal.claims_count(), 2);
}

#[test]
fn owners_are_followed_through_the_objects_of_other_files() {
    let mut web = pod("web-7-x2x9z", "uw", "10.1.0.2", 1000);
    web["metadata"]["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": "web-7", "controller": true}]);
    let set = json!({
        "kind": "ReplicaSet",
        "metadata": {
            "name": "web-7", "namespace": "shop",
            "ownerReferences": [{"kind": "Deployment", "name": "web", "controller": true}],
        },
    });
    let files = Files::new();
    let paths = [
        files.put("pods", list(&[web])),
        files.put("sets", list(&[set])),
    ];
    for order in permutations(&paths) {
        assert_eq!(
            workload(&load(&order), "10.1.0.2", 1500),
            "shop/Deployment/web"
        );
    }
    assert_eq!(
        workload(&load(&paths[..1]), "10.1.0.2", 1500),
        "shop/ReplicaSet/web-7"
    );
}

#[test]
fn a_static_pods_mirror_has_the_uid_that_the_node_knows() {
    let mut mirror = pod("dns-n1", "of-mirror", "10.1.0.2", 1000);
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "of-file"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"kind": "Node", "name": "n1", "controller": true}]);
    let journal = load_text(list(&[mirror]));
    let answer = ask(&journal, "10.1.0.2", 1500);
    assert_eq!(answer.identity.uid.as_deref(), Some("of-file"));
    assert_eq!(workload(&journal, "10.1.0.2", 1500), "shop/StaticPod/dns");
}

#[test]
fn services_are_named_by_all_their_addresses_and_headless_ones_have_none() {
    let service = |name: &str, spec: Value, status: Value| {
        let metadata = json!({
            "name": name, "namespace": "shop", "uid": name, "creationTimestamp": rfc3339(1000),
        });
        json!({"kind": "Service", "metadata": metadata, "spec": spec, "status": status})
    };
    let journal = load_text(list(&[
        service(
            "web",
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:96::7"]}),
            json!({}),
        ),
        service(
            "db",
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            json!({}),
        ),
        service(
            "name",
            json!({"type": "ExternalName", "clusterIP": ""}),
            json!({}),
        ),
        service(
            "lb",
            json!({"clusterIP": "10.96.0.8"}),
            json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}]}}),
        ),
        service("one", json!({"externalIPs": ["203.0.113.6"]}), json!({})),
        service("two", json!({"externalIPs": ["203.0.113.6"]}), json!({})),
    ]));
    assert_eq!(who(&journal, "10.96.0.7", 1500), "shop/web exact");
    assert_eq!(who(&journal, "fd00:96::7", 1500), "shop/web exact");
    assert_eq!(who(&journal, "203.0.113.5", 1500), "shop/lb time");
    let shared = ask(&journal, "203.0.113.6", 1500);
    assert_eq!(
        (shared.identity.kind, shared.confidence),
        (IdentityKind::Service, Confidence::Ambiguous)
    );
    assert_eq!(workload(&journal, "10.96.0.7", 1500), "shop/Service/web");
    assert_eq!(journal.claims_count(), 6);
}

#[test]
fn backends_name_pods_that_no_list_has() {
    let slice = json!({
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop"},
        "endpoints": [{
            "addresses": ["10.1.0.2"], "nodeName": "n1",
            "targetRef": {"kind": "Pod", "name": "web-5d78c9869d-x2x9z", "uid": "uw"},
        }],
    });
    let old_form = json!({
        "kind": "Endpoints",
        "metadata": {"name": "db", "namespace": "shop"},
        "subsets": [{"notReadyAddresses": [{"ip": "10.1.0.3", "targetRef": {"kind": "Pod", "name": "db-0"}}]}],
    });
    let journal = load_text(list(&[slice, old_form]));
    assert_eq!(
        who(&journal, "10.1.0.2", 1500),
        "shop/web-5d78c9869d-x2x9z time"
    );
    assert_eq!(workload(&journal, "10.1.0.2", 1500), "shop/Deployment/web");
    assert_eq!(workload(&journal, "10.1.0.3", 1500), "shop/StatefulSet/db");
}

#[test]
fn nodes_bring_their_addresses_and_ranges() {
    let node = json!({
        "kind": "Node",
        "metadata": {"name": "n7"},
        "spec": {"podCIDR": "10.1.7.0/24", "podCIDRs": ["10.1.7.0/24", "fd00:7::/64"]},
        "status": {"addresses": [{"type": "Hostname", "address": "n7"}, {"type": "InternalIP", "address": "172.18.0.7"}]},
    });
    let journal = load_text(list(&[node]));
    assert_eq!(who(&journal, "172.18.0.7", 5), "n7 node");
    assert_eq!(who(&journal, "10.1.7.0", 5), "n7 node");
    assert_eq!(ask(&journal, "10.1.7.9", 5).source, Source::Cidr);
    assert_eq!(journal.networks().pod_cidrs().len(), 2);
}

#[test]
fn of_two_lists_the_pods_in_one_have_an_unknown_end() {
    let files = Files::new();
    let other = |uid: &str| {
        let mut other = pod(uid, uid, "10.1.9.9", 500);
        other["metadata"]["namespace"] = "infra".into();
        other
    };
    let (stays, goes, comes) = (
        pod("stays", "us", "10.1.0.2", 1000),
        pod("goes", "ug", "10.1.0.3", 1000),
        pod("comes", "uc", "10.1.0.4", 2000),
    );
    let paths = [
        files.put("start", list(&[other("o1"), stays.clone(), goes])),
        files.put("end", list(&[other("o1"), stays, comes])),
    ];
    for order in permutations(&paths) {
        let journal = load(&order);
        assert_eq!(who(&journal, "10.1.0.2", 9000), "shop/stays exact");
        assert_eq!(who(&journal, "10.1.0.3", 1001), "shop/goes exact");
        assert_eq!(who(&journal, "10.1.0.3", 9000), "shop/goes time");
        assert_eq!(who(&journal, "10.1.0.4", 1900), "- unknown-private");
        assert_eq!(who(&journal, "10.1.0.4", 2001), "shop/comes exact");
    }
}

#[test]
fn the_darknet_needs_a_list_of_everything() {
    let node = json!({
        "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.1.0.0/24"]},
    });
    let mut elsewhere = pod("dns", "ud", "10.1.0.9", 10_000);
    let local = pod("a", "ua", "10.1.0.2", 10_000);
    let allocation = |journal: &Journal, secs: i64| {
        journal.allocation(
            NetworkId::default(),
            "10.1.0.77".parse().unwrap(),
            Timestamp::from_secs(secs),
        )
    };
    let one_namespace = load_text(list(&[node.clone(), local.clone(), elsewhere.clone()]));
    assert_eq!(allocation(&one_namespace, 10_100), Allocation::Unknown);
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let all = load_text(list(&[node, local, elsewhere]));
    assert_eq!(allocation(&all, 10_100), Allocation::Unassigned);
    assert_eq!(allocation(&all, 5000), Allocation::Unknown);
}

#[test]
fn secrets_in_the_environment_are_never_kept() {
    let text = exported(&load_text(list(&[pod("a", "ua", "10.1.0.2", 1000)])));
    assert!(text.contains("shop") && !text.contains("hunter2") && !text.contains("PASSWORD"));
}

#[test]
fn odd_objects_cost_nothing_but_themselves() {
    let odd = json!({"kind": "Pod", "metadata": [], "spec": "x", "status": {"podIPs": {"ip": 5}, "podIP": ["a"]}});
    let secret =
        json!({"kind": "Secret", "type": "Opaque", "metadata": {"name": "s"}, "data": {"a": "b"}});
    let custom =
        json!({"kind": "Widget", "spec": 7, "status": "fine", "endpoints": "none", "items": {}});
    let good = pod("a", "ua", "10.1.0.2", 1000);
    let files = Files::new();
    let (journal, report) = load_with_report(&[files.put(
        "f",
        list(&[odd, secret, custom.clone(), custom, json!({}), good]),
    )]);
    assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/a exact");
    let ignored: Vec<_> = report
        .ignored_kinds
        .iter()
        .map(|(kind, count)| (&**kind, *count))
        .collect();
    assert_eq!(
        ignored,
        [("Secret", 1), ("Widget", 2), ("object without a kind", 1)]
    );
}

#[test]
fn a_deletion_without_a_time_takes_the_objects_word() {
    let mut gone = pod("a", "ua", "10.1.0.2", 1000);
    gone["metadata"]["deletionTimestamp"] = rfc3339(1500).into();
    let line = json!({"type": "DELETED", "object": gone}).to_string();
    let journal = load_text(line);
    assert_eq!(who(&journal, "10.1.0.2", 1400), "shop/a exact");
    assert_eq!(who(&journal, "10.1.0.2", 1600), "- unknown-private");
}

#[test]
fn revisions_tell_which_list_is_the_later() {
    let mut stays = pod("stays", "us", "10.1.0.2", 1000);
    let comes = revised(&mut pod("comes", "uc", "10.1.0.4", 2000), "30");
    let goes = revised(&mut pod("goes", "ug", "10.1.0.3", 1000), "11");
    let files = Files::new();
    // Something in the first list changed before something in the second did.
    let paths = [
        files.put("start", list(&[revised(&mut stays, "10"), goes])),
        files.put("end", list(&[revised(&mut stays, "20"), comes])),
    ];
    for order in permutations(&paths) {
        let journal = load(&order);
        assert_eq!(who(&journal, "10.1.0.4", 9000), "shop/comes exact");
        assert_eq!(who(&journal, "10.1.0.3", 9000), "shop/goes time");
    }
}

/// Somebody at a free address, from one time to another, by an inventory of these events or lists.
fn overlooked(journal: &Journal, from: i64, to: i64) -> bool {
    let ip = "10.244.1.77".parse().unwrap();
    let at = |secs| Timestamp::from_secs(1_000_000 + secs);
    journal
        .overlooked(NetworkId::default(), ip, at(from), at(to))
        .is_some()
}

#[test]
fn a_watch_or_a_list_with_heartbeats_tells_who_is_nobody_and_when() {
    let pod = |namespace: &str, last: u8| {
        json!({"kind": "Pod", "metadata": {"name": format!("p{last}"), "namespace": namespace, "uid": format!("u{last}")},
            "spec": {"nodeName": "n1"}, "status": {"podIP": format!("10.244.1.{last}")}})
    };
    let node = json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": "1970-01-12T13:48:20Z"}]}});
    let event = |at: i64, object: &Value| {
        json!({"type": "ADDED", "observedAt": 1_000_000 + at, "object": object}).to_string()
    };
    let first = event(0, &node) + &event(0, &pod("a", 2));
    let whole = first.clone() + &event(1, &pod("b", 3)) + &event(500, &pod("b", 4));
    let journal = load_text(whole);
    assert!(overlooked(&journal, 100, 200));
    assert!(!overlooked(&journal, 450, 600), "it may be told of yet");
    assert!(!overlooked(&journal, -100, -10), "before it began");
    // Of one namespace only, nothing follows.
    let journal = load_text(first + &event(500, &pod("a", 4)));
    assert!(!overlooked(&journal, 100, 200));
    // A list is made within minutes of the newest heartbeat (here 100 s), at a moment that isn't known better.
    let items = [node, pod("a", 2), pod("b", 3)];
    let journal = load_text(json!({"kind": "List", "items": items}).to_string());
    assert!(overlooked(&journal, 50, 500));
    assert!(!overlooked(&journal, 150, 500) && !overlooked(&journal, 50, 300));
}
