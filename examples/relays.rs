//! Prints how many simulated relays are found, by what is done through them and how, and how many of the ordinary pairs
//! of connections are taken for one: `cargo run --release --features testkit --example relays -- [RELAYS] [PODS] [SEED]`.

use std::io::Write;
use std::time::Duration;

use spanwatch::testkit::relays::{Manner, Rate, Use, ordinary, relay};
use spanwatch::testkit::rng::Rng;

/// The least that sizes must tell, as the signature has it.
const BITS: f64 = 6.0;

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse());
    let each = numbers.next().transpose()?.unwrap_or(50);
    let pods = numbers.next().transpose()?.unwrap_or(30_000);
    let seed = numbers.next().transpose()?.unwrap_or(1);
    let mut out = std::io::stdout().lock();
    let mut benign = Rate::default();
    let mut all = [Rate::default(); 3];
    writeln!(
        out,
        "{:9}  {:12}  {:8}  {:5}  {:>5}  found",
        "use", "delay", "rechunk", "wrap", "chaff"
    )?;
    let second = Duration::from_secs(1);
    let uses = [
        Use::Queries,
        Use::Sessions,
        Use::Typing,
        Use::Download,
        Use::Upload,
    ];
    for what in uses {
        for delay in [
            (Duration::ZERO, true),
            (second / 2, false),
            (second, true),
            (2 * second, false),
            (2 * second, true),
        ] {
            for (rechunk, wrap, chaff) in [
                (false, false, 0),
                (true, false, 0),
                (true, true, 0),
                (true, true, 10),
                (true, true, 20),
            ] {
                let manner = Manner {
                    delay,
                    rechunk,
                    wrap,
                    chaff,
                    load: true,
                };
                let mut rng = Rng::derived(seed, &format!("{what:?}{manner:?}"));
                let mut rate = Rate::default();
                for _ in 0..each {
                    rate.of += 1;
                    rate.found += u64::from(relay(&mut rng, what, &manner, BITS, &mut benign));
                }
                let held = format!("{}{:?}", if delay.1 { "" } else { "up to " }, delay.0);
                writeln!(
                    out,
                    "{:9}  {held:12}  {rechunk:8}  {wrap:5}  {chaff:4}%  {}/{}",
                    format!("{what:?}"),
                    rate.found,
                    rate.of
                )?;
                let sum = &mut all[usize::from(wrap) + usize::from(chaff > 0)];
                sum.of += rate.of;
                sum.found += rate.found;
            }
        }
    }
    let mut rng = Rng::derived(seed, "ordinary");
    for _ in 0..pods {
        ordinary(&mut rng, BITS, &mut benign);
    }
    for (what, rate) in ["copies", "wrapped", "wrapped, with noise"]
        .into_iter()
        .zip(all)
    {
        let share = 100.0 * rate.share();
        writeln!(
            out,
            "{what}: {} of {} found ({share:.1} %)",
            rate.found, rate.of
        )?;
    }
    writeln!(
        out,
        "benign pairs taken for relays: {} of {} ({:.1e})",
        benign.found,
        benign.of,
        benign.share()
    )?;
    Ok(())
}
