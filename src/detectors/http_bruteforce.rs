//! `http-bruteforce`: passwords or keys of web applications are guessed, by HTTP's own logins or through a form.
//!
//! HTTP's own (basic, digest) answer 401. A form is a POST to a path that is called like a login, or with a field for
//! a password; it is refused with an error, with the page again, or with a redirection back to it. What is in a form isn't read, but one that is the same as
//! before is no new guess; of a long one it is known whether it has another length. A token or key that is refused may have run out: it is the same each time, or comes from who was let in
//! by another before.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::guessing::{Guessing, Thresholds};
use super::{Context, Detector, DetectorSpec, Findings, Follows, StateSize};
use crate::dissect::{HttpRequest, HttpResponse, SecretMark, Transaction};
use crate::event::{Event, EventKind, EventKinds, FlowInfo};
use crate::features::{Attempt, Bounded, push_back_tight};
use crate::flow::FlowId;
use crate::telemetry::LossCounts;
use crate::time::Timestamp;

/// The catalogue entry.
pub(super) const SPEC: DetectorSpec = DetectorSpec {
    id: "http-bruteforce",
    sees: EventKinds::HTTP.and(EventKinds::FLOW_ENDED),
    build: |signature| {
        let thresholds: Thresholds = signature.thresholds.clone().try_into()?;
        Ok(Box::new(HttpBruteforce {
            guessing: Guessing::new(SPEC.id, thresholds, signature.alert_bits, TOOL),
            asked: Bounded::new(signature.room(MAX_OPEN)),
            sent_away: Bounded::new(signature.room(MAX_OPEN)),
            lengths: Bounded::new(signature.room(MAX_OPEN)),
            bearers: Bounded::new(signature.room(MAX_OPEN)),
        }))
    },
};

/// What a tool is known by.
const TOOL: &str = "the client calls itself a guessing tool";

/// Connections with requests under way, and logins that were answered by a redirection, remembered at a time.
const MAX_OPEN: usize = 16_384;
/// Requests under way in one connection.
const MAX_ASKED: usize = 32;

/// Parts of paths that are logins'.
const LOGIN_WORDS: &[&str] = &[
    "login",
    "logon",
    "signin",
    "sign-in",
    "sign_in",
    "authenticate",
    "j_security_check",
];
/// Last parts of paths that are.
const LOGIN_ENDS: &[&str] = &["auth", "session", "sessions", "token"];
/// What guessing tools call themselves.
const TOOLS: &[&str] = &[
    "hydra",
    "medusa",
    "patator",
    "ncrack",
    "wpscan",
    "nmap scripting",
];

struct HttpBruteforce {
    guessing: Guessing,
    asked: Bounded<FlowId, VecDeque<Asked>>,
    /// By client, server and port: where a redirection leads tells how the login went.
    sent_away: Bounded<(IpAddr, IpAddr, u16), Login>,
    /// By the same, how long the last login by a form was.
    lengths: Bounded<(IpAddr, IpAddr, u16), u64>,
    /// By the same, who was let in by a token or key: one that is refused later has run out.
    bearers: Bounded<(IpAddr, IpAddr, u16), ()>,
}

/// A request whose answer is still to come.
struct Asked {
    time: Timestamp,
    /// How it logs in, if it does.
    by: Option<By>,
    secret: Option<SecretMark>,
    as_tool: bool,
    /// Where to.
    path: Arc<str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Header,
    Token,
    Form,
}

/// A login that was answered, but not decided.
struct Login {
    flow: Arc<FlowInfo>,
    asked: Asked,
    answered: Timestamp,
}

/// How a login was answered.
enum Verdict {
    In,
    Refused,
    /// The next request will tell.
    SentAway,
    Unknown,
}

impl HttpBruteforce {
    fn request(
        &mut self,
        flow: &Arc<FlowInfo>,
        request: &HttpRequest,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let path = request.path.to_ascii_lowercase();
        let to_login = is_login(&path);
        let key = (flow.orig.ip, flow.resp.ip, flow.resp_port);
        if let Some(login) = self.sent_away.pop(&key) {
            let back = to_login || login.asked.path == request.path;
            self.decide(
                &login.flow,
                &login.asked,
                (login.answered, !back),
                context,
                out,
            );
        }
        let by = match request.authorization {
            Some("basic" | "digest") => Some(By::Header),
            // One that can't be compared says nothing.
            Some("bearer" | "key") => request.secret.map(|_| By::Token),
            None if &*request.method == "POST" && to_login => Some(By::Form),
            _ => None,
        };
        let agent = request.user_agent.as_deref().unwrap_or_default();
        let agent = agent.to_ascii_lowercase();
        let mut secret = request.secret;
        if by == Some(By::Form)
            && let Some(length) = request.content_length
            && self
                .lengths
                .put(key, length)
                .is_some_and(|before| before != length)
        {
            secret = Some(SecretMark::of(&length.to_le_bytes()));
        }
        let asked = Asked {
            time,
            by,
            secret,
            as_tool: TOOLS.iter().any(|tool| agent.contains(tool)),
            path: Arc::clone(&request.path),
        };
        let queue = self.asked.get_or_insert_with(flow.id, VecDeque::new);
        if queue.len() < MAX_ASKED {
            push_back_tight(queue, asked);
        }
    }

    fn response(
        &mut self,
        flow: &Arc<FlowInfo>,
        response: &HttpResponse,
        time: Timestamp,
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        if response.status < 200 {
            return;
        }
        let Some(mut asked) = self.asked.get_mut(&flow.id).and_then(VecDeque::pop_front) else {
            return;
        };
        // A form shows what it is by its fields, whatever it is called.
        let by = asked.by.or(response.to_login.then_some(By::Form));
        let Some(by) = by else { return };
        if by == By::Form {
            asked.secret = response.asked.or(asked.secret);
        }
        let key = (flow.orig.ip, flow.resp.ip, flow.resp_port);
        match verdict(by, response) {
            Verdict::In => {
                if by == By::Token {
                    self.bearers.put(key, ());
                }
                self.decide(flow, &asked, (time, true), context, out);
            }
            Verdict::Refused if by == By::Token && self.bearers.contains(&key) => {
                context.remark(SPEC.id, flow, || {
                    "a token is refused where one was taken before: it may have run out".into()
                });
            }
            Verdict::Refused => self.decide(flow, &asked, (time, false), context, out),
            Verdict::SentAway => {
                let login = Login {
                    flow: Arc::clone(flow),
                    asked,
                    answered: time,
                };
                self.sent_away.put(key, login);
            }
            Verdict::Unknown => {}
        }
    }

    fn decide(
        &mut self,
        flow: &Arc<FlowInfo>,
        asked: &Asked,
        (decided, success): (Timestamp, bool),
        context: &Context<'_>,
        out: &mut Findings,
    ) {
        let attempt = Attempt {
            flow,
            service: "http",
            user: None,
            secret: asked.secret,
            size: None,
            code: None,
            began: asked.time,
            decided,
            success,
            as_tool: asked.as_tool,
        };
        self.guessing.take(&attempt, context, out);
    }
}

fn verdict(by: By, response: &HttpResponse) -> Verdict {
    let page = response.content_type.as_deref() == Some("text/html");
    match (by, response.status) {
        (_, 401 | 403 | 407) | (By::Form, 400 | 422) => Verdict::Refused,
        // The page again, with an error on it; who is let in is sent elsewhere.
        (By::Form, 200) if page => Verdict::Refused,
        (By::Form, 300..=399) => Verdict::SentAway,
        (By::Header | By::Token, 200..=399 | 404 | 405) | (By::Form, 200..=299) => Verdict::In,
        _ => Verdict::Unknown,
    }
}

/// Whether a path, in lower case, is called like a login.
fn is_login(path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next();
    let last = last.unwrap_or_default();
    LOGIN_ENDS.contains(&last) || LOGIN_WORDS.iter().any(|word| path.contains(word))
}

impl Detector for HttpBruteforce {
    fn follows(&self) -> Follows {
        Follows {
            kinds: EventKinds::FLOW_ENDED,
            after: EventKinds::HTTP,
        }
    }

    fn observe(&mut self, event: &Event, context: &Context<'_>, out: &mut Findings) {
        match &event.kind {
            EventKind::Transaction { flow, transaction } => match transaction {
                Transaction::HttpRequest(request) => {
                    self.request(flow, request, event.time, context, out);
                }
                Transaction::HttpResponse(response) => {
                    self.response(flow, response, event.time, context, out);
                }
                _ => {}
            },
            EventKind::FlowEnded { flow, .. } => {
                self.asked.pop(&flow.id);
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, context: &Context<'_>, out: &mut Findings) {
        self.guessing.tick(now, context, out);
    }

    fn finish(&mut self, context: &Context<'_>, out: &mut Findings) {
        self.guessing.finish(context, out);
    }

    fn state_size(&self) -> StateSize {
        self.guessing.state_size()
    }

    fn losses(&self) -> LossCounts {
        self.guessing.losses()
    }
}

#[cfg(test)]
mod tests;
