//! Guesses at what a web server has: names out of a list, one after the other, most of which aren't there.
//!
//! A program knows the paths that it asks for; what it misses is a thing here and there below a place that exists (a user,
//! a picture, a package, a cached result). Who looks for what there is asks for place after place, so each first part of a
//! path counts once per server, there or not, in a sequential test as for names of services. Left out are those who ask on
//! behalf of others and say so, or were asked for the same; who shows credentials; databases, whose indices are asked for
//! before they are made; what browsers ask every server for; and what looks like a number or a hash, as caches are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::watch::{Watch, Watched, weigh};
use super::super::{Context, Evidence, Family, Finding, Findings, Target};
use super::{MAX_REMEMBERED, MAX_TEST_BITS, MOST_LISTED, SPEC};
use crate::dissect::{HttpRequest, HttpResponse};
use crate::event::{Endpoint, FlowInfo};
use crate::features::{Bounded, SequentialTest, database_product};
use crate::flow::FlowId;
use crate::identity::IdentityKind;
use crate::time::Timestamp;

/// Of the places that an honest client asks for this share exists at least, and of those on a list this at most. Front ends
/// that are broken miss a dozen.
const THETA0: f64 = 0.7;
const THETA1: f64 = 0.3;
/// What nobody asks for but who hopes that it was left there.
const BITS_PER_TELL_TALE: f64 = 4.0;
const MAX_TELL_TALE_BITS: f64 = 16.0;
/// A program made for it says so.
const BITS_TOOL: f64 = 8.0;
/// The longest that a word is, and the most digits in it.
const MAX_WORD: usize = 32;
const MAX_DIGITS: usize = 3;
/// From so many hexadecimal digits on it is a hash.
const HASH: usize = 8;

const NOT_FOUND: u16 = 404;
const GONE: u16 = 410;

/// What browsers and crawlers ask every server for.
const EVERYWHERE: &[&str] = &[
    "favicon.ico",
    "robots.txt",
    "sitemap.xml",
    "humans.txt",
    "ads.txt",
    "manifest.json",
    "site.webmanifest",
    "browserconfig.xml",
    "apple-touch-icon.png",
    "apple-touch-icon-precomposed.png",
    ".well-known",
];

/// How paths begin at which secrets and consoles are hoped for.
const TELL_TALES: &[&str] = &[
    "/.git/",
    "/.svn/",
    "/.hg/",
    "/.env",
    "/.aws/",
    "/.ssh/",
    "/.htpasswd",
    "/.htaccess",
    "/.ds_store",
    "/.bash_history",
    "/wp-login",
    "/wp-admin",
    "/wp-config",
    "/xmlrpc.php",
    "/phpmyadmin",
    "/phpinfo",
    "/cgi-bin/",
    "/server-status",
    "/actuator/env",
    "/actuator/heapdump",
    "/manager/html",
    "/web.config",
    "/id_rsa",
    "/backup.",
    "/dump.sql",
    "/shell.php",
    "/boaform",
    "/vendor/phpunit",
];

/// What tools for it call themselves.
const TOOLS: &[&str] = &[
    "gobuster",
    "fuzz faster",
    "feroxbuster",
    "wfuzz",
    "dirbuster",
    "dirb",
    "nikto",
    "nuclei",
    "nmap scripting",
    "whatweb",
    "wpscan",
];

pub(super) struct Paths {
    /// By conversation, what was asked last and isn't answered.
    asked: Bounded<FlowId, Asked>,
    sources: Watch<Tried>,
    test: SequentialTest,
    alert_bits: f64,
}

/// A request.
struct Asked {
    guess: bool,
    path: Arc<str>,
    agent: Option<Arc<str>>,
}

type Place = (IpAddr, u16, Box<str>);

/// What a source has tried.
#[derive(Default)]
pub(super) struct Tried {
    /// First parts of paths, by server, and whether they were missed.
    places: BTreeMap<Place, bool>,
    test_bits: f64,
    missed: u64,
    tell_tales: BTreeSet<Arc<str>>,
    tool: Option<Arc<str>>,
    servers: Vec<(Endpoint, u16)>,
    samples: Vec<Arc<str>>,
    flows: Vec<Arc<FlowInfo>>,
}

impl Paths {
    pub(super) fn new(sources: Watch<Tried>, room: usize, alert_bits: f64) -> Self {
        Self {
            asked: Bounded::new(room),
            sources,
            test: SequentialTest::new(THETA0, THETA1),
            alert_bits,
        }
    }

    pub(super) const fn sources(&self) -> &Watch<Tried> {
        &self.sources
    }

    pub(super) fn request(
        &mut self,
        flow: &FlowInfo,
        request: &HttpRequest,
        context: &Context<'_>,
    ) {
        let guess = may_guess(flow, request, context);
        // What is asked of one who seems to guess may be where he has it from.
        if guess || self.sources.known(&flow.resp).is_some() {
            let asked = Asked {
                guess,
                path: Arc::clone(&request.path),
                agent: request.user_agent.clone(),
            };
            self.asked.put(flow.id, asked);
        }
    }

    pub(super) fn response(
        &mut self,
        flow: &Arc<FlowInfo>,
        response: &HttpResponse,
        time: Timestamp,
        out: &mut Findings,
    ) {
        let missed = match response.status {
            NOT_FOUND | GONE => true,
            200..=399 | 401 | 403 | 405 => false,
            _ => return,
        };
        let Some(asked) = self.asked.pop(&flow.id) else {
            return;
        };
        let Some(word) = word(&asked.path) else {
            return;
        };
        if missed {
            self.was_relayed(flow, &word, &asked.path);
        }
        if !asked.guess {
            return;
        }
        // A success where nothing was missed needs no memory.
        if !missed && self.sources.known(&flow.orig).is_none() {
            return;
        }
        let test = self.test;
        let source = self.sources.sign(&flow.orig, time);
        let tried = &mut source.state;
        let place = (flow.resp.ip, flow.resp_port, word);
        if tried.places.len() >= MAX_REMEMBERED || tried.places.contains_key(&place) {
            return;
        }
        tried.places.insert(place, missed);
        tried.test_bits = test.step(tried.test_bits, !missed).min(MAX_TEST_BITS);
        if !missed {
            return;
        }
        tried.missed += 1;
        tried.list(flow, &asked.path);
        let agent = asked.agent.filter(|agent| is_tool(agent));
        tried.tool = tried.tool.take().or(agent);
        if weigh(&tried.evidence()) >= self.alert_bits && source.is_news(source.state.missed) {
            out.push(finding(source));
        }
    }

    /// Whoever was asked for what he asks for himself only passes it on.
    fn was_relayed(&mut self, flow: &FlowInfo, word: &str, path: &str) {
        let test = self.test;
        let Some(relay) = self.sources.known(&flow.resp) else {
            return;
        };
        let tried = &mut relay.state;
        let same = |(place, missed): &(&Place, &mut bool)| **missed && *place.2 == *word;
        let Some((_, missed)) = tried.places.iter_mut().find(same) else {
            return;
        };
        *missed = false;
        tried.missed -= 1;
        tried.test_bits = (tried.test_bits - test.step_bits(false)).max(0.0);
        tried.tell_tales.remove(path);
    }

    pub(super) fn stale(&mut self, now: Timestamp) -> Vec<Finding> {
        self.sources.stale(now).iter().map(finding).collect()
    }

    pub(super) fn finish(&mut self) -> Vec<Finding> {
        self.sources.all().iter().map(finding).collect()
    }
}

/// Whether a request may be a guess at what a server inside has.
fn may_guess(flow: &FlowInfo, request: &HttpRequest, context: &Context<'_>) -> bool {
    let inside =
        |end: &Endpoint| end.who.identity.kind == IdentityKind::Service || context.may_be_pod(end);
    matches!(&*request.method, "GET" | "HEAD")
        && !request.forwarded
        && !request.for_proxy
        && request.authorization.is_none()
        && database_product(flow.resp_port).is_none()
        && inside(&flow.orig)
        && inside(&flow.resp)
}

fn is_tool(agent: &str) -> bool {
    let agent = agent.to_ascii_lowercase();
    TOOLS.iter().any(|known| agent.contains(known))
}

/// The first part of a path, in lower case, if it may stand on a list of words.
fn word(path: &str) -> Option<Box<str>> {
    let first = path.strip_prefix('/')?.split('/').next()?;
    let word = first.to_ascii_lowercase();
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hash = word.len() >= HASH && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = word.len() <= MAX_WORD
        && digits <= MAX_DIGITS
        && word
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'%')
        && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    (fits && !hash && !EVERYWHERE.contains(&&*word)).then(|| word.into())
}

impl Tried {
    fn list(&mut self, flow: &Arc<FlowInfo>, path: &Arc<str>) {
        let lower = path.to_ascii_lowercase();
        if TELL_TALES.iter().any(|tale| lower.starts_with(tale))
            && self.tell_tales.len() < MOST_LISTED
        {
            self.tell_tales.insert(Arc::clone(path));
        }
        let server = (flow.resp.ip, flow.resp_port);
        let known = |(end, port): &(Endpoint, u16)| (end.ip, *port) == server;
        if self.servers.len() < MOST_LISTED && !self.servers.iter().any(known) {
            self.servers.push((flow.resp.clone(), flow.resp_port));
        }
        if self.samples.len() < MOST_LISTED {
            self.samples.push(Arc::clone(path));
        }
        if self.flows.len() < MOST_LISTED && self.flows.iter().all(|known| known.id != flow.id) {
            self.flows.push(Arc::clone(flow));
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        let one = |feature, family, observed: f64, expected: &str, bits, text| Evidence {
            feature,
            family,
            observed,
            expected: expected.into(),
            bits,
            signature_grade: false,
            text,
        };
        let mut evidence = vec![one(
            "http.places_missed",
            Family::Outcome,
            self.missed as f64,
            "few: a program knows what it asks for",
            self.test_bits,
            format!(
                "{} of {} places asked for aren't there",
                self.missed,
                self.places.len()
            ),
        )];
        if let Some(first) = self.tell_tales.first() {
            let count = self.tell_tales.len() as f64;
            evidence.push(one(
                "http.tell_tale_paths",
                Family::Protocol,
                count,
                "0",
                (count * BITS_PER_TELL_TALE).min(MAX_TELL_TALE_BITS),
                format!("{count} of them are where secrets are forgotten, such as {first}"),
            ));
        }
        if let Some(tool) = &self.tool {
            evidence.push(one(
                "http.tool",
                Family::Protocol,
                1.0,
                "programs that use a server",
                BITS_TOOL,
                format!("the client calls itself {tool}"),
            ));
        }
        evidence
    }
}

fn finding(source: &Watched<Tried>) -> Finding {
    let tried = &source.state;
    let shown: Vec<&str> = tried.samples.iter().take(3).map(AsRef::as_ref).collect();
    Finding {
        signature: SPEC.id,
        subject: "paths".into(),
        actor: source.actor.clone(),
        first: source.first,
        last: source.last,
        targets: tried
            .servers
            .iter()
            .map(|(end, port)| Target {
                endpoint: Some(end.clone()),
                port: Some(*port),
                protocol: Some("http"),
                domain: None,
            })
            .collect(),
        target_count: tried.servers.len() as u64,
        evidence: tried.evidence(),
        flows: tried.flows.clone(),
        summary: format!(
            "asked {} for {} things that aren't there, such as {}",
            match tried.servers.len() {
                1 => "a web server".to_owned(),
                many => format!("{many} web servers"),
            },
            tried.missed,
            shown.join(", "),
        ),
    }
}

#[cfg(test)]
mod tests;
