//! Conversations with databases written by hand, to show to a detector.

use std::sync::Arc;

use super::testing::Bench;
use crate::dissect::{
    DatabaseEvent, DatabaseMessage, HttpRequest, Marks, StatementClass, Transaction,
};
use crate::event::{Endpoint, EventKind, FlowInfo};
use crate::flow::{Outcome, Protocol};

/// A conversation that moves on with what is said.
pub(super) struct Talk<'a> {
    bench: &'a mut Bench,
    flow: Arc<FlowInfo>,
    product: &'static str,
    pub(super) now: f64,
}

impl<'a> Talk<'a> {
    pub(super) fn open(
        bench: &'a mut Bench,
        at: f64,
        ends: (&Endpoint, &Endpoint),
        product: &'static str,
        port: u16,
    ) -> Self {
        let flow = bench.open(at, ends, Protocol::Tcp, port);
        bench.event(at, EventKind::FlowOpened(Arc::clone(&flow)));
        let outcome = EventKind::FlowOutcome {
            flow: Arc::clone(&flow),
            outcome: Outcome::Answered,
        };
        bench.event(at, outcome);
        Self {
            bench,
            flow,
            product,
            now: at,
        }
    }

    fn say(&mut self, event: DatabaseEvent) {
        self.now += 0.01;
        let message = DatabaseMessage {
            product: self.product,
            event,
        };
        self.bench
            .says(self.now, &self.flow, Transaction::Database(message));
    }

    pub(super) fn log_in(&mut self, user: &str, client: Option<&str>) {
        self.say(DatabaseEvent::Login {
            user: Some(user.into()),
            database: Some("shop".into()),
            client: client.map(Into::into),
        });
        self.say(DatabaseEvent::LoginResult {
            success: true,
            code: None,
        });
    }

    /// A request over HTTP by a program that calls itself so.
    pub(super) fn fetches(&mut self, agent: &str) {
        let request = HttpRequest {
            method: "GET".into(),
            user_agent: Some(agent.into()),
            ..HttpRequest::default()
        };
        let request = Transaction::HttpRequest(request);
        self.bench.says(self.now, &self.flow, request);
    }

    pub(super) fn refused(&mut self, user: &str) {
        self.say(DatabaseEvent::Login {
            user: Some(user.into()),
            database: None,
            client: None,
        });
        self.say(DatabaseEvent::LoginResult {
            success: false,
            code: None,
        });
    }

    /// A statement and its answer.
    #[expect(clippy::too_many_arguments, reason = "a statement has as many sides")]
    pub(super) fn ask(
        &mut self,
        verb: &'static str,
        class: StatementClass,
        marks: Marks,
        fingerprint: u64,
        rows: Option<u64>,
        bytes: u64,
        error: Option<&str>,
    ) {
        self.say(DatabaseEvent::Statement {
            class,
            marks,
            verb,
            fingerprint,
            length: 40,
        });
        self.say(DatabaseEvent::Result {
            rows,
            bytes,
            error: error.map(Into::into),
        });
    }

    pub(super) fn close(self) {
        self.bench.ends(self.now + 0.01, &self.flow);
    }
}
