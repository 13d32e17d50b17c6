//! A stand-in for the Kubernetes API: real lists in pages and real watch streams (chunked lines of JSON), and every way in
//! which they end: bookmarks, 410 Gone as an answer and as an event, connections that break within a line, an answer that doesn't come,
//! one that refuses.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

const TOKEN: &str = "token-of-the-test";
/// Objects in a page at most, whatever is asked for.
const PAGE: usize = 2;

/// How it behaves at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// It takes requests and says nothing.
    Silent,
    /// It answers everything with this status.
    Refusing(u16),
}

/// How it says that a revision is too old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gone {
    /// By the answer's status.
    Answer,
    /// By an event.
    Event,
}

struct State {
    mood: Mood,
    version: u64,
    /// Revisions before this one are forgotten.
    oldest: u64,
    gone: Gone,
    objects: BTreeMap<(String, String), Value>,
    /// The path of a kind (of all, if empty) and an event's line, by revision.
    events: Vec<(u64, String, String)>,
    /// Raised to break the watches that are open.
    cuts: u64,
    requests: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The server; its threads end with the test's process.
pub(crate) struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn path(kind: &str) -> &'static str {
    match kind {
        "Pod" => "/api/v1/pods",
        "Service" => "/api/v1/services",
        "Node" => "/api/v1/nodes",
        "EndpointSlice" => "/apis/discovery.k8s.io/v1/endpointslices",
        _ => panic!("{kind}"),
    }
}

impl ApiServer {
    pub(crate) fn start(listener: TcpListener) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                mood: Mood::Well,
                version: 100,
                oldest: 0,
                gone: Gone::Answer,
                objects: BTreeMap::new(),
                events: Vec::new(),
                cuts: 0,
                requests: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let server = Self {
            address: listener.local_addr().unwrap(),
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(&stream).ok());
            }
        });
        server
    }

    /// Writes the file that leads to it.
    pub(crate) fn kubeconfig(&self, file: &str) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "lab", "user": {"token": TOKEN}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        fs::write(file, config.to_string()).unwrap();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_all();
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.change(|state| state.mood = mood);
    }

    /// Adds an object, or replaces it.
    pub(crate) fn put(&self, mut object: Value) {
        self.change(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            let at = path(object["kind"].as_str().unwrap());
            let key = (at.to_owned(), object["metadata"]["name"].to_string());
            let known = state.objects.insert(key, object.clone()).is_some();
            let word = if known { "MODIFIED" } else { "ADDED" };
            let line = json!({"type": word, "object": object}).to_string();
            state.events.push((state.version, at.to_owned(), line));
        });
    }

    pub(crate) fn delete(&self, kind: &str, name: &str) {
        self.change(|state| {
            state.version += 1;
            let key = (path(kind).to_owned(), json!(name).to_string());
            let mut object = state.objects.remove(&key).unwrap();
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            let line = json!({"type": "DELETED", "object": object}).to_string();
            state.events.push((state.version, key.0, line));
        });
    }

    /// Tells all watches how far they have come, which is further than any object.
    pub(crate) fn bookmark(&self) -> u64 {
        let mut reached = 0;
        self.change(|state| {
            state.version += 50;
            reached = state.version;
            let object = json!({"metadata": {"resourceVersion": reached.to_string()}});
            let line = json!({"type": "BOOKMARK", "object": object}).to_string();
            state.events.push((reached, String::new(), line));
        });
        reached
    }

    /// Forgets all revisions up to now, and says so in that way.
    pub(crate) fn forget(&self, gone: Gone) {
        self.change(|state| {
            state.version += 1;
            (state.oldest, state.gone) = (state.version, gone);
        });
    }

    /// Breaks all watches, in the middle of a line.
    pub(crate) fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// The targets of all requests so far that have these words.
    pub(crate) fn requests(&self, words: &[&str]) -> Vec<String> {
        let state = self.shared.state.lock().unwrap();
        let all = state.requests.iter();
        let wanted = all.filter(|one| words.iter().all(|word| one.contains(word)));
        wanted.cloned().collect()
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let mut input = BufReader::new(stream);
        loop {
            let (mut head, mut allowed) = (String::new(), false);
            loop {
                let mut line = String::new();
                if input.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if line.trim().is_empty() {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                allowed |= lower.starts_with("authorization:")
                    && line.trim().ends_with(&format!("Bearer {TOKEN}"));
                if head.is_empty() {
                    head = line;
                }
            }
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut state = self.state.lock().unwrap();
            state.requests.push(target.clone());
            while state.mood == Mood::Silent {
                state = self.changed.wait(state).unwrap();
            }
            let mood = if allowed {
                state.mood
            } else {
                Mood::Refusing(401)
            };
            drop(state);
            if let Mood::Refusing(code) = mood {
                status(stream, code)?;
            } else if query(&target, "watch").is_some() {
                return self.watch(stream, &target);
            } else {
                self.list(stream, &target)?;
            }
        }
    }

    fn list(&self, stream: &TcpStream, target: &str) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let at = target.split('?').next().unwrap();
        let objects = state.objects.iter().filter(|((path, _), _)| path == at);
        let all: Vec<&Value> = objects
            .map(|(_, object)| object)
            .filter(|object| selected(target, object))
            .collect();
        let from: usize = query(target, "continue").map_or(0, |from| from.parse().unwrap());
        // Objects in a list bear no kind.
        let items: Vec<Value> = all
            .iter()
            .skip(from)
            .take(PAGE)
            .map(|object| {
                let mut object = (*object).clone();
                object.as_object_mut().unwrap().remove("kind");
                object
            })
            .collect();
        let next = from + items.len();
        let rest = if next < all.len() {
            next.to_string()
        } else {
            String::new()
        };
        let kind = ["Pod", "Service", "Node", "EndpointSlice"];
        let kind = kind.into_iter().find(|kind| path(kind) == at).unwrap();
        let list = json!({
            "kind": format!("{kind}List"), "apiVersion": "v1", "items": items,
            "metadata": {"resourceVersion": state.version.to_string(), "continue": rest},
        });
        drop(state);
        answer(stream, 200, &list.to_string())
    }

    fn watch(&self, stream: &TcpStream, target: &str) -> io::Result<()> {
        let mut reached: u64 = query(target, "resourceVersion").unwrap().parse().unwrap();
        let at = target.split('?').next().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        let old = reached < state.oldest;
        if old && state.gone == Gone::Answer {
            drop(state);
            return status(stream, 410);
        }
        let mut out = stream;
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")?;
        if old {
            drop(state);
            let error = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                               "reason": "Expired", "code": 410, "message": "too old resource version"}});
            chunk(stream, &format!("{error}\n"))?;
            return out.write_all(b"0\r\n\r\n");
        }
        let cuts = state.cuts;
        loop {
            let mine = |path: &str, line: &str| {
                let event: Value = serde_json::from_str(line).unwrap();
                path.is_empty() || path == at && selected(target, &event["object"])
            };
            let news: Vec<(u64, String)> = state
                .events
                .iter()
                .filter(|(version, path, line)| *version > reached && mine(path, line))
                .map(|(version, _, line)| (*version, line.clone()))
                .collect();
            let cut = state.cuts > cuts;
            drop(state);
            for (version, line) in news {
                // In two pieces, as the network may.
                let (head, tail) = line.split_at(line.len() / 2);
                chunk(stream, head)?;
                chunk(stream, &format!("{tail}\n"))?;
                reached = version;
            }
            if cut {
                chunk(stream, r#"{"type":"MODIFIED","object":{"kind":"Pod","met"#)?;
                return stream.shutdown(std::net::Shutdown::Both);
            }
            state = self.state.lock().unwrap();
            let wait = Duration::from_millis(100);
            state = self.changed.wait_timeout(state, wait).unwrap().0;
        }
    }
}

fn query<'a>(target: &'a str, key: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Whether the request's field selector takes an object.
fn selected(target: &str, object: &Value) -> bool {
    let Some(selector) = query(target, "fieldSelector") else {
        return true;
    };
    let node = selector.strip_prefix("spec.nodeName%3D").unwrap();
    object["spec"]["nodeName"] == node
}

fn status(stream: &TcpStream, code: u16) -> io::Result<()> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code});
    answer(stream, code, &body.to_string())
}

fn answer(mut stream: &TcpStream, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} Such\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())
}

fn chunk(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}
