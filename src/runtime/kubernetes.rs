//! The thread that follows the Kubernetes API: for each kind of object that tells who holds an address a list, page by page,
//! then one watch from there on.
//!
//! It asks for nothing else, and holds nobody up: while the API can't be reached all stays as it was known, and a failed
//! attempt is made again after a pause that grows. A watch goes on where the last one ended; only if the server has forgotten that
//! revision (410) everything is listed again.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::{Request, Response, StatusCode, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::event::{EventfdFlags, eventfd};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::asking;
use super::clock;
use super::view::View;
use crate::identity::{Cluster, Kind, Listing, Malformed, Told};

/// Where a pod finds the token of its service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where a pod is told the API's address.
const HOST: &str = "KUBERNETES_SERVICE_HOST";

/// Objects in one page of a list.
const PAGE: usize = 200;
/// Bytes of one page, or of one event, at most. Objects are at most 1.5 MiB by the limits of etcd, and mostly a hundredth of it.
const MAX_ANSWER: usize = 64 << 20;
const MAX_EVENT: usize = 4 << 20;
/// How long an answer may take to begin, or a page to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a watch is asked to last: seconds, besides some that spread those of many nodes.
const WATCH: u64 = 240;
const SPREAD: u64 = 60;
/// How much longer it is waited for. That long a connection may be dead without a word.
const GRACE: Duration = Duration::from_secs(15);
/// Between two attempts: at first, and at most.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether this is a pod with a service account's token.
pub fn in_cluster() -> bool {
    std::env::var_os(HOST).is_some() && Path::new(TOKEN).is_file()
}

/// How to reach the API, and what to ask it for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The file that tells; without one, a pod's own service account does.
    pub kubeconfig: Option<PathBuf>,
    /// The node whose pods are asked for; all pods, if none.
    pub node: Option<String>,
}

/// How one kind of object is followed.
#[derive(Clone, Default, Debug)]
pub(super) struct Following {
    /// Whether a watch of it is open.
    pub up: bool,
    /// Objects known, and those for which there was no room.
    pub objects: (usize, u64),
    /// Lists so far.
    pub lists: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why it isn't followed, if it isn't.
    pub problem: Option<String>,
    /// What of that was told in the log.
    told: Option<String>,
}

/// Why a list or a watch came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The revision is too old: list again.
    #[error("the server has forgotten the revision (410)")]
    Expired,
    /// The server won't.
    #[error("{0}{1}")]
    Refused(StatusCode, &'static str),
    /// It did so within a watch.
    #[error("the watch failed ({0}): {1}")]
    Failed(u64, String),
    /// It is slow.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Slow,
    /// The connection broke off.
    #[error("the connection broke off: {0}")]
    Broken(String),
    /// It can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It is something else that answers.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Follows the API.
#[derive(Debug)]
pub(super) struct Watcher {
    access: Access,
    cluster: Arc<Mutex<Cluster>>,
    /// Rings where something changed.
    bell: Arc<OwnedFd>,
    view: Arc<View>,
}

/// What is known by now, for whoever wants to hear of changes.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) cluster: Arc<Mutex<Cluster>>,
    pub(super) bell: Arc<OwnedFd>,
}

impl Watcher {
    /// One that has not begun.
    ///
    /// # Errors
    /// When the system has no descriptors left.
    pub(super) fn new(access: Access, view: Arc<View>) -> std::io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        for kind in Kind::ALL {
            let problem = Some("not asked yet".to_owned());
            view.show_following(kind, |state| state.problem = problem);
        }
        Ok(Self {
            access,
            cluster: Arc::default(),
            bell: Arc::new(bell),
            view,
        })
    }

    pub(super) fn known(&self) -> Known {
        Known {
            cluster: Arc::clone(&self.cluster),
            bell: Arc::clone(&self.bell),
        }
    }

    /// Follows until `stop`.
    pub(super) fn run(self, stop: &AtomicBool) {
        asking::until(stop, "the Kubernetes API", async {
            let [a, b, c, d] = Kind::ALL.map(|kind| self.follow(kind));
            tokio::join!(a, b, c, d);
        });
    }

    /// Follows one kind of object, for ever.
    async fn follow(&self, kind: Kind) {
        let mut version = None;
        let (mut failures, mut expired) = (0_u32, false);
        loop {
            let began = Instant::now();
            let outcome = self.attend(kind, &mut version).await;
            let went_well = version.is_some() && began.elapsed() > LONGEST_PAUSE;
            let trouble = match outcome {
                // As it was asked to end; a server that ends it at once is not asked again at once.
                Ok(()) => {
                    if began.elapsed() < PAUSE {
                        sleep(PAUSE).await;
                    }
                    (failures, expired) = (0, false);
                    continue;
                }
                Err(trouble) => trouble,
            };
            self.tell(kind, &trouble, failures > 0);
            let expired_before =
                std::mem::replace(&mut expired, matches!(trouble, Trouble::Expired));
            if expired {
                version = None;
            }
            failures = if went_well {
                0
            } else {
                failures.saturating_add(1)
            };
            // A revision has grown old: no reason to wait, unless the one of the new list has as well.
            if !expired || expired_before {
                sleep(pause(kind, failures)).await;
            }
        }
    }

    /// Lists, unless it is known where to go on, and watches until that ends.
    async fn attend(&self, kind: Kind, version: &mut Option<String>) -> Result<(), Trouble> {
        let client = self.client().await?;
        if version.is_none() {
            *version = Some(self.list(&client, kind).await?);
        }
        self.watch(&client, kind, version).await
    }

    /// A client with a connection of its own: by what the files say now, for certificates and tokens are renewed.
    async fn client(&self) -> Result<Client, Trouble> {
        let unreachable = |error: &dyn std::error::Error| Trouble::Unreachable(causes(error));
        let mut config = match &self.access.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(|error| unreachable(&error))?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(read, &options).await;
                config.map_err(|error| unreachable(&error))?
            }
            None => Config::incluster().map_err(|error| unreachable(&error))?,
        };
        // Attempts are counted and paced here.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| unreachable(&error))
    }

    /// Lists all there is; returns the revision that is the state of.
    async fn list(&self, client: &Client, kind: Kind) -> Result<String, Trouble> {
        let mut listing = Listing::new(kind);
        let mut query = format!("limit={PAGE}");
        let version = loop {
            let answer = self.ask(client, kind, &query).await?;
            let page = timeout(PATIENCE, whole(answer.into_body()));
            let page = page.await.map_err(|_| Trouble::Slow)??;
            let (version, rest) = listing.page(&page, clock())?;
            match rest {
                Some(rest) => query = format!("limit={PAGE}&continue={}", escaped(&rest)),
                None => break version,
            }
        };
        let mut cluster = self.cluster();
        let changed = cluster.replace(listing);
        let objects = cluster.count(kind);
        drop(cluster);
        let first = self.view.following(kind).lists == 0;
        self.view.show_following(kind, |state| {
            state.lists += 1;
            state.objects = objects;
        });
        if first {
            self.welcome(kind, objects.0);
        }
        if changed {
            self.ring();
        }
        Ok(version)
    }

    /// Watches from a revision on, and keeps how far it came.
    async fn watch(
        &self,
        client: &Client,
        kind: Kind,
        version: &mut Option<String>,
    ) -> Result<(), Trouble> {
        let from = escaped(version.as_deref().unwrap_or_default());
        let seconds = WATCH + seed(kind) % SPREAD;
        let query = format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={from}"
        );
        let answer = self.ask(client, kind, &query).await?;
        self.view.show_following(kind, |state| {
            state.up = true;
            state.problem = None;
            if state.told.take().is_some() {
                info!("the Kubernetes API is followed again: {}", kind.label());
            }
        });
        let mut body = answer.into_body();
        let until = Instant::now() + Duration::from_secs(seconds) + GRACE;
        let mut line = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let piece = timeout(left, next(&mut body)).await;
            let Some(piece) = piece.map_err(|_| Trouble::Broken("nothing came".to_owned()))? else {
                // Half a line is an end that nobody asked for.
                return if line.trim_ascii().is_empty() {
                    Ok(())
                } else {
                    Err(Trouble::Broken("in the middle of an event".to_owned()))
                };
            };
            let piece = piece?;
            let mut matters = false;
            for part in piece.split_inclusive(|&byte| byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > MAX_EVENT {
                    return Err(Trouble::Broken("an event has no end".to_owned()));
                }
                if part.ends_with(b"\n") {
                    if !line.trim_ascii().is_empty() {
                        matters |= self.take(kind, &line, version)?;
                    }
                    line.clear();
                }
            }
            if matters {
                let objects = self.cluster().count(kind);
                self.view
                    .show_following(kind, |state| state.objects = objects);
                self.ring();
            }
        }
    }

    /// Takes one event; whether it changes anything.
    fn take(&self, kind: Kind, line: &[u8], version: &mut Option<String>) -> Result<bool, Trouble> {
        match self.cluster().event(kind, line, clock())? {
            Told::Change {
                version: reached,
                matters,
            } => {
                if !reached.is_empty() {
                    *version = Some(reached);
                }
                Ok(matters)
            }
            Told::Failure { code: 410, .. } => Err(Trouble::Expired),
            Told::Failure { code, message } => Err(Trouble::Failed(code, message)),
            Told::Other => Ok(false),
        }
    }

    /// Asks, and takes an answer that isn't a yes for what it is.
    async fn ask(
        &self,
        client: &Client,
        kind: Kind,
        query: &str,
    ) -> Result<Response<Body>, Trouble> {
        let mut target = format!("{}?{query}", kind.path());
        if let (Kind::Pods, Some(node)) = (kind, &self.access.node) {
            let node = escaped(node);
            target.push_str("&fieldSelector=spec.nodeName%3D");
            target.push_str(&node);
        }
        let request = Request::get(target)
            .header(header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| Trouble::Unreachable(causes(&error)))?;
        let answer = timeout(PATIENCE, client.send(request)).await;
        let answer = answer
            .map_err(|_| Trouble::Slow)?
            .map_err(|error| Trouble::Unreachable(causes(&error)))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::GONE => Err(Trouble::Expired),
            status => Err(Trouble::Refused(status, remedy(status))),
        }
    }

    /// Tells why a kind isn't followed: once, until it changes. That a watch broke off once is no more than a restart of the server.
    fn tell(&self, kind: Kind, trouble: &Trouble, again: bool) {
        let problem = trouble.to_string();
        let listed = self.view.following(kind).lists > 0;
        self.view.show_following(kind, |state| {
            state.up = false;
            state.failures += 1;
            if (again || !listed) && state.told.as_ref() != Some(&problem) {
                let what = if listed {
                    "stay as they were known"
                } else {
                    "are not known"
                };
                warn!("{} of the Kubernetes API {what}: {problem}", kind.label());
                state.told = Some(problem.clone());
            }
            state.problem = Some(problem);
        });
    }

    /// Tells of a first list.
    fn welcome(&self, kind: Kind, objects: usize) {
        let of = match (kind, &self.access.node) {
            (Kind::Pods, Some(node)) => format!(" of node {node}"),
            _ => String::new(),
        };
        let label = kind.label();
        info!("identities from the Kubernetes API: {objects} {label}{of}");
        if objects == 0 && !of.is_empty() {
            warn!("the Kubernetes API knows no pods{of}: is that the node's name there (--node)?");
        }
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // Full is rung already.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
    }
}

/// Doubles with each failure, and differs from node to node, lest all come back at once.
fn pause(kind: Kind, failures: u32) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << failures.min(10).saturating_sub(1));
    let longest = doubled.min(LONGEST_PAUSE);
    let share = seed(kind).wrapping_add(failures.into()) % 256;
    longest / 2 + longest / 512 * share as u32
}

/// A number that differs between nodes and kinds.
fn seed(kind: Kind) -> u64 {
    let name = super::node();
    let word = name.bytes().chain(kind.label().bytes());
    word.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) >> 16
}

const fn remedy(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": is the token, or the certificate, still good?",
        StatusCode::FORBIDDEN => {
            ": its account has no right to list and watch that (deploy/kubernetes/daemonset.yaml has the role)"
        }
        _ => "",
    }
}

/// An error and what it came from: the outermost alone says nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A value in a query.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    value.bytes().map(escape).collect()
}

/// The next bytes of an answer; none at its end.
async fn next(body: &mut Body) -> Option<Result<axum::body::Bytes, Trouble>> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        match frame {
            // Trailers are passed over.
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(Trouble::Broken(causes(&error)))),
        }
    }
}

/// A whole answer.
async fn whole(mut body: Body) -> Result<Vec<u8>, Trouble> {
    let mut all = Vec::new();
    while let Some(piece) = next(&mut body).await {
        all.extend_from_slice(&piece?);
        if all.len() > MAX_ANSWER {
            return Err(Trouble::Broken(format!(
                "a page of the list is longer than {} MiB",
                MAX_ANSWER >> 20
            )));
        }
    }
    Ok(all)
}
