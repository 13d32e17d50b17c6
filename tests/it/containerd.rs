//! A real containerd on a lab's node: its pods are made by itself, by way of runc and the CNI plugins; no tests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{Request, header};
use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;

use crate::lab::{Lab, Running, present, skipped};

/// What makes pods, besides the lab's own tools.
const TOOLS: [&str; 4] = ["containerd", "ctr", "runc", "busybox"];
const IMAGE: &str = "localhost/pause:1";
/// `NamespaceMode`.
const NODE: i32 = 2;

#[derive(Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Message)]
struct Options {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    options: Option<Options>,
}

#[derive(Message)]
struct Linux {
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Message)]
struct Config {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(btree_map = "string, string", tag = "6")]
    labels: BTreeMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<Linux>,
}

#[derive(Message)]
struct Run {
    #[prost(message, optional, tag = "1")]
    config: Option<Config>,
}

/// The id of a sandbox, as a question or an answer.
#[derive(Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// A runtime, with the pods that it has.
pub(crate) struct Containerd {
    pub(crate) socket: String,
    /// Killed at the end, after its pods.
    _process: Running,
    pods: Mutex<Vec<String>>,
}

/// A pod that containerd made.
pub(crate) struct Resident {
    pub(crate) id: String,
    pub(crate) ip: String,
    process: String,
}

impl Containerd {
    /// Starts it; `None`, said loudly, where it can't run.
    pub(crate) fn start(lab: &Lab) -> Option<Self> {
        if let Some(tool) = TOOLS.iter().find(|tool| !present(tool)) {
            skipped(&format!(
                "needs {tool} (Debian: containerd runc busybox-static)"
            ));
            return None;
        }
        let (socket, config) = (lab.path("containerd.sock"), lab.path("config.toml"));
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {socket:?}\n\
             [{cri}]\nsandbox_image = {IMAGE:?}\ndisable_apparmor = true\nrestrict_oom_score_adj = true\n\
             stream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n\
             [{cri}.cni]\nbin_dir = {:?}\nconf_dir = {:?}\n[{cri}.containerd]\nsnapshotter = \"native\"\n",
            lab.path("root"),
            lab.path("state"),
            lab.plugins.to_str().unwrap(),
            lab.cni().join("net.d").to_str().unwrap(),
        );
        fs::write(&config, text).unwrap();
        // Its mounts, and the CNI's results, are seen by itself alone.
        let up = "mkdir -p /var/lib/cni && mount -t tmpfs none /var/lib/cni && mount --make-rshared / && \
                  exec containerd -c \"$0\"";
        let mut start = lab.command(&["unshare", "--mount", "sh", "-c", up, &config]);
        let log = fs::File::create(lab.path("containerd.log")).unwrap();
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let runtime = Self {
            _process: Running(start.spawn().unwrap()),
            socket,
            pods: Mutex::default(),
        };
        let archive = image(lab);
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(problem) = runtime.ctr(&["images", "import", &archive]) {
            if Instant::now() > until {
                skipped(&format!("containerd doesn't run here: {problem}"));
                return None;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(runtime)
    }

    fn ctr(&self, args: &[&str]) -> Result<String, String> {
        let mut ctr = Command::new("ctr");
        let output = ctr
            .args(["-a", &self.socket, "-n", "k8s.io"])
            .args(args)
            .output();
        let output = output.unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Makes a pod, or one in the node's own network; `None`, said loudly, where that can't be.
    pub(crate) fn run(&self, name: &str, on_node: bool) -> Option<Resident> {
        let network = if on_node { NODE } else { 0 };
        let config = Config {
            metadata: Some(Metadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "shop".to_owned(),
            }),
            hostname: if on_node {
                String::new()
            } else {
                name.to_owned()
            },
            labels: [("tier".to_owned(), "back".to_owned())].into(),
            linux: Some(Linux {
                security: Some(Security {
                    options: Some(Options { network }),
                }),
            }),
        };
        let config = Some(config);
        let made = self.call("RunPodSandbox", &Run { config }.encode_to_vec());
        let made = match made {
            Ok(made) => made,
            Err(problem) => {
                skipped(&format!("containerd can make no pod here: {problem}"));
                return None;
            }
        };
        let Id { id } = Id::decode(&*made).unwrap();
        self.pods.lock().unwrap().push(id.clone());
        let tasks = self.ctr(&["tasks", "list"]).unwrap();
        let task = tasks.lines().find(|line| line.starts_with(&id)).unwrap();
        let process = task.split_whitespace().nth(1).unwrap().to_owned();
        let mut resident = Resident {
            id,
            ip: String::new(),
            process,
        };
        if !on_node {
            let listed = resident.exec(&["ip", "-json", "-4", "addr", "show", "dev", "eth0"]);
            let listed: Value = serde_json::from_str(&listed).unwrap();
            let ip = &listed[0]["addr_info"][0]["local"];
            ip.as_str().unwrap().clone_into(&mut resident.ip);
        }
        Some(resident)
    }

    /// Ends a pod, and removes it.
    pub(crate) fn remove(&self, id: &str) {
        self.pods.lock().unwrap().retain(|known| known != id);
        let id = Id { id: id.to_owned() }.encode_to_vec();
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            self.call(method, &id).unwrap();
        }
    }

    /// One call of its API.
    pub(crate) fn call(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let stream = UnixStream::connect(&self.socket).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let uri = format!("http://localhost/runtime.v1.RuntimeService/{method}");
            let request = Request::post(uri)
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers");
            let mut client = client.ready().await.unwrap();
            let (answer, mut body) = client
                .send_request(request.body(()).unwrap(), false)
                .unwrap();
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            let frame = [&[0], &length[..], message].concat();
            body.send_data(Bytes::from(frame), true).unwrap();
            let (head, mut body) = answer.await.unwrap().into_parts();
            let mut all = Vec::new();
            while let Some(piece) = body.data().await {
                all.extend_from_slice(&piece.unwrap());
            }
            let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
            if trailers["grpc-status"] == "0" {
                Ok(all.split_off(5))
            } else {
                Err(format!("{method}: {:?}", trailers.get("grpc-message")))
            }
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What keeps a pod up is a process of its own, which would outlive us.
        let pods = std::mem::take(&mut *self.pods.lock().unwrap());
        for id in pods {
            let id = Id { id }.encode_to_vec();
            for method in ["StopPodSandbox", "RemovePodSandbox"] {
                self.call(method, &id).ok();
            }
        }
    }
}

impl Resident {
    /// Runs a command in its network to its end; returns what it printed.
    pub(crate) fn exec(&self, args: &[&str]) -> String {
        let within = ["-t", &self.process, "-n"];
        let output = Command::new("nsenter").args(within).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// An image whose one program waits, as an archive.
fn image(lab: &Lab) -> String {
    let folder = lab.path("image");
    let blobs = format!("{folder}/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let keep = |content: &[u8]| {
        let digest = Sha256::digest(content);
        let digest = digest.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        fs::write(format!("{blobs}/{digest}"), content).unwrap();
        json!({"digest": format!("sha256:{digest}"), "size": content.len()})
    };
    let sort = |mut kept: Value, sort: &str| {
        kept["mediaType"] = format!("application/vnd.oci.image.{sort}").into();
        kept
    };
    let pack = |from: &str, what: &[&str], to: &str| {
        let pack = ["--dereference", "-C", from, "-cf", to];
        let packed = Command::new("tar").args(pack).args(what).status();
        assert!(packed.unwrap().success());
    };
    let layer = lab.path("layer");
    fs::create_dir(&layer).unwrap();
    let found = Command::new("sh")
        .args(["-c", "command -v busybox"])
        .output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    symlink(found.trim(), format!("{layer}/busybox")).unwrap();
    let packed = lab.path("layer.tar");
    pack(&layer, &["busybox"], &packed);
    let layer = keep(&fs::read(packed).unwrap());
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/busybox", "sleep", "86400"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = keep(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": sort(config, "config.v1+json"), "layers": [sort(layer, "layer.v1.tar")],
    });
    let mut manifest = sort(keep(manifest.to_string().as_bytes()), "manifest.v1+json");
    manifest["annotations"] =
        json!({"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(format!("{folder}/index.json"), index.to_string()).unwrap();
    let layout = json!({"imageLayoutVersion": "1.0.0"});
    fs::write(format!("{folder}/oci-layout"), layout.to_string()).unwrap();
    let archive = lab.path("image.tar");
    pack(&folder, &["oci-layout", "index.json", "blobs"], &archive);
    archive
}
