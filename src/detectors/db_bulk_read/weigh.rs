//! What somebody's reading in bulk weighs, and how it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Context, Evidence, Family, Finding, Target};
use super::{NO_REPLICA_BITS, REPLICA_BITS, Reader, SPEC, Thresholds};
use crate::event::FlowInfo;
use crate::features::{Role, Vocabulary};

/// Each further table, and doubling of keys or bytes beyond what programs load as they start; and where that ends.
const BITS_PER_TABLE: f64 = 2.0;
const MAX_TABLE_BITS: f64 = 6.0;
const MAX_BYTE_BITS: f64 = 8.0;
const MAX_VOLUME_BITS: f64 = 10.0;
/// Keys read after they were listed below which nobody cares.
const FREE_KEYS: f64 = 8.0;
/// The share of other statements in the same conversations from which reading whole tables is a part of their work.
const WORK_SHARE: f64 = 0.5;
/// A program that people type at, or that copies databases, in a pod that serves others.
const TOOL_BITS: f64 = 8.0;
/// A conversation that asked what there is, read it all, and was over.
const NOTHING_ELSE_BITS: f64 = 8.0;
/// Tables copied out by `COPY`, which drivers seldom do.
const COPY_BITS: f64 = 4.0;
const MIN_COPIES: u64 = 2;
/// Keys as they are stored, which only other servers have use for, or listed by commands made for debugging, as all are
/// that Memcached has; and any keys listed first.
const DUMP_BITS: f64 = 12.0;
const MIN_DUMPED: u64 = 4;
const WALK_BITS: f64 = 8.0;
/// Logins refused before.
const REFUSED_BITS: f64 = 6.0;
const MIN_REFUSED: u64 = 3;
/// Never having spoken to this server, for a pod that was there for a while.
const STRANGER_BITS: f64 = 4.0;
/// Having spoken often and never so.
const HABIT_BITS: f64 = 3.0;
/// The most that a new statement says within a day of a release.
const RELEASE_BITS: f64 = 4.0;

/// What the baseline says of a statement: how unlikely the workload is to say it, or to speak to this server. Something
/// new is expected of a new release.
pub(super) fn novelty(flow: &FlowInfo, word: &str, context: &Context<'_>) -> f64 {
    let Some(lineage) = context.lineage(&flow.orig) else {
        return 0.0;
    };
    let contact = context.peers.client_contact(flow);
    let contact = contact.map_or(0.0, |contact| lineage.contact_bits(&contact));
    let said = lineage.word_bits(Vocabulary::Statement, Role::Client, word);
    if context.release(&flow.orig, flow.start).is_some() {
        return said.min(RELEASE_BITS).max(contact);
    }
    said.max(contact)
}

impl Reader {
    /// How much it read, against what programs load as they start.
    fn volume_bits(&self, thresholds: &Thresholds) -> f64 {
        let tables = self.tables.len().saturating_sub(1) as f64 * BITS_PER_TABLE;
        let keys = (self.keys as f64 / FREE_KEYS).max(1.0).log2();
        let bytes = (self.bytes as f64 / thresholds.typical_bytes).max(1.0);
        let bits = (tables + keys).min(MAX_TABLE_BITS) + bytes.log2().min(MAX_BYTE_BITS);
        let working = self.work as f64 > WORK_SHARE * (self.work + self.bulk + self.keys) as f64;
        let share = if working { 0.5 } else { 1.0 };
        (bits * share).min(MAX_VOLUME_BITS)
    }

    /// In which ways it reads as people with a foothold do.
    fn manners(&self, serves: bool) -> Vec<(&'static str, f64, String)> {
        let mut manners = Vec::new();
        if let Some(bits) = self.replicates {
            let text = if bits >= NO_REPLICA_BITS {
                "it asked for a copy of everything, as replicas do, and is something else that wants no more"
            } else if bits > REPLICA_BITS {
                "it asked for a copy of everything, as replicas do, and is something else"
            } else {
                "it asked for a copy of everything, as replicas do"
            };
            manners.push(("db.replica_copy", bits, text.to_owned()));
        }
        if !serves {
            return manners;
        }
        if let Some(tool) = &self.tool {
            let text = format!("{tool} is at work, in a pod that serves others");
            manners.push(("db.tool_in_a_server", TOOL_BITS, text));
        }
        if self.nothing_else {
            let text = "it asked what there is, read it all, and left";
            manners.push(("db.nothing_else", NOTHING_ELSE_BITS, text.into()));
        }
        if self.copies >= MIN_COPIES {
            let text = format!(
                "{} tables were copied out, which drivers don't",
                self.copies
            );
            manners.push(("db.copied_out", COPY_BITS, text));
        }
        if self.keys > 0 {
            let debugs = self
                .servers
                .values()
                .all(|(_, product)| *product == "memcached");
            let (bits, text) = if self.dumped >= MIN_DUMPED {
                (DUMP_BITS, "keys were listed, then read as they are stored")
            } else if debugs {
                (DUMP_BITS, "keys were listed as for debugging, then read")
            } else {
                (WALK_BITS, "keys were listed, then read one by one")
            };
            manners.push(("db.keys_walked", bits, text.into()));
        }
        manners
    }

    pub(super) fn finding(&self, weighed: Weighed) -> Finding {
        let products: BTreeSet<&str> = self.servers.values().map(|(_, product)| *product).collect();
        let products = products.into_iter().collect::<Vec<_>>().join(", ");
        let user = self.user.as_deref();
        let user = user.map_or_else(String::new, |user| format!(" as {user}"));
        let mut what = Vec::new();
        if !self.tables.is_empty() {
            what.push(format!("{} whole tables or results", self.tables.len()));
        }
        if self.keys > 0 {
            what.push(format!("{} keys that it had listed", self.keys));
        }
        if self.replicates.is_some() {
            what.push("the copy that replicas get".into());
        }
        Finding {
            signature: SPEC.id,
            subject: String::new(),
            actor: self.actor.clone(),
            first: self.first,
            last: self.last,
            targets: self
                .servers
                .iter()
                .map(|((_, port), (end, product))| Target {
                    endpoint: Some(end.clone()),
                    port: Some(*port),
                    protocol: Some(*product),
                    domain: None,
                })
                .collect(),
            target_count: self.servers.len() as u64,
            evidence: weighed.0,
            flows: self.samples.clone(),
            summary: format!(
                "took {} from {} ({products}){user}: {} bytes in all",
                what.join(", "),
                match self.servers.len() {
                    1 => "a database server".to_owned(),
                    many => format!("{many} database servers"),
                },
                self.bytes
            ),
        }
    }
}

/// The evidence against a reader.
pub(super) struct Weighed(Vec<Evidence>);

impl Weighed {
    pub(super) fn of(
        reader: &Reader,
        serves: bool,
        learned: bool,
        thresholds: &Thresholds,
    ) -> Self {
        let mut evidence = vec![Evidence {
            feature: "db.read_in_bulk",
            family: Family::Volume,
            observed: reader.tables.len() as f64 + reader.keys as f64,
            expected: format!(
                "a table or a few keys, ≤ {} bytes, as a program starts",
                thresholds.typical_bytes
            ),
            bits: reader.volume_bits(thresholds),
            signature_grade: false,
            text: format!(
                "{} whole tables or results and {} keys, {} rows; {} other statements",
                reader.tables.len(),
                reader.keys,
                reader.rows,
                reader.work
            ),
        }];
        if reader.surprise > 0.0 {
            evidence.push(Evidence {
                feature: "db.result_bytes_per_min",
                family: Family::Volume,
                observed: reader.minute.1 as f64,
                expected: "what the workload read in its baseline".into(),
                bits: reader.surprise.min(MAX_VOLUME_BITS),
                signature_grade: false,
                text: "more came back in a minute than the baseline makes likely".into(),
            });
        }
        for (feature, bits, text) in reader.manners(serves) {
            evidence.push(Evidence {
                feature,
                family: Family::Protocol,
                observed: 1.0,
                expected: "programs that read what they work with".into(),
                bits,
                signature_grade: false,
                text,
            });
        }
        let stranger = reader.stranger.then_some((
            "db.new_client",
            STRANGER_BITS,
            "it was there for a while and never spoke to this server before",
        ));
        let takes = !reader.tables.is_empty() || reader.keys > 0;
        let unusual = (serves && reader.habit && takes).then_some((
            "db.unusual_for_it",
            HABIT_BITS,
            "it had spoken often, and never so",
        ));
        let said = (reader.novelty > 0.0).then_some((
            "db.new_statement",
            reader.novelty,
            "the workload never read this in its baseline",
        ));
        let told = if learned { said } else { stranger.or(unusual) };
        if let Some((feature, bits, text)) = told {
            evidence.push(Evidence {
                feature,
                family: Family::Novelty,
                observed: reader.servers.len() as f64,
                expected: "clients and statements met before".into(),
                bits,
                signature_grade: false,
                text: text.into(),
            });
        }
        if reader.refused >= MIN_REFUSED {
            evidence.push(Evidence {
                feature: "db.refused_before",
                family: Family::Outcome,
                observed: reader.refused as f64,
                expected: "0".into(),
                bits: REFUSED_BITS,
                signature_grade: false,
                text: format!("{} logins were refused before", reader.refused),
            });
        }
        Self(evidence)
    }

    /// The sum over families of the strongest.
    pub(super) fn bits(&self) -> f64 {
        let mut best: BTreeMap<Family, f64> = BTreeMap::new();
        for one in &self.0 {
            let bits = best.entry(one.family).or_insert(one.bits);
            *bits = bits.max(one.bits);
        }
        best.values().sum()
    }
}
