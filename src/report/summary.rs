//! What a run saw, named, found, lost and could not see.

use std::fmt;

use super::human::{bytes, count, counted, printable, span};
use crate::signature::{Severity, wrap};
use crate::telemetry::{Loss, LossCounts};
use crate::time::Timestamp;

const WIDTH: usize = 80;
const COLUMN: usize = 9;

/// Below this share of named addresses, the reader is told how to name more.
const WELL_NAMED: f64 = 0.5;

/// The figures of a run. `Display` is the text for people, every line ended.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct RunSummary {
    /// Capture files read; 0 for a live capture.
    pub files: u64,
    /// Packets read.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Those of them that showed a packet once more, and were not counted again.
    pub copies: u64,
    /// Times of the first and the last packet.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Flows seen.
    pub flows: u64,
    /// Ends of flows that had a private address.
    pub private_ends: u64,
    /// Those of them that were somebody: a pod, a service, a node.
    pub named_ends: u64,
    /// Alerts by severity, in the order of [`Severity::ALL`], if it was looked for any.
    pub alerts: Option<[u64; 4]>,
    /// What was lost, by cause.
    pub losses: LossCounts,
    /// What silenced alerts, one cause a line; empty if nothing did.
    pub suppressed: Vec<String>,
    /// What the tap can't show, one detection a line.
    pub blind: Vec<String>,
}

impl RunSummary {
    fn alerts_text(alerts: [u64; 4]) -> String {
        let by_severity: Vec<String> = Severity::ALL
            .iter()
            .zip(alerts)
            .rev()
            .filter(|(_, n)| *n > 0)
            .map(|(severity, n)| format!("{} {}", count(n), severity.label()))
            .collect();
        if by_severity.is_empty() {
            "none".to_owned()
        } else {
            by_severity.join(", ")
        }
    }

    fn flows_text(&self) -> String {
        if self.private_ends == 0 {
            return format!("{}; no private addresses", count(self.flows));
        }
        let share = self.named_ends.min(self.private_ends) as f64 / self.private_ends as f64;
        let hint = if share < WELL_NAMED {
            " (--inventory names more)"
        } else {
            ""
        };
        // Cut, not rounded: 100 % means all.
        let percent = (share * 1000.0).floor() / 10.0;
        format!(
            "{}; {percent} % of their private ends named{hint}",
            count(self.flows)
        )
    }
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut read = format!("{}, {}", counted(self.packets, "packet"), bytes(self.bytes));
        if self.files > 0 {
            read = format!("{}, {read}", counted(self.files, "file"));
        }
        labelled(f, "read", &read)?;
        if self.copies > 0 {
            let copies = counted(self.copies, "packet");
            let text = format!("{copies} seen again at another tap or by a mirror, counted once");
            labelled(f, "copies", &text)?;
        }
        if let Some((first, last)) = self.span {
            labelled(f, "time", &span(first, last))?;
        }
        labelled(f, "flows", &self.flows_text())?;
        if let Some(alerts) = self.alerts {
            labelled(f, "alerts", &Self::alerts_text(alerts))?;
        }
        let mut label = "allowed";
        for suppressed in &self.suppressed {
            labelled(f, label, &printable(suppressed))?;
            label = "";
        }
        let mut label = "lost";
        for (loss, n) in self.losses.iter() {
            let remedy = match loss {
                Loss::FlowEvicted | Loss::DetectorEvicted => " (--memory-limit keeps more)",
                _ => "",
            };
            labelled(f, label, &format!("{} × {loss}{remedy}", count(n)))?;
            label = "";
        }
        for blind in &self.blind {
            writeln!(f, "blind here: {}", printable(blind))?;
        }
        Ok(())
    }
}

fn labelled(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    let mut label = label;
    for line in wrap(text, WIDTH - COLUMN) {
        writeln!(f, "{label:<COLUMN$}{line}")?;
        label = "";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_run_with_everything() {
        let mut summary = RunSummary {
            files: 2,
            packets: 1_234_567,
            bytes: 812_400_000,
            copies: 4_321,
            span: Some((
                Timestamp::from_secs(1_772_334_720),
                Timestamp::from_secs(1_772_338_200),
            )),
            flows: 12_345,
            private_ends: 20_000,
            named_ends: 19_999,
            alerts: Some([1, 2, 1, 0]),
            losses: LossCounts::default(),
            suppressed: vec![
                "2 × port-scan: authorised scan, ticket 4711 (exceptions.toml:3, secops)"
                    .to_owned(),
                "1 × novel-peer: moved to the new mail relay (accepted 0123456789abcdef)"
                    .to_owned(),
            ],
            blind: vec!["dns-tunnel needs application data that isn't encrypted".to_owned()],
        };
        summary.losses.add_n(Loss::StreamGap, 3);
        summary.losses.add_n(Loss::FileTruncated, 1);
        summary.losses.add_n(Loss::FlowEvicted, 50);
        insta::assert_snapshot!(summary.to_string());
    }

    #[test]
    fn a_run_with_nothing() {
        let summary = RunSummary {
            alerts: Some([0; 4]),
            ..RunSummary::default()
        };
        insta::assert_snapshot!(summary.to_string());
    }

    #[test]
    fn a_run_without_an_inventory() {
        let summary = RunSummary {
            files: 1,
            packets: 1,
            bytes: 60,
            span: Some((Timestamp::from_secs(0), Timestamp::from_secs(0))),
            flows: 1,
            private_ends: 2,
            alerts: Some([0; 4]),
            ..RunSummary::default()
        };
        insta::assert_snapshot!(summary.to_string());
    }
}
