//! `websocket-tunnel`: another conversation inside a WebSocket.
//!
//! A WebSocket is for an application's own messages. A tunnel must put the bytes of what it carries into it, and unless it
//! encrypts them once more, their beginning shows what they are: SSH's banner, a TLS hello, a SOCKS greeting, a stream
//! multiplexer's first frame. Some tools also name themselves in the upgrade. Where the content hides (noise from the
//! first byte on, both ways) only a peer that is new to the workload makes it suspicious.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::channels::{Channel, Channels, Verdict, channel_key};
use super::{Context, Detector, DetectorSpec, Evidence, Family, Findings, StateSize};
use crate::dissect::{ByteMix, Carried, Content, Opening, Transaction, TunnelOpened};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::flow::Direction;
use crate::telemetry::LossCounts;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "websocket-tunnel",
    sees: EventKinds::TUNNEL
        .and(EventKinds::OPENING)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(WebSocketTunnel {
            channels: Channels::new(SPEC.id, signature.alert_bits, thresholds.max_channels),
        }))
    },
};

const CARRIER: &str = "websocket";
/// Kinds of content told apart per line.
const MAX_KINDS: usize = 16;

/// What content inside a WebSocket is worth. No application's messages are SSH, SOCKS, TLS, RDP, or a multiplexer's
/// frames: those stand on their own. Web consoles show VNC screens to browsers over WebSocket, some database services
/// are reached that way on purpose, and brokers (MQTT, AMQP, NATS, Kafka bridges, …) offer it as a transport: the last
/// say nothing.
const INSIDE: &[(&str, f64, bool)] = &[
    ("ssh", 24.0, true),
    ("socks", 24.0, true),
    ("tls", 22.0, true),
    ("rdp", 22.0, true),
    ("yamux", 20.0, true),
    ("smux", 20.0, true),
    ("http", 14.0, false),
    ("http2", 14.0, false),
    ("dns", 12.0, false),
    ("postgresql", 12.0, false),
    ("mysql", 12.0, false),
    ("redis", 12.0, false),
    ("mongodb", 12.0, false),
    ("smb", 20.0, false),
    ("ldap", 14.0, false),
    ("rfb", 6.0, false),
];
/// A tool that names itself.
const BITS_TOOL: f64 = 26.0;
/// Noise from the first byte on, both ways: at most one in a few hundred applications encrypts what it sends once more.
const BITS_NOISE: f64 = 8.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_channels: usize,
}

struct WebSocketTunnel {
    channels: Channels<Seen>,
}

/// What was seen on a line.
#[derive(Debug, Default)]
struct Seen {
    /// The host that the upgrade names.
    host: Option<Arc<str>>,
    tool: Option<&'static str>,
    /// Protocols inside, and in how many connections.
    inside: BTreeMap<&'static str, u64>,
    /// Directions whose first bytes were noise, and all that were judged.
    noise: [u64; 2],
    judged: [u64; 2],
}

impl Seen {
    fn open(&mut self, opened: &TunnelOpened) {
        if self.host.is_none() {
            self.host.clone_from(&opened.host);
        }
        self.tool = tool(opened).or(self.tool);
    }

    fn judge(&mut self, opening: &Opening) {
        let side = usize::from(opening.direction == Direction::Resp);
        if opening.mix == ByteMix::Few {
            return;
        }
        if let (Some(judged), Some(noise)) = (self.judged.get_mut(side), self.noise.get_mut(side)) {
            *judged += 1;
            *noise += u64::from(opening.mix == ByteMix::Random);
        }
    }

    /// Whether all that was judged is noise, both ways.
    fn is_noise(&self) -> bool {
        self.noise == self.judged && self.noise.iter().all(|noise| *noise > 0)
    }
}

/// The tool that an upgrade gives away: chisel names itself (`chisel-v3`); wstunnel asks for subprotocol `v1` beside a
/// token of its own, at a path that ends in `events`.
fn tool(opened: &TunnelOpened) -> Option<&'static str> {
    let subprotocol = opened.subprotocol.as_deref().unwrap_or_default();
    let path = opened.path.as_deref().unwrap_or_default();
    if subprotocol.starts_with("chisel-v") {
        Some("chisel")
    } else if opened.bears_token && subprotocol == "v1" && path.ends_with("/events") {
        Some("wstunnel")
    } else {
        None
    }
}

fn judge(channel: &Channel<Seen>, context: &Context<'_>) -> Option<Verdict> {
    let seen = &channel.seen;
    let mut evidence = Vec::new();
    let mut protocol = |feature, observed: f64, bits, signature_grade, text| {
        evidence.push(Evidence {
            feature,
            family: Family::Protocol,
            observed,
            expected: "an application's own messages".into(),
            bits,
            signature_grade,
            text,
        });
    };
    if let Some(tool) = seen.tool {
        let text = format!("the upgrade is that of the tunnel {tool}");
        protocol("websocket.tool", 1.0, BITS_TOOL, true, text);
    }
    for (name, bits, grade) in INSIDE {
        if let Some(times) = seen.inside.get(name) {
            let often = if *times == 1 { "" } else { ", again and again" };
            let text = format!("{} inside a WebSocket{often}", name.to_uppercase());
            protocol("websocket.carries", *times as f64, *bits, *grade, text);
        }
    }
    if seen.inside.is_empty() && seen.is_noise() {
        let text = "noise from the first byte on, both ways".to_owned();
        protocol(
            "websocket.noise",
            seen.noise.iter().sum::<u64>() as f64,
            BITS_NOISE,
            false,
            text,
        );
    }
    if evidence.is_empty() {
        return None;
    }
    evidence.extend(channel.novelty(context));
    let what = match (seen.inside.keys().next(), seen.tool) {
        (Some(_), _) => {
            let names: Vec<String> = seen.inside.keys().map(|name| name.to_uppercase()).collect();
            names.join(" and ")
        }
        (None, Some(tool)) => format!("what {tool} tunnels"),
        (None, None) => "encrypted content".into(),
    };
    let other = channel.other_name(seen.host.as_deref());
    let summary = if channel.outward {
        format!("tunnels {what} through a WebSocket to {other}")
    } else {
        format!(
            "is the far end of a tunnel: {what} came in a WebSocket from {}",
            channel.other.ip
        )
    };
    Some(Verdict {
        evidence,
        protocol: CARRIER,
        summary,
    })
}

impl WebSocketTunnel {
    fn carried(&mut self, flow: &Arc<FlowInfo>, event: &Event, carried: &Carried) -> bool {
        let seen = &mut self.channels.see(flow, event.time).seen;
        match &carried.content {
            Content::Protocol(name) => {
                if seen.inside.len() < MAX_KINDS || seen.inside.contains_key(name) {
                    *seen.inside.entry(name).or_default() += 1;
                }
                true
            }
            Content::Message(message) => match &**message {
                Transaction::Opening(opening) => {
                    seen.judge(opening);
                    true
                }
                _ => false,
            },
        }
    }
}

impl Detector for WebSocketTunnel {
    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        let (flow, transaction) = match &event.kind {
            EventKind::Transaction { flow, transaction } => (flow, transaction),
            EventKind::FlowEnded { flow, record } => {
                self.channels.ended(flow, record);
                return;
            }
            _ => return,
        };
        let news = match transaction {
            Transaction::TunnelOpened(opened) if opened.carrier == CARRIER => {
                self.channels.see(flow, event.time).seen.open(opened);
                true
            }
            Transaction::Carried(carried) if carried.carrier == CARRIER => {
                self.carried(flow, event, carried)
            }
            _ => false,
        };
        if news {
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
    use crate::dissect::{ShellMarks, SshMessage};
    use crate::flow::Protocol;
    use crate::identity::IdentityKind;

    const ID: &str = "websocket-tunnel";

    /// A WebSocket of a pod's to somebody outside, and what is seen of it.
    fn websocket(bench: &mut Bench, secs: f64, opened: TunnelOpened, contents: Vec<Content>) {
        let ends = (
            pod("10.244.1.7", "web"),
            end("192.0.2.61", IdentityKind::External, None),
        );
        let flow = bench.open(secs, (&ends.0, &ends.1), Protocol::Tcp, 8080);
        let opened = TunnelOpened {
            carrier: CARRIER,
            host: Some("live.example".into()),
            ..opened
        };
        let carried = contents.into_iter().map(|content| {
            Transaction::Carried(Carried {
                carrier: CARRIER,
                content,
            })
        });
        for transaction in std::iter::once(Transaction::TunnelOpened(opened)).chain(carried) {
            let flow = Arc::clone(&flow);
            bench.event(secs, EventKind::Transaction { flow, transaction });
        }
    }

    fn named(path: &str, subprotocol: &str, bears_token: bool) -> TunnelOpened {
        TunnelOpened {
            path: Some(path.into()),
            subprotocol: (!subprotocol.is_empty()).then(|| subprotocol.into()),
            bears_token,
            ..TunnelOpened::default()
        }
    }

    fn looks(direction: Direction, mix: ByteMix) -> Content {
        let opening = Opening {
            direction,
            bytes: 200,
            printable: 80,
            longest_printable: 4,
            framed: false,
            starts_printable: false,
            set_bits: 800,
            mix,
            shell: ShellMarks::default(),
        };
        Content::Message(Box::new(Transaction::Opening(opening)))
    }

    #[test]
    fn what_no_application_says_stands_on_its_own() {
        for name in ["ssh", "socks", "tls", "yamux"] {
            let mut bench = Bench::new(ID);
            websocket(
                &mut bench,
                10.0,
                named("/live", "", false),
                vec![Content::Protocol(name)],
            );
            assert!(bench.alerts(), "{name}");
            let finding = bench.findings.last().unwrap();
            assert_eq!(finding.actor.ip.to_string(), "10.244.1.7");
            assert!(
                finding
                    .evidence
                    .iter()
                    .any(|evidence| evidence.signature_grade)
            );
        }
    }

    #[test]
    fn tools_that_name_themselves() {
        for opened in [
            named("/", "chisel-v3", false),
            named("/v1/events", "v1", true),
        ] {
            let mut bench = Bench::new(ID);
            websocket(&mut bench, 10.0, opened, vec![]);
            assert!(bench.alerts());
        }
    }

    #[test]
    fn honest_websockets_are_left_alone() {
        let mut bench = Bench::new(ID);
        let text = || {
            vec![
                looks(Direction::Orig, ByteMix::Text),
                looks(Direction::Resp, ByteMix::Text),
            ]
        };
        let noise = vec![
            looks(Direction::Orig, ByteMix::Random),
            looks(Direction::Resp, ByteMix::Random),
        ];
        websocket(
            &mut bench,
            1.0,
            named("/graphql", "graphql-transport-ws", false),
            text(),
        );
        websocket(&mut bench, 2.0, named("/events", "", true), text());
        websocket(
            &mut bench,
            3.0,
            named("/api/v1/exec", "v5.channel.k8s.io", true),
            vec![],
        );
        websocket(
            &mut bench,
            4.0,
            named("/mqtt", "mqtt", false),
            vec![Content::Protocol("mqtt")],
        );
        websocket(
            &mut bench,
            5.0,
            named("/console", "binary", false),
            vec![Content::Protocol("rfb")],
        );
        websocket(
            &mut bench,
            6.0,
            named("/pg", "", false),
            vec![Content::Protocol("postgresql")],
        );
        websocket(&mut bench, 7.0, named("/stream", "", false), noise);
        bench.finish(100.0);
        assert!(!bench.alerts(), "{:?}", bench.findings);
    }

    #[test]
    fn a_habit_takes_bits_away_and_a_stranger_adds_them() {
        let noise = || {
            vec![
                looks(Direction::Orig, ByteMix::Random),
                looks(Direction::Resp, ByteMix::Random),
            ]
        };
        let ends = (
            pod("10.244.1.7", "web"),
            end("192.0.2.61", IdentityKind::External, None),
        );
        let other = end("198.51.100.9", IdentityKind::External, None);
        let learned = |whom| {
            let mut bench = Bench::new(ID);
            for hour in 0..40 {
                let at = f64::from(hour) * 3600.0;
                bench.tcp(
                    at,
                    (&ends.0, whom),
                    8080,
                    crate::flow::Outcome::Answered,
                    500,
                );
                for n in 1..200 {
                    bench.tcp(
                        at + 12.0 * f64::from(n),
                        (&ends.0, &other),
                        443,
                        crate::flow::Outcome::Answered,
                        500,
                    );
                }
            }
            bench.learned(ID)
        };
        let mut stranger = learned(&other);
        websocket(&mut stranger, 10.0, named("/live", "", false), noise());
        assert!(stranger.alerts(), "{}", stranger.bits());
        let mut habit = learned(&ends.1);
        websocket(
            &mut habit,
            10.0,
            named("/live", "", false),
            vec![Content::Protocol("tls")],
        );
        assert!(!habit.alerts(), "{}", habit.bits());
    }

    #[test]
    fn many_connections_are_one_attack_told_at_doublings() {
        let mut bench = Bench::new(ID);
        for n in 0..100 {
            websocket(
                &mut bench,
                f64::from(n),
                named("/", "", false),
                vec![
                    Content::Protocol("ssh"),
                    Content::Message(Box::new(Transaction::Ssh(SshMessage::Encrypted))),
                ],
            );
        }
        bench.finish(200.0);
        assert!(bench.findings.len() <= 9, "{}", bench.findings.len());
        assert!(
            bench
                .findings
                .iter()
                .all(|finding| finding.subject == bench.findings[0].subject)
        );
    }
}
