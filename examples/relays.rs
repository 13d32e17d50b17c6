//! Prints how many simulated relays are found, by what is done through them and how, and how many of the ordinary pairs
//! of connections are taken for one: `cargo run --release --features testkit --example relays -- [RELAYS] [PODS] [SEED]`.

use std::io::Write;
use std::time::Duration;

use spanwatch::testkit::relays::{Manner, Simulation, Tally, Use};
use spanwatch::testkit::rng::Rng;

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse());
    let each = numbers.next().transpose()?.unwrap_or(50);
    let pods = numbers.next().transpose()?.unwrap_or(30_000);
    let seed = numbers.next().transpose()?.unwrap_or(1);
    let mut out = std::io::stdout().lock();
    let mut simulation = Simulation::default();
    let mut benign = Tally::default();
    let mut all = [Tally::default(); 3];
    writeln!(
        out,
        "{:9}  {:12}  {:8}  {:5}  {:>5}  alerts   sizes",
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
                let mut tally = Tally::default();
                for _ in 0..each {
                    simulation.relay(&mut rng, what, &manner, &mut tally, &mut benign);
                }
                let held = format!("{}{:?}", if delay.1 { "" } else { "up to " }, delay.0);
                let shown = |found| format!("{found}/{each}");
                writeln!(
                    out,
                    "{:9}  {held:12}  {rechunk:8}  {wrap:5}  {chaff:4}%  {:7}  {}",
                    format!("{what:?}"),
                    shown(tally.alerts.found),
                    shown(tally.sizes.found),
                )?;
                all[usize::from(wrap) + usize::from(chaff > 0)].add(tally);
            }
        }
    }
    let mut rng = Rng::derived(seed, "ordinary");
    for _ in 0..pods {
        simulation.ordinary(&mut rng, &mut benign);
    }
    let mut rng = Rng::derived(seed, "designed");
    let mut designed = Tally::default();
    for _ in 0..pods / 10 {
        simulation.designed(&mut rng, &mut designed);
    }
    let mut relays = Tally::default();
    for tally in all {
        relays.add(tally);
    }
    let rows = ["copies", "wrapped", "wrapped, with noise"];
    let rows = rows.into_iter().zip(all).chain([
        ("all relays", relays),
        ("ordinary pairs", benign),
        ("relays that are meant to be", designed),
    ]);
    for (what, Tally { sizes, alerts }) in rows {
        writeln!(
            out,
            "{what:27}  alerts {:>6} of {:>6} ({:7.3} %)   sizes alone {:>6} ({:7.3} %)",
            alerts.found,
            alerts.of,
            100.0 * alerts.share(),
            sizes.found,
            100.0 * sizes.share()
        )?;
    }
    Ok(())
}
