//! A stand-in for an API server that forwards ports: the documents that kubectl asks for before, the upgrade to SPDY, plain or
//! in a WebSocket (which newer kubectl try first), and of SPDY/3.1 the frames that a port-forward needs. The port is
//! dialled as container runtimes do it: at the loopback, inside the pod's network. No tests.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::lab::Pod;

/// What carries the frames of SPDY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carrier {
    /// The connection itself.
    Plain,
    /// Messages of a WebSocket.
    WebSocket,
}

/// The server; its threads end with the test's process.
pub(crate) struct StreamServer {
    pub(crate) address: SocketAddr,
}

/// The one pod that it knows, where its server listens, and whether a WebSocket may carry what is forwarded.
struct Known {
    pod: Pod,
    port: u16,
    websockets: bool,
}

impl StreamServer {
    /// Forwards a port of a pod; without WebSockets, as servers before Kubernetes 1.30 do.
    pub(crate) fn start(listener: TcpListener, pod: &Pod, port: u16, websockets: bool) -> Self {
        let address = listener.local_addr().unwrap();
        let pod = pod.clone();
        let known = Arc::new(Known {
            pod,
            port,
            websockets,
        });
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let known = Arc::clone(&known);
                thread::spawn(move || known.serve(&stream).ok());
            }
        });
        Self { address }
    }
}

impl Known {
    fn serve(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut input = BufReader::new(stream);
        loop {
            let Some((target, headers)) = head(&mut input)? else {
                return Ok(());
            };
            let path = target.split('?').next().unwrap();
            let upgrade = headers.get("upgrade").map(|to| to.to_ascii_lowercase());
            let (carrier, answer) = match upgrade.as_deref() {
                Some("websocket") if self.websockets => {
                    let proof = headers["sec-websocket-key"].clone()
                        + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
                    let proof = base64::prelude::BASE64_STANDARD.encode(Sha1::digest(proof));
                    let answer = format!(
                        "upgrade: websocket\r\nsec-websocket-accept: {proof}\r\n\
                         sec-websocket-protocol: SPDY/3.1+portforward.k8s.io\r\n"
                    );
                    (Carrier::WebSocket, answer)
                }
                Some("spdy/3.1") => {
                    let answer =
                        "upgrade: SPDY/3.1\r\nx-stream-protocol-version: portforward.k8s.io\r\n";
                    (Carrier::Plain, answer.to_owned())
                }
                Some(_) => return respond(stream, 403, &json!({})),
                None => {
                    let document = self.document(path);
                    let code = if document.is_some() { 200 } else { 404 };
                    respond(stream, code, &document.unwrap_or_else(|| json!({})))?;
                    continue;
                }
            };
            let head = format!("HTTP/1.1 101 Upgraded\r\nconnection: upgrade\r\n{answer}\r\n");
            stream.write_all(head.as_bytes())?;
            let source = Source {
                input,
                carrier,
                left: 0,
                mask: [0; 4],
            };
            return self.forward(source, stream.try_clone()?);
        }
    }

    fn document(&self, path: &str) -> Option<Value> {
        let name = &self.pod.name;
        let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get", "create"]});
        Some(match path {
            "/version" => json!({"major": "1", "minor": "32", "gitVersion": "v1.32.4"}),
            "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
            "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
            "/api/v1" => json!({
                "kind": "APIResourceList", "groupVersion": "v1",
                "resources": [resource("pods", "Pod"), resource("pods/portforward", "PodPortForwardOptions")],
            }),
            _ if path == format!("/api/v1/namespaces/shop/pods/{name}") => json!({
                "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"containers": [{"name": "main", "image": "x", "ports": [{"containerPort": self.port}]}]},
                "status": {"phase": "Running", "podIP": self.pod.ip},
            }),
            _ => return None,
        })
    }

    /// Speaks SPDY/3.1 (its draft, 2.2 to 2.6): each connection is a stream for errors, opened first, and one for data.
    fn forward(&self, mut source: Source<'_>, stream: TcpStream) -> io::Result<()> {
        let out = Arc::new(Mutex::new(Sink {
            stream,
            carrier: source.carrier,
            replied: false,
        }));
        let mut errors = None;
        let mut connections: HashMap<u32, TcpStream> = HashMap::new();
        loop {
            let mut head = [0; 8];
            source.read_exact(&mut head)?;
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
            let mut body = vec![0; length as usize];
            source.read_exact(&mut body)?;
            let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
            match (head[0] & 0x80 != 0, head[3]) {
                (false, _) => {
                    if let Some(mut pod) = connections.get(&word(&head)) {
                        pod.write_all(&body)?;
                        if head[4] & FIN != 0 {
                            pod.shutdown(Shutdown::Write)?;
                        }
                    }
                }
                (true, SYN_STREAM) => {
                    let id = word(&body);
                    out.lock().unwrap().reply(id)?;
                    let Some(errors) = errors.take() else {
                        errors = Some(id);
                        continue;
                    };
                    let pod = self.pod.dial(self.port);
                    connections.insert(id, pod.try_clone()?);
                    let out = Arc::clone(&out);
                    thread::spawn(move || carry(pod, &out, id, errors).ok());
                }
                (true, PING) => out.lock().unwrap().send(&[&head, &body])?,
                (true, _) => {}
            }
        }
    }
}

const SYN_STREAM: u8 = 1;
const PING: u8 = 6;
const FIN: u8 = 1;
/// What each reply begins with; its headers, which are none: their number in a stored block, and an empty one that makes the
/// reader take it; and the head of the one zlib stream that all replies share.
const SYN_REPLY: [u8; 4] = [0x80, 3, 0, 2];
const NO_HEADERS: [u8; 14] = [0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const ZLIB: [u8; 2] = [0x78, 1];

/// Sends what a pod's server says, and its end, on which the stream for errors ends without one.
fn carry(mut pod: TcpStream, out: &Mutex<Sink>, id: u32, errors: u32) -> io::Result<()> {
    let mut bytes = [0; 1 << 14];
    loop {
        let read = pod.read(&mut bytes)?;
        let mut out = out.lock().unwrap();
        let length = u32::try_from(read).unwrap();
        if read == 0 {
            for id in [errors, id] {
                out.send(&[&id.to_be_bytes(), &[FIN, 0, 0, 0]])?;
            }
            return Ok(());
        }
        out.send(&[&id.to_be_bytes(), &length.to_be_bytes(), &bytes[..read]])?;
    }
}

/// Takes frames to kubectl.
struct Sink {
    stream: TcpStream,
    carrier: Carrier,
    /// Whether a reply was sent.
    replied: bool,
}

impl Sink {
    fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let frame = parts.concat();
        if self.carrier == Carrier::WebSocket {
            // A binary message in one frame, of a length in two bytes, and not masked.
            let length = u16::try_from(frame.len()).unwrap();
            self.stream.write_all(&[0x82, 126])?;
            self.stream.write_all(&length.to_be_bytes())?;
        }
        self.stream.write_all(&frame)
    }

    fn reply(&mut self, id: u32) -> io::Result<()> {
        let begins = if self.replied { &[][..] } else { &ZLIB };
        self.replied = true;
        let length = u32::try_from(4 + begins.len() + NO_HEADERS.len()).unwrap();
        let (length, id) = (length.to_be_bytes(), id.to_be_bytes());
        self.send(&[&SYN_REPLY, &length, &id, begins, &NO_HEADERS])
    }
}

/// The bytes that kubectl sends, taken out of messages if there are any.
struct Source<'a> {
    input: BufReader<&'a TcpStream>,
    carrier: Carrier,
    /// Bytes of the message that are still to come, and what they are masked with.
    left: usize,
    mask: [u8; 4],
}

impl Source<'_> {
    /// Up to the next message's bytes, if there is one more.
    fn next(&mut self) -> io::Result<bool> {
        while self.left == 0 {
            let mut head = [0; 2];
            self.input.read_exact(&mut head)?;
            let mut length = [0; 8];
            let bytes = match head[1] & 0x7f {
                126 => &mut length[6..],
                127 => &mut length[..],
                short => {
                    length[7] = short;
                    &mut []
                }
            };
            self.input.read_exact(bytes)?;
            self.input.read_exact(&mut self.mask)?;
            let length = usize::try_from(u64::from_be_bytes(length)).unwrap();
            match head[0] & 0xf {
                0..=2 => self.left = length,
                8 => return Ok(false),
                _ => drop(
                    self.input
                        .by_ref()
                        .take(length as u64)
                        .read_to_end(&mut Vec::new())?,
                ),
            }
        }
        Ok(true)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.carrier == Carrier::Plain {
            return self.input.read(into);
        }
        if !self.next()? {
            return Ok(0);
        }
        let most = into.len().min(self.left);
        let read = self.input.read(&mut into[..most])?;
        self.left -= read;
        for byte in &mut into[..read] {
            *byte ^= self.mask[0];
            self.mask.rotate_left(1);
        }
        Ok(read)
    }
}

/// A request's target, and its headers by their names in lower case.
fn head(input: &mut impl BufRead) -> io::Result<Option<(String, HashMap<String, String>)>> {
    let (mut target, mut headers) = (None, HashMap::new());
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match (line.trim(), &target) {
            ("", Some(target)) => return Ok(Some((String::clone(target), headers))),
            (line, None) => target = Some(line.split(' ').nth(1).unwrap().to_owned()),
            (line, _) => {
                let (name, value) = line.split_once(':').unwrap();
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }
}

fn respond(mut stream: &TcpStream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} Such\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())
}
