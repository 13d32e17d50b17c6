//! The packet half: a frame in, events out. One of these per packet thread.

use std::net::IpAddr;
use std::sync::Arc;

use super::Stats;
use super::translation::{self, Unsettled};
use crate::address::{Mac, NetworkId, is_group};
use crate::capture::Frame;
use crate::decode::{Anomalies, Content, Datagram, MAX_DEPTH, Packet, Transport};
use crate::dissect::{Carrier, Echoes, FlowDissector, Progress, Segment, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::flow::{
    Chunk, Defrag, Dialogue, Ending, Exchange, FlowConfig, FlowId, FlowRecord, FlowSink, FlowStart,
    FlowTable, Inspection, Interest, Outcome, Protocol, Translation, Turn, View,
};
use crate::identity::{AddressClass, Confidence, IdentityKind, Journal};
use crate::memory::Share;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Front {
    defrag: Defrag,
    table: FlowTable<FlowState>,
    losses: LossCounts,
    stats: Stats,
    transactions: Vec<Transaction>,
    unsettled: Unsettled,
    /// Flows found to be behind other addresses by the current frame.
    settled: Vec<Arc<FlowInfo>>,
    /// Flows that are to end, at the end.
    open: Option<std::vec::IntoIter<Ending>>,
    /// The flow of the packet that was taken last.
    latest: Option<FlowId>,
    /// Bytes that dissectors keep for later, and the most that they may.
    held: usize,
    max_held: usize,
}

/// Bytes that all dissectors together may keep for later.
const MAX_HELD: usize = 64 << 20;
/// Flows looked at per packet, where that is too much.
const LOOKS: usize = 64;

/// Flows ended at once at the end, so that their events need little room.
const ENDINGS: usize = 256;

/// What the packet half keeps per flow, beside the table's own.
#[derive(Debug)]
struct FlowState {
    info: Arc<FlowInfo>,
    /// What was told of it.
    told: EventKinds,
    dissector: Option<Box<FlowDissector>>,
    /// Bytes that it keeps for later.
    held: u32,
    echoes: Option<Box<Echoes>>,
    app: Option<&'static str>,
    inspection: Inspection,
    /// Of those who speak, but not of DNS.
    dialogue: Option<Box<Dialogue>>,
}

impl Front {
    pub(super) fn new(share: Share) -> Self {
        let config = FlowConfig::within(share);
        Self {
            defrag: Defrag::new(&config),
            table: FlowTable::new(config),
            losses: LossCounts::default(),
            stats: Stats::default(),
            transactions: Vec::new(),
            unsettled: Unsettled::default(),
            settled: Vec::new(),
            open: None,
            latest: None,
            held: 0,
            max_held: share.part(MAX_HELD),
        }
    }

    /// Takes a frame; returns the flow that it belongs to, unless it is a copy, or a fragment of what isn't whole yet.
    pub(super) fn frame(
        &mut self,
        frame: &Frame<'_>,
        journal: &Journal,
        events: &mut Vec<Event>,
    ) -> Option<FlowId> {
        self.latest = None;
        self.stats.frame(frame.time, frame.wire_len);
        let mut packet = Packet::unread(frame);
        packet.read(frame, &|src, dst| carries(journal, frame.time, src, dst));
        if packet.anomalies.contains(Anomalies::FORGED) {
            self.losses.add(Loss::TunnelRefused);
        }
        if packet.anomalies.contains(Anomalies::SNAPLEN) {
            self.losses.add(Loss::Snaplen);
        }
        let before = events.len();
        self.packet(&packet, journal, events);
        let flow = self.latest;
        while let Some(part) = self.defrag.given_up(frame.time, &mut self.losses) {
            self.datagram(part, journal, events);
        }
        self.unsettled
            .sift(frame.time, &mut self.settled, events, before);
        flow
    }

    /// Takes a packet, or what it completes if it is a fragment.
    fn packet(&mut self, packet: &Packet<'_>, journal: &Journal, events: &mut Vec<Event>) {
        match &packet.content {
            Content::Ip(ip) => {
                if let Some(fragment) = &ip.fragment {
                    let whole = self.defrag.push(packet, ip, fragment, &mut self.losses);
                    if let Some(datagram) = whole {
                        self.datagram(datagram, journal, events);
                    }
                    return;
                }
                let mut sink = Sink {
                    journal,
                    events,
                    losses: &mut self.losses,
                    stats: &mut self.stats,
                    transactions: &mut self.transactions,
                    settled: &mut self.settled,
                    held: &mut self.held,
                };
                self.latest = self.table.packet(packet, ip, &mut sink);
                self.relieve();
                if let Transport::Icmp(icmp) = ip.transport
                    && let Some(neighbour) = icmp.neighbour
                {
                    // An answer speaks for the target, to whom it is sent or, unasked, to all.
                    let (actor, target) = match (neighbour.reply, is_group(ip.dst)) {
                        (false, _) => (ip.src, neighbour.target),
                        (true, false) => (neighbour.target, ip.dst),
                        (true, true) => (neighbour.target, neighbour.target),
                    };
                    let sender = (actor, neighbour.hardware);
                    resolution(packet, sender, target, neighbour.reply, journal, events);
                }
            }
            Content::Arp(arp) => {
                let sender = (arp.sender, Some(arp.hardware));
                resolution(packet, sender, arp.target, arp.reply, journal, events);
            }
            Content::Other => {}
            Content::Undecodable => self.losses.add(Loss::Undecodable),
        }
    }

    /// Where dissectors keep too much for later, flows are given up one after the other: most of them are those of whoever sends
    /// what never ends.
    fn relieve(&mut self) {
        for _ in 0..LOOKS {
            if self.held <= self.max_held {
                return;
            }
            let Some(state) = self.table.next_state() else {
                continue;
            };
            if let Some(dissector) = state.dissector.as_mut().filter(|_| state.held > 0) {
                dissector.give_up();
                state.inspection = dissector.inspection();
                self.losses.add(Loss::DissectorGaveUp);
                self.held = self.held.saturating_sub(state.held as usize);
                state.held = 0;
            }
        }
    }

    /// Takes a datagram that was put together. In a tunnel, it may be a fragment again.
    fn datagram(&mut self, mut datagram: Datagram, journal: &Journal, events: &mut Vec<Event>) {
        for _ in 0..=MAX_DEPTH {
            let packet = datagram.decode(&|src, dst| carries(journal, datagram.time(), src, dst));
            if packet.anomalies.contains(Anomalies::FORGED) {
                self.losses.add(Loss::TunnelRefused);
            }
            let Content::Ip(ip) = &packet.content else {
                return self.packet(&packet, journal, events);
            };
            let Some(fragment) = &ip.fragment else {
                return self.packet(&packet, journal, events);
            };
            match self.defrag.push(&packet, ip, fragment, &mut self.losses) {
                Some(whole) => datagram = whole,
                None => return,
            }
        }
        self.losses.add(Loss::Fragment);
    }

    /// Time has passed without a frame.
    pub(super) fn advance(&mut self, now: Timestamp, journal: &Journal, events: &mut Vec<Event>) {
        let before = events.len();
        while let Some(part) = self.defrag.given_up(now, &mut self.losses) {
            self.datagram(part, journal, events);
        }
        let mut sink = Sink {
            journal,
            events,
            losses: &mut self.losses,
            stats: &mut self.stats,
            transactions: &mut self.transactions,
            settled: &mut self.settled,
            held: &mut self.held,
        };
        self.table.advance(now, &mut sink);
        self.unsettled.sift(now, &mut self.settled, events, before);
    }

    /// More is known of who held which address: flows begun since `since` are given names that they lacked.
    pub(super) fn rename(&mut self, journal: &Journal, since: Timestamp) {
        let stats = &mut self.stats;
        let mut name = |info: &FlowInfo, end: &Endpoint| {
            let better = journal.better(info.network, end.ip, info.start, &end.who)?;
            stats.named_ends += 1;
            stats.pod_ends += u64::from(end.who.identity.kind != IdentityKind::Pod);
            Some(better)
        };
        for state in self.table.states_mut() {
            let info = &state.info;
            if info.start < since {
                continue;
            }
            let (orig, resp) = (name(info, &info.orig), name(info, &info.resp));
            if orig.is_some() || resp.is_some() {
                let mut named = FlowInfo::clone(info);
                for (end, who) in [(&mut named.orig, orig), (&mut named.resp, resp)] {
                    if let Some(who) = who {
                        end.who = who;
                    }
                }
                state.info = Arc::new(named);
            }
        }
    }

    /// Counts what was lost before it came here.
    pub(super) fn lost(&mut self, loss: Loss, n: u64) {
        self.losses.add_n(loss, n);
    }

    /// No more is to come. To be called again, once the events are taken, until it says that all flows have ended.
    pub(super) fn finish(&mut self, journal: &Journal, events: &mut Vec<Event>) -> bool {
        let Some(open) = &mut self.open else {
            while let Some(part) = self.defrag.rest(&mut self.losses) {
                self.datagram(part, journal, events);
            }
            self.unsettled.finish(events);
            self.open = Some(self.table.endings().into_iter());
            return false;
        };
        let mut sink = Sink {
            journal,
            events,
            losses: &mut self.losses,
            stats: &mut self.stats,
            transactions: &mut self.transactions,
            settled: &mut self.settled,
            held: &mut self.held,
        };
        for ending in open.take(ENDINGS) {
            self.table.finish_one(&ending, &mut sink);
        }
        open.len() == 0
    }

    pub(super) const fn packets(&self) -> u64 {
        self.stats.packets
    }

    pub(super) const fn stats(&self) -> Stats {
        Stats {
            copies: self.table.copies() + self.defrag.copies(),
            ..self.stats
        }
    }

    /// Losses before and after the flow table.
    pub(super) const fn losses(&self) -> &LossCounts {
        &self.losses
    }

    /// Losses of the flow table.
    pub(super) const fn flow_losses(&self) -> &LossCounts {
        self.table.losses()
    }
}

/// Whether two ends may carry others' packets: nodes, mirrors and routers may, pods have no business to, and nobody
/// outside where the inside is known. Without an inventory nobody is known to be a pod.
fn carries(journal: &Journal, time: Timestamp, src: IpAddr, dst: IpAddr) -> bool {
    let trusted = |ip| {
        let kind = journal
            .resolve(NetworkId::default(), ip, time)
            .identity
            .kind;
        match kind {
            IdentityKind::Node => true,
            IdentityKind::Unknown => !matches!(
                journal.networks().classify(ip),
                AddressClass::PodRange | AddressClass::ServiceRange
            ),
            IdentityKind::Pod | IdentityKind::Service => false,
            IdentityKind::External => journal.claims_count() == 0,
        }
    };
    trusted(src) && trusted(dst)
}

fn resolution(
    packet: &Packet<'_>,
    (actor, hardware): (IpAddr, Option<Mac>),
    target: IpAddr,
    reply: bool,
    journal: &Journal,
    events: &mut Vec<Event>,
) {
    let end = |ip| Endpoint {
        ip,
        who: journal.resolve(packet.network, ip, packet.time),
    };
    let kind = EventKind::Resolution {
        actor: end(actor),
        target: end(target),
        network: packet.network,
        hardware,
        reply,
    };
    events.push(Event::new(packet.time, kind));
}

/// Hears the flow table, asks the journal, feeds the dissectors, writes events.
struct Sink<'a> {
    journal: &'a Journal,
    events: &'a mut Vec<Event>,
    losses: &'a mut LossCounts,
    stats: &'a mut Stats,
    transactions: &'a mut Vec<Transaction>,
    settled: &'a mut Vec<Arc<FlowInfo>>,
    held: &'a mut usize,
}

impl Sink<'_> {
    /// Tells something of a flow, of which so much was told before.
    fn event(&mut self, told: &mut EventKinds, time: Timestamp, kind: EventKind) {
        let before = *told;
        *told = before.and(EventKinds::of(&kind));
        self.events.push(Event { time, kind, before });
    }

    /// Accounts for what a flow's dissector keeps for later now.
    fn hold(&mut self, state: &mut FlowState, held: usize) {
        let others = self.held.saturating_sub(state.held as usize);
        *self.held = others.saturating_add(held);
        state.held = u32::try_from(held).unwrap_or(u32::MAX);
    }

    fn exchange(&mut self, state: &mut FlowState, time: Timestamp, exchange: Exchange) {
        let kind = EventKind::Exchange {
            flow: Arc::clone(&state.info),
            exchange,
            app: state.app,
        };
        self.event(&mut state.told, time, kind);
    }

    /// What the dissector understood becomes events.
    fn tell(&mut self, state: &mut FlowState, time: Timestamp) {
        let FlowState { info, told, .. } = state;
        let event = |transaction| {
            let kind = EventKind::Transaction {
                flow: Arc::clone(info),
                transaction,
            };
            let before = *told;
            *told = before.and(EventKinds::of(&kind));
            Event { time, kind, before }
        };
        self.events.extend(self.transactions.drain(..).map(event));
    }

    fn end(&mut self, start: &FlowStart, ip: IpAddr) -> Endpoint {
        let who = self.journal.resolve(start.network, ip, start.time);
        if who.identity.kind != IdentityKind::External {
            self.stats.inside_ends += 1;
            let named = matches!(
                who.confidence,
                Confidence::Exact | Confidence::Time | Confidence::Node
            );
            self.stats.named_ends += u64::from(named);
            self.stats.pod_ends += u64::from(who.identity.kind == IdentityKind::Pod);
        }
        Endpoint { ip, who }
    }
}

impl FlowSink for Sink<'_> {
    type State = FlowState;

    fn opened(&mut self, start: &FlowStart) -> FlowState {
        self.stats.flows += 1;
        let ((orig, orig_port), (resp, resp_port)) = (start.orig, start.resp);
        let info = Arc::new(FlowInfo {
            id: start.id,
            network: start.network,
            protocol: start.protocol,
            start: start.time,
            orig: self.end(start, orig),
            resp: self.end(start, resp),
            orig_port,
            resp_port,
            service: None,
            masquerade: None,
            sender: start.sender,
            begun: start.begun,
        });
        let mut told = EventKinds::NONE;
        let opened = EventKind::FlowOpened(Arc::clone(&info));
        self.event(&mut told, start.time, opened);
        FlowState {
            info,
            told,
            dissector: None,
            held: 0,
            echoes: None,
            app: None,
            inspection: Inspection::Whole,
            dialogue: None,
        }
    }

    fn is_settled(&self, state: &FlowState) -> bool {
        state.app == Some("dns")
    }

    fn translation(
        &self,
        time: Timestamp,
        network: NetworkId,
        a: IpAddr,
        b: IpAddr,
    ) -> Translation {
        let [a, b] = [a, b].map(|ip| self.journal.resolve(network, ip, time).identity);
        translation::translation(self.journal, &a, &b)
    }

    fn seen_as(&mut self, state: &mut FlowState, view: &View) {
        let end = |ip| Endpoint {
            ip,
            who: self.journal.resolve(view.network, ip, view.time),
        };
        state.info = Arc::new(translation::seen_as(&state.info, view, end));
        self.settled.push(Arc::clone(&state.info));
    }

    fn outcome(&mut self, state: &mut FlowState, time: Timestamp, outcome: Outcome) {
        // A refusal is seen where answers would be.
        let heard = matches!(outcome, Outcome::Answered | Outcome::Refused);
        self.stats.answered += u64::from(heard);
        let flow = Arc::clone(&state.info);
        let kind = EventKind::FlowOutcome { flow, outcome };
        self.event(&mut state.told, time, kind);
    }

    fn turn(&mut self, state: &mut FlowState, turn: &Turn) {
        // A look-up is two turns, and there are more of them than of anything else.
        if state.app != Some("dns") {
            let flow = Arc::clone(&state.info);
            let kind = EventKind::Turn { flow, turn: *turn };
            self.event(&mut state.told, turn.end, kind);
            let dialogue = state.dialogue.get_or_insert_default();
            if let Some(exchange) = dialogue.take(turn) {
                self.exchange(state, turn.end, exchange);
            }
        }
    }

    fn payload(&mut self, state: &mut FlowState, chunk: &Chunk<'_>) -> Interest {
        if let Some(header) = chunk.echo {
            let echoes = state.echoes.get_or_insert_default();
            let echo = echoes.feed(header, chunk.direction, chunk.data);
            self.transactions.extend(echo.map(Transaction::Echo));
            self.tell(state, chunk.time);
            return Interest::More;
        }
        let carrier = if state.info.protocol == Protocol::Tcp {
            Carrier::Tcp
        } else {
            Carrier::Udp
        };
        let dissector = state
            .dissector
            .get_or_insert_with(|| Box::new(FlowDissector::new(carrier)));
        let segment = Segment {
            time: chunk.time,
            direction: chunk.direction,
            orig_port: state.info.orig_port,
            resp_port: state.info.resp_port,
            data: chunk.data,
            gap: chunk.gap,
        };
        let progress = dissector.feed(&segment, self.transactions);
        let app = dissector.app();
        if state.app != app
            && let Some(app) = app
        {
            let flow = Arc::clone(&state.info);
            let kind = EventKind::Recognised { flow, app };
            self.event(&mut state.told, chunk.time, kind);
        }
        state.app = app;
        state.inspection = dissector.inspection();
        let held = dissector.held();
        self.hold(state, held);
        self.tell(state, chunk.time);
        match progress {
            Progress::More => Interest::More,
            Progress::Done => {
                state.dissector = None;
                Interest::Enough
            }
            Progress::Desynced => {
                self.losses.add(Loss::DissectorGaveUp);
                state.dissector = None;
                Interest::Enough
            }
        }
    }

    fn ended(&mut self, mut state: FlowState, record: FlowRecord) {
        let time = record.end;
        let dialogue = state.dialogue.as_deref_mut();
        if let Some(exchange) = dialogue.and_then(Dialogue::finish) {
            self.exchange(&mut state, time, exchange);
        }
        if let Some(dissector) = state.dissector.take() {
            self.hold(&mut state, 0);
            dissector.finish(self.transactions);
            self.tell(&mut state, time);
        }
        let record = Box::new(FlowRecord {
            app: state.app,
            inspection: state.inspection,
            ..record
        });
        let flow = Arc::clone(&state.info);
        self.event(&mut state.told, time, EventKind::FlowEnded { flow, record });
    }
}
