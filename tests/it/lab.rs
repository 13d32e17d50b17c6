//! A node and its pods as network namespaces: real CNI plugins make the pods, real tools run in them. Needs root; a test that
//! can't have it says so and passes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::command::Folder;

/// Where distributions put the plugins.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const NETWORK: &str = "lab";

/// A node.
pub(crate) struct Lab {
    name: String,
    pub(crate) plugins: PathBuf,
    folder: Folder,
    pods: Mutex<Vec<Pod>>,
    made: AtomicU32,
    hosts: Mutex<Vec<String>>,
}

/// A pod on it.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) ip: String,
    netns: String,
    pub(crate) container: String,
    result: Value,
}

impl Lab {
    /// A node without pods; `None`, said loudly, where there can't be one.
    pub(crate) fn new(tools: &[&str]) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let plugins = PLUGINS
            .iter()
            .map(Path::new)
            .find(|path| path.join("bridge").is_file());
        let missing = tools.iter().find(|tool| !present(tool));
        let without = if !is_root() {
            Some("needs root, for network namespaces".to_owned())
        } else if plugins.is_none() {
            Some("needs the CNI plugins: scripts/setup --live installs them".to_owned())
        } else {
            missing.map(|tool| format!("needs {tool}: scripts/setup --live installs it"))
        };
        if let Some(why) = without {
            skipped(&why);
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sw{}n{number}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let lab = Self {
            name,
            plugins: plugins.unwrap().to_owned(),
            folder: Folder::new(),
            pods: Mutex::default(),
            made: AtomicU32::new(0),
            hosts: Mutex::default(),
        };
        lab.on_node("ip link set lo up");
        for part in ["networks", "results", "net.d"] {
            fs::create_dir_all(lab.cni().join(part)).unwrap();
        }
        fs::write(
            lab.cni().join("net.d/10-lab.conflist"),
            json!({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [lab.conf()]}).to_string(),
        )
        .unwrap();
        Some(lab)
    }

    /// The directory that stands for `/var/lib/cni`.
    pub(crate) fn cni(&self) -> PathBuf {
        PathBuf::from(self.folder.path("cni"))
    }

    /// A file of the test's own.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path(name)
    }

    fn conf(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": self.cni().join("networks"),
                     "ranges": [[{"subnet": "10.88.7.0/27"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        })
    }

    /// Adds a pod as a container runtime does: the plugins first, then libcni's cache, then whatever runs in it.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        let pod = self.nameless_pod(name);
        self.name(&pod);
        pod
    }

    /// Adds a pod of which libcni's cache doesn't tell yet.
    pub(crate) fn nameless_pod(&self, name: &str) -> Pod {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let netns = format!("{}p{number}", self.name);
        run(Command::new("ip").args(["netns", "add", &netns]));
        let mut pod = Pod {
            name: name.to_owned(),
            ip: String::new(),
            netns,
            container: format!("{:064x}", 0xc0_0000 + number),
            result: Value::Null,
        };
        self.pods.lock().unwrap().push(pod.clone());
        pod.exec(&["ip", "link", "set", "lo", "up"]);
        pod.result = self.plugin("ADD", &pod);
        let address = pod.result["ips"][0]["address"].as_str().unwrap();
        pod.ip = address.split('/').next().unwrap().to_owned();
        pod
    }

    /// Writes libcni's cache for a pod.
    pub(crate) fn name(&self, pod: &Pod) {
        let list = json!({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [self.conf()]});
        let cached = json!({
            "kind": "cniCacheV1", "containerId": pod.container, "ifName": "eth0", "networkName": NETWORK,
            "config": base64::prelude::BASE64_STANDARD.encode(list.to_string()),
            "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod.name],
                        ["K8S_POD_INFRA_CONTAINER_ID", pod.container], ["K8S_POD_UID", format!("uid-{}", pod.name)]],
            "result": pod.result,
        });
        fs::write(self.cached(pod), cached.to_string()).unwrap();
    }

    /// Removes a pod: its interface and lease go first, its cached result after.
    pub(crate) fn remove(&self, pod: &Pod) {
        self.plugin("DEL", pod);
        fs::remove_file(self.cached(pod)).unwrap();
        run(Command::new("ip").args(["netns", "del", &pod.netns]));
        let mut pods = self.pods.lock().unwrap();
        pods.retain(|known| known.netns != pod.netns);
    }

    /// A host outside the cluster, to which the node's default route leads.
    pub(crate) fn outside(&self, ip: &str) -> Pod {
        let netns = format!("{}h", self.name);
        run(Command::new("ip").args(["netns", "add", &netns]));
        self.hosts.lock().unwrap().push(netns.clone());
        let host = Pod {
            name: String::new(),
            ip: ip.to_owned(),
            netns,
            container: String::new(),
            result: Value::Null,
        };
        host.exec(&["ip", "addr", "add", &format!("{ip}/32"), "dev", "lo"]);
        host.exec(&["ip", "link", "set", "lo", "up"]);
        self.on_node("sysctl -qw net.ipv4.ip_forward=1");
        self.connect(&host);
        host
    }

    /// Puts a cable between the node's `up0` and a host outside.
    pub(crate) fn connect(&self, host: &Pod) {
        let far = &host.netns;
        self.on_node(&format!(
            "ip link add up0 type veth peer name eth0 netns {far}"
        ));
        self.on_node("ip addr add 10.99.0.1/24 dev up0");
        self.on_node("ip link set up0 up");
        host.exec(&["ip", "addr", "add", "10.99.0.2/24", "dev", "eth0"]);
        host.exec(&["ip", "link", "set", "eth0", "up"]);
        host.exec(&["ip", "route", "add", "default", "via", "10.99.0.1"]);
        self.on_node("ip route replace default via 10.99.0.2");
    }

    /// The node's ends of the pods' interfaces.
    pub(crate) fn ports(&self) -> Vec<String> {
        let links = self.on_node("ip -o link show master cni0");
        let names = links.lines().filter_map(|line| line.split(": ").nth(1));
        names
            .map(|name| name.split('@').next().unwrap().to_owned())
            .collect()
    }

    fn cached(&self, pod: &Pod) -> PathBuf {
        self.cni()
            .join(format!("results/{NETWORK}-{}-eth0", pod.container))
    }

    fn plugin(&self, command: &str, pod: &Pod) -> Value {
        let mut plugin = self.command(&[self.plugins.join("bridge").to_str().unwrap()]);
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.container)
            .env("CNI_NETNS", format!("/run/netns/{}", pod.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins);
        let conf = self.conf().to_string();
        let mut child = plugin
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A command on the node.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        inside(&self.name, args)
    }

    /// A listener on the node, for a server that is part of the test.
    pub(crate) fn listen(&self, address: &str) -> TcpListener {
        let address = address.to_owned();
        self.there(move || TcpListener::bind(address).unwrap())
    }

    /// What is made on the node, and belongs to its network wherever it is used.
    pub(crate) fn there<T: Send + 'static>(&self, make: impl FnOnce() -> T + Send + 'static) -> T {
        made_in(&self.name, make)
    }

    /// Runs a command on the node to its end.
    pub(crate) fn on_node(&self, command: &str) -> String {
        let args: Vec<&str> = command.split_whitespace().collect();
        run(&mut self.command(&args))
    }

    /// Starts `spanwatch` on the node, where a directory is a disk of so many KiB, which it alone sees.
    pub(crate) fn spanwatch_with_disk(&self, disk: &str, kib: u32, args: &[&str]) -> Spanwatch {
        let mount = format!("mount -t tmpfs -o size={kib}k none {disk} && exec \"$0\" \"$@\"");
        let binary = env!("CARGO_BIN_EXE_spanwatch");
        let start = ["unshare", "--mount", "sh", "-c", &mount, binary, "-v"];
        Spanwatch::start(self.command(&[&start, args].concat()))
    }

    /// Starts `spanwatch` on the node and waits until it captures.
    pub(crate) fn spanwatch(&self, args: &[&str]) -> Spanwatch {
        self.spanwatch_by(&[], args)
    }

    /// The same, by a command that starts others.
    pub(crate) fn spanwatch_by(&self, starter: &[&str], args: &[&str]) -> Spanwatch {
        let binary = env!("CARGO_BIN_EXE_spanwatch");
        Spanwatch::start(self.command(&[starter, &[binary, "-v"], args].concat()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let pods = self.pods.lock().unwrap();
        let pods = pods.iter().map(|pod| pod.netns.clone());
        let hosts = self.hosts.lock().unwrap();
        for netns in pods.chain(hosts.iter().cloned()).chain([self.name.clone()]) {
            Command::new("ip")
                .args(["netns", "del", &netns])
                .status()
                .ok();
        }
    }
}

impl Pod {
    /// A command in the pod.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        inside(&self.netns, args)
    }

    /// A connection to a port of the pod's loopback.
    pub(crate) fn dial(&self, port: u16) -> TcpStream {
        made_in(&self.netns, move || {
            TcpStream::connect(("127.0.0.1", port)).unwrap()
        })
    }

    /// Runs a command in the pod to its end; returns what it printed.
    pub(crate) fn exec(&self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    /// Starts a command in the pod that ends with the returned value.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Starts `spanwatch` in the pod.
    pub(crate) fn spanwatch(&self, args: &[&str]) -> Spanwatch {
        self.spanwatch_by(&[], args)
    }

    /// The same, by a command that starts others.
    pub(crate) fn spanwatch_by(&self, starter: &[&str], args: &[&str]) -> Spanwatch {
        let binary = env!("CARGO_BIN_EXE_spanwatch");
        Spanwatch::start(self.command(&[starter, &[binary, "-v"], args].concat()))
    }
}

/// A process that is killed at the end.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A live run of `spanwatch`.
pub(crate) struct Spanwatch {
    process: Running,
    alerts: Receiver<Value>,
    words: Receiver<String>,
    pub(crate) seen: Vec<Value>,
    pub(crate) said: Vec<String>,
}

impl Spanwatch {
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Running(command.spawn().unwrap());
        let (alert, alerts) = channel();
        let (word, words) = channel();
        lines(process.0.stdout.take().unwrap(), move |line| {
            alert
                .send(serde_json::from_str(&line).unwrap_or(Value::String(line)))
                .ok();
        });
        lines(process.0.stderr.take().unwrap(), move |line| {
            word.send(line).ok();
        });
        let mut started = Self {
            process,
            alerts,
            words,
            seen: Vec::new(),
            said: Vec::new(),
        };
        started.hear("started");
        started
    }

    /// Waits until it says a line with these words.
    pub(crate) fn hear(&mut self, what: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.said.iter().any(|line| line.contains(what)) {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.words.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("never said {what:?}: {:#?}", self.said));
            self.said.push(line);
        }
    }

    /// Waits for an alert.
    pub(crate) fn alert(&mut self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + within;
        loop {
            if let Some(alert) = self.seen.iter().find(|alert| wanted(alert)) {
                return alert.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            let alert = self.alerts.recv_timeout(left).unwrap_or_else(|_| {
                self.said.extend(self.words.try_iter());
                panic!("no such alert: {:#?} {:#?}", self.seen, self.said)
            });
            self.seen.push(alert);
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.0.id().to_string();
        run(Command::new("kill").args([&format!("-{name}"), &*pid]));
    }

    /// The name of each of its threads, and what the kernel says of it, once the first has given up its rights.
    pub(crate) fn threads(&self) -> Vec<(String, String)> {
        let main = self.process.0.id().to_string();
        let tasks = format!("/proc/{main}/task");
        let read = |task: &Path, what: &str| fs::read_to_string(task.join(what)).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while !read(&Path::new(&tasks).join(&main), "status").contains("CapPrm:\t0000000000000000")
        {
            assert!(Instant::now() < until, "it keeps its rights");
            std::thread::sleep(Duration::from_millis(20));
        }
        // A thread that has only begun still bears the name of the one that began it.
        let now = || -> Vec<(String, String)> {
            let tasks = fs::read_dir(&tasks).unwrap();
            let tasks = tasks.map(|task| task.unwrap().path());
            tasks
                .map(|task| (read(&task, "comm").trim().to_owned(), read(&task, "status")))
                .collect()
        };
        let names = |threads: &[(String, String)]| -> Vec<String> {
            threads.iter().map(|(name, _)| name.clone()).collect()
        };
        let mut before = now();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let threads = now();
            let known = names(&threads);
            if known == names(&before) && known.iter().any(|name| name == "capture") {
                return threads;
            }
            assert!(Instant::now() < until, "its threads come and go: {known:?}");
            before = threads;
        }
    }

    /// Runs a command among the files that it sees.
    pub(crate) fn beside(&self, command: &str) -> std::process::Output {
        let pid = self.process.0.id().to_string();
        let args = ["-t", &pid, "-m", "sh", "-c", command];
        Command::new("nsenter").args(args).output().unwrap()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.0.id());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() << 10
    }

    /// Kills it; returns all alerts that it told.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
        self.seen.extend(self.alerts.iter());
        self.seen
    }

    /// Ends it as an operator does; returns its status, all alerts and all it said.
    pub(crate) fn stop(mut self) -> (Option<i32>, Vec<Value>, String) {
        self.signal("TERM");
        let status = self.process.0.wait().unwrap();
        self.seen.extend(self.alerts.iter());
        self.said.extend(self.words.iter());
        (status.code(), self.seen.clone(), self.said.join("\n"))
    }
}

fn lines(from: impl Read + Send + 'static, each: impl Fn(String) + Send + 'static) {
    thread::spawn(move || {
        BufReader::new(from)
            .lines()
            .map_while(Result::ok)
            .for_each(each);
    });
}

/// What a thread makes inside a network namespace.
fn made_in<T: Send + 'static>(netns: &str, make: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = fs::File::open(format!("/run/netns/{netns}")).unwrap();
    let there = thread::spawn(move || {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(netns.as_fd(), network).unwrap();
        make()
    });
    there.join().unwrap()
}

fn inside(netns: &str, args: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).args(args);
    command
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Says loudly that the test, or the rest of it, is left out.
pub(crate) fn skipped(why: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    // Past the test harness, which keeps what is printed to itself.
    std::io::stderr()
        .write_all(format!("SKIPPED {test}: {why}\n").as_bytes())
        .unwrap();
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

pub(crate) fn present(tool: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}
