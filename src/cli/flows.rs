//! `spanwatch flows`: capture files in, a list of flows out, or of what was said in them.

use std::io;
use std::path::PathBuf;

use clap::ValueEnum;

use super::options::Input;
use super::reading::{self, Listing};
use super::{End, output};
use crate::pipeline::{EndedFlow, Said, Task};
use crate::report::{FlowRows, MessageV1};
use crate::sinks::{Delivery, RecordWriter};

mod wanted;

/// List the flows in capture files: who spoke with whom, what, and about what; or what was said in them
///
/// Follows flows through NAT, tunnels and mirrors, recognises protocols by content, names the pod behind each address as of
/// that moment, and prints a line for each flow that the filters leave. No detection, no alerts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Filters of different kinds must all hold; of one kind, repeated, any. Each looks at both ends, and at the
service address or node port that was called.

Examples:
  spanwatch flows trace.pcap
  spanwatch flows trace.pcap --inventory pods.json --pod shop/cart
  spanwatch flows trace.pcap --app none --ip 10.244.0.0/16        what nobody recognised, of pods
  spanwatch flows trace.pcap --port 443 --app ssh                 SSH where TLS is expected
  spanwatch flows trace.pcap --since 2026-03-02T09:01:20Z --until 2026-03-02T09:02:00Z
  spanwatch flows trace.pcap --messages | jq -c '[.src.pod, .dns.name // empty]'     who asked for which names
  spanwatch flows trace.pcap --format json | jq 'select(.payload_bytes[0] > 1e6) | .gist'
  tcpdump -i cni0 -w - -c 100000 | spanwatch flows - | less -S

Columns: START (UTC); TOOK; PROTO; APP (by content; - if not recognised); FROM, TO (the end that began, and the other);
STATE (as Zeek's conn_state: SF went well, S0 no answer, REJ refused, …); OUT, IN (payload from and to the end that
began, bytes sent twice counted once); ABOUT (what it was about, and in brackets how it travelled and what is missing)."
)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    wanted: wanted::Wanted,
    /// A table for people, or one JSON object a line, as in the flow log
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Instead of flows, what was said in them, in order: one JSON object a line (`spanwatch.message/1`) for each DNS message,
    /// TLS hello, certificate, HTTP head, step with a database, login, …
    #[arg(long, conflicts_with_all = ["format", "wide"])]
    messages: bool,
    /// In the table, also addresses beside names, packets (after the bytes), and the Community ID
    #[arg(short, long)]
    wide: bool,
    /// Where the list is written [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One `spanwatch.flow/1` object a line.
    Json,
}

pub(super) fn run(args: &Args, quiet: bool) -> anyhow::Result<End> {
    let journal = reading::journal(&args.input.inventory)?;
    let captures = reading::captures(&args.input)?;
    reading::refuse_to_overwrite(&args.input, args.output.iter())?;
    let name = args
        .output
        .as_ref()
        .map_or("standard output".to_owned(), |path| {
            path.display().to_string()
        });
    let mut out = RecordWriter::new(output::open(args.output.as_deref())?, name);
    let read = if args.messages {
        let mut write = |said: Vec<Said>| write_messages(&said, args, &mut out);
        let listing = Listing::Messages(&mut write);
        reading::read(captures, journal, Task::List, quiet, listing)?
    } else {
        let mut rows = FlowRows::new(args.wide);
        let mut write = |flows: Vec<EndedFlow>| write_flows(&flows, args, &mut rows, &mut out);
        let listing = Listing::Flows(&mut write);
        let read = reading::read(captures, journal, Task::List, quiet, listing)?;
        if args.format == Format::Text {
            out.raw(&rows.finish())?;
        }
        read
    };
    out.flush()?;
    if !quiet {
        let gap = if args.format == Format::Text && !args.messages {
            "\n"
        } else {
            ""
        };
        output::note(&format!("{gap}{}", reading::summary(&read)));
    }
    reading::whole(&read)?;
    Ok(End::Clean)
}

type Output = RecordWriter<Box<dyn io::Write>>;

fn write_flows(
    flows: &[EndedFlow],
    args: &Args,
    rows: &mut FlowRows,
    out: &mut Output,
) -> anyhow::Result<()> {
    for flow in flows {
        let record = reading::flow_record(flow);
        if !args.wanted.has(&record) {
            continue;
        }
        let delivery = match args.format {
            Format::Json => out.json(&record)?,
            Format::Text => match rows.push(&record) {
                Some(block) => out.raw(&block)?,
                None => Delivery::Done,
            },
        };
        go_on(delivery)?;
    }
    Ok(())
}

fn write_messages(said: &[Said], args: &Args, out: &mut Output) -> anyhow::Result<()> {
    for one in said {
        let message = MessageV1::new(&one.flow, one.time, one.app, &one.transaction);
        if let Some(message) = message.filter(|message| args.wanted.has_message(message)) {
            go_on(out.json(&message)?)?;
        }
    }
    Ok(())
}

/// If nobody reads on, there is no point in going on.
fn go_on(delivery: Delivery) -> anyhow::Result<()> {
    match delivery {
        Delivery::Done => Ok(()),
        Delivery::Stop => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
    }
}
