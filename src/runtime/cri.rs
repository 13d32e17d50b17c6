//! The thread that asks this node's container runtime (containerd, CRI-O) which pod sandboxes there are, over its socket (CRI).
//!
//! It asks for lists and addresses, and nothing else. gRPC takes no more than this over HTTP/2: a frame there, a frame back, a status
//! after it. Runtimes that tell of changes by themselves are too few; so all are asked again and again, as kubelets do.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use h2::client::SendRequest;
use rustix::event::{EventfdFlags, eventfd};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::asking;
use super::view::View;
use crate::identity::{Sandboxes, Unreadable};

/// Where runtimes listen, if nobody says otherwise.
const SOCKETS: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
];
/// Between two lists.
const AGAIN: Duration = Duration::from_secs(2);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure: at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of one answer; the runtimes' own bound.
const MAX_ANSWER: usize = 16 << 20;
/// gRPC's "unimplemented": whoever listens is no container runtime for Kubernetes.
const UNIMPLEMENTED: &str = "12";

/// Where the container runtime listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeSocket {
    path: PathBuf,
    /// Nobody named it: that it can't be asked is no fault.
    found: bool,
}

impl RuntimeSocket {
    /// One that somebody named.
    pub const fn named(path: PathBuf) -> Self {
        Self { path, found: false }
    }

    /// The one that is on this node; none inside a pod.
    pub fn find() -> Option<Self> {
        let there = SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
        there.map(|path| Self { path, found: true })
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How the runtime is asked.
#[derive(Clone, Default, Debug)]
pub(super) struct Asking {
    /// Whether it answers.
    pub up: bool,
    /// Sandboxes that it has.
    pub sandboxes: usize,
    /// Attempts that failed.
    pub failures: u64,
    /// Why it doesn't answer, if it doesn't and should.
    pub problem: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Nobody listens, or not for us.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// The connection is gone, or is none of that sort.
    #[error("{0}")]
    Broken(#[from] h2::Error),
    /// It ended without a fault.
    #[error("the connection was closed")]
    Closed,
    /// It is slow.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    /// It won't.
    #[error("refused (status {0}): {1}")]
    Refused(String, String),
    /// It is something else that answers.
    #[error("{0}")]
    Malformed(&'static str),
    /// The same, found later.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Asks the runtime.
#[derive(Debug)]
pub(super) struct Asker {
    socket: RuntimeSocket,
    sandboxes: Arc<Mutex<Sandboxes>>,
    /// Rings where something changed.
    bell: Arc<OwnedFd>,
    view: Arc<View>,
}

/// What is known by now, for whoever wants to hear of changes.
#[derive(Clone, Debug)]
pub(super) struct Residents {
    pub(super) sandboxes: Arc<Mutex<Sandboxes>>,
    pub(super) bell: Arc<OwnedFd>,
}

impl Asker {
    /// One that has not begun.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub(super) fn new(socket: RuntimeSocket, view: Arc<View>) -> std::io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        view.show_asking(|_| ());
        Ok(Self {
            socket,
            sandboxes: Arc::default(),
            bell: Arc::new(bell),
            view,
        })
    }

    pub(super) fn known(&self) -> Residents {
        Residents {
            sandboxes: Arc::clone(&self.sandboxes),
            bell: Arc::clone(&self.bell),
        }
    }

    /// Asks until `stop`.
    pub(super) fn run(self, stop: &AtomicBool) {
        asking::until(stop, "the container runtime", self.follow());
    }

    /// Asks for ever, unless nobody named it and it is none.
    async fn follow(&self) {
        let mut pause = PAUSE;
        loop {
            let Err(trouble) = self.attend().await;
            let answered = self.view.asking().is_some_and(|asking| asking.up);
            let none = matches!(&trouble, Trouble::Refused(code, _) if code == UNIMPLEMENTED);
            if self.socket.found && none {
                let path = self.socket.path.display();
                info!("{path} tells nothing of pods: it serves no CRI");
                return;
            }
            pause = if answered { PAUSE } else { pause };
            self.tell(&trouble);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects, and asks as long as the connection lasts.
    async fn attend(&self) -> Result<std::convert::Infallible, Trouble> {
        let within = |_| Trouble::Slow;
        let connecting = UnixStream::connect(&self.socket.path);
        let stream = timeout(PATIENCE, connecting).await.map_err(within)??;
        let shaking = h2::client::handshake(stream);
        let (client, connection) = timeout(PATIENCE, shaking).await.map_err(within)??;
        tokio::select! {
            ended = connection => Err(ended.err().map_or(Trouble::Closed, Trouble::from)),
            trouble = self.ask(&client) => trouble,
        }
    }

    async fn ask(&self, client: &SendRequest<Bytes>) -> Result<std::convert::Infallible, Trouble> {
        loop {
            let reply = call(client, "ListPodSandbox", &[]).await?;
            let listed = self.known_by_now().list(&reply)?;
            let mut changed = listed.changed;
            for id in &listed.unknown {
                let question = Sandboxes::question(id);
                match call(client, "PodSandboxStatus", &question).await {
                    Ok(reply) => changed |= self.known_by_now().status(&reply)?,
                    // It went meanwhile.
                    Err(Trouble::Refused(..)) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            self.answered();
            if changed {
                // Full is rung already.
                rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
            }
            sleep(AGAIN).await;
        }
    }

    fn known_by_now(&self) -> MutexGuard<'_, Sandboxes> {
        self.sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        let count = self.known_by_now().count();
        let path = self.socket.path.display();
        self.view.show_asking(|asking| {
            if !asking.up {
                info!("identities from the container runtime at {path}: {count} pods");
            }
            asking.up = true;
            asking.sandboxes = count;
            asking.problem = None;
        });
    }

    /// Tells why it doesn't answer: once, until that changes.
    fn tell(&self, trouble: &Trouble) {
        let path = self.socket.path.display();
        let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        let remedy = match trouble {
            Trouble::Unreachable(error) if denied(error) => "; it is for root alone",
            Trouble::Refused(code, _) if code == UNIMPLEMENTED => "; its CRI may be switched off",
            _ => "",
        };
        let problem = format!("the container runtime at {path} can't be asked: {trouble}{remedy}");
        self.view.show_asking(|asking| {
            let never = asking.failures == 0 && !asking.up;
            asking.failures += 1;
            let first = asking.up || never;
            asking.up = false;
            if first {
                warn!("{problem}");
            }
            if !self.socket.found || asking.sandboxes > 0 {
                asking.problem = Some(problem);
            }
        });
    }
}

/// One call of the API.
async fn call(
    client: &SendRequest<Bytes>,
    method: &str,
    message: &[u8],
) -> Result<Vec<u8>, Trouble> {
    let answer = timeout(PATIENCE, exchange(client, method, message));
    let (code, head, all) = answer.await.map_err(|_| Trouble::Slow)??;
    if code != StatusCode::OK {
        return Err(Trouble::Malformed("it is no gRPC that answers there"));
    }
    let word = |name| {
        let value = head.get(name).map(HeaderValue::as_bytes);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    match word("grpc-status").as_str() {
        "0" => {}
        code => return Err(Trouble::Refused(code.to_owned(), word("grpc-message"))),
    }
    let cut = Trouble::Malformed("its answer is cut, or compressed");
    let Some((&[compressed, a, b, c, d], message)) = all.split_first_chunk::<5>() else {
        return Err(cut);
    };
    let whole = message.len() == u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || !whole {
        return Err(cut);
    }
    Ok(message.to_vec())
}

/// Sends a message, and takes what comes back: the status, what was said before and after the body, and the body.
async fn exchange(
    client: &SendRequest<Bytes>,
    method: &str,
    message: &[u8],
) -> Result<(StatusCode, HeaderMap, Vec<u8>), Trouble> {
    let request = Request::post(format!(
        "http://localhost/runtime.v1.RuntimeService/{method}"
    ))
    .header(header::CONTENT_TYPE, "application/grpc")
    .header(header::TE, "trailers")
    .body(())
    .map_err(|_| Trouble::Malformed("no such method"))?;
    let mut client = client.clone().ready().await?;
    let (answer, mut outward) = client.send_request(request, false)?;
    let length = u32::try_from(message.len()).unwrap_or_default();
    let frame = [&[0], &length.to_be_bytes()[..], message].concat();
    outward.send_data(frame.into(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
        if all.len() > MAX_ANSWER {
            return Err(Trouble::Malformed("its answer has no end"));
        }
    }
    let mut told = head.headers;
    told.extend(body.trailers().await?.unwrap_or_default());
    Ok((head.status, told, all))
}
