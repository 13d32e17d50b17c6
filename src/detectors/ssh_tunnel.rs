//! `ssh-tunnel`: SSH where it hides, or carries others' conversations inwards.
//!
//! SSH inside TLS is SSH that doesn't want to be seen: nothing honest needs both. Its beginning and the blocks of its
//! packets show in the sizes of TLS records ([`begins_ssh`], [`grid_bits`]). And a reverse tunnel (`ssh -R`) shows in who
//! asks: the client has gone silent, and the server opens channel after channel, says what somebody beyond it says, and is
//! answered at length. At a terminal, in a copy or a pull of a repository it is the client that asks. Connections that the
//! client has the server make (`ssh -L`, `ssh -D`) are counted by the sizes of requests and answers (see [`forwards`](super::forwards)). SSH
//! at another protocol's port is odd, but no more than that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::channels::{Channel, Channels, Verdict, channel_key};
use super::forwards::Forwards;
use super::newness::{bare_address, newness};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Findings, Follows, StateSize};
use crate::dissect::{SshMessage, TlsRecords, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, begins_ssh, goes_out, grid_bits};
use crate::flow::{Direction, Exchange, FlowId, Turn};
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "ssh-tunnel",
    sees: EventKinds::TLS
        .and(EventKinds::SSH)
        .and(EventKinds::EXCHANGE)
        .and(EventKinds::TURN)
        .and(EventKinds::RECOGNISED)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(SshTunnel {
            channels: Channels::new(SPEC.id, signature.alert_bits, thresholds.max_channels),
            open: Bounded::new(signature.room(MAX_OPEN)),
        }))
    },
};

/// Connections whose turns are followed at a time.
const MAX_OPEN: usize = 16_384;

/// Ports at which SSH is at home.
const PORTS: [u16; 4] = [22, 2022, 2222, 22222];
/// A beginning of SSH in the sizes of TLS records: many small calls over HTTP/2 look so in one connection of five.
const BITS_BEGINS: f64 = 2.0;
/// Below this the sizes keep to a grid by chance.
const FEWEST_BITS_GRID: f64 = 8.0;
const MOST_BITS_GRID: f64 = 14.0;
/// SSH at another protocol's port. Code hosts offer it on 443.
const BITS_OFF_PORT: f64 = 7.0;
/// The same at an address that no name led to, where code hosts are called by their names.
const BITS_OFF_PORT_NO_NAME: f64 = 9.0;
/// The server asks and is answered at length.
const BITS_REVERSE: f64 = 14.0;
/// Channels that the server must have opened,
const CHANNELS: u32 = 2;
/// of so many bytes at least, after so long a silence,
const CHANNEL_OPEN: u64 = 56;
const SILENCE: Duration = Duration::from_millis(300);
/// what the client has answered altogether, and in how many different lengths: a sign of life is always the same.
const ANSWERED: u64 = 1000;
const LENGTHS: usize = 5;
/// Connections that one end had the other make, if it is the client that asks,
const BITS_FORWARDS: f64 = 11.0;
/// of which so many must be for one and the same end, as far as lengths tell.
const MIN_FORWARDS: u64 = 3;
/// The silence that a habit would leave.
const RHYTHM: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_channels: usize,
}

struct SshTunnel {
    channels: Channels<Seen>,
    /// Connections whose keys were agreed on.
    open: Bounded<FlowId, Forwards>,
}

/// What was seen on a line.
#[derive(Debug, Default)]
struct Seen {
    flow: Option<Arc<FlowInfo>>,
    /// Connections in clear SSH.
    plain: bool,
    /// The most that the sizes inside TLS said for SSH.
    inside: f64,
    /// Exchanges that the server began, after a silence, and in all what the client answered to its asking.
    opened: u32,
    answered: u64,
    lengths: BTreeSet<u64>,
    /// Connections that the client had the server make, and the server the client, in the busiest of the line's.
    forwards: [u64; 2],
}

impl Seen {
    fn exchange(&mut self, exchange: &Exchange) -> bool {
        if exchange.asker != Direction::Resp || !exchange.is_answered() || exchange.number == 0 {
            return false;
        }
        self.answered = self.answered.saturating_add(exchange.answered);
        if self.lengths.len() < LENGTHS {
            self.lengths.insert(exchange.answered);
        }
        let opens = exchange.pause() >= SILENCE && exchange.asked >= CHANNEL_OPEN;
        self.opened = self.opened.saturating_add(u32::from(opens));
        true
    }

    fn is_reverse(&self) -> bool {
        let [_, granted] = self.forwards;
        granted > 0
            || (self.plain || self.inside > 0.0)
                && self.opened >= CHANNELS
                && self.answered >= ANSWERED
                && self.lengths.len() >= LENGTHS
    }
}

/// What the sizes of records say for SSH inside: bits, 0 for nothing.
fn inside(records: &TlsRecords) -> f64 {
    let sizes: Vec<_> = records
        .records
        .iter()
        .map(|record| (record.direction, u32::from(record.bytes)))
        .collect();
    let grid = begins_ssh(&sizes).map_or(0.0, |at| grid_bits(sizes.get(at..).unwrap_or_default()));
    if grid < FEWEST_BITS_GRID {
        return 0.0;
    }
    BITS_BEGINS + grid.min(MOST_BITS_GRID)
}

fn judge(channel: &Channel<Seen>, context: &Context<'_>) -> Option<Verdict> {
    let seen = &channel.seen;
    let flow = seen.flow.as_ref()?;
    let mut evidence = Vec::new();
    let mut add = |feature, family, observed, expected: &str, bits, signature_grade, text| {
        evidence.push(Evidence {
            feature,
            family,
            observed,
            expected: expected.into(),
            bits,
            signature_grade,
            text,
        });
    };
    let bare = bare_address(flow, context);
    let mut what = "SSH";
    if seen.inside > 0.0 {
        what = "SSH inside TLS";
        add(
            "ssh.in_tls",
            Family::Protocol,
            1.0,
            "requests and pages inside TLS",
            seen.inside,
            true,
            "inside TLS the sizes of records are those of SSH: lines, lists, keys, and then packets of whole blocks".into(),
        );
    }
    if seen.plain && !PORTS.contains(&channel.port) {
        add(
            "ssh.off_port",
            Family::Protocol,
            f64::from(channel.port),
            "SSH on its own port",
            if bare.is_some() {
                BITS_OFF_PORT_NO_NAME
            } else {
                BITS_OFF_PORT
            },
            false,
            format!("SSH is spoken on port {}", channel.port),
        );
    }
    let reverse = seen.is_reverse();
    let [forwards, backwards] = seen.forwards;
    if backwards > 0 {
        add(
            "ssh.server_forwards",
            Family::Volume,
            backwards as f64,
            "a session: a terminal, a command, a copy",
            BITS_REVERSE,
            false,
            format!(
                "{backwards} times the server asked for a connection inwards, and was granted one"
            ),
        );
    } else if reverse {
        add(
            "ssh.server_asks",
            Family::Volume,
            f64::from(seen.opened),
            "a client that asks, and a server that answers",
            BITS_REVERSE,
            false,
            format!(
                "after silences the server began {} times, and was answered {} bytes in all",
                seen.opened, seen.answered
            ),
        );
    }
    if forwards > 0 {
        add(
            "ssh.client_forwards",
            Family::Volume,
            forwards as f64,
            "a session: a terminal, a command, a copy",
            BITS_FORWARDS,
            false,
            format!(
                "{forwards} times the client asked for a connection onwards, and was granted one"
            ),
        );
    }
    if evidence.is_empty() {
        return None;
    }
    evidence.push(newness(flow, RHYTHM, context));
    evidence.extend(bare);
    let other = channel.other_name(
        context
            .peers
            .domain(flow.orig.ip, flow.resp.ip)
            .map(|name| &**name),
    );
    let summary = match (channel.outward, reverse) {
        (true, true) => format!("lets others in through {what} to {other}: the far end asks"),
        (true, false) if forwards > 0 => {
            format!("reaches others through {what} to {other}: {forwards} connections so far")
        }
        (true, false) => format!("speaks {what} to {other}"),
        (false, _) => format!("is spoken to in {what} by {}", channel.other.ip),
    };
    Some(Verdict {
        evidence,
        protocol: "ssh",
        summary,
    })
}

impl SshTunnel {
    /// Takes a turn of any flow's. Whether something is news.
    fn turn(&mut self, flow: &Arc<FlowInfo>, turn: &Turn, time: Timestamp) -> bool {
        let Some(forwards) = self.open.peek_mut(&flow.id) else {
            return false;
        };
        let Some(to) = forwards.take(turn) else {
            return false;
        };
        let (alike, all) = forwards.granted(to);
        if alike < MIN_FORWARDS {
            return false;
        }
        let seen = &mut self.channels.see(flow, time).seen;
        if let Some(most) = seen.forwards.get_mut(to as usize) {
            *most = all.max(*most);
        }
        true
    }
}

impl Detector for SshTunnel {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::TURN,
            after: EventKinds::SSH,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let (flow, news) = match &event.kind {
            EventKind::Transaction {
                flow,
                transaction: Transaction::TlsRecords(records),
            } if records.from == 0 => {
                let bits = inside(records);
                if bits <= 0.0 {
                    return;
                }
                let seen = &mut self.channels.see(flow, event.time).seen;
                seen.inside = seen.inside.max(bits);
                (flow, true)
            }
            EventKind::Transaction {
                flow,
                transaction: Transaction::Ssh(SshMessage::Encrypted),
            } => {
                self.open.put(flow.id, Forwards::default());
                return;
            }
            EventKind::Turn { flow, turn } => (flow, self.turn(flow, turn, event.time)),
            EventKind::Recognised { flow, app: "ssh" } if goes_out(flow) => {
                self.channels.see(flow, event.time).seen.plain = true;
                (flow, true)
            }
            EventKind::Exchange {
                flow,
                exchange,
                app: Some("ssh" | "tls"),
            } if exchange.asker == Direction::Resp && goes_out(flow) => {
                let Some(seen) = self.channels.known(flow, event.time) else {
                    return;
                };
                (flow, seen.seen.exchange(exchange))
            }
            EventKind::FlowEnded { flow, record } => {
                self.open.pop(&flow.id);
                self.channels.ended(flow, record);
                return;
            }
            _ => return,
        };
        if news {
            if let Some(channel) = self.channels.known(flow, event.time) {
                channel.seen.flow.get_or_insert_with(|| Arc::clone(flow));
            }
            let judge = |channel: &Channel<Seen>| judge(channel, context);
            self.channels
                .report(&channel_key(flow), context, judge, out);
        }
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.channels
            .finish(context, |channel| judge(channel, context), out);
    }

    fn state_size(&self) -> StateSize {
        self.channels.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.channels.losses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::testing::{Bench, end, pod};
    use crate::flow::{Outcome, Protocol};
    use crate::identity::IdentityKind;

    const ID: &str = "ssh-tunnel";

    /// An SSH connection of a pod's to somebody outside, and its exchanges: who asks after how long, how much each says.
    fn ssh(port: u16, exchanges: &[(Direction, f64, u64, u64)]) -> Bench {
        let api = pod("10.244.1.7", "api");
        let server = end("192.0.2.50", IdentityKind::External, None);
        let mut bench = Bench::new(ID);
        let db = pod("10.244.1.3", "db");
        for n in 0..20 {
            bench.tcp(
                f64::from(n) * 3.0,
                (&api, &db),
                5432,
                Outcome::Answered,
                500,
            );
        }
        let flow = bench.begin(60.0, (&api, &server), Protocol::Tcp, port);
        let recognised = EventKind::Recognised {
            flow: Arc::clone(&flow),
            app: "ssh",
        };
        bench.event(60.0, recognised);
        let mut now = 60.0;
        for (number, &(asker, silence, asked, answered)) in (1..).zip(exchanges) {
            let before = Timestamp::from_secs_f64(now);
            now += silence;
            let exchange = Exchange {
                number,
                asker,
                start: Timestamp::from_secs_f64(now),
                answer: (answered > 0).then(|| Timestamp::from_secs_f64(now + 0.01)),
                end: Timestamp::from_secs_f64(now + 0.02),
                before,
                asked,
                answered,
            };
            now += 0.02;
            let flow = Arc::clone(&flow);
            let app = Some("ssh");
            bench.event(
                now,
                EventKind::Exchange {
                    flow,
                    exchange,
                    app,
                },
            );
        }
        bench
    }

    #[test]
    fn a_server_that_opens_channels_and_is_answered_is_found() {
        use Direction::Resp;
        let forwarded = [
            (Resp, 2.0, 111, 67),
            (Resp, 0.01, 63, 59),
            (Resp, 0.01, 111, 83),
            (Resp, 0.01, 111, 157),
            (Resp, 0.01, 169, 525),
            (Resp, 0.01, 95, 285),
        ];
        let bench = ssh(22, &[forwarded, forwarded].concat());
        assert!(bench.alerts(), "{}", bench.bits());
    }

    #[test]
    fn terminals_copies_and_signs_of_life_are_none() {
        use Direction::{Orig, Resp};
        let typing: Vec<_> = (0..200)
            .map(|n| (Orig, 0.3, 36, 36 + n * 7 % 900))
            .collect();
        assert!(!ssh(22, &typing).alerts());
        let alive = vec![(Resp, 15.0, 60, 44); 100];
        assert!(!ssh(22, &alive).alerts());
        // Output that came late, and the next key.
        let waiting: Vec<_> = (0..20).map(|n| (Resp, 5.0, 400 + n, 36)).collect();
        assert!(!ssh(22, &waiting).alerts());
        // A code host at the port of HTTPS, without a baseline.
        assert!(!ssh(443, &[(Orig, 0.1, 300, 40_000)]).alerts());
    }
}
