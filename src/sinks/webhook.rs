//! Alerts to a server over HTTP: as the published JSON objects, or in the form that Prometheus's Alertmanager takes.
//!
//! Owns the forms, and which refusals are worth another try. Knows nothing of queues and waiting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::alert::{AlertV1, UtcTime};

const ALERTMANAGER_PATH: &str = "/api/v2/alerts";
/// A server that takes longer is taken for one that is down.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WebhookForm {
    /// A JSON array of [`AlertV1`] objects.
    Alerts,
    /// What `POST /api/v2/alerts` of Alertmanager takes.
    Alertmanager,
}

/// Why a server can't be sent to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// Not an address that can be posted to.
    #[error("'{0}' is no http:// or https:// URL")]
    Url(String),
    /// A file that goes with it can't be used.
    #[error("cannot use {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What became of a delivery that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The server may take it later: it is down, busy, or can't be reached.
    Later(String),
    /// It will never take this.
    Never(String),
}

/// A server that takes alerts.
#[derive(Debug)]
pub struct Webhook {
    agent: ureq::Agent,
    address: Uri,
    authorization: Option<HeaderValue>,
    form: WebhookForm,
}

impl Webhook {
    /// Sends to `url`. `token` is a file with a bearer token, `roots` one with the certificates (PEM) to trust instead of
    /// Mozilla's. To Alertmanager's address its path is added.
    ///
    /// # Errors
    /// When the URL is none, or a file can't be read.
    pub fn new(
        url: &str,
        form: WebhookForm,
        token: Option<&Path>,
        roots: Option<&Path>,
    ) -> Result<Self, WebhookError> {
        let wrong = || WebhookError::Url(url.to_owned());
        let url = match form {
            WebhookForm::Alertmanager if !url.ends_with(ALERTMANAGER_PATH) => {
                format!("{}{ALERTMANAGER_PATH}", url.trim_end_matches('/'))
            }
            _ => url.to_owned(),
        };
        let address: Uri = url.parse().map_err(|_| wrong())?;
        if !matches!(address.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let roots = match roots {
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
            None => RootCerts::WebPki,
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("spanwatch/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        Ok(Self {
            agent: config.build().new_agent(),
            address,
            authorization: token.map(bearer).transpose()?,
            form,
        })
    }

    /// The server in words, without what may be secret in its address.
    pub fn server(&self) -> String {
        let host = self.address.host().unwrap_or_default();
        let port = self.address.port();
        port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether alarms of a run about itself can be sent there too, each an [`AlarmV1`] in JSON.
    pub fn takes_alarms(&self) -> bool {
        self.form == WebhookForm::Alertmanager
    }

    /// Sends alerts, each an [`AlertV1`] in JSON.
    ///
    /// # Errors
    /// When the server didn't take them.
    pub fn post(&self, alerts: &[impl AsRef<[u8]>]) -> Result<(), Refusal> {
        let mut body = Vec::new();
        for alert in alerts {
            let alert = alert.as_ref();
            let form = match self.form {
                WebhookForm::Alerts => alert.to_vec(),
                WebhookForm::Alertmanager => posted(alert)
                    .map_err(|error| Refusal::Never(format!("one is unreadable: {error}")))?,
            };
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend(form);
        }
        body.push(b']');
        let mut request = self
            .agent
            .post(&self.address)
            .content_type("application/json; charset=utf-8");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let status = match request.send(&body) {
            Ok(response) => response.status(),
            Err(error) => return Err(Refusal::Later(error.to_string())),
        };
        if status.is_success() {
            return Ok(());
        }
        let problem = format!("it answers {status}");
        Err(match status.as_u16() {
            // Timed out, too early, too many: that much it says of itself. The others of this class say that we are wrong.
            408 | 425 | 429 => Refusal::Later(problem),
            300..=499 => Refusal::Never(problem),
            _ => Refusal::Later(problem),
        })
    }
}

/// An alarm of a run about itself, on its way to Alertmanager.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlarmV1 {
    /// What is wrong, in one word.
    pub condition: String,
    /// With what; empty where there is but one.
    pub subject: String,
    /// The machine.
    pub node: String,
    /// In words.
    pub text: String,
    /// When it was over.
    pub ended: Option<UtcTime>,
}

/// What is on its way.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Waiting {
    Alert(Box<AlertV1>),
    Alarm(AlarmV1),
}

fn posted(record: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&match serde_json::from_slice(record)? {
        Waiting::Alert(alert) => Posted::from(&*alert),
        Waiting::Alarm(alarm) => Posted::from(&alarm),
    })
}

/// An alert as Alertmanager takes it. Its labels stay the same while it grows, so that it stays one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<String>,
}

impl From<&AlertV1> for Posted {
    fn from(alert: &AlertV1) -> Self {
        let actor = &alert.actor;
        let labels = [
            ("alertname", Some(alert.signature.clone())),
            ("alert_id", Some(alert.id.clone())),
            ("source_ip", Some(actor.ip.to_string())),
            ("namespace", actor.namespace.clone()),
            ("pod", actor.pod.clone()),
            ("workload", actor.workload.clone()),
        ];
        let annotations = [
            ("title", Some(alert.title.clone())),
            ("summary", Some(alert.summary.clone())),
            ("severity", Some(word(&alert.severity))),
            ("confidence", Some(format!("{:.2}", alert.confidence))),
            ("response", Some(alert.response.join("\n"))),
            (
                "incident",
                alert.incident.as_ref().map(|incident| incident.id.clone()),
            ),
        ];
        let there = |(name, value): (_, Option<String>)| value.map(|value| (name, value));
        Self {
            labels: labels.into_iter().filter_map(there).collect(),
            annotations: annotations.into_iter().filter_map(there).collect(),
            starts_at: Some(word(&alert.time.first)),
            ends_at: None,
        }
    }
}

impl From<&AlarmV1> for Posted {
    fn from(alarm: &AlarmV1) -> Self {
        let labels = [
            ("alertname", "SpanwatchAlarm"),
            ("condition", &alarm.condition),
            ("subject", &alarm.subject),
            ("node", &alarm.node),
        ];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        let annotations = [("summary", &*alarm.text), ("severity", "high")];
        let own = |(name, value): (_, &str)| (name, value.to_owned());
        Self {
            labels: labels.map(own).collect(),
            annotations: annotations.into_iter().map(own).collect(),
            // It began when it first came, which Alertmanager knows.
            starts_at: None,
            ends_at: alarm.ended.as_ref().map(word),
        }
    }
}

/// A value whose JSON form is a string, as that string.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn read(path: &Path) -> Result<String, WebhookError> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, error.to_string()))
}

/// The header of a token in a file.
fn bearer(path: &Path) -> Result<HeaderValue, WebhookError> {
    let text = read(path)?;
    let token = text.trim();
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    match header {
        Ok(mut header) if !token.is_empty() => {
            header.set_sensitive(true);
            Ok(header)
        }
        _ => Err(unusable(path, "it holds no token".to_owned())),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, WebhookError> {
    let text = read(path)?;
    let mut all = Vec::new();
    for item in parse_pem(text.as_bytes()) {
        if let PemItem::Certificate(one) =
            item.map_err(|error| unusable(path, error.to_string()))?
        {
            all.push(one);
        }
    }
    if all.is_empty() {
        return Err(unusable(path, "no certificate (PEM) is in it".to_owned()));
    }
    Ok(all)
}

fn unusable(path: &Path, problem: String) -> WebhookError {
    WebhookError::File {
        path: path.display().to_string(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(url: &str, form: WebhookForm) -> Result<Webhook, WebhookError> {
        Webhook::new(url, form, None, None)
    }

    #[test]
    fn an_address_is_checked_before_it_is_needed() {
        for wrong in [
            "",
            "alerts.example",
            "ftp://x",
            "https://",
            "http:///x",
            "http://a b",
        ] {
            assert!(
                matches!(hook(wrong, WebhookForm::Alerts), Err(WebhookError::Url(_))),
                "{wrong}"
            );
        }
        let manager = hook("http://am.example:9093/", WebhookForm::Alertmanager).unwrap();
        assert_eq!(manager.server(), "am.example:9093");
        assert_eq!(manager.address.path(), ALERTMANAGER_PATH);
    }

    #[test]
    fn what_is_secret_in_an_address_is_not_told() {
        let hook = hook(
            "https://me:key@hooks.example/T0/secret?x=1",
            WebhookForm::Alerts,
        )
        .unwrap();
        assert_eq!(hook.server(), "hooks.example");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        assert!(Webhook::new("https://x", WebhookForm::Alerts, Some(&path), None).is_ok());
        std::fs::write(&path, "two\nlines").unwrap();
        let error = Webhook::new("https://x", WebhookForm::Alerts, Some(&path), None).unwrap_err();
        assert!(error.to_string().ends_with("it holds no token"), "{error}");
        let error = Webhook::new("https://x", WebhookForm::Alerts, None, Some(&path)).unwrap_err();
        assert!(
            error.to_string().ends_with("no certificate (PEM) is in it"),
            "{error}"
        );
    }

    #[test]
    fn an_alarm_is_one_to_alertmanager_until_it_is_over() {
        let mut alarm = AlarmV1 {
            condition: "disk".to_owned(),
            subject: String::new(),
            node: "worker-1".to_owned(),
            text: "it is full".to_owned(),
            ended: None,
        };
        let form = |alarm: &AlarmV1| {
            let posted = posted(&serde_json::to_vec(alarm).unwrap()).unwrap();
            serde_json::from_slice::<serde_json::Value>(&posted).unwrap()
        };
        let raised = form(&alarm);
        let labels = serde_json::json!({"alertname": "SpanwatchAlarm", "condition": "disk", "node": "worker-1"});
        assert_eq!(raised["labels"], labels);
        assert_eq!(raised["annotations"]["summary"], "it is full");
        assert_eq!(raised.get("endsAt"), None);
        alarm.ended = Some(UtcTime(crate::time::Timestamp::from_secs(0)));
        let over = form(&alarm);
        assert_eq!(over["labels"], labels);
        assert_eq!(over["endsAt"], "1970-01-01T00:00:00.000000000Z");
        assert!(posted(b"{}").is_err());
    }
}
