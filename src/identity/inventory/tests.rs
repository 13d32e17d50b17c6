//! Whole inventories, written to a temporary directory and loaded as the command line does.

mod cni;
mod kubernetes;
mod others;
mod policy;

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::address::NetworkId;
use crate::identity::{Attribution, Confidence, IdentityKind, Source};
use crate::time::Timestamp;

/// A directory of inputs.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Writes a file, with the directories above it; returns its path.
    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn load_with_report(paths: &[PathBuf]) -> (Journal, InventoryReport) {
    load_inventory(paths, &InventoryOptions::default()).unwrap()
}

fn load(paths: &[PathBuf]) -> Journal {
    load_with_report(paths).0
}

/// Loads a file with this content.
fn load_text(content: impl AsRef<[u8]>) -> Journal {
    let files = Files::new();
    load(&[files.put("inventory", content)])
}

fn error_of(content: impl AsRef<[u8]>) -> String {
    let files = Files::new();
    let path = files.put("inventory", content);
    let error = load_inventory(&[path], &InventoryOptions::default())
        .unwrap_err()
        .to_string();
    error.replace(&files.0.path().display().to_string(), "DIR")
}

fn ask(journal: &Journal, ip: &str, secs: i64) -> Attribution {
    journal.resolve(
        NetworkId::default(),
        ip.parse().unwrap(),
        Timestamp::from_secs(secs),
    )
}

/// `shop/cart-0 exact`, `- unknown-private`, …
fn who(journal: &Journal, ip: &str, secs: i64) -> String {
    let Attribution {
        identity,
        confidence,
        ..
    } = ask(journal, ip, secs);
    let name = match (&identity.namespace, &identity.name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.to_string(),
        _ => "-".into(),
    };
    format!("{name} {}", confidence.label())
}

fn workload(journal: &Journal, ip: &str, secs: i64) -> String {
    ask(journal, ip, secs)
        .identity
        .workload
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A time as the API writes it.
fn rfc3339(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).unwrap().to_string()
}

/// A running pod as the API shows it.
fn pod(name: &str, uid: &str, ip: &str, start: i64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "uid": uid, "creationTimestamp": rfc3339(start),
            "labels": {"app": "x"},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "c", "image": "x:1", "env": [{"name": "PASSWORD", "value": "hunter2"}]}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "172.18.0.2",
            "startTime": rfc3339(start),
            "containerStatuses": [{"restartCount": 0, "state": {"running": {"startedAt": rfc3339(start + 1)}}}],
        },
    })
}

/// The pod as it was at a revision.
fn revised(pod: &mut Value, revision: &str) -> Value {
    pod["metadata"]["resourceVersion"] = revision.into();
    pod.clone()
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}).to_string()
}

fn event(kind: &str, at: f64, object: &Value) -> String {
    format!(
        "{}\n",
        json!({"type": kind, "observedAt": at, "object": object})
    )
}

/// All orders of some paths.
fn permutations(paths: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    match paths {
        [] => vec![vec![]],
        _ => (0..paths.len())
            .flat_map(|i| {
                let mut rest = paths.to_vec();
                let first = rest.remove(i);
                permutations(&rest).into_iter().map(move |mut order| {
                    order.insert(0, first.clone());
                    order
                })
            })
            .collect(),
    }
}

fn exported(journal: &Journal) -> String {
    let mut out = Vec::new();
    journal.export(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}
