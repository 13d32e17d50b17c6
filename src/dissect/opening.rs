//! What a flow that nobody recognises looks like: facts about its first bytes, never the bytes.
//!
//! Two questions are answered. Does it look encrypted from its first byte on, as only protocols that hide do (the
//! exemptions of Wu et al., "How the Great Firewall of China Detects and Blocks Fully Encrypted Traffic", USENIX Security
//! 2023)? And does somebody work a shell there?

use memchr::memmem;

use super::PROBE_WINDOW;
use crate::flow::Direction;

/// One direction's first bytes.
///
/// Told when the direction's turn ends (the other end speaks), its first [`Opening::WINDOW`] bytes are there, or the flow
/// ends, if nobody had recognised the flow by then; for datagrams of the first one. Told again when more shell marks were
/// seen within the window, so a reader takes the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Who sent them.
    pub direction: Direction,
    /// How many bytes were judged: those of the direction's first turn, at most [`Opening::WINDOW`].
    pub bytes: u16,
    /// How many of them are printable ASCII.
    pub printable: u16,
    /// The longest run of printable ASCII.
    pub longest_printable: u16,
    /// Whether the first six are printable ASCII.
    pub starts_printable: bool,
    /// Whether the first two, read as a number, say how many follow: a message after its length.
    pub framed: bool,
    /// Bits set in all of them.
    pub set_bits: u16,
    /// How its bytes are mixed.
    pub mix: ByteMix,
    /// Signs of a shell, over all turns within the window.
    pub shell: ShellMarks,
}

/// How bytes are mixed: the coarse class of their entropy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ByteMix {
    /// Too few to say.
    Few,
    /// Mostly printable ASCII.
    Text,
    /// Some values come much more often than others.
    Structured,
    /// As evenly spread as random bytes: encrypted or compressed.
    Random,
}

/// Signs of a shell in one direction's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct ShellMarks(pub u8);

impl ShellMarks {
    /// A prompt waits at a turn's end: `$ `, `# `, `C:\>`.
    pub const PROMPT: u8 = 1;
    /// A shell says that it lacks a terminal: `no job control`, `can't access tty`.
    pub const NO_TERMINAL: u8 = 1 << 1;
    /// What a Windows command interpreter says first.
    pub const WINDOWS: u8 = 1 << 2;
    /// A whole line that is a command: `id`, `uname -a`.
    pub const COMMAND: u8 = 1 << 3;
    /// What such commands print: `uid=0(root)`, a line of the password file.
    pub const OUTPUT: u8 = 1 << 4;
    /// Terminal control sequences.
    pub const ESCAPES: u8 = 1 << 5;

    /// Whether any of `marks` is there.
    pub const fn any(self, marks: u8) -> bool {
        self.0 & marks != 0
    }

    /// Reads the signs off text that ends where a turn ends.
    pub(super) fn of(text: &[u8]) -> Self {
        let has = |needle: &[u8]| contains(text, needle);
        let prompt = [&b"$ "[..], b"# ", b"% "].iter().any(|p| text.ends_with(p))
            || text.ends_with(b">") && has(b":\\")
            || text.ends_with(b"> ") && has(b"PS ");
        let no_terminal = NO_TERMINAL.iter().any(|needle| has(needle));
        let output = has(b"root:x:0:0:")
            || has(b" gid=") && find(text, b"uid=").is_some_and(|rest| digits_then(rest, b'('));
        [
            (prompt, Self::PROMPT),
            (no_terminal, Self::NO_TERMINAL),
            (has(b"Microsoft Windows") && has(b"[Version"), Self::WINDOWS),
            (has_command(text), Self::COMMAND),
            (output, Self::OUTPUT),
            (has(b"\x1b[") || has(b"\x1b]"), Self::ESCAPES),
        ]
        .into_iter()
        .filter(|(there, _)| *there)
        .fold(Self::default(), |marks, (_, mark)| Self(marks.0 | mark))
    }

    /// The same of a whole turn that is a command without an end of line, as programs send them that pass commands on.
    pub(super) fn of_message(turn: &[u8]) -> Self {
        let one_line = !turn.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        if one_line && is_command(turn) {
            Self(Self::COMMAND)
        } else {
            Self::default()
        }
    }
}

const NO_TERMINAL: [&[u8]; 4] = [
    b"no job control",
    b"can't access tty",
    b"cannot set terminal process group",
    b"Inappropriate ioctl for device",
];

/// Commands that are typed without arguments.
const BARE_COMMANDS: [&[u8]; 14] = [
    b"id",
    b"whoami",
    b"hostname",
    b"pwd",
    b"ls",
    b"ps",
    b"env",
    b"w",
    b"ifconfig",
    b"ipconfig",
    b"systeminfo",
    b"dir",
    b"mount",
    b"set",
];

/// Commands as they begin with their arguments.
const COMMANDS_WITH: [&[u8]; 33] = [
    b"uname -",
    b"cat /",
    b"ls -",
    b"ls /",
    b"cd /",
    b"ps a",
    b"ps -",
    b"ip a",
    b"ip r",
    b"ss -",
    b"netstat -",
    b"find /",
    b"export ",
    b"python -c",
    b"python3 -c",
    b"script -",
    b"script /dev/null",
    b"stty ",
    b"/bin/",
    b"/usr/bin/",
    b"bash -",
    b"sh -",
    b"wget http",
    b"curl http",
    b"curl -",
    b"chmod +",
    b"chmod 7",
    b"sudo ",
    b"su -",
    b"crontab -",
    b"kubectl ",
    b"net user",
    b"whoami /",
];

/// Whether one of the whole lines is a command.
fn has_command(text: &[u8]) -> bool {
    let end = text.iter().rposition(|byte| matches!(byte, b'\n' | b'\r'));
    let whole = end.and_then(|end| text.get(..end)).unwrap_or_default();
    whole
        .split(|byte| matches!(byte, b'\n' | b'\r' | b';' | b'&' | b'|'))
        .map(<[u8]>::trim_ascii)
        .any(is_command)
}

fn is_command(line: &[u8]) -> bool {
    BARE_COMMANDS.contains(&line) || COMMANDS_WITH.iter().any(|with| line.starts_with(with))
}

/// What follows the first `needle` in `text`.
fn find<'a>(text: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = memmem::find(text, needle)?;
    text.get(at.saturating_add(needle.len())..)
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    find(text, needle).is_some()
}

fn digits_then(text: &[u8], after: u8) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && text.get(digits) == Some(&after)
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

impl Opening {
    /// Bytes of a direction that are looked at.
    pub const WINDOW: usize = PROBE_WINDOW;

    /// Judges a direction by its first turn, and by all its text so far.
    pub(super) fn new(direction: Direction, first_turn: &[u8], shell: ShellMarks) -> Self {
        let data = first_turn.get(..Self::WINDOW).unwrap_or(first_turn);
        let runs = data.split(|byte| !is_printable(*byte)).map(<[u8]>::len);
        let printable = data.iter().filter(|byte| is_printable(**byte)).count();
        let set_bits: u32 = data.iter().map(|byte| byte.count_ones()).sum();
        let first = data.get(..6).unwrap_or(data);
        Self {
            direction,
            bytes: count(data.len()),
            printable: count(printable),
            longest_printable: count(runs.max().unwrap_or_default()),
            starts_printable: first.len() == 6 && first.iter().all(|byte| is_printable(*byte)),
            framed: matches!(data, [high, low, rest @ ..]
                if usize::from(u16::from_be_bytes([*high, *low])) == rest.len() && !rest.is_empty()),
            set_bits: count(set_bits as usize),
            mix: ByteMix::of(data, printable),
            shell,
        }
    }

    /// Share of printable ASCII, 0 to 1.
    pub fn printable_share(&self) -> f64 {
        f64::from(self.printable) / f64::from(self.bytes.max(1))
    }

    /// Mean number of bits set per byte, 0 to 8.
    pub fn bits_per_byte(&self) -> f64 {
        f64::from(self.set_bits) / f64::from(self.bytes.max(1))
    }

    /// Whether nothing about it differs from random bytes: none of the exemptions of Wu et al. fits. (Their last, TLS and
    /// HTTP, are recognised and never get here.) One in six of random payloads of 16 bytes is exempt by chance, few of
    /// 100 bytes; of other binary protocols some look so, so it is a hint and no proof.
    pub fn looks_encrypted(&self) -> bool {
        self.bytes >= 16
            && (3.4..4.6).contains(&self.bits_per_byte())
            && !self.starts_printable
            && self.printable_share() <= 0.5
            && self.longest_printable <= 20
    }
}

fn count(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

impl ByteMix {
    /// Fewer bytes say nothing.
    const FEWEST: usize = 24;

    /// Counts pairs of equal bytes: of n random bytes n(n−1)/2/256, of anything with structure many more. The limit is
    /// four standard deviations (of a Poisson count) above that.
    pub(super) fn of(data: &[u8], printable: usize) -> Self {
        if data.len() < Self::FEWEST {
            return Self::Few;
        }
        if printable.saturating_mul(4) >= data.len().saturating_mul(3) {
            return Self::Text;
        }
        let mut seen = [0_u32; 256];
        let mut pairs = 0_u32;
        for byte in data {
            if let Some(times) = seen.get_mut(usize::from(*byte)) {
                pairs = pairs.saturating_add(*times);
                *times = times.saturating_add(1);
            }
        }
        let n = data.len() as f64;
        let expected = n * (n - 1.0) / 512.0;
        if f64::from(pairs) <= 4.0_f64.mul_add(expected.sqrt(), expected) {
            Self::Random
        } else {
            Self::Structured
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &[u8]) -> u8 {
        ShellMarks::of(text).0
    }

    fn opening(data: &[u8]) -> Opening {
        Opening::new(Direction::Orig, data, ShellMarks::default())
    }

    /// Bytes as good as random, the same every time.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn shells_leave_marks() {
        let cases: &[(&[u8], u8)] = &[
            (b"$ ", ShellMarks::PROMPT),
            (b"root@cart-7d4b9c:/app# ", ShellMarks::PROMPT),
            (
                b"sh: can't access tty; job control turned off\n/ # ",
                ShellMarks::PROMPT | ShellMarks::NO_TERMINAL,
            ),
            (
                b"bash: cannot set terminal process group (1): Inappropriate ioctl for device\nbash: no job control in this shell\n\x1b[?2004hwww@web:/$ ",
                ShellMarks::PROMPT | ShellMarks::NO_TERMINAL | ShellMarks::ESCAPES,
            ),
            (
                b"Microsoft Windows [Version 10.0.17763.1]\r\n(c) Microsoft\r\n\r\nC:\\inetpub>",
                ShellMarks::PROMPT | ShellMarks::WINDOWS,
            ),
            (b"id\n", ShellMarks::COMMAND),
            (b"cd /tmp; uname -a\n", ShellMarks::COMMAND),
            (b"python3 -c 'import pty; pty.spawn(\"/bin/sh\")'\n", ShellMarks::COMMAND),
            (b"uid=0(root) gid=0(root) groups=0(root)\n", ShellMarks::OUTPUT),
            (b"root:x:0:0:root:/root:/bin/bash\n", ShellMarks::OUTPUT),
        ];
        for (text, expected) in cases {
            assert_eq!(marks(text), *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn line_protocols_leave_none() {
        let cases: &[&[u8]] = &[
            b"",
            b"220 mail.example.net ESMTP Postfix\r\n",
            b"EHLO client\r\nMAIL FROM:<a@b>\r\n",
            b"set key 0 60 5\r\nhello\r\nget key\r\n",
            b"stats\r\n",
            b"ruok",
            b"identify\n",
            b"IDLE\r\n",
            b"LIST\r\nPASV\r\n",
            b"id",
            b"metrics.cart.requests 17 1700000000\n",
            b"uid=abc gid=def\n",
            b"{\"id\":1,\"method\":\"mining.subscribe\"}\n",
        ];
        for text in cases {
            assert_eq!(marks(text), 0, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn random_bytes_look_encrypted_and_others_do_not() {
        let trials = 500;
        for (len, at_least) in [(32, 0.80), (64, 0.93), (256, 0.97), (512, 0.98)] {
            let share = |test: fn(&Opening) -> bool| {
                let hits = (0..trials)
                    .filter(|seed| test(&opening(&noise(len, *seed))))
                    .count();
                hits as f64 / trials as f64
            };
            assert!(
                share(Opening::looks_encrypted) >= at_least,
                "{len}: {}",
                share(Opening::looks_encrypted)
            );
            assert!(
                share(|opening| opening.mix == ByteMix::Random) >= 0.97,
                "{len}"
            );
        }
        let numbers: Vec<u8> = (0..64_u32).flat_map(u32::to_be_bytes).collect();
        for data in [
            &numbers[..],
            &b"\x00\x00\x00\x17\xfe\x02".repeat(30),
            b"GET key value\r\n",
        ] {
            assert!(!opening(data).looks_encrypted());
            assert_ne!(opening(data).mix, ByteMix::Random);
        }
        let text = opening(&b"hello, world ".repeat(4));
        assert_eq!(
            (text.mix, text.printable, text.longest_printable),
            (ByteMix::Text, 52, 52)
        );
        assert!(text.starts_printable);
        assert_eq!(opening(b"").mix, ByteMix::Few);
    }
}
