//! The cluster's inventory as others would export it: `kubectl` lists, watch events, CSV.
//!
//! Objects carry what a reader needs and real ones have; keys are written in the order of their names, as kubectl does.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp as Date;
use serde_json::{Value, json};

use super::cluster::{Cluster, Fate, NODE, NODE_IP, Pod, Service};
use super::names;
use super::rng::Rng;
use crate::time::Timestamp;

/// What `kubectl get pods,services,nodes -A -o json` prints at a time.
pub fn kubectl_list(cluster: &Cluster, at: Timestamp) -> String {
    let pods = cluster.pods.iter().filter(|pod| is_listed(pod, at));
    let mut items: Vec<Value> = pods.map(|pod| pod_object(pod, at)).collect();
    items.extend(cluster.services.iter().map(service_object));
    items.push(node_object());
    items.extend(cluster.objects.iter().cloned());
    let list = json!({
        "apiVersion": "v1",
        "items": items,
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    });
    format!("{list:#}\n")
}

/// What `kubectl get pods,… -A -w --output-watch-events -o json` prints from `from` to `until`, one event a line, each with
/// the time it was seen in `observedAt`.
pub fn watch_events(cluster: &Cluster, from: Timestamp, until: Timestamp) -> String {
    let mut events: Vec<(Timestamp, &str, Value)> = Vec::new();
    for pod in cluster.pods.iter().filter(|pod| is_listed(pod, from)) {
        events.push((from, "ADDED", pod_object(pod, from)));
    }
    for service in &cluster.services {
        events.push((from, "ADDED", service_object(service)));
    }
    events.push((from, "ADDED", node_object()));
    let seen = |time: Timestamp| from <= time && time < until;
    for pod in &cluster.pods {
        if seen(pod.start) {
            let scheduled = pod.start.before(Duration::from_secs(1));
            let before = Pod {
                start: Timestamp::MAX,
                ..pod.clone()
            };
            events.push((scheduled, "ADDED", pod_object(&before, scheduled)));
            events.push((pod.start, "MODIFIED", pod_object(pod, pod.start)));
        }
        if let Some((end, fate)) = pod.end
            && seen(end)
        {
            let kind = if fate == Fate::Deleted {
                "DELETED"
            } else {
                "MODIFIED"
            };
            events.push((end, kind, pod_object(pod, end)));
        }
    }
    events.sort_by_key(|(time, ..)| *time);
    let mut lines = String::new();
    for (time, kind, object) in events {
        let observed = (time.nanos() / 1_000_000) as f64 / 1e3;
        let event = json!({"object": object, "observedAt": observed, "type": kind});
        writeln!(lines, "{event}").expect("a string takes all");
    }
    lines
}

/// The same as a table, one line per pod and service address, with exact times.
pub fn csv(cluster: &Cluster) -> String {
    let mut text = String::from("ip,namespace,pod,workload,kind,node,start,end,mac,iface,labels\n");
    for pod in cluster.pods.iter().filter(|pod| !pod.host_network) {
        let end = pod.end.map_or_else(String::new, |(end, _)| rfc3339(end));
        let mac: Vec<String> = pod
            .host
            .mac
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let labels: Vec<String> = labels(pod)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        writeln!(
            text,
            "{},{},{},{},{},{NODE},{},{end},{},,{}",
            pod.host.ip,
            pod.workload.namespace,
            pod.name,
            pod.workload.name,
            pod.workload.kind,
            rfc3339(pod.start),
            mac.join(":"),
            labels.join(";"),
        )
        .expect("a string takes all");
    }
    text
}

fn is_listed(pod: &Pod, at: Timestamp) -> bool {
    let gone = matches!(pod.end, Some((end, Fate::Deleted)) if end <= at);
    pod.start <= at && !gone
}

fn labels(pod: &Pod) -> Vec<(&'static str, String)> {
    let mut labels = pod.labels.clone();
    let app = pod.workload.name;
    labels.push(("app", app.to_owned()));
    if app == "coredns" {
        labels.push(("k8s-app", "kube-dns".to_owned()));
    }
    labels.sort_unstable();
    labels
}

fn pod_object(pod: &Pod, at: Timestamp) -> Value {
    let labels: serde_json::Map<String, Value> = labels(pod)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let mut container = json!({
        "image": format!("registry.example/{}/{}:1", pod.workload.namespace, pod.workload.name),
        "name": pod.workload.name,
    });
    if !pod.ports.is_empty() {
        let ports = pod.ports.iter();
        container["ports"] = ports
            .map(|port| json!({"containerPort": port, "protocol": "TCP"}))
            .collect();
    }
    let mut owner_uid = Rng::derived(0, &format!("{}/{}", pod.workload.namespace, pod.owner.1));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "creationTimestamp": rfc3339(pod.start.min(at).before(Duration::from_secs(1))),
            "labels": labels,
            "name": pod.name,
            "namespace": pod.workload.namespace,
            "ownerReferences": [{
                "apiVersion": if pod.owner.0 == "Job" { "batch/v1" } else { "apps/v1" },
                "blockOwnerDeletion": true,
                "controller": true,
                "kind": pod.owner.0,
                "name": pod.owner.1,
                "uid": names::uid(&mut owner_uid),
            }],
            "uid": pod.uid,
        },
        "spec": {
            "containers": [container],
            "hostNetwork": pod.host_network,
            "nodeName": NODE,
        },
        "status": pod_status(pod, at),
    })
}

fn pod_status(pod: &Pod, at: Timestamp) -> Value {
    if pod.start > at {
        return json!({"phase": "Pending"});
    }
    let ended = pod.end.filter(|&(end, _)| end <= at);
    let phase = match ended {
        None | Some((_, Fate::Deleted)) => "Running",
        Some((_, Fate::Completed)) => "Succeeded",
        Some((_, Fate::Evicted)) => "Failed",
    };
    let (ready, since) = ended.map_or(("True", pod.start), |(end, _)| ("False", end));
    let mut conditions = vec![
        condition("Initialized", "True", pod.start),
        condition(
            "PodScheduled",
            "True",
            pod.start.before(Duration::from_secs(1)),
        ),
        condition("Ready", ready, since),
    ];
    if let Some((end, Fate::Evicted)) = ended {
        conditions.push(condition("DisruptionTarget", "True", end));
    }
    let state = match ended {
        None => json!({"running": {"startedAt": rfc3339(pod.start)}}),
        Some((end, fate)) => json!({"terminated": {
            "exitCode": if fate == Fate::Completed { 0 } else { 137 },
            "finishedAt": rfc3339(end),
            "startedAt": rfc3339(pod.start),
        }}),
    };
    let IpAddr::V4(ip) = pod.host.ip else {
        return Value::Null;
    };
    let mut status = json!({
        "conditions": conditions,
        "containerStatuses": [{"name": pod.workload.name, "ready": ended.is_none(), "state": state}],
        "hostIP": NODE_IP,
        "phase": phase,
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": rfc3339(pod.start),
    });
    if let (Some((_, Fate::Evicted)), Some(fields)) = (ended, status.as_object_mut()) {
        fields.insert("reason".into(), "Evicted".into());
    }
    status
}

fn condition(kind: &str, status: &str, since: Timestamp) -> Value {
    json!({"lastTransitionTime": rfc3339(since), "status": status, "type": kind})
}

fn service_object(service: &Service) -> Value {
    let mut uid = Rng::derived(1, &format!("{}/{}", service.namespace, service.name));
    let (port, target) = service.ports;
    let protocol = if port == 53 { "UDP" } else { "TCP" };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "creationTimestamp": "2026-02-26T08:58:00Z",
            "labels": {"app": service.app},
            "name": service.name,
            "namespace": service.namespace,
            "uid": names::uid(&mut uid),
        },
        "spec": {
            "clusterIP": service.ip,
            "clusterIPs": [service.ip],
            "ports": [{"port": port, "protocol": protocol, "targetPort": target}],
            "selector": {"app": service.app},
            "type": "ClusterIP",
        },
    })
}

fn node_object() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "creationTimestamp": "2026-02-26T08:50:00Z",
            "labels": {"kubernetes.io/hostname": NODE},
            "name": NODE,
            "uid": names::uid(&mut Rng::derived(2, NODE)),
        },
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {
            "addresses": [
                {"address": NODE_IP, "type": "InternalIP"},
                {"address": NODE, "type": "Hostname"},
            ],
        },
    })
}

/// Whole seconds, as Kubernetes writes times.
pub fn rfc3339(time: Timestamp) -> String {
    let second = time.nanos().div_euclid(1_000_000_000);
    Date::from_second(second).map_or_else(|_| String::new(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::cluster::{API, START};

    fn items(list: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(list).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    #[test]
    fn a_list_holds_every_kind_and_the_fate_of_pods() {
        let items = items(&kubectl_list(
            &Cluster::default(),
            START.after(Duration::from_mins(10)),
        ));
        let kinds = |kind: &str| items.iter().filter(|item| item["kind"] == kind).count();
        assert_eq!((kinds("Pod"), kinds("Service"), kinds("Node")), (14, 6, 1));
        let phases: Vec<&str> = items
            .iter()
            .filter_map(|i| i["status"]["phase"].as_str())
            .collect();
        assert_eq!(
            phases.iter().filter(|&&phase| phase == "Succeeded").count(),
            2
        );
        let evicted = items
            .iter()
            .find(|i| i["status"]["reason"] == "Evicted")
            .unwrap();
        assert_eq!(evicted["status"]["podIP"], "10.244.1.13");
        assert_eq!(
            evicted["metadata"]["ownerReferences"][0]["kind"],
            "ReplicaSet"
        );
    }

    #[test]
    fn watch_events_tell_who_came_and_went() {
        let mut cluster = Cluster::default();
        let (then, end) = (
            START.after(Duration::from_secs(20)),
            START.after(Duration::from_mins(1)),
        );
        cluster.deploy(API, "2", then, &[50]);
        cluster.end(12, then, Fate::Deleted);
        let log = watch_events(&cluster, START, end);
        let events: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |ip: &str| -> Vec<String> {
            let of_it = events
                .iter()
                .filter(|event| event["object"]["status"]["podIP"] == ip);
            of_it
                .map(|event| event["type"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(of("10.244.1.50"), ["MODIFIED"]);
        assert_eq!(of("10.244.1.12"), ["ADDED", "DELETED"]);
        assert!(events.is_sorted_by_key(|event| event["observedAt"].as_f64().unwrap()));
    }

    #[test]
    fn the_table_has_one_line_per_pod_with_an_address_of_its_own() {
        let text = csv(&Cluster::default());
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 13);
        let evicted = rows.iter().find(|row| &row[0] == "10.244.1.13").unwrap();
        assert_eq!(&evicted[7], "2026-03-02T09:01:40Z");
    }
}
