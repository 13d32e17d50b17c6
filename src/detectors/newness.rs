//! What detectors of rhythm and shape share: how new a peer is to the client, and whether it was found by a name.
//!
//! Shape alone is no attack: agents, queues and pollers have it too. It is their peer that they were told of and have
//! always had.

use std::time::Duration;

use super::{Context, Evidence, Family};
use crate::event::{Endpoint, FlowInfo};
use crate::features::{Callee, Role};
use crate::identity::IdentityKind;

/// A contact that the baseline knows.
const BITS_LEARNED: f64 = -8.0;
/// The most that a baseline's surprise counts.
const MOST_BITS_NOVEL: f64 = 8.0;
/// First called long after the client was first seen.
const BITS_BEGAN_LATE: f64 = 6.0;
/// First called somewhat after it.
const BITS_BEGAN_LATER: f64 = 3.0;
/// Called from the first moment on by a pod, or by its name: it was so before we watched. (Of an address that calls another
/// one, nothing is known.)
pub(super) const BITS_WAS_THERE: f64 = -4.0;
/// Several workloads call there.
const BITS_WELL_KNOWN: f64 = -4.0;
const WELL_KNOWN: usize = 3;
/// Less than this after the first sight of a client, nothing has begun: it was only first seen by what it did.
const SETTLING: Duration = Duration::from_secs(10);
/// What a pod that somebody started by hand does with the outside, or with images: it wasn't made for that, one in 64 does.
pub(super) const BITS_BY_HAND: f64 = 6.0;
/// An address that no name led to, by a client that goes by names.
const BITS_BARE_ADDRESS: f64 = 4.0;

/// How new the flow's peer is to its originator. `rhythm` is how often the originator would be seen there, were it a
/// habit: only a silence of more than that says that it wasn't.
pub(super) fn newness(flow: &FlowInfo, rhythm: Duration, context: &Context<'_>) -> Evidence {
    let evidence = |observed: f64, expected: String, bits, text: String| Evidence {
        feature: "peer.newness",
        family: Family::Novelty,
        observed,
        expected,
        bits,
        signature_grade: false,
        text,
    };
    if context.is_learned(flow) {
        let text = "the baseline knows this contact".into();
        return evidence(0.0, "a new peer".into(), BITS_LEARNED, text);
    }
    let callee = Callee::of(flow, context.peers);
    let callers = context.debuts.callers(&callee);
    let crowd = if callers >= WELL_KNOWN {
        BITS_WELL_KNOWN
    } else {
        0.0
    };
    let watched = if flow.begun {
        context.debuts.watched_before(flow.orig.ip, &callee)
    } else {
        // What was taken up in the middle was there before it was first heard of.
        Some(Duration::ZERO)
    };
    let late = watched.map_or(0.0, |watched| {
        if watched >= SETTLING.max(rhythm * 3) {
            BITS_BEGAN_LATE
        } else if watched >= SETTLING.max(rhythm * 3 / 2) {
            BITS_BEGAN_LATER
        } else if flow.orig.who.identity.kind == IdentityKind::Pod
            || matches!(callee, Callee::Domain(..))
        {
            BITS_WAS_THERE
        } else {
            0.0
        }
    });
    if let Some(profile) = context.profile(&flow.orig) {
        let novel = profile.novelty_bits(Role::Client).min(MOST_BITS_NOVEL);
        let known = profile.peer_count(Role::Client);
        let contacts = profile.contacts(Role::Client);
        return evidence(
            1.0,
            format!("one of {known} peers known from {contacts} contacts"),
            novel.max(late.max(0.0)) + crowd,
            "never contacted in the workload's baseline".into(),
        );
    }
    let secs = watched.unwrap_or_default().as_secs();
    let others = match callers {
        0 | 1 => "nobody else calls there".to_owned(),
        n if n >= WELL_KNOWN => "several workloads call there".to_owned(),
        n => format!("{n} workloads call there"),
    };
    evidence(
        secs as f64,
        "called from the start, or by several workloads".into(),
        late + crowd,
        if flow.begun {
            format!("first called {secs} s after the client was first seen; {others}")
        } else {
            format!("the connection was open before it was first seen; {others}")
        },
    )
}

/// Whether somebody started a pod by hand: `kubectl run` gives it a label with its name, and no controller made it.
pub(super) fn by_hand(end: &Endpoint) -> bool {
    let identity = &end.who.identity;
    let alone = identity
        .workload
        .as_ref()
        .is_some_and(|workload| &*workload.kind == "Pod");
    alone && identity.name.is_some() && identity.labels.get("run") == identity.name.as_ref()
}

/// Whether the flow's originator, who finds others by their names, called a public address that no name led to. What led to
/// a connection that was taken up in the middle was not seen.
pub(super) fn bare_address(flow: &FlowInfo, context: &Context<'_>) -> Option<Evidence> {
    let bare = flow.begun
        && flow.resp.who.identity.kind == IdentityKind::External
        && context.peers.asks(flow.orig.ip)
        && context.peers.domain(flow.orig.ip, flow.resp.ip).is_none();
    bare.then(|| Evidence {
        feature: "peer.no_name",
        family: Family::Protocol,
        observed: 1.0,
        expected: "an address found by DNS".into(),
        bits: BITS_BARE_ADDRESS,
        signature_grade: false,
        text: format!(
            "{} was called by its address, though this client asks DNS for others",
            flow.resp.ip
        ),
    })
}

/// The strongest of each family, summed.
pub(super) fn total_bits(evidence: &[Evidence]) -> f64 {
    let mut families = std::collections::BTreeMap::new();
    for one in evidence {
        families
            .entry(one.family)
            .and_modify(|best: &mut f64| *best = best.max(one.bits))
            .or_insert(one.bits);
    }
    families.values().sum()
}
