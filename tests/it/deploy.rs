//! What is deployed is what the program is: each flag, key, metric, right and path that files of `deploy/` name is there.
//! `scripts/check-deploy` holds the same files against the tools that read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use spanwatch::identity::Kind;

use crate::command::{Folder, repository, spanwatch};
use crate::lab::{is_root, skipped};

/// Every manifest with a container of ours; the last two are what the chart makes of other values.
const MANIFESTS: [&str; 4] = [
    "deploy/kubernetes/daemonset.yaml",
    "deploy/kubernetes/sidecar.yaml",
    "tests/it/data/deploy/everything.yaml",
    "tests/it/data/deploy/without-api.yaml",
];
const CHART: &str = "deploy/helm/spanwatch";
const UNIT: &str = "deploy/systemd/spanwatch-sensor.service";
/// Options that the chart sets by other values than `config`, or that a container can't have.
const NOT_IN_VALUES: [&str; 6] = ["cri", "listen", "node", "exceptions", "signatures", "user"];
/// Keys whose files are written.
const WRITTEN: [&str; 6] = ["baseline", "evidence", "flows", "output", "spool", "state"];
/// Labels that Prometheus puts on what it scrapes.
const SCRAPED: [&str; 3] = ["instance", "job", "node"];

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

fn documents(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(path)).unwrap()
}

fn words(value: &Value) -> Vec<&str> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).collect()
}

/// The container of ours in a manifest.
pub(crate) struct Deployed {
    documents: Vec<Value>,
    pub(crate) container: Value,
    pub(crate) pod: Value,
    /// Stands for the container's root.
    folder: Folder,
}

impl Deployed {
    pub(crate) fn read(path: &str) -> Self {
        let documents = documents(path);
        let mut pods = documents.iter().filter_map(|one| {
            let within = one.pointer("/spec/template/spec");
            within.or_else(|| one.get("spec").filter(|_| one["kind"] == "Pod"))
        });
        let pod = pods
            .next_back()
            .unwrap_or_else(|| panic!("no pod in {path}"));
        let containers = pod["containers"].as_array().unwrap();
        let ours = |one: &&Value| one["image"].as_str().unwrap().contains("spanwatch:");
        let container = containers.iter().find(ours).unwrap();
        let (container, pod) = (container.clone(), pod.clone());
        let deployed = Self {
            documents,
            container,
            pod,
            folder: Folder::new(),
        };
        deployed.mount();
        deployed
    }

    fn mounts(&self) -> impl Iterator<Item = (&str, &Value)> {
        let mounts = self.container["volumeMounts"].as_array().unwrap().iter();
        mounts.map(|mount| (mount["mountPath"].as_str().unwrap(), mount))
    }

    /// A path of the container where the test has it.
    pub(crate) fn here(&self, text: &str) -> String {
        let root = self.folder.path("");
        let root = root.trim_end_matches('/');
        self.mounts().fold(text.to_owned(), |text, (path, _)| {
            text.replace(path, &format!("{root}{path}"))
        })
    }

    /// Makes what is mounted, with what the manifest says is in it.
    fn mount(&self) {
        let volumes = self.pod["volumes"].as_array().unwrap();
        for (path, mount) in self.mounts() {
            let volume = volumes.iter().find(|one| one["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("{path} is of no volume"));
            let here = self.here(path);
            fs::create_dir_all(&here).unwrap();
            let name = &volume["configMap"]["name"];
            let map = self
                .documents
                .iter()
                .find(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == *name);
            let files = map.and_then(|map| map["data"].as_object());
            assert!(
                files.is_some() || name.is_null() || volume["configMap"]["optional"] == true,
                "there is no ConfigMap {name}"
            );
            for (file, content) in files.into_iter().flatten() {
                let content = self.here(content.as_str().unwrap());
                fs::write(format!("{here}/{file}"), content).unwrap();
            }
            if volume.get("secret").is_some() {
                fs::write(format!("{here}/token"), "a-token").unwrap();
            }
        }
    }

    /// What the container is started with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let arguments = words(&self.container["args"]).into_iter();
        arguments
            .map(|one| self.here(&one.replace("$(NODE_NAME)", "node-1")))
            .collect()
    }

    /// The configuration file, if there is one.
    fn configuration(&self) -> Option<String> {
        let arguments = self.arguments();
        let named = arguments
            .iter()
            .find_map(|one| one.strip_prefix("--config="));
        named.map(str::to_owned)
    }
}

/// Whether the command line is one that the program takes.
fn taken(arguments: &[String]) -> Result<(), String> {
    // Help is printed once all before it was taken.
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = spanwatch(&[&arguments, &["--help"][..]].concat());
    match run.code {
        Some(0) => Ok(()),
        _ => Err(run.err),
    }
}

#[test]
fn every_flag_and_key_is_one_of_the_programs() {
    for path in MANIFESTS {
        let deployed = Deployed::read(path);
        let mut arguments = deployed.arguments();
        taken(&arguments).unwrap_or_else(|problem| panic!("{path}: {problem}"));
        arguments.push("--no-such-flag".to_owned());
        taken(&arguments).unwrap_err();
        let Some(file) = deployed.configuration() else {
            continue;
        };
        let run = spanwatch(&["config", "check", &file]);
        assert_eq!(run.code, Some(0), "{path}: {}", run.err);
        let table: toml::Table = toml::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for (key, value) in &table {
            let Some(file) = value.as_str().filter(|value| value.starts_with('/')) else {
                continue;
            };
            let mount = deployed
                .mounts()
                .find(|(path, _)| file.starts_with(&format!("{}/", deployed.here(path))))
                .or_else(|| {
                    deployed
                        .mounts()
                        .find(|(path, _)| file == deployed.here(path))
                });
            let (_, mount) = mount.unwrap_or_else(|| panic!("{path}: {key} is where nothing is"));
            let read_only = mount["readOnly"] == true;
            assert_eq!(!WRITTEN.contains(&&**key), read_only, "{path}: {key}");
        }
        // The probes ask where it listens.
        let port = table["listen"]
            .as_str()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap();
        let ports = &deployed.container["ports"][0];
        assert_eq!(ports["containerPort"].to_string(), port, "{path}");
        for (probe, page) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let asked = &deployed.container[probe]["httpGet"];
            assert_eq!(
                asked,
                &json!({"path": page, "port": ports["name"]}),
                "{path}"
            );
        }
    }
    let unit = text(UNIT);
    for line in unit.lines().filter(|line| line.starts_with("ExecStart")) {
        let words = line.split(' ').skip(1);
        let example = repository("deploy/systemd/sensor.toml");
        let words =
            words.map(|word| word.replace("/etc/spanwatch/sensor.toml", example.to_str().unwrap()));
        taken(&words.collect::<Vec<_>>()).unwrap_or_else(|problem| panic!("{line}: {problem}"));
    }
    assert!(
        unit.contains("ExecReload=/bin/kill -HUP $MAINPID"),
        "{unit}"
    );
}

#[test]
fn the_values_take_every_option_and_no_other() {
    let schema: Value =
        serde_json::from_str(&text(&format!("{CHART}/values.schema.json"))).unwrap();
    let config = &schema["properties"]["config"];
    assert_eq!(config["additionalProperties"], false);
    let explained = spanwatch(&["config", "explain"]).out;
    let mut options = BTreeMap::new();
    for line in explained.lines().filter(|line| !line.starts_with(' ')) {
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        let one_of: Vec<&str> = value.split('"').skip(1).step_by(2).collect();
        let kind = if value.starts_with("true or false") {
            json!({"type": "boolean"})
        } else if value.starts_with("number") {
            json!({"type": "integer"})
        } else if value.starts_with("list of") {
            json!({"type": "array", "items": {"type": "string"}})
        } else if one_of.len() > 1 {
            json!({"enum": one_of})
        } else {
            json!({"type": "string"})
        };
        options.insert(key.to_owned(), kind);
    }
    for key in NOT_IN_VALUES {
        options.remove(key).unwrap();
    }
    let known: BTreeMap<String, Value> =
        serde_json::from_value(config["properties"].clone()).unwrap();
    assert_eq!(known, options);
}

/// What the role in a manifest grants: the path of a kind of object, and a verb.
pub(crate) fn granted(path: &str) -> BTreeSet<(String, String)> {
    let documents = documents(path);
    let roles = documents.iter().filter(|one| one["kind"] == "ClusterRole");
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
    let mut granted = BTreeSet::new();
    for rule in rules {
        let keys: Vec<&String> = rule.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["apiGroups", "resources", "verbs"]);
        for group in words(&rule["apiGroups"]) {
            let root = if group.is_empty() {
                "/api/v1".to_owned()
            } else {
                format!("/apis/{group}/v1")
            };
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    granted.insert((format!("{root}/{resource}"), verb.to_owned()));
                }
            }
        }
    }
    granted
}

#[test]
fn the_role_grants_what_is_asked_for() {
    let asked = Kind::ALL
        .iter()
        .flat_map(|kind| ["list", "watch"].map(|verb| (kind.path().to_owned(), verb.to_owned())));
    let asked: BTreeSet<_> = asked.collect();
    for path in MANIFESTS {
        let deployed = Deployed::read(path);
        let token = &deployed.pod["automountServiceAccountToken"];
        if *token == true {
            assert_eq!(granted(path), asked, "{path}");
        } else {
            assert_eq!(granted(path), BTreeSet::new(), "{path}");
        }
        let account = |one: &&Value| one["kind"] == "ServiceAccount";
        for account in deployed.documents.iter().filter(account) {
            // Nobody else who runs as it gets a token.
            assert_eq!(account["automountServiceAccountToken"], false, "{path}");
            assert_eq!(
                account["metadata"]["name"],
                deployed.pod["serviceAccountName"]
            );
        }
    }
}

#[test]
fn a_container_may_do_what_it_must_and_no_more() {
    for path in MANIFESTS {
        let deployed = Deployed::read(path);
        let security = json!({
            "runAsUser": 0, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(deployed.container["securityContext"], security, "{path}");
        assert!(deployed.container["resources"]["limits"]["memory"].is_string());
        // On a node the interfaces are the node's; within a pod they are the pod's.
        let sidecar = deployed.pod["containers"].as_array().unwrap().len() > 1;
        assert_eq!(deployed.pod["hostNetwork"] == true, !sidecar, "{path}");
        for forbidden in ["hostPID", "hostIPC"] {
            assert!(deployed.pod.get(forbidden).is_none(), "{path}");
        }
    }
    let unit = text(UNIT);
    for line in [
        "AmbientCapabilities=CAP_NET_RAW",
        "CapabilityBoundingSet=CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "DynamicUser=yes",
        "ProtectSystem=strict",
    ] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
    // What its configuration has it write is where the unit lets it.
    let example: toml::Table = toml::from_str(&text("deploy/systemd/sensor.toml")).unwrap();
    for key in WRITTEN {
        let Some(file) = example.get(key).and_then(toml::Value::as_str) else {
            continue;
        };
        let at = ["/var/lib/spanwatch/", "/var/log/spanwatch/"];
        assert!(at.iter().any(|at| file.starts_with(at)), "{key} = {file}");
    }
}

/// A metric as a query names it: the name, and values by label where it asks for some.
pub(crate) type Asked = (String, Vec<(String, Vec<String>)>);

/// The queries of the rules and of the dashboard, with the legends that stand beside them.
fn queries() -> Vec<(String, String)> {
    let rules: Vec<Value> =
        serde_saphyr::from_multiple(&text(&format!("{CHART}/files/rules.yaml"))).unwrap();
    let dashboard: Value =
        serde_json::from_str(&text(&format!("{CHART}/files/dashboard.json"))).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut queries = Vec::new();
    for rule in rules[0]["groups"][0]["rules"].as_array().unwrap() {
        let told = word(&rule["annotations"]["summary"]);
        queries.push((word(&rule["expr"]), told.replace("$labels.", "")));
    }
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((word(&target["expr"]), word(&target["legendFormat"])));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            queries.push((query.to_owned(), String::new()));
        }
    }
    assert!(queries.len() > 20);
    queries
}

/// The metrics of ours in a query.
fn named(query: &str) -> Vec<Asked> {
    let mut found = Vec::new();
    for (at, _) in query.match_indices("spanwatch_") {
        let rest = &query[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = selector.map_or("", |(matchers, _)| matchers).split(',');
        let matchers = matchers.filter_map(|matcher| {
            let (label, value) = matcher.split_once('=')?;
            let value = value.trim_start_matches('~').trim_matches('"');
            let values = value.split('|').map(str::to_owned).collect();
            Some((label.trim_end_matches('!').to_owned(), values))
        });
        found.push((name.to_owned(), matchers.collect()));
    }
    found
}

/// Every metric that the rules and the dashboard ask for.
pub(crate) fn asked() -> Vec<Asked> {
    queries()
        .iter()
        .flat_map(|(query, _)| named(query))
        .collect()
}

/// The metrics of docs/live.md, with their labels.
pub(crate) fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = text("docs/live.md");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| `spanwatch_"));
    let between = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        // What stands in brackets tells of the values.
        let parts = cells[2].split(['(', ')']).step_by(2);
        let labels: String = parts.collect();
        (between(cells[1]).pop_first().unwrap(), between(&labels))
    })
    .collect()
}

#[test]
fn what_is_watched_and_shown_is_documented() {
    let documented = documented();
    assert!(documented.len() > 20);
    for (query, legend) in queries() {
        let mut labels: BTreeSet<String> = SCRAPED.map(str::to_owned).into();
        for (name, matchers) in named(&query) {
            let known = documented.get(&name);
            labels.extend(known.unwrap_or_else(|| panic!("{query}: {name}")).clone());
            for (label, _) in matchers {
                assert!(labels.contains(&label), "{query}: {label}");
            }
        }
        let grouped = query.split("by (").skip(1);
        let grouped = grouped.flat_map(|rest| rest.split(')').next().unwrap().split(", "));
        let shown = legend.split("{{").skip(1);
        let shown = shown.map(|rest| rest.split("}}").next().unwrap().trim());
        for label in grouped.chain(shown) {
            assert!(labels.contains(label), "{query}, {legend}: {label}");
        }
    }
}

#[test]
fn versions_are_one() {
    let version = env!("CARGO_PKG_VERSION");
    let charted: Value = serde_saphyr::from_str(&text(&format!("{CHART}/Chart.yaml"))).unwrap();
    assert_eq!(charted["appVersion"], version);
    for path in [MANIFESTS[0], MANIFESTS[1], MANIFESTS[3]] {
        let image = &Deployed::read(path).container["image"];
        assert_eq!(*image, format!("spanwatch:{version}"), "{path}");
    }
    for path in ["deploy/Dockerfile", "deploy/README.md"] {
        assert!(
            text(path).contains(&format!("spanwatch:{version}")),
            "{path}"
        );
    }
}

/// What a package builds, of files that are there: a build needs them all, whatever it is asked for.
fn targets(package: &str) -> BTreeSet<String> {
    let words = "metadata --locked --offline --no-deps --format-version=1";
    let cargo = Command::new(env!("CARGO"))
        .args(words.split(' '))
        .current_dir(package)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "{told}");
    let read: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let targets = read["packages"][0]["targets"].as_array().unwrap().iter();
    let there = targets.filter(|one| fs::exists(one["src_path"].as_str().unwrap()).unwrap());
    there
        .map(|one| format!("{} {}", one["kind"], one["name"]))
        .collect()
}

#[test]
fn the_image_is_built_of_what_it_needs() {
    // The context: nothing but what is let in.
    let context = Folder::new();
    let lines = text("deploy/Dockerfile.dockerignore");
    let lines = lines.lines().filter(|line| !line.starts_with('#'));
    let let_in: Vec<&str> = lines
        .clone()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    assert_eq!(
        lines
            .filter(|line| !line.starts_with('!'))
            .collect::<Vec<_>>(),
        ["*"]
    );
    assert!(let_in.contains(&"Cargo.lock"), "the build is --locked");
    for path in &let_in {
        let to = context.path(path);
        fs::create_dir_all(std::path::Path::new(&to).parent().unwrap()).unwrap();
        let copied = Command::new("cp")
            .arg("-r")
            .arg(repository(path))
            .arg(&to)
            .status();
        assert!(copied.unwrap().success(), "{path}");
    }
    assert_eq!(
        targets(&context.path("")),
        targets(env!("CARGO_MANIFEST_DIR"))
    );
    // What the sources take in of other files is there as well.
    let taken = Command::new("grep")
        .args([
            "-rhoE",
            r#"include_(str|bytes)!\((concat!\()?"[^"]+""#,
            "src",
        ])
        .current_dir(context.path(""))
        .output()
        .unwrap();
    let taken = String::from_utf8(taken.stdout).unwrap();
    assert!(taken.contains("../signatures/"), "{taken}");
    for line in taken.lines() {
        let path = line.split('"').nth(1).unwrap().trim_start_matches("../");
        assert!(let_in.iter().any(|root| path.starts_with(root)), "{path}");
    }

    // The libraries, copied as the image's are, suffice beside those of its base.
    if !is_root() {
        skipped("needs root, for a root directory of its own");
        return;
    }
    let root = Folder::new();
    let binary = env!("CARGO_BIN_EXE_spanwatch");
    let copied = Command::new(repository("deploy/libraries"))
        .args([binary, &root.path("usr/local/lib")])
        .status();
    assert!(copied.unwrap().success());
    fs::copy(binary, root.path("spanwatch")).unwrap();
    let linked = Command::new("ldd").arg(binary).output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let base = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];
    for line in linked
        .lines()
        .filter(|line| base.iter().any(|name| line.contains(name)))
    {
        let path = line
            .split_whitespace()
            .find(|word| word.starts_with('/'))
            .unwrap();
        let to = root.path(path.trim_start_matches('/'));
        fs::create_dir_all(std::path::Path::new(&to).parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
    let run = Command::new("chroot")
        .args([&root.path(""), "/spanwatch", "signatures", "list"])
        .env("LD_LIBRARY_PATH", "/usr/local/lib")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && !run.stdout.is_empty(), "{told}");
}
