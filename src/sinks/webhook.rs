//! Alerts to a server over HTTP: as the published JSON objects, or in the form that Prometheus's Alertmanager takes.
//!
//! Owns the forms, and which refusals are worth another try. Knows nothing of queues and waiting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::alert::AlertV1;

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

fn posted(alert: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let alert: AlertV1 = serde_json::from_slice(alert)?;
    serde_json::to_vec(&Posted::from(&alert))
}

/// An alert as Alertmanager takes it. Its labels stay the same while it grows, so that it stays one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
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
            starts_at: word(&alert.time.first),
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
}
