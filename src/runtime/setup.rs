//! What a live run is made of.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::kubernetes::Access;
use super::{Forwarder, Limits, Outputs, RuntimeSocket, Selection, State};
use crate::alert::Exceptions;
use crate::baseline::Store;
use crate::capture::LiveOptions;
use crate::identity::LiveInventory;
use crate::memory::Share;
use crate::pipeline::Task;
use crate::signature::SignatureSet;
use crate::sinks::ExcerptFolder;

/// What to look for, and what somebody has allowed.
#[derive(Debug)]
pub struct Rules {
    /// What to look for, and how.
    pub signatures: SignatureSet,
    /// What is counted and not told.
    pub exceptions: Exceptions,
}

/// What SIGHUP came to; the words are for the operator.
pub struct Renewal {
    /// The rules from now on, or why they stay.
    pub rules: Result<Rules, String>,
    /// The outputs, opened anew, or why they stay.
    pub outputs: Result<Outputs, String>,
}

/// Reads again what may have changed.
pub type Renew = Box<dyn FnMut() -> Renewal>;

/// What a live run is made of.
pub struct Setup {
    /// What to capture.
    pub selection: Selection,
    /// How.
    pub live: LiveOptions,
    /// Bytes on their way from capture to analysis at most.
    pub ring: usize,
    /// The share of memory for what traffic can fill.
    pub share: Share,
    /// Who held which address, followed while it changes.
    pub inventory: LiveInventory,
    /// The Kubernetes API, if it is to be followed.
    pub kubernetes: Option<Access>,
    /// The container runtime, if it is to be asked.
    pub cri: Option<RuntimeSocket>,
    /// What to do.
    pub task: Task,
    /// Where alerts and flows go.
    pub outputs: Outputs,
    /// The server that alerts go to as well, if any.
    pub forwarder: Option<Forwarder>,
    /// Where open alerts are kept over a restart, if they are.
    pub state: Option<State>,
    /// Where what is learned goes, when learning.
    pub store: Option<Store>,
    /// Where packets of alerts are kept, if they are, and how many bytes of those that came lately are at hand.
    pub evidence: Option<(ExcerptFolder, usize)>,
    /// When something is wrong with the run itself.
    pub limits: Limits,
    /// What SIGHUP does.
    pub renew: Renew,
    /// Where metrics and health are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// The directories that results are written to; no other is.
    pub writable: Vec<PathBuf>,
}
