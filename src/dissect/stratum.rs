//! Stratum, the protocols between miners and their pools: JSON, one object a line. Bitcoin's `mining.*`, Monero's `login`
//! and `job`, Ethereum's `eth_*`. Wallets, workers and passwords are not kept.

use std::sync::Arc;

use serde_json::Value;

use super::text::opt_text;
use super::{
    Both, Carrier, Dissector, DissectorSpec, Probe, Progress, Segment, Transaction, buffer,
};

/// Stratum over TCP.
pub(super) const STRATUM: DissectorSpec = DissectorSpec {
    name: "stratum",
    carrier: Carrier::Tcp,
    probe,
    build: || Box::new(Stratum::default()),
};

/// A step of a miner's conversation with its pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StratumMessage {
    /// The miner subscribes, says who it is, or logs in.
    Login {
        /// The mining program as it calls itself, at most 64 bytes.
        agent: Option<Arc<str>>,
    },
    /// The pool let it in, or didn't.
    LoginResult {
        /// Whether it did.
        success: bool,
    },
    /// The pool gives work.
    Job,
    /// The miner hands in work.
    Submit,
    /// The pool took the work, or didn't.
    SubmitResult {
        /// Whether it did.
        accepted: bool,
    },
}

/// A job with its merkle branches is the longest.
const MAX_LINE: usize = 8 * 1024;
const MAX_AGENT: usize = 64;
/// Requests waiting for their answers.
const MAX_PENDING: usize = 16;

/// Methods that nobody but miners and pools use, as they stand in the text.
const METHODS: [&[u8]; 6] = [
    b"\"mining.",
    b"\"eth_submitLogin\"",
    b"\"eth_submitWork\"",
    b"\"eth_submitHashrate\"",
    b"\"eth_getWork\"",
    b"\"keepalived\"",
];

fn probe(segment: &Segment<'_>) -> Probe {
    let text = segment.data.trim_ascii_start();
    let Some(first) = text.first() else {
        return Probe::Unsure;
    };
    if *first != b'{' {
        return Probe::NotForUs;
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or(text);
    if is_mining(line) {
        Probe::Certain
    } else if line.len() < text.len() {
        Probe::NotForUs
    } else {
        Probe::Unsure
    }
}

/// Whether the line, as far as it goes, has a mark of mining in it.
fn is_mining(line: &[u8]) -> bool {
    let has = |needle: &[u8]| line.windows(needle.len()).any(|window| window == needle);
    METHODS.iter().any(|method| has(method))
        // Monero's method names are ordinary words.
        || has(b"\"login\"") && has(b"\"pass\"") && has(b"\"agent\"")
        || has(b"\"job\"") && has(b"\"job_id\"") && has(b"\"target\"")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Login,
    Submit,
}

#[derive(Default)]
struct Stratum {
    lines: Both<Line>,
    /// Identifiers of requests without an answer yet.
    pending: Vec<(u64, Asked)>,
}

#[derive(Default)]
struct Line {
    held: Vec<u8>,
    /// The line is too long, or its beginning is missing: passed over.
    broken: bool,
}

impl Dissector for Stratum {
    fn held(&self) -> usize {
        let Both { orig, resp } = &self.lines;
        orig.held.capacity().saturating_add(resp.held.capacity())
    }

    fn feed(&mut self, segment: &Segment<'_>, out: &mut Vec<Transaction>) -> Progress {
        let line = self.lines.of(segment.direction);
        if segment.gap > 0 {
            line.held = Vec::new();
            line.broken = true;
        }
        let mut whole = Vec::new();
        for piece in segment.data.split_inclusive(|byte| *byte == b'\n') {
            line.broken |= !line.broken && !buffer::append(&mut line.held, piece, MAX_LINE);
            if piece.ends_with(b"\n") {
                let text = std::mem::take(&mut line.held);
                if !std::mem::take(&mut line.broken) {
                    whole.push(text);
                }
            }
        }
        for text in whole {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let Ok(Value::Object(message)) = serde_json::from_slice(text) else {
                return Progress::Desynced;
            };
            out.extend(self.message(&message).map(Transaction::Stratum));
        }
        Progress::More
    }
}

impl Stratum {
    fn message(&mut self, message: &serde_json::Map<String, Value>) -> Option<StratumMessage> {
        let id = message.get("id").and_then(Value::as_u64);
        let params = message.get("params");
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            return self.answer(id?, message);
        };
        match method {
            "mining.subscribe" | "mining.authorize" | "login" | "eth_submitLogin" | "eth_login" => {
                self.ask(id, Asked::Login);
                let agent = match params {
                    Some(Value::Array(list)) if method == "mining.subscribe" => list.first(),
                    Some(Value::Object(map)) => map.get("agent"),
                    _ => None,
                };
                let agent = agent.and_then(Value::as_str);
                Some(StratumMessage::Login {
                    agent: agent.and_then(|agent| opt_text(agent.as_bytes(), MAX_AGENT)),
                })
            }
            "mining.submit" | "submit" | "eth_submitWork" => {
                self.ask(id, Asked::Submit);
                Some(StratumMessage::Submit)
            }
            "mining.notify" | "job" => Some(StratumMessage::Job),
            _ => None,
        }
    }

    fn ask(&mut self, id: Option<u64>, asked: Asked) {
        let Some(id) = id else {
            return;
        };
        self.pending.retain(|(known, _)| *known != id);
        if self.pending.len() >= MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((id, asked));
    }

    fn answer(
        &mut self,
        id: u64,
        message: &serde_json::Map<String, Value>,
    ) -> Option<StratumMessage> {
        let at = self.pending.iter().position(|(known, _)| *known == id);
        let asked = at.map(|at| self.pending.remove(at).1);
        let result = message.get("result");
        let refused = message.get("error").is_some_and(|error| !error.is_null())
            || matches!(result, None | Some(Value::Null | Value::Bool(false)));
        match (asked, result) {
            (Some(Asked::Login), _) => Some(StratumMessage::LoginResult { success: !refused }),
            (Some(Asked::Submit), _) => Some(StratumMessage::SubmitResult { accepted: !refused }),
            // Ethereum's work is an answer with the header's hash, the seed's and the limit.
            (None, Some(Value::Array(work))) if work.len() >= 3 => Some(StratumMessage::Job),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_bytes_return, conversation, probed};
    use super::*;
    use crate::flow::Direction::{Orig, Resp};

    const BUILD: fn() -> Box<dyn Dissector> = STRATUM.build;

    #[test]
    fn bitcoin_and_its_kin() {
        let turns: [(_, &[u8]); 4] = [
            (Orig, b"{\"id\": 1, \"method\": \"mining.subscribe\", \"params\": [\"cgminer/4.10.0\", \"0a\"]}\n{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"wallet.w1\",\"x\"]}\n"),
            (Resp, b"{\"id\":1,\"result\":[[[\"mining.notify\",\"ae\"]],\"08000002\",4],\"error\":null}\n{\"id\":2,\"result\":true,\"error\":null}\n{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[512]}\n{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"bf\",\"4d\",\"01\",\"02\",[],\"20\",\"1c\",\"50\",false]}\n"),
            (Orig, b"{\"id\":4,\"method\":\"mining.submit\",\"params\":[\"wallet.w1\",\"bf\",\"01\",\"50\",\"ff\"]}\n"),
            (Resp, b"{\"id\":4,\"result\":null,\"error\":[21,\"Job not found\",null]}\n"),
        ];
        let told = conversation(BUILD, &turns);
        assert_eq!(
            told,
            [
                "Stratum(Login { agent: Some(\"cgminer/4.10.0\") })",
                "Stratum(Login { agent: None })",
                "Stratum(LoginResult { success: true })",
                "Stratum(LoginResult { success: true })",
                "Stratum(Job)",
                "Stratum(Submit)",
                "Stratum(SubmitResult { accepted: false })",
            ]
        );
        assert!(told.iter().all(|line| !line.contains("wallet")));
    }

    #[test]
    fn monero() {
        let turns: [(_, &[u8]); 4] = [
            (Orig, b"{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"login\",\"params\":{\"login\":\"48edf\",\"pass\":\"x\",\"agent\":\"XMRig/6.21.0 (Linux x86_64)\",\"algo\":[\"rx/0\",\"cn/2\"]}}\n"),
            (Resp, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":null,\"result\":{\"id\":\"71\",\"job\":{\"blob\":\"10\",\"job_id\":\"a\",\"target\":\"b88d0600\"},\"status\":\"OK\"}}\n{\"jsonrpc\":\"2.0\",\"method\":\"job\",\"params\":{\"blob\":\"10\",\"job_id\":\"b\",\"target\":\"b88d0600\"}}\n"),
            (Orig, b"{\"id\":2,\"jsonrpc\":\"2.0\",\"method\":\"submit\",\"params\":{\"id\":\"71\",\"job_id\":\"b\",\"nonce\":\"d0\",\"result\":\"e1\"}}\n{\"id\":3,\"jsonrpc\":\"2.0\",\"method\":\"keepalived\",\"params\":{\"id\":\"71\"}}\n"),
            (Resp, b"{\"id\":2,\"jsonrpc\":\"2.0\",\"error\":null,\"result\":{\"status\":\"OK\"}}\n"),
        ];
        assert_eq!(
            conversation(BUILD, &turns),
            [
                "Stratum(Login { agent: Some(\"XMRig/6.21.0 (Linux x86_64)\") })",
                "Stratum(LoginResult { success: true })",
                "Stratum(Job)",
                "Stratum(Submit)",
                "Stratum(SubmitResult { accepted: true })",
            ]
        );
        assert_eq!(probed(probe, Orig, turns[0].1), Probe::Certain);
        assert_eq!(probed(probe, Resp, &turns[1].1[..200]), Probe::Certain);
    }

    #[test]
    fn ethereum() {
        let turns: [(_, &[u8]); 4] = [
            (Orig, b"{\"worker\":\"rig\",\"jsonrpc\":\"2.0\",\"params\":[\"0xab\",\"x\"],\"id\":1,\"method\":\"eth_submitLogin\"}\n"),
            (Resp, b"{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":false}\n"),
            (Orig, b"{\"id\":5,\"method\":\"eth_getWork\",\"params\":[]}\n"),
            (Resp, b"{\"id\":5,\"jsonrpc\":\"2.0\",\"result\":[\"0x12\",\"0x34\",\"0x56\"]}\n"),
        ];
        assert_eq!(
            conversation(BUILD, &turns),
            [
                "Stratum(Login { agent: None })",
                "Stratum(LoginResult { success: false })",
                "Stratum(Job)",
            ]
        );
    }

    #[test]
    fn other_json_is_not_for_us() {
        let cases: [&[u8]; 4] = [
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"login\",\"params\":{\"user\":\"a\"}}\n",
            b"{\"method\":\"initialize\",\"params\":{}}\n",
            b"{}\n{\"method\":\"mining.submit\"}\n",
            b"GET / HTTP/1.1\r\n",
        ];
        for case in cases {
            assert_eq!(
                probed(probe, Orig, case),
                Probe::NotForUs,
                "{}",
                case.escape_ascii()
            );
        }
        assert_eq!(probed(probe, Orig, b"{\"id\":1,"), Probe::Unsure);
    }

    #[test]
    fn long_lines_are_passed_over_and_what_is_no_json_loses_it() {
        let long = format!(
            "{{\"method\":\"mining.notify\",\"params\":[\"{}\"]}}\n",
            "0".repeat(9000)
        );
        let turns: [(_, &[u8]); 3] = [
            (Resp, long.as_bytes()),
            (Resp, b"{\"method\":\"mining.notify\",\"params\":[]}\n"),
            (Orig, b"hello\n"),
        ];
        let mut stratum = Stratum::default();
        let mut out = Vec::new();
        for (direction, data) in turns {
            let segment = super::super::testing::segment(direction, data);
            let progress = stratum.feed(&segment, &mut out);
            assert_eq!(progress == Progress::Desynced, direction == Orig);
        }
        assert_eq!(out, [Transaction::Stratum(StratumMessage::Job)]);
    }

    #[test]
    fn any_bytes_are_survived() {
        any_bytes_return(BUILD, probe);
    }
}
