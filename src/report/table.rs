//! Flows as an aligned table for people, a block at a time.

use super::flows::{FlowEndV1, FlowRecordV1, TunnelV1};
use super::human::{bytes, count, duration, printable};
use crate::alert::UtcTime;
use crate::time::Timestamp;

/// Columns, and whether their numbers stand to the right. The last one has no width.
const COLUMNS: [(&str, bool); 10] = [
    ("START", false),
    ("TOOK", true),
    ("PROTO", false),
    ("APP", false),
    ("FROM", false),
    ("TO", false),
    ("STATE", false),
    ("OUT", true),
    ("IN", true),
    ("ABOUT", false),
];
const WIDTHS: usize = COLUMNS.len() - 1;

/// Rows of flows, gathered until a block is full or no more come.
///
/// Rows are in the order in which flows began, within a block; with no more flows than a block holds, altogether. Columns
/// never get narrower from one block to the next.
#[derive(Debug)]
pub struct FlowRows {
    wide: bool,
    begun: bool,
    widths: [usize; WIDTHS],
    rows: Vec<(Timestamp, [String; COLUMNS.len()])>,
}

impl FlowRows {
    /// Rows in a block: about 4 MB.
    pub const BLOCK: usize = 10_000;

    /// No rows. `wide` ones tell addresses beside names, packets, and the Community ID as well.
    pub fn new(wide: bool) -> Self {
        let mut widths = [0; WIDTHS];
        for (width, (title, _)) in widths.iter_mut().zip(COLUMNS) {
            *width = title.len();
        }
        Self {
            wide,
            begun: false,
            widths,
            rows: Vec::new(),
        }
    }

    /// Takes a row, and gives a block of text if that is full.
    pub fn push(&mut self, flow: &FlowRecordV1) -> Option<String> {
        let amount = |way: usize| {
            let payload = bytes(flow.payload_bytes[way]);
            if self.wide {
                format!("{payload}/{}", count(flow.packets[way]))
            } else {
                payload
            }
        };
        let row = [
            start(flow.start),
            duration(flow.end.0.since(flow.start.0)),
            flow.proto.clone(),
            flow.app.clone().unwrap_or_else(|| "-".to_owned()),
            end(&flow.src, self.wide),
            end(&flow.dst, self.wide),
            flow.state.clone().unwrap_or_else(|| "-".to_owned()),
            amount(0),
            amount(1),
            about(flow, self.wide),
        ];
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
        self.rows.push((flow.start.0, row));
        (self.rows.len() >= Self::BLOCK).then(|| self.block())
    }

    /// The rows that are left; with a heading even if there never were any.
    pub fn finish(mut self) -> String {
        self.block()
    }

    fn block(&mut self) -> String {
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            self.line(&mut text, &COLUMNS.map(|(title, _)| title.to_owned()));
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|(start, _)| *start);
        for (_, row) in &rows {
            self.line(&mut text, row);
        }
        text
    }

    fn line(&self, text: &mut String, cells: &[String; COLUMNS.len()]) {
        for (index, (cell, (_, right))) in cells.iter().zip(COLUMNS).enumerate() {
            let Some(width) = self.widths.get(index) else {
                text.push_str(cell);
                continue;
            };
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if right {
                text.extend([&pad, cell, "  "]);
            } else {
                text.extend([cell, &*pad, "  "]);
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

/// To the millisecond, in a form that `--since` takes.
fn start(time: UtcTime) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((whole, fraction)) => format!("{whole}.{}Z", fraction.get(..3).unwrap_or(fraction)),
        None => text,
    }
}

fn end(end: &FlowEndV1, wide: bool) -> String {
    let name = match (&end.namespace, &end.pod, &end.workload) {
        (Some(namespace), Some(pod), _) => Some(format!("{namespace}/{pod}")),
        (None, Some(name), _) | (_, None, Some(name)) => Some(name.clone()),
        (_, None, None) => None,
    };
    let ip = if end.ip.is_ipv6() {
        format!("[{}]", end.ip)
    } else {
        end.ip.to_string()
    };
    let who = match name {
        Some(name) if wide => format!("{}={ip}", printable(&name)),
        Some(name) => printable(&name).into_owned(),
        None => ip,
    };
    match end.port {
        Some(port) => format!("{who}:{port}"),
        None => who,
    }
}

/// What it was about, then what is odd about it, in brackets.
fn about(flow: &FlowRecordV1, wide: bool) -> String {
    let mut notes = Vec::new();
    if let Some(service) = &flow.service {
        notes.push(format!("called as {}", end(service, wide)));
    }
    if let Some(lent) = &flow.masquerade {
        notes.push(format!("let out as {}", end(lent, wide)));
    }
    if let Some(tunnel) = &flow.tunnel {
        notes.push(wrap(tunnel));
    }
    if !flow.vlan.is_empty() {
        let tags: Vec<String> = flow.vlan.iter().map(u32::to_string).collect();
        notes.push(format!("vlan {}", tags.join(".")));
    }
    if let Some(missing) = flow.missing_bytes
        && missing != [0; 2]
    {
        let both = missing[0].saturating_add(missing[1]);
        notes.push(format!("{} not captured", bytes(both)));
    }
    match flow.inspection.as_deref() {
        Some("over-budget") => notes.push("only its beginning inspected".to_owned()),
        Some(_) => notes.push("went on as something else, not inspected".to_owned()),
        None => {}
    }
    if flow.reason == "evicted" {
        notes.push("cut off, too many flows".to_owned());
    }
    if wide {
        notes.push(flow.community_id.clone());
    }
    let gist = flow.gist.as_deref().map(printable).unwrap_or_default();
    match (gist.is_empty(), notes.is_empty()) {
        (_, true) => gist.into_owned(),
        (true, false) => format!("[{}]", notes.join(", ")),
        (false, false) => format!("{gist} [{}]", notes.join(", ")),
    }
}

fn wrap(tunnel: &TunnelV1) -> String {
    let mut text = format!("{} {}", tunnel.kind, tunnel.id);
    if let Some([from, to]) = tunnel.outer {
        text.extend([" ", &from.to_string(), " to ", &to.to_string()]);
    }
    if tunnel.depth > 1 {
        text.extend([", ", &tunnel.depth.to_string(), " deep"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::{external, flow, pod, record, service};
    use crate::decode::{Tunnel, TunnelKind};
    use crate::flow::{FlowRecord, Inspection};

    fn flows() -> Vec<FlowRecordV1> {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let pay = pod("shop", "pay", "k2l9q", "10.244.2.9");
        let mut called = flow(1, &cart, &pay, 8080).as_ref().clone();
        called.service = Some((service("shop", "pay", "10.96.7.7"), 443).into());
        let mut about_pay = FlowRecordV1::from((&called, &record(Some("http"))));
        about_pay.gist = Some("GET pay/card 200 ×3".to_owned());

        let mut out = flow(2, &cart, &external("2001:db8::9"), 443)
            .as_ref()
            .clone();
        out.masquerade = Some((external("172.18.0.2"), 61_000).into());
        out.start = out.start.before(std::time::Duration::from_millis(1500));
        let tunnel = Tunnel {
            kind: TunnelKind::Vxlan,
            id: 42,
            outer: Some((
                "192.168.50.7".parse().unwrap(),
                "192.168.50.10".parse().unwrap(),
            )),
            depth: 2,
        };
        let counters = FlowRecord {
            inspection: Inspection::OverBudget,
            tunnel: Some(Box::new(tunnel)),
            payload_bytes: [1_234_567, 0],
            missing_bytes: [0, 2_000],
            ..record(Some("tls"))
        };
        let mut wrapped = FlowRecordV1::from((&out, &counters));
        wrapped.gist = Some("evil\u{1b}[31m.example".to_owned());
        vec![about_pay, wrapped]
    }

    fn table(wide: bool) -> String {
        let mut rows = FlowRows::new(wide);
        for flow in flows() {
            assert_eq!(rows.push(&flow), None);
        }
        rows.finish()
    }

    #[test]
    fn flows_stand_in_columns_in_the_order_of_their_beginning() {
        insta::assert_snapshot!(table(false));
    }

    #[test]
    fn wide_rows_have_addresses_packets_and_community_ids() {
        insta::assert_snapshot!(table(true));
    }

    #[test]
    fn a_full_block_is_given_at_once_and_the_heading_stands_once() {
        let mut rows = FlowRows::new(false);
        let flow = &flows()[0];
        let blocks: Vec<String> = (0..=FlowRows::BLOCK)
            .filter_map(|_| rows.push(flow))
            .collect();
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].lines().count(), FlowRows::BLOCK + 1);
        assert_eq!(rows.finish().lines().count(), 1);
        assert!(FlowRows::new(false).finish().starts_with("START"));
    }
}
