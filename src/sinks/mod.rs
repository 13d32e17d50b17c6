//! Alerts and records out, one after the other, to anything that takes bytes.
//!
//! Owns the line discipline and what a closed pipe means. Knows nothing of how a record is made: text for people comes from
//! a renderer that the caller gives, JSON from the published types.

mod excerpt;
mod records;
#[cfg(unix)]
mod syslog;
mod webhook;

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::alert::{Alert, AlertV1};

pub use excerpt::{Excerpt, ExcerptFolder, PacketRing};
pub use records::{Numbered, Purpose, Records, RecordsError};
#[cfg(unix)]
pub use syslog::{Syslog, SyslogError};
pub use webhook::{AlarmV1, Refusal, Webhook, WebhookError, WebhookForm};

/// Whoever takes alerts over the network.
#[cfg(unix)]
#[derive(Debug)]
pub enum Server {
    /// Over HTTP.
    Webhook(Webhook),
    /// As syslog messages.
    Syslog(Syslog),
}

#[cfg(unix)]
impl Server {
    /// The server in words, without what may be secret in its address.
    pub fn name(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.server(),
            Self::Syslog(syslog) => syslog.server(),
        }
    }

    /// Whether alarms of a run about itself can be sent there too, each an [`AlarmV1`] in JSON.
    pub fn takes_alarms(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.takes_alarms(),
            Self::Syslog(_) => true,
        }
    }

    /// Sends alerts, each an [`AlertV1`] in JSON.
    ///
    /// # Errors
    /// When the server didn't take them.
    pub fn post(&self, alerts: &[impl AsRef<[u8]>]) -> Result<(), Refusal> {
        match self {
            Self::Webhook(webhook) => webhook.post(alerts),
            Self::Syslog(syslog) => syslog.post(alerts),
        }
    }
}

/// What came of writing a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It was written.
    Done,
    /// The reader has gone (`| head`): there is no point in writing more, and nothing is wrong.
    Stop,
}

/// Records could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The output failed: a full disk, a lost mount.
    #[error("writing to {output}")]
    Write {
        /// What was written to, in words: a path, `standard output`.
        output: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A record has no JSON form.
    #[error("encoding a record for {output}")]
    Encode {
        /// What it was to be written to.
        output: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Makes text for people from an alert.
pub type TextRenderer = Box<dyn Fn(&Alert) -> String + Send>;

/// How alerts are written.
pub enum AlertFormat {
    /// One [`AlertV1`] object a line.
    Json,
    /// Text for people, a blank line between two alerts.
    Text(TextRenderer),
}

impl std::fmt::Debug for AlertFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json => "Json",
            Self::Text(_) => "Text",
        })
    }
}

/// Writes alerts in a format.
#[derive(Debug)]
pub struct AlertWriter<W> {
    out: RecordWriter<W>,
    format: AlertFormat,
    written: u64,
}

impl<W: Write> AlertWriter<W> {
    /// Writes to `out`, which errors call `output` (a path, `standard output`).
    pub fn new(out: W, output: impl Into<String>, format: AlertFormat) -> Self {
        Self {
            out: RecordWriter::new(out, output),
            format,
            written: 0,
        }
    }

    /// Writes an alert.
    ///
    /// # Errors
    /// If it couldn't be written, except when the reader has gone.
    pub fn deliver(&mut self, alert: &Alert) -> Result<Delivery, SinkError> {
        let delivery = match &self.format {
            AlertFormat::Json => self.out.json(&AlertV1::from(alert))?,
            AlertFormat::Text(render) => {
                let gap = if self.written > 0 { "\n" } else { "" };
                let text = render(alert);
                self.out
                    .raw(&format!("{gap}{}\n", text.trim_end_matches('\n')))?
            }
        };
        self.written += u64::from(delivery == Delivery::Done);
        Ok(delivery)
    }

    /// Writes text beside the alerts, a blank line before it; for people alone.
    ///
    /// # Errors
    /// As [`AlertWriter::deliver`].
    pub fn note(&mut self, text: &str) -> Result<Delivery, SinkError> {
        let gap = if self.written > 0 { "\n" } else { "" };
        self.out
            .raw(&format!("{gap}{}\n", text.trim_end_matches('\n')))
    }

    /// Hands everything written on to the output.
    ///
    /// # Errors
    /// As [`AlertWriter::deliver`].
    pub fn flush(&mut self) -> Result<Delivery, SinkError> {
        self.out.flush()
    }
}

/// Writes records of any published kind as JSON lines.
#[derive(Debug)]
pub struct RecordWriter<W> {
    out: W,
    output: String,
    buffer: Vec<u8>,
    gone: bool,
}

impl<W: Write> RecordWriter<W> {
    /// Writes to `out`, which errors call `output`. Each record is one `write`: give it a `BufWriter` where they are many.
    pub fn new(out: W, output: impl Into<String>) -> Self {
        Self {
            out,
            output: output.into(),
            buffer: Vec::new(),
            gone: false,
        }
    }

    /// Writes a record as one line of JSON.
    ///
    /// # Errors
    /// If it couldn't be written, except when the reader has gone.
    pub fn json(&mut self, record: &impl Serialize) -> Result<Delivery, SinkError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        serde_json::to_writer(&mut buffer, record).map_err(|source| SinkError::Encode {
            output: self.output.clone(),
            source,
        })?;
        buffer.push(b'\n');
        let delivery = self.attempt(|out| out.write_all(&buffer));
        self.buffer = buffer;
        delivery
    }

    /// Hands everything written on to the output.
    ///
    /// # Errors
    /// As [`RecordWriter::json`].
    pub fn flush(&mut self) -> Result<Delivery, SinkError> {
        self.attempt(Write::flush)
    }

    /// Writes text for people as it is.
    ///
    /// # Errors
    /// As [`RecordWriter::json`].
    pub fn raw(&mut self, text: &str) -> Result<Delivery, SinkError> {
        self.attempt(|out| out.write_all(text.as_bytes()))
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut W) -> io::Result<()>,
    ) -> Result<Delivery, SinkError> {
        if self.gone {
            return Ok(Delivery::Stop);
        }
        match write(&mut self.out) {
            Ok(()) => Ok(Delivery::Done),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(Delivery::Stop)
            }
            Err(source) => Err(SinkError::Write {
                output: self.output.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::finding;
    use crate::alert::{Correlator, CorrelatorConfig};
    use crate::signature::SignatureSet;
    use crate::telemetry::LossCounts;

    fn alert() -> Alert {
        let set = SignatureSet::builtin().unwrap();
        let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
        correlator.accept(finding(0, 5, 18.0), &LossCounts::default(), 1);
        correlator.finish().remove(0)
    }

    /// Takes so many writes, then fails in its way.
    struct Failing(usize, ErrorKind);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let Self(left, kind) = self;
            if *left == 0 {
                return Err((*kind).into());
            }
            *left -= 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_is_one_object_a_line() {
        let mut bytes = Vec::new();
        let mut writer = AlertWriter::new(&mut bytes, "memory", AlertFormat::Json);
        for _ in 0..2 {
            assert_eq!(writer.deliver(&alert()).unwrap(), Delivery::Done);
        }
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<AlertV1> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines, [AlertV1::from(&alert()), AlertV1::from(&alert())]);
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn text_has_a_blank_line_between_alerts() {
        let mut bytes = Vec::new();
        let render: TextRenderer = Box::new(|alert| format!("{}\n", alert.signature.id));
        let mut writer = AlertWriter::new(&mut bytes, "memory", AlertFormat::Text(render));
        writer.deliver(&alert()).unwrap();
        writer.deliver(&alert()).unwrap();
        assert_eq!(bytes, b"port-scan\n\nport-scan\n");
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let mut writer =
            AlertWriter::new(Failing(1, ErrorKind::BrokenPipe), "pipe", AlertFormat::Json);
        assert_eq!(writer.deliver(&alert()).unwrap(), Delivery::Done);
        assert_eq!(writer.deliver(&alert()).unwrap(), Delivery::Stop);
        assert_eq!(writer.deliver(&alert()).unwrap(), Delivery::Stop);
        assert_eq!(writer.flush().unwrap(), Delivery::Stop);
    }

    #[test]
    fn a_full_disk_is_one() {
        let mut writer = AlertWriter::new(
            Failing(0, ErrorKind::StorageFull),
            "alerts.jsonl",
            AlertFormat::Json,
        );
        let error = writer.deliver(&alert()).unwrap_err();
        assert_eq!(error.to_string(), "writing to alerts.jsonl");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "no storage space");
    }
}
