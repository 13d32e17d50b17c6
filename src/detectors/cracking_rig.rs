//! `cracking-rig`: a workload that cracks password hashes: it works for a job server, runs an image made for it, fetches
//! word lists.
//!
//! Cracking itself makes no packets. What is seen is what goes before: work and hashes from a server that hands them out, the
//! program, and lists of words by the gigabyte. Each alone has an honest reader; together they are a rig.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::{
    Context, Detector, DetectorSpec, Evidence, Family, Finding, Findings, Follows, StateSize,
    Target,
};
use crate::dissect::{HttpRequest, Transaction};
use crate::event::{Endpoint, Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Bounded, SourceKey, source_key};
use crate::flow::FlowId;
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "cracking-rig",
    sees: EventKinds::HTTP
        .and(EventKinds::TLS)
        .and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        let room = thresholds.max_sources;
        Ok(Box::new(CrackingRig {
            thresholds,
            alert_bits: signature.alert_bits,
            sources: Bounded::new(room),
            fetching: Bounded::new(signature.room(MAX_FETCHES)),
            evicted: 0,
        }))
    },
};

/// Flows that may turn out to have carried a word list.
const MAX_FETCHES: usize = 4096;
const MAX_NAMES: usize = 8;
const MAX_TARGETS: usize = 16;
const MAX_SAMPLES: usize = 8;

/// How Hashtopolis's agents ask for work, and for what belongs to it (its protocol, version 2).
const WORK: &str = "/api/server.php";
const HASHES: &[&str] = &["/gethashlist.php", "/getfound.php"];
const FILES: &str = "/getfile.php";
const MIN_POLLS: u64 = 3;
const POLL_BITS: f64 = 6.0;
const HASHES_BITS: f64 = 10.0;
const FILES_BITS: f64 = 4.0;
/// An image made for cracking.
const IMAGE_BITS: f64 = 9.0;
const IMAGES: &[&str] = &[
    "hashcat",
    "hashtopolis",
    "hashtopussy",
    "johntheripper",
    "john-the-ripper",
    "crackq",
    "cracklord",
    "hashview",
];
/// A word list, rules or the program itself, by the names that everybody gives them.
const FILE_NAME_BITS: f64 = 8.0;
const FILE_NAMES: &[&str] = &[
    "rockyou",
    "weakpass",
    "crackstation",
    "hashesorg",
    "hashmob",
    "hashkiller",
    "breachcompilation",
    "oneruletorulethem",
    "hashcat-",
    "hcmask",
];
/// Sites that hand out word lists, and little else.
const SITE_BITS: f64 = 6.0;
const SITES: &[&str] = &[
    "weakpass.com",
    "hashmob.net",
    "hashes.org",
    "crackstation.net",
    "hashcat.net",
    "hashkiller.io",
];
/// A fetch of so much is what it is named; each doubling beyond adds.
const LARGE: f64 = 1_000_000.0;
const MAX_VOLUME_BITS: f64 = 8.0;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thresholds {
    max_sources: usize,
}

struct CrackingRig {
    thresholds: Thresholds,
    alert_bits: f64,
    sources: Bounded<SourceKey, Rig>,
    /// Flows with somebody known for word lists, or on which one was asked for.
    fetching: Bounded<FlowId, SourceKey>,
    evicted: u64,
}

struct Rig {
    actor: Endpoint,
    first: Timestamp,
    last: Timestamp,
    polls: u64,
    hashes: u64,
    files: u64,
    images: BTreeSet<&'static str>,
    names: BTreeSet<&'static str>,
    sites: BTreeSet<&'static str>,
    bytes: u64,
    targets: BTreeMap<(std::net::IpAddr, u16), Target>,
    samples: Vec<Arc<FlowInfo>>,
    mark: f64,
}

/// One sign of a rig.
enum Sign {
    Poll,
    Hashes,
    Files,
    Image(&'static str),
    Name(&'static str),
    Site(&'static str),
}

fn signs_of_request(request: &HttpRequest) -> Vec<Sign> {
    let mut signs = Vec::new();
    let path = request.path.to_ascii_lowercase();
    if path.ends_with(WORK) && &*request.method == "POST" {
        signs.push(Sign::Poll);
    } else if HASHES.iter().any(|end| path.ends_with(end)) {
        signs.push(Sign::Hashes);
    } else if path.ends_with(FILES) {
        signs.push(Sign::Files);
    }
    if let Some(call) = request.oci() {
        let repository = call.repository.to_ascii_lowercase();
        let image = IMAGES.iter().find(|image| repository.contains(*image));
        signs.extend(
            image
                .filter(|_| call.kind.pulls())
                .map(|&image| Sign::Image(image)),
        );
    } else {
        let file = path.rsplit('/').next().unwrap_or_default();
        let name = FILE_NAMES.iter().find(|name| file.contains(*name));
        signs.extend(name.map(|&name| Sign::Name(name)));
    }
    signs.extend(request.host.as_deref().and_then(site).map(Sign::Site));
    signs
}

/// Which of the sites a name belongs to.
fn site(name: &str) -> Option<&'static str> {
    SITES.iter().copied().find(|site| {
        let rest = name.strip_suffix(site);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

impl CrackingRig {
    fn take(&mut self, flow: &Arc<FlowInfo>, sign: &Sign, time: Timestamp, out: &mut Findings) {
        let key = source_key(&flow.orig);
        let (rig, gone) = self.sources.entry_or_insert_with(key.clone(), || Rig {
            actor: flow.orig.clone(),
            first: time,
            last: time,
            polls: 0,
            hashes: 0,
            files: 0,
            images: BTreeSet::new(),
            names: BTreeSet::new(),
            sites: BTreeSet::new(),
            bytes: 0,
            targets: BTreeMap::new(),
            samples: Vec::new(),
            mark: 0.0,
        });
        self.evicted += u64::from(gone.is_some());
        rig.last = rig.last.max(time);
        match *sign {
            Sign::Poll => rig.polls += 1,
            Sign::Hashes => rig.hashes += 1,
            Sign::Files => rig.files += 1,
            Sign::Image(name) => {
                rig.images.insert(name);
            }
            Sign::Name(name) => {
                rig.names.insert(name);
            }
            Sign::Site(name) => {
                rig.sites.insert(name);
            }
        }
        if matches!(sign, Sign::Name(_) | Sign::Site(_)) {
            self.fetching.put(flow.id, key);
        }
        if rig.targets.len() < MAX_TARGETS {
            let place = (flow.resp.ip, flow.resp_port);
            rig.targets.entry(place).or_insert_with(|| Target {
                endpoint: Some(flow.resp.clone()),
                port: Some(flow.resp_port),
                protocol: None,
                domain: None,
            });
        }
        let another = rig.samples.last().is_none_or(|last| last.id != flow.id);
        if rig.samples.len() < MAX_SAMPLES && another {
            rig.samples.push(Arc::clone(flow));
        }
        rig.judge(self.alert_bits, out);
    }
}

impl Rig {
    fn judge(&mut self, alert_bits: f64, out: &mut Findings) {
        let evidence = self.evidence();
        let bits: f64 = evidence.iter().map(|one| one.bits).sum();
        if bits >= alert_bits && bits > self.mark {
            self.mark = bits;
            out.push(self.finding(evidence));
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut put = |feature, family, observed: f64, bits: f64, text: String| {
            if bits > 0.0 {
                evidence.push(Evidence {
                    feature,
                    family,
                    observed,
                    expected: "0".into(),
                    bits,
                    signature_grade: false,
                    text,
                });
            }
        };
        let polls = if self.polls >= MIN_POLLS {
            POLL_BITS
        } else {
            0.0
        };
        let hashes = if self.hashes > 0 { HASHES_BITS } else { 0.0 };
        // Fetching something by that name means little by itself.
        let files = if self.files > 0 && polls + hashes > 0.0 {
            FILES_BITS
        } else {
            0.0
        };
        put(
            "cracking.job_server",
            Family::Protocol,
            self.polls as f64,
            polls + hashes + files,
            format!(
                "it asked a job server for work {} times, for {} lists of hashes and {} files",
                self.polls, self.hashes, self.files
            ),
        );
        put(
            "cracking.image",
            Family::Outcome,
            self.images.len() as f64,
            if self.images.is_empty() {
                0.0
            } else {
                IMAGE_BITS
            },
            format!(
                "it pulled an image made for cracking: {}",
                list(&self.images)
            ),
        );
        let named = if self.names.is_empty() {
            0.0
        } else {
            FILE_NAME_BITS
        };
        let known = if self.sites.is_empty() {
            0.0
        } else {
            SITE_BITS
        };
        let from: Vec<String> = [list(&self.names), list(&self.sites)]
            .into_iter()
            .filter(|names| !names.is_empty())
            .collect();
        put(
            "cracking.word_lists",
            Family::Novelty,
            (self.names.len() + self.sites.len()) as f64,
            f64::max(named, known),
            format!("it fetched what crackers use: {}", from.join(", ")),
        );
        let volume = (self.bytes as f64 / LARGE).max(1.0).log2();
        put(
            "cracking.bytes_fetched",
            Family::Volume,
            self.bytes as f64,
            volume.min(MAX_VOLUME_BITS),
            format!("{} bytes came on those connections", self.bytes),
        );
        evidence
    }

    fn finding(&self, evidence: Vec<Evidence>) -> Finding {
        let mut what = Vec::new();
        if self.polls + self.hashes > 0 {
            what.push("works for a job server that hands out hashes");
        }
        if !self.images.is_empty() {
            what.push("pulled an image made for cracking");
        }
        if !self.names.is_empty() || !self.sites.is_empty() {
            what.push("fetched word lists");
        }
        Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: self.targets.values().cloned().collect(),
            target_count: self.targets.len() as u64,
            evidence,
            flows: self.samples.clone(),
            summary: format!("prepares to crack passwords: it {}", what.join(", ")),
        }
    }
}

fn list(names: &BTreeSet<&'static str>) -> String {
    let names: Vec<&str> = names.iter().take(MAX_NAMES).copied().collect();
    names.join(", ")
}

impl Detector for CrackingRig {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::FLOW_ENDED,
            after: EventKinds::HTTP.and(EventKinds::TLS),
        }
    }

    fn observe(&mut self, event: &Event, _: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction { flow, transaction } => match transaction {
                Transaction::HttpRequest(request) => {
                    for sign in signs_of_request(request) {
                        self.take(flow, &sign, event.time, out);
                    }
                }
                Transaction::TlsClient(hello) => {
                    if let Some(site) = hello.sni.as_deref().and_then(site) {
                        self.take(flow, &Sign::Site(site), event.time, out);
                    }
                }
                _ => {}
            },
            EventKind::FlowEnded { flow, record } => {
                let Some(key) = self.fetching.pop(&flow.id) else {
                    return;
                };
                if let Some(rig) = self.sources.peek_mut(&key) {
                    let [_, down] = record.payload_bytes;
                    rig.bytes = rig.bytes.saturating_add(down);
                    rig.last = rig.last.max(record.end);
                    rig.judge(self.alert_bits, out);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, _: &Context<'_>, out: &mut Findings) {
        // In the order in which they were last heard of, so that it is the same each time.
        let reported = self.sources.iter().map(|(_, rig)| rig);
        out.extend(
            reported
                .filter(|rig| rig.mark > 0.0)
                .map(|rig| rig.finding(rig.evidence())),
        );
    }

    fn state_size(&self) -> StateSize {
        StateSize {
            entries: self.sources.len(),
            limit: self.thresholds.max_sources,
        }
    }

    fn losses(&self) -> LossCounts {
        let mut losses = LossCounts::default();
        losses.add_n(Loss::DetectorEvicted, self.evicted);
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, end, pod};
    use super::*;
    use crate::dissect::TlsClientHello;
    use crate::flow::Protocol;
    use crate::identity::IdentityKind;

    fn outside() -> Endpoint {
        end("203.0.113.9", IdentityKind::External, None)
    }

    fn http(bench: &mut Bench, at: f64, method: &str, host: &str, path: &str) -> Arc<FlowInfo> {
        let worker = pod("10.244.1.7", "worker");
        let flow = bench.begin(at, (&worker, &outside()), Protocol::Tcp, 80);
        let request = HttpRequest {
            method: method.into(),
            host: Some(host.into()),
            path: path.into(),
            ..HttpRequest::default()
        };
        bench.says(at, &flow, Transaction::HttpRequest(request));
        flow
    }

    #[test]
    fn an_agent_of_a_job_server() {
        let mut bench = Bench::new("cracking-rig");
        for n in 0..6 {
            http(
                &mut bench,
                f64::from(n) * 5.0,
                "POST",
                "jobs.example",
                "/api/server.php",
            );
        }
        assert!(
            !bench.alerts(),
            "somebody's program in PHP may be called so"
        );
        http(&mut bench, 31.0, "GET", "jobs.example", "/getHashlist.php");
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn an_image_and_work() {
        let mut bench = Bench::new("cracking-rig");
        http(
            &mut bench,
            1.0,
            "GET",
            "r.example:5000",
            "/v2/tools/hashcat-cuda/manifests/latest",
        );
        assert!(!bench.alerts());
        for n in 0..3 {
            http(
                &mut bench,
                9.0 + f64::from(n),
                "POST",
                "h",
                "/hashtopolis/api/server.php",
            );
        }
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn a_word_list_that_is_as_large_as_one() {
        let mut bench = Bench::new("cracking-rig");
        let flow = http(
            &mut bench,
            1.0,
            "GET",
            "files.example",
            "/lists/RockYou.txt.gz",
        );
        bench.carries(4.0, &flow, [400, 53_000]);
        assert!(!bench.alerts(), "an excerpt for a test of passwords");
        let flow = http(
            &mut bench,
            9.0,
            "GET",
            "files.example",
            "/lists/rockyou2021.txt",
        );
        bench.carries(900.0, &flow, [400, 900_000_000]);
        assert!(bench.alerts(), "{} bits", bench.bits());

        let mut bench = Bench::new("cracking-rig");
        let worker = pod("10.244.1.7", "worker");
        for (at, down) in [(1.0, 90_000), (60.0, 2_000_000_000)] {
            let flow = bench.begin(at, (&worker, &outside()), Protocol::Tcp, 443);
            let hello = TlsClientHello {
                sni: Some("download.weakpass.com".into()),
                ..TlsClientHello::default()
            };
            bench.says(at, &flow, Transaction::TlsClient(hello));
            assert!(!bench.alerts());
            bench.carries(at + 50.0, &flow, [900, down]);
        }
        assert!(bench.alerts(), "{} bits", bench.bits());
    }

    #[test]
    fn everybody_else() {
        let mut bench = Bench::new("cracking-rig");
        for (n, (method, host, path)) in (0..).zip([
            ("GET", "notweakpass.com", "/wordlist.txt"),
            ("GET", "registry.example", "/v2/prod/shop/blobs/sha256:77"),
            (
                "GET",
                "mirror.example",
                "/debian/pool/main/h/hello_2.10.deb",
            ),
            ("GET", "shop.example", "/getFile.php"),
            ("POST", "shop.example", "/api/server.php"),
            ("GET", "shop.example", "/api/server.php"),
        ]) {
            let flow = http(&mut bench, f64::from(n), method, host, path);
            bench.carries(f64::from(n) + 0.5, &flow, [500, 4_000_000_000]);
        }
        bench.finish(1e4);
        assert!(bench.findings.is_empty(), "{:?}", bench.findings);
    }
}
