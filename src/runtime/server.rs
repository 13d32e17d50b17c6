//! `/metrics`, `/healthz` and `/readyz`: how a live run stands, over HTTP. Asks for what the other threads show once a second,
//! and holds none of them up.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::clock;
use super::forward::{ForwardView, Forwarded};
use super::health::Condition;
use super::kubernetes::Following;
use super::view::View;
use crate::signature::Severity;
use crate::telemetry::Loss;

/// An analysis further behind the clock than this is stuck.
const STUCK: Duration = Duration::from_mins(1);

/// What there is to show.
#[derive(Clone)]
struct Shown {
    view: Arc<View>,
    forwarding: Option<ForwardView>,
}

pub(super) fn router(view: Arc<View>, forwarding: Option<ForwardView>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(Shown { view, forwarding })
}

async fn metrics(State(shown): State<Shown>) -> impl IntoResponse {
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], exposition(&shown))
}

/// Alive: the analysis keeps up with the clock.
async fn health(State(Shown { view, .. }): State<Shown>) -> (StatusCode, String) {
    let behind = view.standing().now.map(|now| clock().since(now));
    match behind {
        Some(behind) if behind > STUCK => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the analysis is {} s behind\n", behind.as_secs()),
        ),
        _ => (StatusCode::OK, "ok\n".to_owned()),
    }
}

/// Ready: something is captured. What works only in part is told, and is no reason to be restarted.
async fn readiness(State(Shown { view, .. }): State<Shown>) -> (StatusCode, String) {
    let mut text = String::new();
    let taps = view.taps();
    for tap in &taps {
        let state = if tap.open { "captured" } else { "not there" };
        line(
            &mut text,
            format_args!("interface {}: {state}", tap.interface),
        );
    }
    let identity = view.identity();
    match &identity.problem {
        None => line(
            &mut text,
            format_args!("identities: {} claims", identity.claims),
        ),
        Some(problem) => line(&mut text, format_args!("identities: {problem}")),
    }
    for (kind, state) in view.kubernetes() {
        let problem = state.problem.as_deref();
        let problem = problem.map_or(String::new(), |problem| format!(" ({problem})"));
        line(
            &mut text,
            format_args!(
                "kubernetes {}: {} known, {}{problem}",
                kind.label(),
                state.objects.0,
                if state.up { "followed" } else { "not followed" },
            ),
        );
    }
    if let Some(asking) = view.asking() {
        let problem = asking.problem.as_deref();
        let problem = problem.map_or(String::new(), |problem| format!(" ({problem})"));
        line(
            &mut text,
            format_args!(
                "container runtime: {} pods, {}{problem}",
                asking.sandboxes,
                if asking.up { "asked" } else { "not asked" },
            ),
        );
    }
    for alarm in view.alarms() {
        line(&mut text, format_args!("alarm: {}", alarm.text));
    }
    let ready = view.standing().now.is_some() && taps.iter().any(|tap| tap.open);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text)
}

/// Everything, in the text form of Prometheus.
fn exposition(Shown { view, forwarding }: &Shown) -> String {
    let mut page = Page(String::new());
    let standing = view.standing();
    let stats = &standing.stats;
    page.head("spanwatch_build_info", "gauge", "The version that runs.");
    page.value(
        "spanwatch_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    for (name, help, value) in [
        ("packets", "Packets analyzed.", stats.packets),
        ("packet_bytes", "Their bytes on the wire.", stats.bytes),
        (
            "copies",
            "Packets seen once more at another tap or by a mirror.",
            stats.copies,
        ),
        ("flows", "Flows seen.", stats.flows),
        (
            "inside_ends",
            "Ends of flows at addresses that somebody inside should hold.",
            stats.inside_ends,
        ),
        (
            "named_ends",
            "Those of them that were given a name.",
            stats.named_ends,
        ),
    ] {
        let name = format!("spanwatch_{name}_total");
        page.head(&name, "counter", help);
        page.value(&name, &[], value as f64);
    }
    page.head(
        "spanwatch_losses_total",
        "counter",
        "What was lost, by cause.",
    );
    for loss in Loss::ALL {
        let n = standing.losses.get(*loss) as f64;
        page.value("spanwatch_losses_total", &[("cause", loss.label())], n);
    }
    page.head(
        "spanwatch_alerts_total",
        "counter",
        "Alerts, each once for what it was told as first, and for each graver severity that it came to.",
    );
    for (severity, n) in Severity::ALL.iter().zip(standing.alerts) {
        let label = ("severity", severity.label());
        page.value("spanwatch_alerts_total", &[label], n as f64);
    }
    taps(&mut page, view);
    if let Some(forwarding) = forwarding {
        forwarded(&mut page, forwarding.counts());
    }
    if let Some(counts) = view.evidence() {
        let name = "spanwatch_evidence_files_total";
        let help = "Files of alerts' packets that were written, couldn't be, and were removed for want of room.";
        page.head(name, "counter", help);
        page.value(name, &[("fate", "written")], counts.written as f64);
        page.value(name, &[("fate", "dropped")], counts.dropped as f64);
        page.value(name, &[("fate", "removed")], counts.removed as f64);
    }
    alarms(&mut page, view);
    let identity = view.identity();
    page.head(
        "spanwatch_identity_claims",
        "gauge",
        "Claims on addresses that are known.",
    );
    page.value("spanwatch_identity_claims", &[], identity.claims as f64);
    page.head(
        "spanwatch_identity_readings_total",
        "counter",
        "Readings of the inventories.",
    );
    page.value(
        "spanwatch_identity_readings_total",
        &[],
        identity.readings as f64,
    );
    page.head(
        "spanwatch_identity_up",
        "gauge",
        "Whether the last reading succeeded.",
    );
    let up = f64::from(u8::from(identity.problem.is_none()));
    page.value("spanwatch_identity_up", &[], up);
    kubernetes(&mut page, view);
    if let Some(asking) = view.asking() {
        let up = f64::from(u8::from(asking.up));
        page.single(
            "spanwatch_cri_up",
            "gauge",
            "Whether the container runtime answers.",
            up,
        );
        let count = asking.sandboxes as f64;
        page.single(
            "spanwatch_cri_sandboxes",
            "gauge",
            "Pod sandboxes that it has.",
            count,
        );
        let failures = asking.failures as f64;
        let help = "Attempts to ask it that failed.";
        page.single("spanwatch_cri_failures_total", "counter", help, failures);
    }
    if let Some(now) = standing.now {
        let help = "How far the analysis is behind the clock, about a second by design.";
        page.head("spanwatch_lag_seconds", "gauge", help);
        page.value(
            "spanwatch_lag_seconds",
            &[],
            clock().since(now).as_secs_f64(),
        );
    }
    page.0
}

/// How the Kubernetes API is followed, where it is.
fn kubernetes(page: &mut Page, view: &View) {
    type Value = fn(&Following) -> f64;
    let kinds = view.kubernetes();
    if kinds.is_empty() {
        return;
    }
    let metrics: [(&str, &str, &str, Value); 5] = [
        (
            "up",
            "gauge",
            "Whether a watch of the objects is open.",
            |state| f64::from(u8::from(state.up)),
        ),
        ("objects", "gauge", "Objects known.", |state| {
            state.objects.0 as f64
        }),
        (
            "refused_objects",
            "gauge",
            "Objects for which there is no room.",
            |state| state.objects.1 as f64,
        ),
        (
            "lists_total",
            "counter",
            "Times that all were listed.",
            |state| state.lists as f64,
        ),
        (
            "failures_total",
            "counter",
            "Lists and watches that failed.",
            |state| state.failures as f64,
        ),
    ];
    for (name, sort, help, value) in metrics {
        let name = format!("spanwatch_kubernetes_{name}");
        page.head(&name, sort, help);
        for (kind, state) in &kinds {
            page.value(&name, &[("kind", kind.label())], value(state));
        }
    }
}

/// What is wrong with the run itself.
fn alarms(page: &mut Page, view: &View) {
    let name = "spanwatch_alarm";
    page.head(
        name,
        "gauge",
        "Whether something is wrong with the run itself.",
    );
    let alarms = view.alarms();
    for condition in Condition::ALL {
        let raised = alarms.iter().any(|alarm| alarm.condition == condition);
        let label = ("condition", condition.label());
        page.value(name, &[label], f64::from(u8::from(raised)));
    }
}

/// Of the server that alerts are forwarded to.
fn forwarded(page: &mut Page, counts: Forwarded) {
    let name = "spanwatch_forwarded_alerts_total";
    page.head(
        name,
        "counter",
        "Alerts that the server took, and that it will never get.",
    );
    page.value(name, &[("fate", "sent")], counts.sent as f64);
    page.value(name, &[("fate", "lost")], counts.lost as f64);
    let name = "spanwatch_forwarding_queue";
    page.head(name, "gauge", "Alerts that wait for the server.");
    page.value(name, &[], counts.waiting as f64);
    if let Some(kept) = counts.kept {
        let name = "spanwatch_spool_up";
        page.head(name, "gauge", "Whether the alerts that wait are on disk.");
        page.value(name, &[], f64::from(u8::from(kept)));
    }
}

fn taps(page: &mut Page, view: &View) {
    let taps = view.taps();
    page.head(
        "spanwatch_tap_up",
        "gauge",
        "Whether an interface is captured.",
    );
    for tap in &taps {
        let label = ("interface", tap.interface.as_str());
        page.value("spanwatch_tap_up", &[label], f64::from(u8::from(tap.open)));
    }
    let name = "spanwatch_tap_packets_total";
    let help = "What became of an interface's packets: received is the sum of taken, passed_over, kernel_dropped and unread.";
    page.head(name, "counter", help);
    for tap in &taps {
        let counts = &tap.counts;
        for (fate, n) in [
            ("received", counts.kernel.received),
            ("taken", counts.taken),
            ("passed_over", counts.passed_over),
            ("kernel_dropped", counts.kernel.dropped),
            ("interface_missed", counts.kernel.missed),
            ("unread", counts.unread),
        ] {
            let labels = [("interface", tap.interface.as_str()), ("fate", fate)];
            page.value(name, &labels, n as f64);
        }
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        line(
            &mut self.0,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"),
        );
    }

    /// A metric without labels.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.head(name, kind, help);
        self.value(name, &[], value);
    }

    /// Values are whole numbers or seconds; labels are ours or interface names, which have no quotes.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", value.replace(['"', '\\', '\n'], "_")))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        line(&mut self.0, format_args!("{name}{labels} {value}"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    writeln!(text, "{line}").ok();
}
