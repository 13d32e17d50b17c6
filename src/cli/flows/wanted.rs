//! Which flows and messages are wanted: filters on the published records.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use crate::report::{FlowEndV1, FlowRecordV1, MessageV1};
use crate::time::Timestamp;

/// Filters. Of one kind any must hold, of different kinds all.
#[derive(Clone, Default, Debug, clap::Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct Wanted {
    /// A pod at either end, by the beginning of its name; also namespace/name
    #[arg(long, value_name = "[NAMESPACE/]POD")]
    pod: Vec<String>,
    /// A pod or service of this namespace at either end
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// A port at either end
    #[arg(short, long, value_name = "PORT")]
    port: Vec<u16>,
    /// The application protocol: dns, tls, http, postgresql, …; 'none' for what wasn't recognised
    #[arg(short, long, value_name = "PROTOCOL")]
    app: Vec<String>,
    /// An address, or a range of them, at either end
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    ip: Vec<IpNetwork>,
    /// Not over before this time (2026-03-02T09:01:20Z; without a zone, UTC)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Begun by this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

impl Wanted {
    /// Whether a flow is.
    pub(super) fn has(&self, flow: &FlowRecordV1) -> bool {
        let ends = [Some(&flow.src), Some(&flow.dst)];
        let lent = [flow.service.as_ref(), flow.masquerade.as_ref()];
        self.grant([ends, lent], flow.app.as_deref(), flow.start.0..=flow.end.0)
    }

    /// Whether a message is.
    pub(super) fn has_message(&self, message: &MessageV1) -> bool {
        let ends = [Some(&message.src), Some(&message.dst)];
        let lent = [message.service.as_ref(), message.masquerade.as_ref()];
        let time = message.time.0;
        self.grant([ends, lent], message.app.as_deref(), time..=time)
    }

    fn grant(
        &self,
        ends: [[Option<&FlowEndV1>; 2]; 2],
        app: Option<&str>,
        span: RangeInclusive<Timestamp>,
    ) -> bool {
        let any = |test: &dyn Fn(&FlowEndV1) -> bool| {
            ends.as_flattened().iter().flatten().any(|end| test(end))
        };
        let app = app.unwrap_or("none");
        holds(&self.pod, |pod| any(&|end| is_pod(end, pod)))
            && holds(&self.namespace, |namespace| {
                any(&|end| end.namespace.as_ref() == Some(namespace))
            })
            && holds(&self.port, |port| any(&|end| end.port == Some(*port)))
            && holds(&self.app, |wanted| app.eq_ignore_ascii_case(wanted))
            && holds(&self.ip, |range| any(&|end| has_address(*range, end.ip)))
            && self.since.is_none_or(|since| *span.end() >= since)
            && self.until.is_none_or(|until| *span.start() <= until)
    }
}

/// Whether any of the wishes is granted, or there are none.
fn holds<T>(wishes: &[T], granted: impl Fn(&T) -> bool) -> bool {
    wishes.is_empty() || wishes.iter().any(granted)
}

fn is_pod(end: &FlowEndV1, wanted: &str) -> bool {
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, wanted),
    };
    end.pod.as_ref().is_some_and(|pod| pod.starts_with(name))
        && namespace.is_none_or(|namespace| end.namespace.as_deref() == Some(namespace))
}

fn has_address(range: IpNetwork, ip: IpAddr) -> bool {
    range.contains(ip)
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    });
    let time = time.ok_or("expected a date and time, such as 2026-03-02T09:01:20Z")?;
    let nanos = i64::try_from(time.as_nanosecond()).map_err(|_| "too far from today")?;
    Ok(Timestamp::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::{START, external, flow, pod, record, service};

    fn called() -> FlowRecordV1 {
        let cart = pod("shop", "cart", "x2x9k", "10.244.1.7");
        let mut info = flow(1, &cart, &external("203.0.113.9"), 8443)
            .as_ref()
            .clone();
        info.service = Some((service("front", "web", "10.96.7.7"), 443).into());
        FlowRecordV1::from((&info, &record(Some("tls"))))
    }

    fn wanted(args: &[&str]) -> bool {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            wanted: Wanted,
        }
        let args = std::iter::once(&"flows").chain(args);
        let line = <Line as clap::Parser>::try_parse_from(args).unwrap();
        line.wanted.has(&called())
    }

    #[test]
    fn filters_find_either_end_and_what_was_called() {
        for (args, expected) in [
            (&[][..], true),
            (&["--pod", "cart"], true),
            (&["--pod", "shop/cart-7d"], true),
            (&["--pod", "prod/cart"], false),
            (&["--pod", "art"], false),
            (&["--namespace", "front"], true),
            (&["--namespace", "fron"], false),
            (&["--port", "40000"], true),
            (&["--port", "443"], true),
            (&["--port", "80"], false),
            (&["--app", "TLS"], true),
            (&["--app", "none"], false),
            (&["--ip", "203.0.113.9"], true),
            (&["--ip", "10.96.0.0/12"], true),
            (&["--ip", "2001:db8::/32"], false),
            (
                &[
                    "--port", "80", "--port", "443", "--app", "http", "--app", "tls",
                ],
                true,
            ),
            (&["--port", "443", "--app", "ssh"], false),
        ] {
            assert_eq!(wanted(args), expected, "{args:?}");
        }
    }

    #[test]
    fn times_hold_what_overlaps_them() {
        // The flow lasts from 03:12:00 to 03:12:03.
        for (args, expected) in [
            (["--since", "2026-03-01T03:12:02Z"], true),
            (["--since", "2026-03-01T04:12:02+01:00"], true),
            (["--since", "2026-03-01 03:12:04"], false),
            (["--until", "2026-03-01T03:12"], true),
            (["--until", "2026-03-01"], false),
        ] {
            assert_eq!(wanted(&args), expected, "{args:?}");
        }
        assert_eq!(
            moment("2026-03-01T03:12:00Z"),
            Ok(Timestamp::from_secs(START))
        );
        assert!(moment("yesterday").is_err());
    }
}
