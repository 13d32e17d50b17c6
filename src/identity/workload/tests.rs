//! Owners, labels and generated names to workloads.

use proptest::prelude::*;

use super::name::from_name;
use super::*;

/// A suffix as the API server draws it.
fn suffix() -> impl Strategy<Value = String> {
    "[bcdfghjklmnpqrstvwxz2456789]{5}"
        .prop_filter("a word", |text| text != "https" && text != "httpd")
}

/// A template hash: a 32-bit number in decimal, its digits written in the alphabet of suffixes.
fn hash_of(number: u32) -> String {
    let digits = number.to_string();
    digits
        .bytes()
        .map(|digit| char::from(b"456789bcdf"[usize::from(digit - b'0')]))
        .collect()
}

fn base() -> impl Strategy<Value = String> {
    "[a-z]{2,12}(-[a-z]{2,9}){0,2}".prop_filter("ends in what looks generated", |base| {
        from_name(base, &Lineage::default()).0 == "Pod" && name::strip_hash(base).is_none()
    })
}

proptest! {
    #[test]
    fn deployments_come_back(base in base(), number in 100_000..=u32::MAX, suffix in suffix()) {
        let name = format!("{base}-{}-{suffix}", hash_of(number));
        prop_assume!(name.len() < 63);
        prop_assert_eq!(from_name(&name, &Lineage::default()), ("Deployment", &*base));
    }

    #[test]
    fn long_deployments_come_back_by_their_hash_label(
        base in "[a-z]{50,52}", number in 1_000_000_000..=u32::MAX, suffix in suffix(),
    ) {
        let hash = hash_of(number);
        let full = format!("{base}-{hash}-");
        let name = format!("{}{suffix}", &full[..full.len().min(58)]);
        prop_assert_eq!(name::strip_known_hash(&name, &hash), Some(&*base));
    }

    #[test]
    fn sets_jobs_and_daemons_come_back(
        base in base(), ordinal in 0_u32..2000, minute in 26_297_280_u64..34_187_040, suffix in suffix(),
    ) {
        for (name, kind) in [
            (format!("{base}-{ordinal}"), "StatefulSet"),
            (format!("{base}-{minute}-{suffix}"), "CronJob"),
            (format!("{base}-{suffix}"), "Owner"),
            (format!("{base}-3-{suffix}"), "Owner"),
        ] {
            prop_assert_eq!(from_name(&name, &Lineage::default()), (kind, &*base));
        }
    }

    #[test]
    fn any_name_gets_some_workload(name in "\\PC{0,80}", hash in "\\PC{0,12}") {
        let (_, base) = from_name(&name, &Lineage::default());
        prop_assert!(name.contains(base));
        let _ = name::strip_known_hash(&name, &hash);
    }

    #[test]
    fn words_are_no_hashes(word in "[a-z]{10}") {
        // A word of ten letters would have to use four letters only, b c d f, and start with a digit.
        let name = format!("web-{word}");
        prop_assert_eq!(name::strip_hash(&name), None);
    }
}

#[test]
fn names_made_by_people_stay_whole() {
    for name in [
        "kube-dns",
        "redis-master",
        "web-https",
        "db-mssql",
        "debug",
        "a-",
        "-a",
        "-",
        "",
        "nginx-12345",
    ] {
        assert_eq!(
            from_name(name, &Lineage::default()),
            ("Pod", name),
            "{name}"
        );
    }
    assert_eq!(
        from_name("etcd-node-1", &Lineage::default()),
        ("StaticPod", "etcd")
    );
    assert_eq!(
        from_name("etcd-1", &Lineage::default()),
        ("StatefulSet", "etcd")
    );
    assert_eq!(
        from_name("kube-proxy-x2x9z", &Lineage::default()),
        ("Owner", "kube-proxy")
    );
}

#[test]
fn a_known_node_ends_a_static_pod() {
    let lineage = Lineage {
        nodes: HashSet::from(["ip-10-0-0-1.internal".into()]),
        ..Lineage::default()
    };
    assert_eq!(
        from_name("haproxy-ip-10-0-0-1.internal", &lineage),
        ("StaticPod", "haproxy")
    );
}

struct Pod {
    name: &'static str,
    controller: Option<(&'static str, &'static str)>,
    labels: &'static [(&'static str, &'static str)],
}

fn workload_of(pod: &Pod, owners_told: bool, lineage: &Lineage) -> String {
    let controller = pod.controller.map(|(kind, name)| Controller {
        kind: kind.into(),
        name: name.into(),
    });
    let facts = PodFacts {
        namespace: &"prod".into(),
        name: &pod.name.into(),
        controller: controller.as_ref(),
        labels: &pod
            .labels
            .iter()
            .map(|&(k, v)| (k.into(), v.into()))
            .collect(),
        owners_told,
    };
    workload(facts, lineage).to_string()
}

#[test]
fn the_ladder_goes_from_owners_to_labels_to_names() {
    let mut lineage = Lineage::default();
    let controller = |kind: &str, name: &str| Controller {
        kind: kind.into(),
        name: name.into(),
    };
    for (child, parent) in [
        (
            controller("ReplicaSet", "blue"),
            Some(controller("Rollout", "canary")),
        ),
        (controller("ReplicaSet", "alone-5d78c9869d"), None),
        (
            controller("Job", "nightly-manual"),
            Some(controller("CronJob", "nightly")),
        ),
    ] {
        lineage.parents.insert(("prod".into(), child), parent);
    }
    let table: &[(Pod, &str)] = &[
        // The hash label is right even where the hash is one that Kubernetes would never make.
        (
            Pod {
                name: "web-h2gmk9zk6-jh62w",
                controller: Some(("ReplicaSet", "web-h2gmk9zk6")),
                labels: &[("pod-template-hash", "h2gmk9zk6")],
            },
            "prod/Deployment/web",
        ),
        (
            Pod {
                name: "web-5d78c9869d-jh62w",
                controller: Some(("ReplicaSet", "web-5d78c9869d")),
                labels: &[],
            },
            "prod/Deployment/web",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("ReplicaSet", "blue")),
                labels: &[],
            },
            "prod/Rollout/canary",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("ReplicaSet", "alone-5d78c9869d")),
                labels: &[],
            },
            "prod/ReplicaSet/alone-5d78c9869d",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("ReplicaSet", "frontend")),
                labels: &[],
            },
            "prod/ReplicaSet/frontend",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("Job", "nightly-manual")),
                labels: &[],
            },
            "prod/CronJob/nightly",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("Job", "backup-28001440")),
                labels: &[],
            },
            "prod/CronJob/backup",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("Job", "migrate")),
                labels: &[],
            },
            "prod/Job/migrate",
        ),
        (
            Pod {
                name: "etcd-cp-1",
                controller: Some(("Node", "cp-1")),
                labels: &[],
            },
            "prod/StaticPod/etcd",
        ),
        (
            Pod {
                name: "redis-0",
                controller: Some(("StatefulSet", "redis")),
                labels: &[],
            },
            "prod/StatefulSet/redis",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("Workflow", "w-1")),
                labels: &[],
            },
            "prod/Workflow/w-1",
        ),
        (
            Pod {
                name: "x",
                controller: Some(("ReplicationController", "shop-7")),
                labels: &[("deploymentconfig", "shop")],
            },
            "prod/DeploymentConfig/shop",
        ),
        // From here on as a container runtime tells it: labels, no owners.
        (
            Pod {
                name: "web-h2gmk9zk6-jh62w",
                controller: None,
                labels: &[("pod-template-hash", "h2gmk9zk6")],
            },
            "prod/Deployment/web",
        ),
        (
            Pod {
                name: "api-6d4b75cb6d-x2x9z",
                controller: None,
                labels: &[("rollouts-pod-template-hash", "6d4b75cb6d")],
            },
            "prod/Rollout/api",
        ),
        (
            Pod {
                name: "cart-0",
                controller: None,
                labels: &[
                    ("controller-revision-hash", "cart-abc"),
                    ("statefulset.kubernetes.io/pod-name", "cart-0"),
                ],
            },
            "prod/StatefulSet/cart",
        ),
        (
            Pod {
                name: "agent-x2x9z",
                controller: None,
                labels: &[("controller-revision-hash", "7d9c")],
            },
            "prod/DaemonSet/agent",
        ),
        (
            Pod {
                name: "backup-28001440-x2x9z",
                controller: None,
                labels: &[("job-name", "backup-28001440")],
            },
            "prod/CronJob/backup",
        ),
        (
            Pod {
                name: "m-x2x9z",
                controller: None,
                labels: &[("batch.kubernetes.io/job-name", "m")],
            },
            "prod/Job/m",
        ),
        (
            Pod {
                name: "web-5d78c9869d-jh62w",
                controller: None,
                labels: &[],
            },
            "prod/Deployment/web",
        ),
    ];
    for (pod, expected) in table {
        assert_eq!(workload_of(pod, false, &lineage), *expected, "{}", pod.name);
    }
}

#[test]
fn a_pod_that_is_known_to_have_no_owner_is_its_own_workload() {
    let pod = Pod {
        name: "debug-x2x9z",
        controller: None,
        labels: &[],
    };
    assert_eq!(
        workload_of(&pod, true, &Lineage::default()),
        "prod/Pod/debug-x2x9z"
    );
    assert_eq!(
        workload_of(&pod, false, &Lineage::default()),
        "prod/Owner/debug"
    );
}

#[test]
fn the_revision_is_the_hash_before_the_image() {
    let labels = BTreeMap::from([("pod-template-hash".into(), Arc::from("5d78c9869d"))]);
    assert_eq!(
        revision(&labels, Some(&"app:1".into())).as_deref(),
        Some("5d78c9869d")
    );
    assert_eq!(
        revision(&BTreeMap::new(), Some(&"app:1".into())).as_deref(),
        Some("app:1")
    );
}
