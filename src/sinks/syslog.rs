//! Alerts to a syslog server: RFC 5424 messages by UDP (RFC 5426), by TCP with octet counts (RFC 6587), or to the machine's own.
//!
//! Owns the form of a message, and the connection. Knows nothing of queues and waiting. A message says when, where, how grave and
//! of which signature in its header; the rest is the alert as JSON.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::Uri;

use super::Refusal;
use super::webhook::Waiting;
use crate::alert::{AlertV1, SeverityV1, UtcTime};

/// Facility local0, which is for whatever the site makes of it.
const FACILITY: u8 = 16;
/// A server that takes longer is taken for one that is down.
const PATIENCE: Duration = Duration::from_secs(15);
/// What fits a datagram.
const LONGEST: usize = 65_000;

/// Not a place that syslog can be sent to.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no place for syslog; udp://HOST:514, tcp://HOST:601 and unix:/dev/log are")]
pub struct SyslogError(String);

#[derive(Debug)]
enum Place {
    Udp(String),
    Tcp(String),
    Unix(PathBuf),
}

/// A syslog server.
#[derive(Debug)]
pub struct Syslog {
    place: Place,
    /// The machine's name, as messages bear it.
    node: String,
    link: Mutex<Option<TcpStream>>,
}

impl Syslog {
    /// Sends to a place, in the name of a machine.
    ///
    /// # Errors
    /// When it is no such place.
    pub fn new(place: &str, node: &str) -> Result<Self, SyslogError> {
        let place = parse(place).ok_or_else(|| SyslogError(place.to_owned()))?;
        let graphic = node.chars().filter(char::is_ascii_graphic).take(255);
        let node: String = graphic.collect();
        Ok(Self {
            place,
            node: if node.is_empty() {
                "-".to_owned()
            } else {
                node
            },
            link: Mutex::new(None),
        })
    }

    /// The server in words.
    pub fn server(&self) -> String {
        match &self.place {
            Place::Udp(host) | Place::Tcp(host) => host.clone(),
            Place::Unix(path) => path.display().to_string(),
        }
    }

    /// Sends alerts, each an [`AlertV1`] in JSON, or alarms of a run about itself.
    ///
    /// # Errors
    /// When they can't be sent. Whether they arrived only the server knows: syslog has no answers.
    pub fn post(&self, records: &[impl AsRef<[u8]>]) -> Result<(), Refusal> {
        let messages: Result<Vec<String>, _> = records
            .iter()
            .map(|record| self.message(record.as_ref()))
            .collect();
        let messages =
            messages.map_err(|error| Refusal::Never(format!("one is unreadable: {error}")))?;
        let sent = match &self.place {
            Place::Udp(host) => datagrams(host, &messages),
            Place::Tcp(host) => self.stream(host, &messages),
            Place::Unix(path) => local(path, &messages),
        };
        sent.map_err(|error| Refusal::Later(error.to_string()))
    }

    fn stream(&self, host: &str, messages: &[String]) -> io::Result<()> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that has gone since takes what is written without a word.
        let mut stream = match link.take().filter(is_open) {
            Some(stream) => stream,
            None => connect(host)?,
        };
        let frames = messages.iter();
        let frames = frames.map(|message| format!("{} {message}", message.len()));
        stream.write_all(frames.collect::<String>().as_bytes())?;
        *link = Some(stream);
        Ok(())
    }

    /// The message of an alert or an alarm.
    fn message(&self, record: &[u8]) -> Result<String, serde_json::Error> {
        let (severity, time, about, said) = match serde_json::from_slice(record)? {
            Waiting::Alert(alert) => {
                let AlertV1 {
                    severity,
                    ref time,
                    ref signature,
                    ..
                } = *alert;
                let json = serde_json::to_string(&alert)?;
                (grade(severity), Some(time.last), signature.clone(), json)
            }
            Waiting::Alarm(alarm) => {
                // Over is a notice, raised is an error.
                let severity = if alarm.ended.is_some() { 5 } else { 3 };
                let json = serde_json::to_string(&alarm)?;
                (
                    severity,
                    alarm.ended,
                    format!("alarm-{}", alarm.condition),
                    json,
                )
            }
        };
        let time = time.map_or_else(|| "-".to_owned(), stamp);
        let about: String = about
            .chars()
            .filter(char::is_ascii_graphic)
            .take(32)
            .collect();
        let (priority, node, process) = (FACILITY * 8 + severity, &self.node, std::process::id());
        let mut message =
            format!("<{priority}>1 {time} {node} spanwatch {process} {about} - \u{feff}{said}");
        if message.len() > LONGEST {
            let end = message.floor_char_boundary(LONGEST);
            message.truncate(end);
        }
        Ok(message)
    }
}

fn parse(place: &str) -> Option<Place> {
    if let Some(path) = place.strip_prefix("unix:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        return path.is_absolute().then(|| Place::Unix(path.to_owned()));
    }
    let address: Uri = place.parse().ok()?;
    if !matches!(address.path(), "" | "/") || address.query().is_some() {
        return None;
    }
    let host = address.host().filter(|host| !host.is_empty())?;
    let at = |port| format!("{host}:{}", address.port_u16().unwrap_or(port));
    match address.scheme_str()? {
        "udp" => Some(Place::Udp(at(514))),
        "tcp" => Some(Place::Tcp(at(601))),
        _ => None,
    }
}

/// The severities of syslog: 2 critical, 3 error, 4 warning, 5 notice.
const fn grade(severity: SeverityV1) -> u8 {
    match severity {
        SeverityV1::Critical => 2,
        SeverityV1::High => 3,
        SeverityV1::Medium => 4,
        SeverityV1::Low => 5,
    }
}

/// Six digits of fraction are the most that a message may have.
fn stamp(time: UtcTime) -> String {
    let text = time.to_string();
    let (whole, fraction) = text
        .trim_end_matches('Z')
        .split_once('.')
        .unwrap_or((&text, "0"));
    format!("{whole}.{}Z", fraction.get(..6).unwrap_or(fraction))
}

fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    let all: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
    if all.is_empty() {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(all)
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = None;
    for address in addresses(host)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| ErrorKind::NotFound.into()))
}

/// Whether the other end hasn't closed it.
fn is_open(stream: &TcpStream) -> bool {
    let look = || -> io::Result<bool> {
        stream.set_nonblocking(true)?;
        let mut byte = [0; 64];
        let read = (&mut &*stream).read(&mut byte);
        stream.set_nonblocking(false)?;
        Ok(match read {
            // What a server says is nothing to us.
            Ok(n) => n > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        })
    };
    look().unwrap_or(false)
}

fn datagrams(host: &str, messages: &[String]) -> io::Result<()> {
    let all = addresses(host)?;
    let address = all.first().copied().ok_or(ErrorKind::NotFound)?;
    let from = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(from)?;
    socket.connect(address)?;
    messages
        .iter()
        .try_for_each(|message| socket.send(message.as_bytes()).map(drop))
}

fn local(path: &Path, messages: &[String]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(path)?;
    messages
        .iter()
        .try_for_each(|message| socket.send(message.as_bytes()).map(drop))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::alert::testing::finding;
    use crate::alert::{Correlator, CorrelatorConfig};
    use crate::signature::SignatureSet;
    use crate::sinks::AlarmV1;
    use crate::telemetry::LossCounts;

    fn alert() -> Vec<u8> {
        let set = SignatureSet::builtin().unwrap();
        let mut correlator = Correlator::new(CorrelatorConfig::default(), &set);
        correlator.accept(finding(0, 5, 18.0), &LossCounts::default(), 1);
        let alert = correlator.finish().remove(0);
        serde_json::to_vec(&AlertV1::from(&alert)).unwrap()
    }

    fn said(message: &str) -> serde_json::Value {
        let (_, json) = message.split_once('\u{feff}').unwrap();
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_place_is_checked_before_it_is_needed() {
        let server = |place| Syslog::new(place, "n").map(|syslog| syslog.server());
        assert_eq!(server("udp://log.example").unwrap(), "log.example:514");
        assert_eq!(server("tcp://[::1]:99/").unwrap(), "[::1]:99");
        assert_eq!(server("unix:/dev/log").unwrap(), "/dev/log");
        assert_eq!(server("unix:///dev/log").unwrap(), "/dev/log");
        for wrong in [
            "",
            "log.example",
            "http://x",
            "tcp://",
            "tcp://x/y",
            "unix:log",
        ] {
            let error = server(wrong).unwrap_err().to_string();
            assert!(error.contains("tcp://HOST:601"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_message_has_the_header_of_rfc_5424_and_the_alert() {
        let syslog = Syslog::new("unix:/dev/log", "worker 1").unwrap();
        let message = syslog.message(&alert()).unwrap();
        let head = format!(
            "<133>1 2026-03-01T03:12:05.000000Z worker1 spanwatch {} port-scan - \u{feff}{{",
            std::process::id()
        );
        assert!(message.starts_with(&head), "{message}");
        assert_eq!(said(&message)["signature"], "port-scan");
        assert!(!message.contains('\n'));

        let alarm = AlarmV1 {
            condition: "disk".to_owned(),
            subject: String::new(),
            node: "worker-1".to_owned(),
            text: "it is full".to_owned(),
            ended: None,
        };
        let message = syslog
            .message(&serde_json::to_vec(&alarm).unwrap())
            .unwrap();
        assert!(
            message.starts_with("<131>1 - worker1 spanwatch "),
            "{message}"
        );
        assert!(message.contains(" alarm-disk - "));
        assert_eq!(said(&message)["text"], "it is full");
        assert!(matches!(syslog.post(&[b"{}"]), Err(Refusal::Never(_))));
    }

    /// Reads messages with their counts until the other end closes.
    fn frames(stream: &mut TcpStream, n: usize) -> Vec<String> {
        let mut byte = || {
            let mut one = [0];
            stream.read_exact(&mut one).unwrap();
            one[0]
        };
        let mut all = Vec::new();
        for _ in 0..n {
            let mut length = 0_usize;
            loop {
                match byte() {
                    b' ' => break,
                    digit => length = length * 10 + usize::from(digit - b'0'),
                }
            }
            let message: Vec<u8> = (0..length).map(|_| byte()).collect();
            all.push(String::from_utf8(message).unwrap());
        }
        all
    }

    #[test]
    fn a_connection_is_kept_and_made_anew_when_the_server_has_closed_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = format!("tcp://{}", listener.local_addr().unwrap());
        let syslog = Syslog::new(&place, "n").unwrap();
        syslog.post(&[alert(), alert()]).unwrap();
        let (mut first, _) = listener.accept().unwrap();
        assert_eq!(frames(&mut first, 2).len(), 2);
        syslog.post(&[alert()]).unwrap();
        assert_eq!(said(&frames(&mut first, 1)[0])["signature"], "port-scan");
        drop(first);
        // Until the kernel has heard of it.
        std::thread::sleep(Duration::from_millis(100));
        syslog.post(&[alert()]).unwrap();
        let (mut second, _) = listener.accept().unwrap();
        assert_eq!(frames(&mut second, 1).len(), 1);
        drop((second, listener));
        std::thread::sleep(Duration::from_millis(100));
        assert!(matches!(syslog.post(&[alert()]), Err(Refusal::Later(_))));
    }

    #[test]
    fn datagrams_are_a_message_each() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let local = UnixDatagram::bind(&path).unwrap();
        let mut buffer = vec![0; 1 << 16];
        for place in [
            format!("udp://{}", socket.local_addr().unwrap()),
            format!("unix:{}", path.display()),
        ] {
            let syslog = Syslog::new(&place, "n").unwrap();
            syslog.post(&[alert(), alert()]).unwrap();
            for _ in 0..2 {
                let n = if place.starts_with("udp") {
                    socket.recv(&mut buffer).unwrap()
                } else {
                    local.recv(&mut buffer).unwrap()
                };
                let message = std::str::from_utf8(&buffer[..n]).unwrap();
                assert_eq!(said(message)["signature"], "port-scan");
            }
        }
    }
}
