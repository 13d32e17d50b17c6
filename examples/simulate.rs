//! How often `beacon`'s test of intervals finds a sleep with jitter, beside RITA's published score on the same series.
//!
//! `cargo run --release --features testkit --example simulate` writes `docs/simulation/`: the numbers and their plots. All
//! chance comes from one seed.

#![expect(
    clippy::let_underscore_must_use,
    reason = "writing to a text in memory never fails"
)]

use std::fmt::Write as _;
use std::path::Path;

use spanwatch::features::regularity;
use spanwatch::testkit::plot::plot;
use spanwatch::testkit::rng::Rng;

const SEED: u64 = 1;
const SERIES: usize = 1000;
/// One call in a hundred of chance.
const CALLED: f64 = 0.01;
const DAY: f64 = 86_400.0;

fn uniform(rng: &mut Rng) -> f64 {
    rng.below(1 << 40) as f64 / (1_u64 << 40) as f64
}

/// A sleep of 1, give or take a share of it.
fn sleep(rng: &mut Rng, jitter: f64) -> f64 {
    1.0 + jitter * (2.0 * uniform(rng) - 1.0)
}

/// What chance leaves between calls.
fn chance(rng: &mut Rng) -> f64 {
    -(1.0 - uniform(rng)).ln()
}

fn share(hits: usize) -> f64 {
    hits as f64 / SERIES as f64
}

/// How often the test calls series of `intervals` regular.
fn called(intervals: usize, rng: &mut Rng, mut interval: impl FnMut(&mut Rng) -> f64) -> f64 {
    let hits = (0..SERIES).filter(|_| {
        let series: Vec<f64> = (0..intervals).map(|_| interval(rng)).collect();
        regularity(&series).is_some_and(|one| one.bits >= -CALLED.log2())
    });
    share(hits.count())
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let (low, rest) = (at as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] * (1.0 - rest) + sorted[high] * rest
}

/// RITA v5's terms of one list: how symmetric (Bowley), and how little it is dispersed (median of absolute deviations).
fn evenness(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
    let coincide = |quartile: f64| (quartile - middle).abs() < f64::EPSILON;
    let skew = if high - low < 10.0 || coincide(low) || coincide(high) {
        0.0
    } else {
        (high + low - 2.0 * middle) / (high - low)
    };
    let mut off: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    off.sort_by(f64::total_cmp);
    let dispersion = if middle < 1.0 {
        1.0
    } else {
        ((middle - quantile(&off, 0.5)) / middle).max(0.0)
    };
    f64::midpoint(1.0 - skew.abs(), dispersion)
}

/// RITA v5's score of a day's calls, all of one size: a quarter each for times, sizes, the day's histogram and duration.
fn rita(times: &[f64]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(|time| time.floor()).collect();
    seconds.dedup();
    let pairs = seconds.iter().zip(seconds.iter().skip(1));
    let intervals: Vec<f64> = pairs.map(|(one, next)| next - one).collect();
    if seconds.len() < 4 || intervals.len() < 3 {
        return 0.0;
    }
    let mut bins = [0.0; 24];
    for time in &seconds {
        bins[((time / 3600.0) as usize).min(23)] += 1.0;
    }
    let mean = bins.iter().sum::<f64>() / 24.0;
    let variance = bins.iter().map(|bin| (bin - mean).powi(2)).sum::<f64>() / 24.0;
    let steady = (1.0 - variance.sqrt() / mean).max(0.0);
    let populated = bins.iter().filter(|bin| **bin > 0.0).count();
    let bimodal = if populated < 11 {
        0.0
    } else {
        two_heights(&bins)
    };
    let coverage = (seconds[seconds.len() - 1] - seconds[0]) / DAY;
    let longest = longest_run(&bins) as f64 / 12.0;
    let duration = if populated < 6 {
        0.0
    } else {
        coverage.max(longest.min(1.0))
    };
    (evenness(&intervals) + 1.0 + steady.max(bimodal) + duration) / 4.0
}

/// The share of populated hours whose count is one of the two most frequent heights, in steps of 5 % of the largest.
fn two_heights(bins: &[f64; 24]) -> f64 {
    let most = bins.iter().copied().fold(0.0, f64::max);
    let mut heights = [0_usize; 21];
    for bin in bins.iter().filter(|bin| **bin > 0.0) {
        heights[(bin / most * 20.0) as usize] += 1;
    }
    let all: usize = heights.iter().sum();
    heights.sort_unstable();
    (heights[20] + heights[19]) as f64 / all as f64
}

fn longest_run(bins: &[f64; 24]) -> usize {
    let (mut run, mut longest) = (0, 0);
    for bin in bins.iter().chain(bins) {
        run = if *bin > 0.0 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest.min(24)
}

/// A day's calls, `period` apart on average.
fn day(rng: &mut Rng, period: f64, mut interval: impl FnMut(&mut Rng) -> f64) -> Vec<f64> {
    let mut now = uniform(rng) * period.min(DAY / 8.0);
    let mut times = Vec::new();
    while now < DAY {
        times.push(now);
        now += period * interval(rng);
    }
    times
}

/// Both verdicts on days of calls: the share that the test calls regular by the last 31 intervals, and RITA's mean score.
fn days(rng: &mut Rng, period: f64, mut interval: impl FnMut(&mut Rng) -> f64) -> (f64, f64) {
    const DAYS: usize = 200;
    let (mut hits, mut score) = (0, 0.0);
    for _ in 0..DAYS {
        let times = day(rng, period, &mut interval);
        let pairs = times.iter().zip(times.iter().skip(1));
        let intervals: Vec<f64> = pairs.map(|(one, next)| next - one).rev().take(31).collect();
        hits += usize::from(regularity(&intervals).is_some_and(|one| one.bits >= -CALLED.log2()));
        score += rita(&times);
    }
    (hits as f64 / DAYS as f64, score / DAYS as f64)
}

fn main() -> std::io::Result<()> {
    let folder = Path::new("docs/simulation");
    std::fs::create_dir_all(folder)?;
    let mut rng = Rng::new(SEED);

    let mut table = String::from("intervals,jitter_percent,called\n");
    let mut lines = Vec::new();
    for intervals in [7, 12, 16, 24, 31] {
        let mut points = Vec::new();
        for percent in (0..=100).step_by(10) {
            let jitter = f64::from(percent) / 100.0;
            let rate = called(intervals, &mut rng, |rng| sleep(rng, jitter));
            let _ = writeln!(table, "{intervals},{percent},{rate:.3}");
            points.push((f64::from(percent), rate));
        }
        let rate = called(intervals, &mut rng, chance);
        let _ = writeln!(table, "{intervals},chance,{rate:.3}");
        lines.push((format!("{intervals} intervals"), points));
    }
    std::fs::write(folder.join("jitter.csv"), &table)?;
    let title = "Share of beacons called regular, at 1 % false calls";
    let drawn = plot(title, ("jitter, % of the sleep either way", 100.0), &lines);
    std::fs::write(folder.join("jitter.svg"), drawn)?;

    let mut table = String::from("period_s,jitter_percent,called,rita_mean_score\n");
    let mut lines = Vec::new();
    for period in [60.0, 3600.0, 4.0 * 3600.0] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for percent in (0..=100).step_by(10) {
            let jitter = f64::from(percent) / 100.0;
            let (rate, score) = days(&mut rng, period, |rng| sleep(rng, jitter));
            let _ = writeln!(table, "{period},{percent},{rate:.3},{score:.3}");
            ours.push((f64::from(percent), rate));
            theirs.push((f64::from(percent), score));
        }
        let (rate, score) = days(&mut rng, period, chance);
        let _ = writeln!(table, "{period},chance,{rate:.3},{score:.3}");
        let minutes = period / 60.0;
        lines.push((format!("called, {minutes:.0} min"), ours));
        lines.push((format!("RITA score, {minutes:.0} min"), theirs));
    }
    std::fs::write(folder.join("day.csv"), &table)?;
    let title = "A day of calls: share called regular, and RITA's mean score";
    let drawn = plot(title, ("jitter, % of the sleep either way", 100.0), &lines);
    std::fs::write(folder.join("day.svg"), drawn)?;
    Ok(())
}
