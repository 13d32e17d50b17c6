//! How soon data that leaves in DNS names is found, by its rate: `dns-tunnel` with `dns-beacon`, beside the number of names
//! by which RITA goes.
//!
//! `cargo run --release --features testkit --example simulate_dns` writes `docs/simulation/dns.csv` and its plot. All chance
//! comes from one seed; the queries go through the whole pipeline, packet by packet.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etherparse::TcpHeader;
use spanwatch::alert::Exceptions;
use spanwatch::capture::{Frame, LinkType};
use spanwatch::identity::Journal;
use spanwatch::memory::Share;
use spanwatch::pipeline::{Pipeline, Task};
use spanwatch::signature::SignatureSet;
use spanwatch::testkit::cluster::{START, on_bridge, outside};
use spanwatch::testkit::plot::plot;
use spanwatch::testkit::rng::Rng;
use spanwatch::testkit::talk::dns::{A, Answer, Data, Question, TXT};
use spanwatch::testkit::wire;

const SEED: u64 = 1;
const SERIES: u64 = 10;
const DAY: f64 = 86_400.0;
/// A series is not followed beyond this.
const MOST_QUERIES: usize = 1000;
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Names of a domain in a day from which RITA scores, and from which it scores highest.
const RITA_NAMES: [f64; 2] = [100.0, 1000.0];

/// What the names are.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// 250 bits each, as bulk tunnels make them.
    Long,
    /// 30 bits each.
    Short,
    /// Those of a content network: one of a few hundred, and the client goes there.
    Honest,
}

impl Names {
    const fn bits(self) -> f64 {
        match self {
            Self::Long => 250.0,
            Self::Short | Self::Honest => 30.0,
        }
    }

    fn draw(self, rng: &mut Rng) -> String {
        match self {
            Self::Long => format!("{}.t.evil.example", rng.text(BASE32, 50)),
            Self::Short => format!("{}.t.evil.example", rng.text(BASE32, 6)),
            Self::Honest => {
                let host = rng.below(300);
                format!("{}.cdn.honest.example", Rng::new(host).text(BASE32, 6))
            }
        }
    }
}

/// When a series was told of, in seconds from its beginning, if it was.
fn told(rng: &mut Rng, names: Names, bits_per_minute: f64) -> anyhow::Result<Option<f64>> {
    let task = Task::Analyze {
        signatures: SignatureSet::builtin()?,
        baseline: None,
        exceptions: Exceptions::default(),
    };
    let mut pipeline = Pipeline::new(Share::WHOLE, Arc::new(Journal::default()), task)?;
    let mut show = |secs: f64, data: Vec<u8>| {
        pipeline.frame(&Frame {
            time: START.after(Duration::from_secs_f64(secs)),
            link: LinkType::Ethernet,
            wire_len: data.len() as u32,
            interface: 0,
            data: &data,
        });
    };
    let (client, resolver) = (on_bridge(12), on_bridge(2));
    let period = names.bits() / bits_per_minute * 60.0;
    let mut now = 0.0;
    for id in 0..MOST_QUERIES as u16 {
        // Give or take a half.
        now += period * (0.5 + rng.below(1 << 20) as f64 / f64::from(1 << 20));
        if now > DAY {
            break;
        }
        let name = names.draw(rng);
        let kind = if names == Names::Honest { A } else { TXT };
        let question = Question {
            name: &name,
            kind,
            edns: None,
        };
        let place = Ipv4Addr::from(0xcb00_7100 | u32::from(id % 200));
        let data = if names == Names::Honest {
            Data::A(place)
        } else {
            Data::Txt(rng.bytes(4))
        };
        let port = 20_000 + id;
        let answer = Answer::Records(60, vec![data]);
        show(
            now,
            wire::udp(&client, &resolver, id, (port, 53), &question.ask(id)),
        );
        let answer = question.answer(id, &answer, false);
        show(
            now + 0.01,
            wire::udp(&resolver, &client, id, (53, port), &answer),
        );
        if names == Names::Honest {
            let mut header = TcpHeader::new(port, 443, 1, 1024);
            header.syn = true;
            let server = outside(place, Duration::from_millis(4));
            show(now + 0.02, wire::tcp(&client, &server, id, header, &[]));
        }
    }
    let (verdict, _) = pipeline.finish();
    let ours = |alert: &&spanwatch::alert::Alert| alert.signature.id.starts_with("dns-");
    let first = verdict
        .alerts
        .iter()
        .filter(ours)
        .map(|one| one.raised)
        .min();
    Ok(first.map(|raised| raised.since(START).as_secs_f64()))
}

fn main() -> anyhow::Result<()> {
    let folder = Path::new("docs/simulation");
    let mut table = String::from(
        "names,bits_per_minute,found,median_minutes,median_bits,names_in_a_day,rita_scores,rita_scores_highest\n",
    );
    let mut lines = Vec::new();
    for (what, names) in [
        ("long", Names::Long),
        ("short", Names::Short),
        ("honest", Names::Honest),
    ] {
        let mut rng = Rng::derived(SEED, what);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for rate in [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] {
            let rate = f64::from(rate);
            let mut times = Vec::new();
            for _ in 0..SERIES {
                times.extend(told(&mut rng, names, rate)?);
            }
            times.sort_by(f64::total_cmp);
            let found = times.len() as f64 / SERIES as f64;
            let asked = rate * 1440.0 / names.bits();
            let different = if names == Names::Honest {
                asked.min(300.0)
            } else {
                asked
            };
            let [scores, highest] = RITA_NAMES.map(|least| u8::from(different >= least));
            let minutes = times.get(times.len() / 2).map(|secs| secs / 60.0);
            let cell =
                |value: Option<f64>| value.map_or_else(String::new, |one| format!("{one:.1}"));
            writeln!(
                table,
                "{what},{rate:.0},{found:.2},{},{},{different:.0},{scores},{highest}",
                cell(minutes),
                cell(minutes.map(|minutes| minutes * rate)),
            )?;
            ours.push((rate.log10(), found));
            theirs.push((rate.log10(), f64::from(highest)));
        }
        lines.push((format!("found, {what} names"), ours));
        lines.push((format!("RITA highest, {what}"), theirs));
    }
    std::fs::write(folder.join("dns.csv"), &table)?;
    let title = "Data in DNS names: share found within a day";
    std::fs::write(
        folder.join("dns.svg"),
        plot(title, ("bits per minute, power of ten", 4.0), &lines),
    )?;
    Ok(())
}
