//! Flows seen under several addresses: which of them are the ends' own, and which a service or a node lent them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Endpoint, Event, EventKind, FlowInfo};
use crate::flow::{FlowId, Translation, View};
use crate::identity::{Identity, IdentityKind, Journal};
use crate::time::Timestamp;

/// How long it may take until a packet to a service is seen on its way to a backend.
const PATIENCE: Duration = Duration::from_millis(10);
/// Events that wait at most.
const MAX_WAITING: usize = 64;

/// What is known of two addresses that may stand for one another at a time.
pub(super) fn translation(journal: &Journal, a: &Identity, b: &Identity) -> Translation {
    use IdentityKind::{External, Node, Pod, Service};
    match (a.kind, b.kind) {
        (Service, Service) | (Pod, Pod) => Translation::Never,
        // Pods behind node ports, and masqueraded ones.
        (Service, _) | (_, Service) | (Pod, Node) | (Node, Pod) => Translation::Known,
        // Where nothing is known of the inside, anything may be outside.
        (External, External) if journal.claims_count() > 0 => Translation::Never,
        _ => Translation::Possible,
    }
}

/// What a flow is, now that it was seen under other addresses too. `end` says who holds an address.
pub(super) fn seen_as(
    info: &FlowInfo,
    view: &View,
    mut end: impl FnMut(IpAddr) -> Endpoint,
) -> FlowInfo {
    let mut info = info.clone();
    if view.resp != (info.resp.ip, info.resp_port) && info.service.is_none() {
        let other = (end(view.resp.0), view.resp.1);
        let known = (info.resp.clone(), info.resp_port);
        let (own, lent) = if is_nearer(&other.0, &known.0, view.behind) {
            (other, known)
        } else {
            (known, other)
        };
        (info.resp, info.resp_port) = own;
        info.service = Some(Arc::new(lent));
    }
    if view.orig != (info.orig.ip, info.orig_port) && info.masquerade.is_none() {
        let other = (end(view.orig.0), view.orig.1);
        let known = (info.orig.clone(), info.orig_port);
        let (own, lent) = if is_nearer(&other.0, &known.0, !view.behind) {
            (other, known)
        } else {
            (known, other)
        };
        (info.orig, info.orig_port) = own;
        info.masquerade = Some(Arc::new(lent));
        // Whose it was depends on which side was seen first.
        info.sender = None;
    }
    info
}

/// Whether `other` is an end itself rather than `known`: a pod is, a service is not; else where they were seen decides.
fn is_nearer(other: &Endpoint, known: &Endpoint, seen_nearer: bool) -> bool {
    let rank = |end: &Endpoint| match end.who.identity.kind {
        IdentityKind::Pod => 0,
        IdentityKind::External | IdentityKind::Unknown => 1,
        IdentityKind::Node => 2,
        IdentityKind::Service => 3,
    };
    match rank(other).cmp(&rank(known)) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => seen_nearer,
        std::cmp::Ordering::Greater => false,
    }
}

/// Events of flows that were just opened to a service's address. They wait a moment, for where such a packet is seen, it
/// is mostly seen again on its way to a pod, and then the pod is what they should tell of.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    waiting: VecDeque<(Timestamp, Event)>,
}

impl Unsettled {
    /// Takes the events from `from` on that have to wait out of `events`, and puts those in that have waited: long enough by
    /// `now`, or until their flow was found to be one of `settled`.
    pub(super) fn sift(
        &mut self,
        now: Timestamp,
        settled: &mut Vec<Arc<FlowInfo>>,
        events: &mut Vec<Event>,
        from: usize,
    ) {
        if self.waiting.is_empty() && !events.iter().skip(from).any(calls_service) {
            settled.clear();
            return;
        }
        let fresh = events.split_off(from);
        self.release(events, |until, _| until <= now);
        for info in settled.drain(..) {
            for (_, event) in &mut self.waiting {
                if let Some(flow) = event.flow_mut().filter(|flow| flow.id == info.id) {
                    *flow = Arc::clone(&info);
                }
            }
            self.release(events, |_, flow| flow == Some(info.id));
        }
        for event in fresh {
            let flow = event.flow().map(|flow| flow.id);
            let known = self
                .waiting
                .iter()
                .find(|(_, other)| id(other) == flow && flow.is_some());
            match known {
                Some(&(until, _)) => self.waiting.push_back((until, event)),
                None if calls_service(&event) => {
                    self.waiting.push_back((event.time.after(PATIENCE), event));
                }
                None => events.push(event),
            }
        }
        if self.waiting.len() > MAX_WAITING {
            self.release(events, |_, _| true);
        }
    }

    /// No more is to come.
    pub(super) fn finish(&mut self, events: &mut Vec<Event>) {
        let fresh = std::mem::take(events);
        self.release(events, |_, _| true);
        events.extend(fresh);
    }

    fn release(
        &mut self,
        events: &mut Vec<Event>,
        which: impl Fn(Timestamp, Option<FlowId>) -> bool,
    ) {
        for _ in 0..self.waiting.len() {
            if let Some((until, event)) = self.waiting.pop_front() {
                if which(until, id(&event)) {
                    events.push(event);
                } else {
                    self.waiting.push_back((until, event));
                }
            }
        }
    }
}

fn id(event: &Event) -> Option<FlowId> {
    event.flow().map(|flow| flow.id)
}

fn calls_service(event: &Event) -> bool {
    matches!(&event.kind, EventKind::FlowOpened(flow)
        if flow.resp.who.identity.kind == IdentityKind::Service && flow.service.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::{external, flow, pod, service};
    use crate::flow::Outcome;

    fn opened(id: u64, resp: &Endpoint) -> Event {
        let client = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let kind = EventKind::FlowOpened(flow(id, &client, resp, 53));
        Event::new(Timestamp::from_secs(1), kind)
    }

    fn outcome(of: &Event) -> Event {
        let flow = Arc::clone(of.flow().unwrap());
        let outcome = Outcome::Answered;
        let time = of.time.after(Duration::from_millis(1));
        Event::new(time, EventKind::FlowOutcome { flow, outcome })
    }

    fn told(events: &[Event]) -> Vec<(u64, String)> {
        let told = |event: &Event| {
            let flow = event.flow().unwrap();
            (flow.id.0, flow.resp.ip.to_string())
        };
        events.iter().map(told).collect()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs(1).after(Duration::from_millis(millis))
    }

    #[test]
    fn a_flow_to_a_service_waits_for_its_backend_and_others_do_not() {
        let dns = service("kube-system", "kube-dns", "10.96.0.10");
        let mut unsettled = Unsettled::default();
        let (asked, other) = (opened(1, &dns), opened(2, &external("203.0.113.9")));
        let mut events = vec![asked.clone(), other.clone()];
        unsettled.sift(at(0), &mut Vec::new(), &mut events, 0);
        assert_eq!(told(&events), [(2, "203.0.113.9".to_owned())]);

        let backend = pod("kube-system", "coredns", "xczf9", "10.244.1.2");
        let mut info = asked.flow().unwrap().as_ref().clone();
        info.resp = backend;
        let info = Arc::new(info);
        let mut answered = outcome(&asked);
        *answered.flow_mut().unwrap() = Arc::clone(&info);
        let mut events = vec![outcome(&other), answered];
        unsettled.sift(at(1), &mut vec![info], &mut events, 1);
        let expected = [(2, "203.0.113.9"), (1, "10.244.1.2"), (1, "10.244.1.2")];
        assert_eq!(told(&events), expected.map(|(id, ip)| (id, ip.to_owned())));
        assert!(matches!(events[1].kind, EventKind::FlowOpened(_)));
        assert!(unsettled.waiting.is_empty());
    }

    #[test]
    fn patience_and_room_are_bounded_and_nothing_is_lost() {
        let dns = service("kube-system", "kube-dns", "10.96.0.10");
        let mut unsettled = Unsettled::default();
        let mut events = vec![opened(1, &dns)];
        unsettled.sift(at(0), &mut Vec::new(), &mut events, 0);
        events.push(outcome(&opened(1, &dns)));
        unsettled.sift(at(5), &mut Vec::new(), &mut events, 0);
        assert!(events.is_empty());
        unsettled.sift(at(11), &mut Vec::new(), &mut events, 0);
        assert_eq!(events.len(), 2);

        let mut out = Vec::new();
        for id in 0..200 {
            let from = out.len();
            out.push(opened(id, &dns));
            unsettled.sift(at(0), &mut Vec::new(), &mut out, from);
            assert!(unsettled.waiting.len() <= MAX_WAITING);
        }
        let mut rest = Vec::new();
        unsettled.finish(&mut rest);
        out.extend(rest);
        let ids: Vec<_> = told(&out).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.is_sorted());
    }

    #[test]
    fn pods_are_ends_and_services_are_called() {
        use IdentityKind::{External, Node, Pod, Service, Unknown};
        let journal = Journal::default();
        let known = |a, b| translation(&journal, &Identity::bare(a), &Identity::bare(b));
        assert_eq!(known(Pod, Pod), Translation::Never);
        assert_eq!(known(Service, Service), Translation::Never);
        assert_eq!(known(Service, External), Translation::Known);
        assert_eq!(known(Node, Pod), Translation::Known);
        assert_eq!(known(Unknown, Pod), Translation::Possible);
        // Nothing is known at all: the public addresses may be the cluster's.
        assert_eq!(known(External, External), Translation::Possible);
    }
}
