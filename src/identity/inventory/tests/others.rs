//! CSV, CRI, Docker and our own journal.

use super::*;

#[test]
fn a_table_names_addresses_and_networks() {
    let table = "\
# kept by hand
Namespace, IP, Pod,          Workload,        Kind,       Node, Start,                End,  Labels,        Comment
shop,      10.1.0.2, web-1,  Deployment/web,  ,           n1,   1970-01-01T00:10:00Z, 900,  app=web;tier=a,
shop,      10.1.0.3, db-0,   ,                ,           ,     ,                     ,     ,
,          10.0.5.0/24, ,    office VPN,      ,           ,     ,                     ,     ,
,          172.18.0.2, n1,   ,                node,       ,     ,                     ,     ,
shop,      10.96.0.9, web,   ,                service,    ,     ,                     ,     ,
,          203.0.113.7, ,    payment gateway, external,   ,     ,                     ,     ,
shop,      10.1.0.4, ,       cart,            StatefulSet,,     ,                     ,     ,
,          10.1.0.0/16, x,   ,                pod,        ,     ,                     ,     ,
";
    let journal = load_text(table);
    assert_eq!(who(&journal, "10.1.0.2", 700), "shop/web-1 exact");
    assert_eq!(who(&journal, "10.1.0.2", 500), "- unknown-private");
    assert_eq!(workload(&journal, "10.1.0.2", 700), "shop/Deployment/web");
    let labels = ask(&journal, "10.1.0.2", 700).identity.labels.len();
    assert_eq!(labels, 2);
    assert_eq!(who(&journal, "10.1.0.3", 700), "shop/db-0 time");
    assert_eq!(workload(&journal, "10.1.0.3", 700), "shop/StatefulSet/db");
    assert_eq!(who(&journal, "10.0.5.99", 700), "office VPN external");
    assert_eq!(who(&journal, "172.18.0.2", 700), "n1 node");
    assert_eq!(
        ask(&journal, "10.96.0.9", 700).identity.kind,
        IdentityKind::Service
    );
    assert_eq!(
        ask(&journal, "203.0.113.7", 700).identity.kind,
        IdentityKind::External
    );
    assert_eq!(workload(&journal, "10.1.0.4", 700), "shop/StatefulSet/cart");
    assert_eq!(ask(&journal, "10.1.77.1", 700).source, Source::Cidr);
}

#[test]
fn a_table_with_a_mistake_names_the_line() {
    for (row, expected) in [
        (
            "10.1.0.300,a,",
            "line 3: \"10.1.0.300\" is neither an address nor a range like 10.0.5.0/24",
        ),
        (
            "10.1.0.3,a,yesterday",
            "line 3: \"yesterday\" is neither RFC 3339 nor seconds since the epoch",
        ),
        ("10.1.0.3,,", "line 3: neither pod nor workload is given"),
    ] {
        let error = error_of(format!("ip,pod,start\n10.1.0.2,a,5\n{row}\n"));
        assert_eq!(error, format!("DIR/inventory, {expected}"));
    }
}

fn status(id: &str, name: &str, network: &Value) -> Value {
    json!({
        "id": id,
        "metadata": {"name": name, "uid": format!("u-{name}"), "namespace": "shop"},
        "state": "SANDBOX_READY",
        "createdAt": "1000000000000",
        "network": network,
        "linux": {"namespaces": {"options": {}}},
        "labels": {"io.kubernetes.pod.name": name, "pod-template-hash": "h2gmk9zk6"},
    })
}

#[test]
fn sandboxes_are_read_as_crictl_and_the_api_print_them() {
    let mut web = status(
        "s1",
        "web-h2gmk9zk6-jh62w",
        &json!({"ip": "10.1.0.2", "additionalIps": [{"ip": "fd00:1::2"}]}),
    );
    web["createdAt"] = json!(1_000_000_000_000_i64);
    let mut stopped = status("s2", "stopped", &json!({}));
    stopped["state"] = "SANDBOX_NOTREADY".into();
    stopped["createdAt"] = rfc3339(900).into();
    let result = json!({"cniResult": {"Interfaces": {"lo": {"IPConfigs": [{"IP": "127.0.0.1"}]}, "eth0": {"IPConfigs": [{"IP": "10.1.0.3"}]}}}});
    let mut host = status("s3", "exporter", &json!({"ip": "172.18.0.2"}));
    host["linux"]["namespaces"]["options"]["network"] = "NODE".into();
    let replies = [
        json!({"status": web, "info": {"pid": 7}}),
        json!({"status": stopped, "info": {"info": result.to_string()}}),
        json!({"status": host, "info": {}}),
    ];
    for text in [
        json!(replies).to_string(),
        format!("{}\n{}\n{}", replies[0], replies[1], replies[2]),
    ] {
        let journal = load_text(text);
        for ip in ["10.1.0.2", "fd00:1::2"] {
            assert_eq!(who(&journal, ip, 2000), "shop/web-h2gmk9zk6-jh62w exact");
            assert_eq!(workload(&journal, ip, 2000), "shop/Deployment/web");
        }
        assert_eq!(who(&journal, "10.1.0.3", 2000), "shop/stopped time");
        assert_eq!(who(&journal, "172.18.0.2", 2000), "- unknown-private");
        assert_eq!(who(&journal, "127.0.0.1", 2000), "- unknown-private");
    }
}

#[test]
fn a_list_of_sandboxes_names_the_leases() {
    let files = Files::new();
    let id = "f".repeat(64);
    let mut sandbox = status(&id, "web-h2gmk9zk6-jh62w", &json!({}));
    sandbox.as_object_mut().unwrap().remove("network");
    files.put("cni/networks/net/10.1.0.2", &id);
    let paths = [
        files.path("cni"),
        files.put("pods.json", json!({"items": [sandbox]}).to_string()),
    ];
    for order in permutations(&paths) {
        let journal = load(&order);
        assert_eq!(
            who(&journal, "10.1.0.2", 2000),
            "shop/web-h2gmk9zk6-jh62w time"
        );
        assert_eq!(workload(&journal, "10.1.0.2", 2000), "shop/Deployment/web");
    }
}

#[test]
fn docker_networks_and_containers_are_read() {
    let network = json!([{
        "Name": "shop_default", "Id": "n",
        "IPAM": {"Config": [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]},
        "Containers": {
            "c1": {"Name": "shop-web-1", "IPv4Address": "172.20.0.3/16", "IPv6Address": ""},
            "c2": {"Name": "other", "IPv4Address": "172.20.0.4/16", "IPv6Address": "fd00:20::4/64"},
        },
    }]);
    let container = json!([{
        "Id": "c1", "Name": "/shop-web-1",
        "State": {"Running": true, "StartedAt": rfc3339(1000), "FinishedAt": "0001-01-01T00:00:00Z"},
        "Config": {
            "Image": "web:1", "Env": ["PASSWORD=hunter2"],
            "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        },
        "NetworkSettings": {"Networks": {"shop_default": {"IPAddress": "172.20.0.3", "Gateway": "172.20.0.1"}}},
    }]);
    let files = Files::new();
    let paths = [
        files.put("networks", network.to_string()),
        files.put("containers", container.to_string()),
    ];
    for order in permutations(&paths) {
        let journal = load(&order);
        assert_eq!(who(&journal, "172.20.0.3", 2000), "shop/shop-web-1 exact");
        assert_eq!(
            workload(&journal, "172.20.0.3", 2000),
            "shop/ComposeService/web"
        );
        assert_eq!(workload(&journal, "fd00:20::4", 2000), "Container/other");
        assert_eq!(
            ask(&journal, "172.20.0.1", 2000).identity.kind,
            IdentityKind::Node
        );
        assert_eq!(ask(&journal, "172.20.0.99", 2000).source, Source::Cidr);
        assert!(!exported(&journal).contains("hunter2"));
    }
}

#[test]
fn without_files_the_options_speak() {
    let options = InventoryOptions {
        cluster_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/12".parse().unwrap()],
    };
    let (journal, report) = load_inventory(&[], &options).unwrap();
    assert!(report.files.is_empty());
    assert_eq!(ask(&journal, "10.1.2.3", 5).source, Source::Cidr);
    assert_eq!(
        ask(&journal, "10.96.2.3", 5).identity.kind,
        IdentityKind::Service
    );
    assert_eq!(
        ask(&journal, "203.0.113.1", 5).confidence,
        Confidence::External
    );
}

#[test]
fn what_cannot_be_used_is_said_with_its_place_and_remedy() {
    for (content, expected) in [
        (
            "just text\n",
            "DIR/inventory is not an inventory: it starts with \"just text\\n\"",
        ),
        (
            "a,b,c\n1,2,3\n",
            "DIR/inventory is not an inventory: it starts with \"a,b,c",
        ),
        (
            "{}",
            "DIR/inventory is not an inventory: it starts with \"{}\"",
        ),
        (
            "{\"kind\": \"List\",\n \"items\": [{]}",
            "DIR/inventory, line 2, column 13: not valid JSON: ",
        ),
        (
            r#"{"kind":"List","items":[{"kind":"Pod"#,
            "DIR/inventory, line 1, column 36: not valid JSON: EOF",
        ),
        (
            r#"{"kind":"List","items":[]}"#,
            "DIR/inventory: nothing found in Kubernetes objects: expected pods",
        ),
        (
            r#"{"kind":"Pod","metadata":{"name":"waits","uid":"u"},"status":{"phase":"Pending"}}"#,
            "DIR/inventory: nothing found in Kubernetes objects: expected pods",
        ),
        (
            "ip,pod\n",
            "DIR/inventory: nothing found in CSV: expected rows",
        ),
        (
            r#"[{"Name":"n","Containers":{}}]"#,
            "DIR/inventory: nothing found in Docker state",
        ),
        (
            r#"{"status":{"id":""},"info":{}}"#,
            "DIR/inventory: nothing found in container runtime state",
        ),
        (
            r#"{"schema":"spanwatch.journal/9"}"#,
            "DIR/inventory is a journal of the form \"spanwatch.journal/9\"",
        ),
        ("", "DIR/inventory: nothing found in empty file"),
    ] {
        let error = error_of(content);
        assert!(error.starts_with(expected), "{content:?} gave {error}");
    }
    let utf16: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(error_of(utf16).starts_with("DIR/inventory is UTF-16 text"));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let files = Files::new();
    std::fs::create_dir(files.path("cni")).unwrap();
    let paths = [
        files.path("missing"),
        files.put("text", "just text"),
        files.path("cni"),
    ];
    let InventoryErrors(errors) = load_inventory(&paths, &InventoryOptions::default()).unwrap_err();
    assert!(matches!(
        &*errors,
        [
            InventoryError::Io { .. },
            InventoryError::NotRecognised { .. },
            InventoryError::NothingFound { .. }
        ]
    ));
    assert!(size_of::<InventoryError>() <= 128);
}

#[test]
fn an_empty_watch_and_one_cut_short_are_noted() {
    let files = Files::new();
    let (a, b) = (
        pod("a", "ua", "10.1.0.2", 1000),
        pod("b", "ub", "10.1.0.3", 1000),
    );
    let second = event("ADDED", 1001.0, &b);
    let cut = event("ADDED", 1001.0, &a) + &second[..second.len() / 2];
    let (journal, report) = load_with_report(&[files.put("quiet", " \n"), files.put("cut", cut)]);
    assert_eq!(who(&journal, "10.1.0.2", 1500), "shop/a exact");
    assert_eq!(who(&journal, "10.1.0.3", 1500), "- unknown-private");
    assert!(report.files[0].notes[0].starts_with("empty: nothing happened"));
    assert!(
        report.files[1].notes[0].contains("breaks off in line 2"),
        "{report}"
    );
}

#[test]
fn inputs_cut_or_damaged_anywhere_are_read_or_refused() {
    let watch = event("ADDED", 1001.0, &pod("a", "ua", "10.1.0.2", 1000));
    let journal = exported(&load_text(list(&[pod("a", "ua", "10.1.0.2", 1000)])));
    let sandbox = json!([{"status": status("s", "web", &json!({"ip": "10.1.0.2"}))}]).to_string();
    let files = Files::new();
    for text in [
        watch,
        journal,
        sandbox,
        "ip,pod,start\n10.1.0.2,a,5\n\"".into(),
    ] {
        for at in 0..text.len() {
            let mut odd = text.clone().into_bytes();
            odd[at] ^= 1 << (at % 8);
            for content in [&text.as_bytes()[..at], &odd] {
                let path = files.put("inventory", content);
                drop(load_inventory(&[path], &InventoryOptions::default()));
            }
        }
    }
}
