//! Commands run through a web server: which ones a request asks for, and of which ones an answer is the output. Only their
//! kinds, never the text.
//!
//! A word like `id` or `ls` is in many an honest parameter, and Linux's output is on many a page. What no application
//! does is to be asked for a command and to answer with what that very command prints.

mod asked;
mod printed;

use std::sync::Arc;

pub(super) use asked::{in_body, in_query};
pub(super) use printed::{is_document, may_be_printed, printed, without_chunk_size};

bitflags::bitflags! {
    /// Kinds of commands, by what they print. Names are stable, for reports (`Commands::iter_names`).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct Commands: u16 {
        /// `id`.
        const ID = 1 << 0;
        /// `whoami`: one word.
        const USER = 1 << 1;
        /// `uname -a`, `ver`.
        const SYSTEM = 1 << 2;
        /// `ls -l`, `dir`.
        const FILES = 1 << 3;
        /// `/etc/passwd` or `/etc/shadow`.
        const ACCOUNTS = 1 << 4;
        /// `ps`.
        const PROCESSES = 1 << 5;
        /// `ip addr`, `ifconfig`.
        const INTERFACES = 1 << 6;
        /// `ss`, `netstat`.
        const SOCKETS = 1 << 7;
        /// `env`.
        const ENVIRONMENT = 1 << 8;
        /// `df`, `mount`.
        const DISKS = 1 << 9;
        /// `pwd`: one path.
        const PLACE = 1 << 10;
        /// A pod's service account token.
        const TOKEN = 1 << 11;
        /// Asked for only: one that may print anything, such as `cat`, `sh -c`, `echo`.
        const ANY = 1 << 12;
        /// Asked for only: code that a script is to run (`eval(…`, `system(…`), at the beginning of a value.
        const CODE = 1 << 13;
    }
}

impl Commands {
    /// What one word or path says, it says to who has asked for it.
    const ONE_WORD: Self = Self::USER.union(Self::PLACE);
    /// What is asked for with these may be answered with any output.
    const WHATEVER: Self = Self::ANY.union(Self::CODE);
}

/// A request over HTTP that asks for commands, or an answer that is the output of one. Nothing is told of commands asked for
/// in vain, for those are many an honest parameter; but of code always.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CommandRun {
    /// The request's path without query, at most 256 bytes.
    pub path: Arc<str>,
    /// The answer's status.
    pub status: u16,
    /// What the request asks for.
    pub asked: Commands,
    /// What the answer is the output of.
    pub printed: Commands,
    /// Whether the answer begins with it: before it stand tags, or one word.
    pub bare: bool,
    /// Bytes of the answer within the window; none of a page or of data (JSON), which may show what it was asked.
    pub answered: u32,
}

impl CommandRun {
    /// Bytes of an answer that are looked at where a command was asked for.
    pub const WINDOW: usize = 2048;

    /// What was asked for, and came. A page that shows more than that within is one about commands.
    pub const fn obeyed(&self) -> Commands {
        let named = self.asked.difference(Commands::WHATEVER);
        let whatever = self.asked.intersects(Commands::WHATEVER);
        let kinds = self.printed.bits().count_ones();
        match (self.bare, whatever) {
            (true, true) => self.printed,
            (true, false) => named.intersection(self.printed),
            (false, true) if named.is_empty() && kinds == 1 => self.printed,
            (false, _) if named.contains(self.printed) => self.printed,
            (false, _) => Commands::empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_an_answer() {
        let obeyed = |asked, printed, bare| {
            let run = CommandRun {
                asked,
                printed,
                bare,
                ..CommandRun::default()
            };
            run.obeyed()
        };
        let (id, ls, any) = (Commands::ID, Commands::FILES, Commands::ANY);
        let nothing = Commands::empty();
        for (asked, printed, bare, expected) in [
            (id, id, true, id),
            (id, id | ls, true, id),
            (id, ls, true, nothing),
            (any, id | ls, true, id | ls),
            (nothing, id, true, nothing),
            (id, id, false, id),
            (id, id | ls, false, nothing),
            (any, id, false, id),
            (any, id | ls, false, nothing),
            (any | id, id, false, id),
            (any | id, ls, false, nothing),
            (nothing, id, false, nothing),
        ] {
            assert_eq!(
                obeyed(asked, printed, bare),
                expected,
                "{asked:?} {printed:?} {bare}"
            );
        }
    }
}
