//! What tells a relay that somebody put there from one that is meant to be.
//!
//! Designed relays serve the port of what they relay (a pooler, an L4 load balancer), or relay the web, and were there
//! before. Forwards reach what isn't theirs to serve: a database behind a port that isn't a database's, or behind TLS or
//! SSH; they are asked by the end that they called; and they are new, on either leg.

use std::time::Duration;

use super::{Context, Face, Finding, Relay, SPEC, Side, Target};
use crate::detectors::{Evidence, Family};
use crate::features::{
    Callee, Likeness, Role, Strength, database_product, is_outside, is_session_port,
};
use crate::identity::IdentityKind;

/// A protocol on a port that isn't its own.
const BITS_FOREIGN_PORT: f64 = 7.0;
/// A database or a terminal behind something that hides what it carries.
const BITS_HIDDEN: f64 = 6.0;
/// Questions come from the end that was called.
const BITS_CALLED_ASKS: f64 = 6.0;
/// By its port, what is reached is a database or a terminal; the port that it is reached by isn't one's.
const BITS_BY_PORT: f64 = 5.0;
/// The web is relayed all day,
const BITS_WEB: f64 = -8.0;
/// and what is served on its own port by a relay is a pooler or a load balancer,
const BITS_OWN_PORT: f64 = -8.0;
/// unless somebody from outside is let in to a database so.
const BITS_OWN_PORT_OUTSIDE: f64 = -5.0;
/// The same port in and out, whatever is spoken.
const BITS_SAME_PORT: f64 = -6.0;
/// Each connection in has one out, and they begin together.
const BITS_TOGETHER: f64 = 3.0;
/// Both contacts are in the baseline.
pub(super) const BITS_LEARNED: f64 = -12.0;
const MOST_BITS_NOVEL: f64 = 10.0;
const MOST_BITS_NOVEL_EACH: f64 = 8.0;
/// Without a baseline: a leg that was first used this long after the pod was first seen.
const LATER: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_mins(1);
const BITS_LATER: f64 = 4.0;
const BITS_LATE: f64 = 6.0;
const BITS_WAS_THERE: f64 = -3.0;
/// Several workloads come in there.
pub(super) const BITS_WELL_KNOWN: f64 = -4.0;
pub(super) const WELL_KNOWN: usize = 3;
/// So long it takes the members of a cluster to meet.
const MEETING: Duration = Duration::from_secs(10);

/// Ports on which poolers and proxies of databases listen, beside the databases' own.
const POOLERS: [(u16, &str); 8] = [
    (5433, "postgresql"),
    (6032, "mysql"),
    (6033, "mysql"),
    (6380, "redis"),
    (6432, "postgresql"),
    (9999, "postgresql"),
    (22121, "redis"),
    (26379, "redis"),
];
/// Terminals and file servers.
pub(super) const TERMINALS: [u16; 8] = [22, 23, 139, 445, 2222, 3389, 5900, 5985];

/// What a relay comes to that is as sure as that.
pub(super) fn finding(relay: &Relay, strength: Strength, context: &Context<'_>) -> Option<Finding> {
    let (front, back) = relay.faces();
    if are_members(relay, front, back, context) {
        context.remark(SPEC.id, &front.flow, || {
            "members of one cluster tell each other the same".into()
        });
        return None;
    }
    let evidence = vec![
        coupling(&strength),
        protocol(front, back),
        novelty(relay, front, back, context),
        together(relay),
    ];
    let protocol = back.app.or(front.app);
    let target = |face: &Face| Target {
        endpoint: Some(face.peer().clone()),
        port: match face.side {
            Side::Called(_, port) => Some(port),
            Side::Served(_) => None,
        },
        protocol: protocol.or(Some("tcp")),
        domain: context
            .peers
            .domain(relay.actor.ip, face.peer().ip)
            .cloned(),
    };
    let manner = match strength.likeness {
        Likeness::Equal => "byte for byte",
        Likeness::Sealed | Likeness::Similar => "wrapped anew",
    };
    let what = protocol.map_or_else(String::new, |app| format!(" ({app})"));
    let from = match front.side {
        Side::Served(port) => format!("what comes in on port {port}"),
        Side::Called(ip, port) => format!("what {ip}:{port} asks, which it called itself,"),
    };
    let to = match back.side {
        Side::Served(port) => format!("{} on port {port}", back.peer().ip),
        Side::Called(ip, port) => format!("{ip}:{port}"),
    };
    let (pairs, _) = relay.pairing.counted(relay.front());
    Some(Finding {
        signature: "relay-pivot",
        subject: subject(front),
        actor: relay.actor.clone(),
        first: relay.first,
        last: relay.last,
        targets: vec![target(back), target(front)],
        target_count: 1,
        evidence,
        flows: relay.flows.clone(),
        summary: format!(
            "passes on {from} to {to}{what}, {manner}, over {pairs} pair{} of connections",
            if pairs == 1 { "" } else { "s" }
        ),
    })
}

/// Whether a pod and the two that it called are members of one cluster: it called the same port of both, and they are
/// replicas of its own workload, or speak with each other there. Members tell all others the same and hear the same from
/// them. A relay leads where the asker doesn't reach himself. Nobody outside is a member.
fn are_members(relay: &Relay, front: &Face, back: &Face, context: &Context<'_>) -> bool {
    let (Side::Called(one, port), Side::Called(other, same)) = (front.side, back.side) else {
        return false;
    };
    let peers = [front, back].map(|face| &face.peer().who.identity);
    if port != same || peers.iter().any(|peer| peer.kind == IdentityKind::External) {
        return false;
    }
    let workload = &relay.actor.who.identity.workload;
    let replicas = workload.is_some() && peers.iter().all(|peer| peer.workload == *workload);
    // Those that are only meeting may speak with each other in a moment.
    let meeting = || relay.last.since(relay.first) < MEETING;
    replicas || meeting() || context.acquaintances.converse(one, other, port)
}

fn subject(front: &Face) -> String {
    match front.side {
        Side::Served(port) => format!("port {port}"),
        Side::Called(ip, port) => format!("{ip}:{port}"),
    }
}

impl Relay {
    /// The place of the side that questions come in by.
    fn front(&self) -> usize {
        let [one, other] = &self.sides;
        let served = |face: &Face| matches!(face.side, Side::Served(_));
        match (served(one), served(other)) {
            (true, false) => 0,
            (false, true) => 1,
            _ => usize::from(one.asked < other.asked),
        }
    }

    /// That side, and the one that they go out by.
    fn faces(&self) -> (&Face, &Face) {
        let [one, other] = &self.sides;
        if self.front() == 0 {
            (one, other)
        } else {
            (other, one)
        }
    }
}

fn coupling(strength: &Strength) -> Evidence {
    let (couples, fitting) = strength.couples;
    let how = match strength.likeness {
        Likeness::Equal => "as long, to the byte",
        Likeness::Sealed => "as long, but for the same seal on each record",
        Likeness::Similar => "as long, but for a wrapping",
    };
    Evidence {
        feature: "relay.coupling",
        family: Family::Volume,
        observed: fitting as f64,
        expected: "lengths that don't agree, or agree by chance".into(),
        bits: strength.weight(),
        signature_grade: false,
        text: format!(
            "{fitting} of {couples} different exchanges went in and out {how}, both ways"
        ),
    }
}

fn port(face: &Face) -> u16 {
    face.flow.resp_port
}

/// What relays carry as their job.
fn is_web(app: Option<&str>) -> bool {
    matches!(
        app,
        Some("http" | "http2" | "tls" | "websocket" | "upgrade" | "connect")
    )
}

/// What hides what it carries.
fn is_cover(app: Option<&str>) -> bool {
    matches!(
        app,
        Some("tls" | "ssh" | "websocket" | "upgrade" | "connect" | "socks")
    )
}

fn is_terminal(app: &str) -> bool {
    matches!(app, "ssh" | "telnet" | "rdp" | "rfb" | "smb")
}

/// Whether a port is a database's, a queue's or a pooler's, as far as is known the right one.
fn is_own_port(app: Option<&str>, port: u16) -> bool {
    let product = database_product(port);
    match app {
        Some(app) if app != "tls" => {
            product.is_some_and(|product| product.0 == app)
                || POOLERS.contains(&(port, app))
                || product.is_none() && is_session_port(port)
                || is_terminal(app) && TERMINALS.contains(&port)
        }
        _ => {
            product.is_some()
                || POOLERS.iter().any(|(pooler, _)| *pooler == port)
                || is_session_port(port)
        }
    }
}

fn protocol(front: &Face, back: &Face) -> Evidence {
    let (bits, text) = weigh(front, back);
    Evidence {
        feature: "relay.protocol",
        family: Family::Protocol,
        observed: f64::from(port(front)),
        expected: "the web, or the port that belongs to what is reached".into(),
        bits,
        signature_grade: false,
        text,
    }
}

fn weigh(front: &Face, back: &Face) -> (f64, String) {
    let named = |app: Option<&'static str>| app.filter(|app| !is_web(Some(app)));
    let reached = named(back.app).or_else(|| named(front.app).filter(|app| !is_cover(Some(app))));
    let (front_port, back_port) = (port(front), port(back));
    let target_by_port = database_product(back_port).is_some() || TERMINALS.contains(&back_port);
    // A session in clear that goes on inside something else.
    let in_clear = front
        .app
        .filter(|app| !is_web(Some(app)) && *app != "socks");
    if let Side::Called(ip, _) = front.side {
        if in_clear.is_none() && is_web(back.app) && !is_cover_of_target(back, target_by_port) {
            return (0.0, "what is reached is the web".into());
        }
        return (
            BITS_CALLED_ASKS,
            format!("the pod called {ip}, and yet is asked by it"),
        );
    }
    if is_web(front.app) && is_web(back.app) && !target_by_port {
        if back.for_itself {
            let text =
                "the web, but it asks others for its own address: the words are its client's";
            return (0.0, text.into());
        }
        return (BITS_WEB, "the web is what proxies relay".into());
    }
    if matches!(front.app, Some("http" | "http2")) {
        return (BITS_WEB, "questions come in by HTTP".into());
    }
    if let (Some("ssh"), Some("tls")) = (front.app, back.app) {
        return (BITS_HIDDEN, "ssh goes on inside tls".into());
    }
    let Some(app) = reached else {
        return by_port(front_port, back_port, target_by_port, front);
    };
    if is_cover(front.app) && front.app != Some(app) && !is_own_port(front.app, front_port)
        || front.app == Some("ssh") && app != "ssh"
    {
        let cover = front.app.unwrap_or("something else");
        return (BITS_HIDDEN, format!("{app} is reached inside {cover}"));
    }
    if is_own_port(Some(app), front_port) {
        if is_terminal(app) {
            return (0.0, format!("{app}, on its own port"));
        }
        return own_port(front, app);
    }
    (
        BITS_FOREIGN_PORT,
        format!("{app} is reached by port {front_port}, which isn't its own"),
    )
}

/// Whether TLS on the way out goes where no web is.
fn is_cover_of_target(back: &Face, target_by_port: bool) -> bool {
    back.app == Some("tls") && target_by_port
}

fn own_port(front: &Face, app: &str) -> (f64, String) {
    if is_outside(front.peer()) {
        let text = format!("{app} on its own port, but for somebody outside");
        return (BITS_OWN_PORT_OUTSIDE, text);
    }
    (BITS_OWN_PORT, format!("{app} on its own port"))
}

/// Nobody knows what is spoken.
fn by_port(front_port: u16, back_port: u16, target: bool, front: &Face) -> (f64, String) {
    let own = is_own_port(None, front_port) || TERMINALS.contains(&front_port);
    if target && !own {
        let text = format!("port {back_port} is reached by port {front_port}");
        return (BITS_BY_PORT, text);
    }
    if own {
        return own_port(front, "what belongs there");
    }
    if front_port == back_port {
        return (BITS_SAME_PORT, "the same port in and out".into());
    }
    (0.0, "nothing known of what is spoken".into())
}

fn together(relay: &Relay) -> Evidence {
    let (pairs, together) = relay.pairing.counted(relay.front());
    // A few connections of either side meet by chance.
    let bits = if together.saturating_mul(5) >= pairs.saturating_mul(4) {
        BITS_TOGETHER
    } else {
        0.0
    };
    Evidence {
        feature: "relay.together",
        family: Family::Timing,
        observed: f64::from(together),
        expected: "connections of different ages".into(),
        bits,
        signature_grade: false,
        text: format!(
            "{together} of {pairs} connections began together with one on the other side"
        ),
    }
}

/// How new the relay is: by the baseline of the pod's workload, or by what began while we watched.
fn novelty(relay: &Relay, front: &Face, back: &Face, context: &Context<'_>) -> Evidence {
    let (bits, expected, text) = learned(relay, [front, back], context)
        .unwrap_or_else(|| watched(relay, [front, back], context));
    Evidence {
        feature: "relay.newness",
        family: Family::Novelty,
        observed: bits,
        expected,
        bits,
        signature_grade: false,
        text,
    }
}

fn learned(
    relay: &Relay,
    faces: [&Face; 2],
    context: &Context<'_>,
) -> Option<(f64, String, String)> {
    let profile = context.profile(&relay.actor)?;
    let surprise = |face: &Face| {
        let (contact, role) = match face.side {
            Side::Served(_) => (context.peers.server_contact(&face.flow), Role::Server),
            Side::Called(..) => (context.peers.client_contact(&face.flow), Role::Client),
        };
        let known = contact.is_some_and(|contact| profile.knows(&contact));
        (!known).then(|| {
            let novel = profile.novelty_bits(role);
            novel.max(lateness(age(relay, face, context)))
        })
    };
    let known = "contacts that the workload's baseline knows".to_owned();
    let [front, back] = faces.map(surprise);
    let which = match (front, back) {
        (None, None) => return Some((BITS_LEARNED, known, "the baseline knows both legs".into())),
        (Some(_), Some(_)) => "neither leg is",
        (Some(_), None) => "the leg in isn't",
        (None, Some(_)) => "the leg out isn't",
    };
    let bits: f64 = [front, back]
        .into_iter()
        .flatten()
        .map(|bits| bits.min(MOST_BITS_NOVEL_EACH))
        .sum();
    let text = format!("{which} in the workload's baseline");
    Some((bits.min(MOST_BITS_NOVEL), known, text))
}

/// How long the pod had been watched when a leg was first used.
fn age(relay: &Relay, face: &Face, context: &Context<'_>) -> Duration {
    let pod = relay.actor.ip;
    match face.side {
        Side::Served(_) => relay
            .served
            .zip(context.debuts.seen(pod))
            .map(|(served, seen)| served.since(seen)),
        Side::Called(..) => {
            let callee = Callee::of(&face.flow, context.peers);
            context.debuts.watched_before(pod, &callee)
        }
    }
    .unwrap_or_default()
}

pub(super) fn lateness(age: Duration) -> f64 {
    if age >= LATE {
        BITS_LATE
    } else if age >= LATER {
        BITS_LATER
    } else {
        BITS_WAS_THERE
    }
}

fn watched(relay: &Relay, faces: [&Face; 2], context: &Context<'_>) -> (f64, String, String) {
    let [front, back] = faces;
    let late = age(relay, front, context).max(age(relay, back, context));
    let strange = siblings(relay, back, context);
    let callers = match front.side {
        Side::Served(port) => {
            let door = Callee::Address(relay.actor.ip, port);
            context.debuts.callers(&door)
        }
        Side::Called(..) => 0,
    };
    let crowd = if callers >= WELL_KNOWN {
        BITS_WELL_KNOWN
    } else {
        0.0
    };
    let also = if strange > 0.0 {
        "; its siblings don't"
    } else {
        ""
    };
    let secs = late.as_secs();
    (
        lateness(late).max(strange) + crowd,
        "a relay from the start, or one with many clients".into(),
        format!("a leg was first used {secs} s after the pod was first seen{also}"),
    )
}

/// What the pod's siblings never do.
fn siblings(relay: &Relay, back: &Face, context: &Context<'_>) -> f64 {
    let contact = match back.side {
        Side::Called(..) => context.peers.client_contact(&back.flow),
        Side::Served(_) => None,
    };
    contact.map_or(0.0, |contact| {
        let siblings = context.replicas.siblings(&relay.actor, &contact);
        siblings.novelty_bits().min(BITS_LATE)
    })
}
