//! What detectors say of what they pass over, while a run is explained; nothing, and for nothing, in any other.

use std::cell::RefCell;

use super::Context;
use crate::event::{Endpoint, FlowInfo};

/// Remarks kept until somebody takes them.
const MOST: usize = 1024;

/// Why nothing came of something that a detector looked at.
#[derive(Clone, Debug)]
pub struct Remark {
    /// The detector's signature.
    pub signature: &'static str,
    /// Who did it.
    pub actor: Endpoint,
    /// With whom, at which port of the responder's, where it is one conversation's business.
    pub with: Option<(Endpoint, u16)>,
    /// What is missing: "3 contacts of the 8 that it takes".
    pub text: String,
}

/// Where remarks go.
#[derive(Default, Debug)]
pub struct Trace(RefCell<Vec<Remark>>);

impl Trace {
    /// The remarks since the last call, in order.
    pub fn take(&self) -> Vec<Remark> {
        self.0.take()
    }

    fn add(&self, remark: Remark) {
        let mut remarks = self.0.borrow_mut();
        if remarks.len() < MOST {
            remarks.push(remark);
        }
    }
}

impl Context<'_> {
    /// Says why a conversation is passed over. Costs nothing unless the run is explained.
    pub fn remark(&self, signature: &'static str, flow: &FlowInfo, why: impl FnOnce() -> String) {
        if let Some(trace) = self.trace {
            trace.add(Remark {
                signature,
                actor: flow.orig.clone(),
                with: Some((flow.resp.clone(), flow.resp_port)),
                text: why(),
            });
        }
    }

    /// The same of an end, whomever it spoke with.
    pub fn remark_of(
        &self,
        signature: &'static str,
        actor: &Endpoint,
        why: impl FnOnce() -> String,
    ) {
        if let Some(trace) = self.trace {
            trace.add(Remark {
                signature,
                actor: actor.clone(),
                with: None,
                text: why(),
            });
        }
    }
}
