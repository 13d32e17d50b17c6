//! What somebody asks to have explained: a conversation, all that a workload or a pod does, or an alert.

use ipnetwork::IpNetwork;

use crate::alert::{Glob, flow_community_id, holder};
use crate::detectors::Finding;
use crate::event::{Endpoint, FlowInfo};
use crate::features::{DomainName, PeerNamer, Role};

/// Why a selector can't be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} asks for nothing: {problem}; {FORMS}")]
pub struct SelectorError {
    text: String,
    problem: &'static str,
}

const FORMS: &str = "write WHO or WHO,WHOM, each a workload (shop/cart), a pod, an address, a range or a domain, with ,:PORT behind if you like; or a Community ID, or an alert's id";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Selector {
    text: String,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// What an end does, with another one if there is one, at a port if there is one.
    Ends {
        who: Option<Pattern>,
        whom: Option<Pattern>,
        port: Option<u16>,
    },
    /// The flow with this Community ID.
    Flow(String),
    /// The alert with this id.
    Alert(String),
}

#[derive(Clone, Debug)]
enum Pattern {
    Network(IpNetwork),
    Name(Glob),
}

impl Pattern {
    fn new(text: &str) -> Self {
        if let Ok(network) = text.parse() {
            return Self::Network(network);
        }
        let dotted = text.contains('.') && !text.contains(['/', '*', '?']);
        // Domains are told apart by what is registered.
        let domain = DomainName::split(text).filter(|_| dotted);
        Self::Name(Glob::new(domain.map_or(text, |domain| domain.registered)))
    }

    fn matches(&self, end: &Endpoint, domain: Option<&str>) -> bool {
        let glob = match self {
            Self::Network(network) => return network.contains(end.ip),
            Self::Name(glob) => glob,
        };
        let identity = &end.who.identity;
        let workload = identity.workload.as_ref().is_some_and(|workload| {
            let short = format!("{}/{}", workload.namespace, workload.name);
            [&workload.to_string(), &short, &*workload.name]
                .into_iter()
                .any(|name| glob.matches(name))
        });
        workload
            || holder(end).is_some_and(|name| glob.matches(&name))
            || identity
                .name
                .as_deref()
                .is_some_and(|name| glob.matches(name))
            || domain.is_some_and(|domain| glob.matches(domain))
    }
}

impl Selector {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// When it names nobody, or more than two ends.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let error = |problem| SelectorError {
            text: text.to_owned(),
            problem,
        };
        let (mut ends, mut port) = (Vec::new(), None);
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(error("a part is empty"));
            } else if let Some(number) = part.strip_prefix(':') {
                let number = number.parse().map_err(|_| error("that is no port"))?;
                port = Some(number);
            } else {
                ends.push(part);
            }
        }
        let is_id = |part: &str| part.len() == 16 && part.bytes().all(|b| b.is_ascii_hexdigit());
        let what = match (ends.as_slice(), port) {
            ([id], None) if is_id(id) => What::Alert(id.to_ascii_lowercase()),
            ([id], None) if id.starts_with("1:") && id.ends_with('=') => {
                What::Flow((*id).to_owned())
            }
            ([], None) => return Err(error("it names nobody")),
            ([..], port) if ends.len() <= 2 => {
                // Whoever it is, named or not.
                let mut ends = ends
                    .into_iter()
                    .map(|end| (end != "*").then(|| Pattern::new(end)));
                What::Ends {
                    who: ends.next().flatten(),
                    whom: ends.next().flatten(),
                    port,
                }
            }
            _ => return Err(error("it names more than two ends")),
        };
        Ok(Self {
            text: text.to_owned(),
            what,
        })
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id of the alert asked for, if it is one.
    pub(super) fn alert(&self) -> Option<&str> {
        match &self.what {
            What::Alert(id) => Some(id),
            _ => None,
        }
    }

    /// Whether a flow is asked for, and as whose: its originator's or its responder's.
    pub(super) fn flow(&self, flow: &FlowInfo, peers: &PeerNamer) -> Option<Role> {
        match &self.what {
            What::Flow(id) => (flow_community_id(flow) == *id).then_some(Role::Client),
            What::Alert(_) => None,
            What::Ends { .. } => {
                let port = Some(flow.resp_port);
                let called = flow.service.as_deref().map(|(service, _)| service);
                self.ends(&flow.orig, Some(&flow.resp), port, peers)
                    .or_else(|| self.ends(&flow.orig, Some(called?), port, peers))
            }
        }
    }

    /// The same of two ends, as far as they are known.
    pub(super) fn ends(
        &self,
        orig: &Endpoint,
        resp: Option<&Endpoint>,
        at: Option<u16>,
        peers: &PeerNamer,
    ) -> Option<Role> {
        let What::Ends { who, whom, port } = &self.what else {
            return None;
        };
        if !is_at(*port, at) {
            return None;
        }
        let domain = resp.and_then(|resp| peers.domain(orig.ip, resp.ip));
        let domain = domain.map(|domain| &**domain);
        let is = |pattern: &Option<Pattern>, end: &Endpoint, domain: Option<&str>| {
            pattern
                .as_ref()
                .is_none_or(|pattern| pattern.matches(end, domain))
        };
        if is(who, orig, None) && resp.is_none_or(|resp| is(whom, resp, domain)) {
            return Some(Role::Client);
        }
        let resp = resp?;
        (is(who, resp, domain) && is(whom, orig, None)).then_some(Role::Server)
    }

    /// Whether a finding is about what is asked for. What an actor does to more than can be listed is.
    pub(super) fn finding(&self, finding: &Finding, peers: &PeerNamer) -> bool {
        if self.alert().is_some() {
            // Whose it is comes out at the end.
            return true;
        }
        if finding
            .flows
            .iter()
            .any(|flow| self.flow(flow, peers).is_some())
        {
            return true;
        }
        let listed = finding.target_count <= finding.targets.len() as u64;
        if finding.targets.is_empty() || !listed {
            let whole = self.ends(&finding.actor, None, None, peers);
            if whole.is_some() {
                return true;
            }
        }
        finding.targets.iter().any(|target| {
            let end = target.endpoint.as_ref();
            let by_domain = target.domain.as_deref().is_some_and(|domain| {
                let What::Ends { who, whom, port } = &self.what else {
                    return false;
                };
                is_at(*port, target.port)
                    && who
                        .as_ref()
                        .is_none_or(|who| who.matches(&finding.actor, None))
                    && match whom {
                        Some(Pattern::Name(glob)) => glob.matches(domain),
                        Some(Pattern::Network(_)) => false,
                        None => true,
                    }
            });
            by_domain
                || end.is_some_and(|end| {
                    self.ends(&finding.actor, Some(end), target.port, peers)
                        .is_some()
                })
        })
    }
}

/// Whether something at a port is asked for, as far as that is known.
fn is_at(asked: Option<u16>, at: Option<u16>) -> bool {
    asked.is_none() || at.is_none() || asked == at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::{external, finding, flow, pod};

    fn asks(text: &str, flow: &FlowInfo) -> Option<Role> {
        let selector = Selector::parse(text).unwrap();
        selector.flow(flow, &PeerNamer::default())
    }

    #[test]
    fn a_flow_is_asked_for_by_either_end_and_by_both() {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let outside = external("203.0.113.7");
        let flow = flow(1, &cart, &outside, 443);
        for text in [
            "shop/cart",
            "shop/Deployment/cart",
            "shop/*",
            "cart",
            "shop/cart-7d4b9c6f5-x2x9k",
            "10.244.1.7",
            "10.244.0.0/16,203.0.113.7",
            "shop/cart,:443",
            ":443",
            "*,:443",
            "*,203.0.113.7",
        ] {
            assert_eq!(asks(text, &flow), Some(Role::Client), "{text}");
        }
        assert_eq!(asks("203.0.113.7", &flow), Some(Role::Server));
        assert_eq!(asks("203.0.113.7,cart", &flow), Some(Role::Server));
        let id = flow_community_id(&flow);
        assert_eq!(asks(&id, &flow), Some(Role::Client));
        for text in [
            "shop/car",
            "shop/cart,:80",
            "shop/cart,192.0.2.1",
            "pay/cart",
            "0123456789abcdef",
        ] {
            assert_eq!(asks(text, &flow), None, "{text}");
        }
    }

    #[test]
    fn a_finding_is_asked_for_by_its_actor_its_targets_or_both() {
        let peers = PeerNamer::default();
        let asks =
            |text: &str, finding: &Finding| Selector::parse(text).unwrap().finding(finding, &peers);
        let mut scan = finding(0, 9, 20.0);
        scan.target_count = scan.targets.len() as u64;
        for text in ["shop/cart", "shop/db", "shop/cart,shop/db", "shop/db,:5432"] {
            assert!(asks(text, &scan), "{text}");
        }
        for text in ["shop/api", "shop/cart,shop/api", "shop/db,:443"] {
            assert!(!asks(text, &scan), "{text}");
        }
        scan.targets[0].domain = Some("db.example".into());
        assert!(asks("shop/cart,:5432", &scan) && !asks("shop/cart,:443", &scan));
        // Of targets that aren't listed nobody knows who they are.
        scan.target_count = 57;
        assert!(asks("shop/cart,shop/api", &scan));
        assert!(!asks("shop/api", &scan));
    }

    #[test]
    fn what_asks_for_nothing_is_refused() {
        for text in ["", " ", "a,,b", "a,b,c", ":x", ":99999"] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains("WHO,WHOM"), "{text}: {error}");
        }
        assert_eq!(
            Selector::parse("0123456789ABCDEF").unwrap().alert(),
            Some("0123456789abcdef")
        );
    }
}
