//! How a live run divides the memory that it may take, between what waits on its way and what is remembered.

use std::fs;
use std::path::Path;

use tracing::warn;

use super::LiveArgs;
use crate::cli::memory::remembered;
use crate::memory::Share;

/// MiB that the program itself takes.
const PROGRAM: u32 = 16;
/// MiB that must be left for what is remembered.
const LEAST: u32 = 16;
/// MiB that the usual bounds fit into: a run that may take more keeps them, but where more is asked for.
const PLENTY: u32 = 600;
/// MiB that an agent makes do with unless it is told otherwise: it sees one node's flows, and the node has other work.
const AGENT: u32 = 96;

/// Who gets how much, in MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Division {
    /// The kernel's, for each interface.
    pub(super) buffer: u32,
    /// Frames on their way to the analysis.
    pub(super) ring: u32,
    /// The latest packets, where those of alerts are kept.
    pub(super) evidence: u32,
    /// What is remembered.
    pub(super) share: Share,
}

/// A part of the limit, where there is one, unless it is set.
fn part(set: Option<u32>, usual: u32, limit: Option<u32>, of: u32) -> u32 {
    let part = limit.map_or(usual, |limit| (limit / of).clamp(2, usual));
    set.unwrap_or(part)
}

impl Division {
    /// Divides what may be taken, where frames are kept for so many interfaces.
    ///
    /// # Errors
    /// When buffers leave too little for what is to be remembered.
    pub(super) fn of(args: &LiveArgs, interfaces: usize) -> Result<Self, String> {
        let limit = limit(args);
        let buffer = part(args.buffer, 8, limit, 20);
        let ring = part(args.ring, 16, limit, 10);
        let evidence = part(args.evidence_memory, 32, limit, 10);
        let Some(limit) = limit else {
            return Ok(Self {
                buffer,
                ring,
                evidence,
                share: Share::WHOLE,
            });
        };
        let interfaces = u32::try_from(interfaces).unwrap_or(u32::MAX);
        let sends = args.webhook.is_some() || args.alertmanager.is_some() || args.syslog.is_some();
        let taken = [
            (buffer.saturating_mul(interfaces), "--buffer"),
            (ring, "--ring"),
            (if sends { Self::backlog(args) } else { 0 }, "--backlog"),
            (
                if args.evidence.is_some() { evidence } else { 0 },
                "--evidence-memory",
            ),
        ];
        let fixed = taken
            .iter()
            .fold(PROGRAM, |sum, &(n, _)| sum.saturating_add(n));
        let enough = fixed.saturating_add(LEAST);
        if limit < enough && args.memory_limit.is_none() {
            if group_limit().is_some() {
                warn!(
                    "the control group allows so little memory that the kernel may kill this run; {} MiB would do",
                    enough / 3 * 4
                );
            }
        } else if limit < enough {
            let taken = taken.iter().filter(|&&(n, _)| n > 0);
            let taken: Vec<String> = taken
                .map(|(n, option)| format!("{option} takes {n}"))
                .collect();
            return Err(format!(
                "{limit} MiB are too little: {}, the program itself {PROGRAM}, and {LEAST} at least must be left for what is remembered; {enough} would do",
                taken.join(", "),
            ));
        }
        Ok(Self {
            buffer,
            ring,
            evidence,
            share: remembered(limit.max(enough), fixed),
        })
    }

    /// MiB of alerts that may wait for a server.
    pub(super) fn backlog(args: &LiveArgs) -> u32 {
        part(args.backlog, 32, limit(args), 10)
    }
}

/// MiB that may be taken, if that is bounded: as it is said, or so that the control group's bound, at which the kernel would
/// kill the run, is not met; an agent's own bound otherwise.
fn limit(args: &LiveArgs) -> Option<u32> {
    let usual = args.watch_node.then_some(AGENT);
    let unasked = || group_limit().into_iter().chain(usual).min();
    args.memory_limit.or_else(unasked)
}

fn group_limit() -> Option<u32> {
    heeded(allowed()?)
}

/// MiB that are taken for the limit where a control group allows so many bytes; none where the usual bounds fit.
fn heeded(allowed: u64) -> Option<u32> {
    let limit = u32::try_from((allowed / 4 * 3) >> 20).ok()?;
    (limit < PLENTY).then_some(limit)
}

/// Bytes that this process's control group allows (cgroup v2: memory.max), if it bounds them.
fn allowed() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let max = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
    fs::read_to_string(max).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn divided(options: &str, interfaces: usize) -> Result<Division, String> {
        let line = format!("spanwatch agent {options}");
        let Command::Agent(args) = Cli::parse_from(line.split_whitespace()).command else {
            panic!();
        };
        Division::of(&args.on_node(), interfaces)
    }

    #[test]
    fn buffers_take_what_they_need_of_a_limit_and_the_rest_is_remembered() {
        let division = divided("--memory-limit 80", 1).unwrap();
        assert_eq!((division.buffer, division.ring), (4, 8));
        assert_eq!(division.share, remembered(80, PROGRAM + 4 + 8));
        // What is set stays so, and every interface has its buffer.
        let division = divided("--memory-limit 80 --buffer 6 --ring 2", 3).unwrap();
        assert_eq!(division.share, remembered(80, PROGRAM + 3 * 6 + 2));
        let sending = divided("--memory-limit 80 --syslog udp://a:514 --evidence /x", 1).unwrap();
        assert_eq!(sending.evidence, 8);
        assert_eq!(sending.share, remembered(80, PROGRAM + 4 + 8 + 8 + 8));
        let roomy = divided("--memory-limit 4000", 1).unwrap();
        assert_eq!((roomy.buffer, roomy.ring, roomy.evidence), (8, 16, 32));
    }

    #[test]
    fn an_agent_is_small_unless_told_otherwise() {
        let usual = divided("", 1).unwrap();
        assert_eq!(usual, divided("--memory-limit 96", 1).unwrap());
        // What it wasn't told is no reason to refuse.
        let buffers = divided("--buffer 128 --ring 64", 1).unwrap();
        assert_eq!(buffers.share, remembered(LEAST, 0));
    }

    #[test]
    fn who_is_allowed_more_has_no_less() {
        let shares: Vec<usize> = (64..=4096)
            .step_by(16)
            .map(|mib| {
                let limit = heeded(mib << 20);
                limit.map_or(Share::WHOLE, |limit| remembered(limit, PROGRAM + 8 + 16))
            })
            .map(|share| share.part(1 << 20))
            .collect();
        assert!(shares.is_sorted(), "{shares:?}");
    }

    #[test]
    fn buffers_that_leave_nothing_are_refused() {
        let told = divided("--memory-limit 64 --buffer 20", 2).unwrap_err();
        assert_eq!(
            told,
            "64 MiB are too little: --buffer takes 40, --ring takes 6, the program itself 16, and 16 at least must be left for what is remembered; 78 would do"
        );
    }
}
