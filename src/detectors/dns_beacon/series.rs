//! One client's questions about one registered domain: when they came, what they were for, and what became of them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Context, Evidence, Family, Finding, Target};
use super::SPEC;
use crate::dissect::{DnsAnswer, DnsMessage};
use crate::event::{Endpoint, FlowInfo};
use crate::features::{
    Regularity, Role, SortedMap, Vocabulary, push_back_tight, push_tight, randomness_bits,
    regularity,
};
use crate::time::Timestamp;

/// Questions remembered.
const RING: usize = 40;
/// Names told apart; beyond it every name not among them counts as new.
const MAX_NAMES: usize = 256;
/// Answered addresses remembered to see whether the client ever calls one.
const MAX_ADDRESSES: usize = 32;
/// Record types whose last answers are remembered.
const MAX_TYPES: usize = 4;
/// Example flows kept, beside the first.
const MAX_SAMPLES: usize = 3;
/// What is asked within this of the last query belongs to it: both address types, retries, the pieces of an outcome.
const SAME_QUESTION: Duration = Duration::from_secs(1);
/// Record types that lead to a host: A, CNAME, AAAA, SVCB, HTTPS. Others carry data.
const HOST_TYPES: [u16; 5] = [1, 5, 28, 64, 65];
/// Whoever asks again once an answer has run out asks at its pace; an implant asks by its own clock.
const KEPT_PART: f64 = 1.5;
/// The first look at a series is taken at about so many questions.
const FEWEST_LOOKED_AT: f64 = 8.0;
/// Less than this is chance,
const FEWEST_BITS_TIMING: f64 = 8.0;
/// and beyond this a clock is a clock.
const MOST_BITS_TIMING: f64 = 10.0;
const BITS_FRESH_NAMES: f64 = 6.0;
/// One name, by which an implant is known to its master.
const BITS_IDENTIFIER: f64 = 5.0;
/// One name with something else to say each time: so have places that share their load.
const BITS_CHANGING: f64 = 3.0;
/// Records that hold data, not addresses.
const BITS_DATA_TYPES: f64 = 2.0;
const BITS_LEADS_NOWHERE: f64 = 6.0;
const BITS_SAME_LENGTH: f64 = 2.0;
const SAME_LENGTH: usize = 2;
/// The most that a baseline's surprise counts; what it deducts is all there is.
const MOST_BITS_NOVEL: f64 = 8.0;
const BITS_BEGAN_LATE: f64 = 4.0;
const BITS_ALONE: f64 = 3.0;
const BITS_CROWD: f64 = -8.0;
/// Less than this after the first sight of a client, nothing has begun.
const SETTLING: Duration = Duration::from_secs(10);
/// A word so much likelier drawn at random than made up is an identifier, in bits,
const RANDOM_WORD: f64 = 8.0;
/// and so are this many hexadecimal digits.
const HEX_WORD: usize = 6;

/// A query, as far as it matters here.
pub(super) struct Asked<'a> {
    /// What the client put before the registered domain.
    pub(super) left: &'a str,
    /// Of the whole name.
    pub(super) hash: u64,
    /// Record type.
    pub(super) kind: u16,
    pub(super) time: Timestamp,
}

/// What the series alone doesn't know.
pub(super) struct Surroundings<'a> {
    pub(super) domain: &'a str,
    /// How many workloads ask for the domain, counted up to a few.
    pub(super) askers: usize,
    /// Many do.
    pub(super) crowd: bool,
    /// Others ask for other domains, and nobody else for this one.
    pub(super) alone: bool,
    /// Whether this tap shows whom the client calls.
    pub(super) calls_are_seen: bool,
    pub(super) max_kept_secs: u32,
}

/// One question, however many queries it took.
#[derive(Default)]
struct Question {
    /// After how long without a query.
    silence: Duration,
    /// For a name never asked for before.
    fresh: bool,
    /// For a record that holds data.
    data: bool,
    /// Part of the name is an identifier.
    identified: bool,
    /// Characters before the registered domain.
    length: usize,
    answered: bool,
    /// Answered otherwise than the last time.
    changed: bool,
    /// How long the answer may be kept.
    ttl: Option<u32>,
}

/// The questions of a series.
pub(super) struct Series {
    /// That of the first question.
    flow: Arc<FlowInfo>,
    first: Timestamp,
    last: Timestamp,
    ring: VecDeque<Question>,
    count: u64,
    names: SortedMap<u64, ()>,
    /// The last answer by record type.
    answers: Vec<(u16, u64)>,
    addresses: VecDeque<IpAddr>,
    /// The client called an address that it was told.
    leads: bool,
    /// Flows of further questions.
    samples: Vec<Arc<FlowInfo>>,
    told: u64,
}

/// How the questions get past caches.
enum Trick {
    Fresh(usize),
    Identifier(usize),
    Changing(usize),
}

impl Series {
    pub(super) fn new(flow: &Arc<FlowInfo>, time: Timestamp) -> Self {
        Self {
            flow: Arc::clone(flow),
            first: time,
            last: time,
            ring: VecDeque::new(),
            count: 0,
            names: SortedMap::new(),
            answers: Vec::new(),
            addresses: VecDeque::new(),
            leads: false,
            samples: Vec::new(),
            told: 0,
        }
    }

    pub(super) fn actor(&self) -> &Endpoint {
        &self.flow.orig
    }

    /// Takes a query. Whether a new question begins with it.
    pub(super) fn ask(&mut self, flow: &Arc<FlowInfo>, asked: &Asked<'_>) -> bool {
        let silence = asked.time.since(self.last);
        let begins = self.ring.is_empty() || silence >= SAME_QUESTION;
        self.last = self.last.max(asked.time);
        let fresh = !self.names.contains_key(&asked.hash);
        if fresh && self.names.len() < MAX_NAMES {
            self.names.get_or_insert_with(asked.hash, || ());
        }
        if begins {
            keep(
                &mut self.ring,
                RING,
                Question {
                    silence: silence.saturating_sub(SAME_QUESTION),
                    fresh,
                    data: !HOST_TYPES.contains(&asked.kind),
                    identified: has_identifier(asked.left),
                    length: asked.left.len(),
                    ..Question::default()
                },
            );
            self.count += 1;
            if self.count > 1 && self.samples.len() < MAX_SAMPLES {
                push_tight(&mut self.samples, Arc::clone(flow));
            }
        }
        begins
    }

    /// Takes a response. `calls`: whether the client has called an address.
    pub(super) fn answer(&mut self, message: &DnsMessage, calls: impl Fn(IpAddr) -> bool) {
        let Some(question) = self.ring.back_mut() else {
            return;
        };
        let places = || {
            message.answers.iter().filter_map(|answer| match answer {
                DnsAnswer::Address(ip) => Some(*ip),
                DnsAnswer::Alias(_) => None,
            })
        };
        // Lists answer with loopback addresses, which are verdicts.
        let verdict = places().next().is_some() && places().all(|ip| ip.is_loopback());
        if message.answer_count == 0 || verdict {
            return;
        }
        question.answered = true;
        question.ttl = question.ttl.max(message.ttl);
        let room = self.answers.len() < MAX_TYPES;
        let same_type = |(kind, _): &&mut (u16, u64)| *kind == message.query_type;
        if let Some((_, last)) = self.answers.iter_mut().find(same_type) {
            question.changed |= *last != message.answer_digest;
            *last = message.answer_digest;
        } else if room {
            let first = (message.query_type, message.answer_digest);
            push_tight(&mut self.answers, first);
        }
        for ip in places() {
            self.leads |= calls(ip);
            if !self.addresses.contains(&ip) {
                keep(&mut self.addresses, MAX_ADDRESSES, ip);
            }
        }
    }

    /// The client calls an address.
    pub(super) fn called(&mut self, ip: IpAddr) {
        self.leads |= self.addresses.contains(&ip);
    }

    /// Questions whose answers are in.
    pub(super) fn complete(&self) -> usize {
        self.ring.len().saturating_sub(1)
    }

    /// Whether it is time to tell of it (again).
    pub(super) const fn has_grown(&self) -> bool {
        self.count >= self.told.saturating_mul(2)
    }

    pub(super) const fn told(&mut self) {
        self.told = self.count;
    }

    /// The questions whose answers are in, oldest first.
    fn over(&self) -> impl Iterator<Item = &Question> {
        self.ring.iter().take(self.complete())
    }

    fn how_many(&self, is: impl Fn(&Question) -> bool) -> usize {
        self.over().filter(|one| is(one)).count()
    }

    /// Whether the client asks for records that hold data.
    fn for_data(&self) -> bool {
        self.how_many(|one| one.data) * 2 > self.complete()
    }

    /// How even the silences are: between questions, less what makes two questions of one, for chance leaves exponential
    /// ones.
    fn rhythm(&self) -> Option<Regularity> {
        let silences = self.ring.iter().skip(1);
        let silences: Vec<f64> = silences.map(|one| one.silence.as_secs_f64()).collect();
        regularity(&silences)
    }

    /// About how far questions are apart, in seconds.
    fn period(&self) -> f64 {
        self.rhythm()
            .map_or(0.0, |rhythm| rhythm.median + SAME_QUESTION.as_secs_f64())
    }

    fn trick(&self, around: &Surroundings<'_>) -> Option<Trick> {
        let all = self.complete();
        let most = |n: usize| n * 2 > all;
        let fresh = self.how_many(|one| one.fresh);
        let identified = self.how_many(|one| one.identified);
        let changing = self.how_many(|one| one.changed);
        if most(fresh) {
            // Readable names with a place each are hosts.
            let hosts = !self.for_data() && !most(identified) && most(changing);
            return (!hosts).then_some(Trick::Fresh(fresh));
        }
        // Where nothing but DNS is seen of a client, every name that is looked up again leads nowhere.
        if !around.calls_are_seen || !most(identified) && !most(changing) {
            return None;
        }
        let period = self.period();
        let passing = self.how_many(|one| {
            one.ttl.is_some_and(|ttl| {
                ttl <= around.max_kept_secs && f64::from(ttl) * KEPT_PART <= period
            })
        });
        if passing * 4 < all * 3 {
            None
        } else if most(identified) {
            Some(Trick::Identifier(identified))
        } else {
            Some(Trick::Changing(changing))
        }
    }

    /// What speaks for an implant; `None` if this can be none.
    pub(super) fn evidence(
        &self,
        around: &Surroundings<'_>,
        context: &Context<'_>,
    ) -> Option<Vec<Evidence>> {
        let all = self.complete();
        let answered = self.how_many(|one| one.answered);
        let for_data = self.for_data();
        if answered * 2 < all || self.leads && !for_data {
            return None;
        }
        let trick = self.trick(around)?;
        let rhythm = self.rhythm()?;
        // Whoever looks often enough sees a rhythm in chance: each doubling of the looks taken costs a bit.
        let looks = self.count as f64 / FEWEST_LOOKED_AT;
        let timing = rhythm.bits - looks.max(1.0).log2();
        if timing < FEWEST_BITS_TIMING {
            return None;
        }
        let mut evidence = Vec::new();
        let mut add = |feature, family, observed: f64, expected: &str, bits, text| {
            evidence.push(Evidence {
                feature,
                family,
                observed,
                expected: expected.into(),
                bits,
                signature_grade: false,
                text,
            });
        };
        add(
            "dns.regularity",
            Family::Timing,
            (rhythm.index * 1000.0).round() / 1000.0,
            "about 0.5, the Gini index of silences by chance",
            timing.min(MOST_BITS_TIMING),
            format!(
                "{} questions, one about every {:.1} s: the Gini index of the silences between is {:.2}",
                self.count,
                self.period(),
                rhythm.index
            ),
        );
        let bonus = if for_data { BITS_DATA_TYPES } else { 0.0 };
        let types = if for_data {
            ", for records that hold data"
        } else {
            ""
        };
        match trick {
            Trick::Fresh(fresh) => add(
                "dns.fresh_names",
                Family::Protocol,
                fresh as f64,
                "few: an honest clock asks for the same names",
                BITS_FRESH_NAMES + bonus,
                format!("{fresh} of {all} questions were for a new name{types}"),
            ),
            Trick::Identifier(identified) => add(
                "dns.identifier_asked_for",
                Family::Protocol,
                identified as f64,
                "names that people can read, or answers that last",
                BITS_IDENTIFIER + bonus,
                format!(
                    "{identified} of {all} questions were for an identifier whose answers may not be kept{types}"
                ),
            ),
            Trick::Changing(changing) => add(
                "dns.answers_change",
                Family::Protocol,
                changing as f64,
                "the same answer again",
                BITS_CHANGING + bonus,
                format!(
                    "{changing} of {all} answers were others than the last, and may not be kept{types}"
                ),
            ),
        }
        add(
            "dns.answers_never_used",
            Family::Outcome,
            answered as f64,
            "a connection to an answered address",
            BITS_LEADS_NOWHERE,
            format!("{answered} answers, and no connection to anything they named"),
        );
        let lengths = || self.over().map(|one| one.length);
        if let (Trick::Fresh(_), Some(least), Some(most)) =
            (&trick, lengths().min(), lengths().max())
            && most - least <= SAME_LENGTH
        {
            add(
                "dns.same_length",
                Family::Volume,
                most as f64,
                "names of different lengths",
                BITS_SAME_LENGTH,
                format!("the new names are {least} to {most} characters long, every time"),
            );
        }
        evidence.push(self.newness(around, context)?);
        Some(evidence)
    }

    /// How new the domain is to the client; `None` if the baseline knows it.
    fn newness(&self, around: &Surroundings<'_>, context: &Context<'_>) -> Option<Evidence> {
        let domain = around.domain;
        let watched = context.debuts.seen(self.actor().ip);
        let watched = watched.map_or(Duration::ZERO, |seen| self.first.since(seen));
        let patience = SETTLING.max(Duration::from_secs_f64(self.period() * 3.0));
        let (mut bits, mut novel) = (0.0_f64, 0.0);
        if watched >= patience {
            bits = bits.max(BITS_BEGAN_LATE);
        }
        if around.alone {
            bits = bits.max(BITS_ALONE);
        }
        let mut text = format!(
            "first asked for {} s after the client was first seen, by {} workloads in all",
            watched.as_secs(),
            around.askers
        );
        if let Some(profile) = context.profile(self.actor()) {
            if profile.knows_domain(domain) {
                return None;
            }
            novel = profile.word_bits(Vocabulary::Domain, Role::Client);
            novel = novel.min(MOST_BITS_NOVEL);
            bits = bits.max(novel);
            text = format!("the workload never asked for {domain} in its baseline");
        }
        if around.crowd {
            bits = novel + BITS_CROWD;
        }
        Some(Evidence {
            feature: "dns.new_domain",
            family: Family::Novelty,
            observed: watched.as_secs() as f64,
            expected: "asked for from the start, or by several workloads".into(),
            bits,
            signature_grade: false,
            text,
        })
    }

    pub(super) fn finding(&self, domain: &Arc<str>, evidence: Vec<Evidence>) -> Finding {
        Finding {
            signature: SPEC.id,
            subject: domain.to_string(),
            actor: self.actor().clone(),
            first: self.first,
            last: self.last,
            targets: vec![Target {
                endpoint: None,
                port: None,
                protocol: Some("dns"),
                domain: Some(Arc::clone(domain)),
            }],
            target_count: 1,
            evidence,
            flows: std::iter::once(&self.flow)
                .chain(&self.samples)
                .cloned()
                .collect(),
            summary: format!(
                "asks for names under {domain} about every {:.1} s, {} times so far, and never goes there",
                self.period(),
                self.count
            ),
        }
    }
}

fn keep<T>(ring: &mut VecDeque<T>, limit: usize, value: T) {
    if ring.len() >= limit {
        ring.pop_front();
    }
    push_back_tight(ring, value);
}

/// Whether a word of the name is one that a program made: hexadecimal digits, or letters and digits at random.
fn has_identifier(left: &str) -> bool {
    left.split(['.', '-', '_']).any(|word| {
        let hex = word.len() >= HEX_WORD
            && word.bytes().all(|byte| byte.is_ascii_hexdigit())
            && word.bytes().any(|byte| byte.is_ascii_digit());
        hex || randomness_bits(word) >= RANDOM_WORD
    })
}
