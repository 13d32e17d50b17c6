//! An incident for the person on call: its alerts in the order of time, on a line each.

use super::human::{count, printable, span};
use super::text::{TextOptions, coloured};
use crate::alert::{Incident, holder, tactic_name};

const WIDTH: usize = 80;

/// The incident as text; every line ends with a newline.
pub fn incident_text(incident: &Incident, options: TextOptions) -> String {
    let word = coloured(incident.severity, options);
    let tactics: Vec<&str> = incident.tactics.iter().map(|id| tactic_name(id)).collect();
    let mut lines = vec![
        format!(
            "{word}  Incident {} of {} alerts",
            incident.id,
            count(incident.stage_count)
        ),
        cut(&format!("  {}", tactics.join(" > "))),
        format!("  {}", span(incident.first, incident.last)),
    ];
    for stage in &incident.stages {
        let time = span(stage.first, stage.first);
        let time = time
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let who = holder(&stage.actor).map_or_else(
            || stage.actor.ip.to_string(),
            |name| format!("{} ({})", printable(&name), stage.actor.ip),
        );
        let (severity, signature) = (stage.severity.label(), &stage.signature);
        lines.push(cut(&format!(
            "  {time}  {severity:<9}{signature:<22} {who}"
        )));
    }
    let more = incident
        .stage_count
        .saturating_sub(incident.stages.len() as u64);
    if more > 0 {
        lines.push(format!("  and {} later ones", count(more)));
    }
    lines.join("\n") + "\n"
}

/// At most a line of it.
fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let kept: String = line.chars().take(WIDTH - 2).collect();
    format!("{} …", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::*;
    use crate::alert::{Correlator, CorrelatorConfig, tie};
    use crate::signature::SignatureSet;
    use crate::telemetry::LossCounts;

    #[test]
    fn a_line_for_each_alert() {
        let set = SignatureSet::builtin().unwrap();
        let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
        for (from, signature) in [
            (0, "port-scan"),
            (60, "db-bruteforce"),
            (90, "exfiltration"),
        ] {
            let mut one = finding(from, from + 5, 40.0);
            one.signature = signature;
            correlator.accept(one, &LossCounts::default(), 1);
        }
        let mut alerts = correlator.finish();
        tie(&mut alerts);
        let incident = alerts[0].incident.as_ref().unwrap();
        let text = incident_text(incident, TextOptions::default());
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(
            text.contains("Discovery > Credential Access > Exfiltration"),
            "{text}"
        );
        let stages: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(stages.len(), 3, "{text}");
        assert!(stages[1].starts_with("  03:13:00  "), "{text}");
        assert!(
            stages[1].contains("db-bruteforce") && stages[1].contains("shop/cart-"),
            "{text}"
        );
    }
}
