//! Redis's protocol, RESP2: commands as lists of strings, and replies.

use std::fmt::Write;
use std::time::Duration;

use super::tcp::Session;
use crate::testkit::scene::Scene;

/// The port.
pub const PORT: u16 = 6379;

/// A reply.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// `+OK` and the like.
    Simple(&'a str),
    /// A refusal.
    Error(&'a str),
    /// A string.
    Bulk(&'a str),
    /// Nothing there.
    Nil,
}

impl Reply<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Simple(text) => format!("+{text}\r\n"),
            Self::Error(text) => format!("-{text}\r\n"),
            Self::Bulk(text) => format!("${}\r\n{text}\r\n", text.len()),
            Self::Nil => "$-1\r\n".into(),
        }
        .into_bytes()
    }
}

/// A command's bytes.
pub fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        write!(text, "${}\r\n{word}\r\n", word.len()).expect("a string takes all");
    }
    text.into_bytes()
}

/// A command and its reply.
pub fn ask(scene: &mut Scene, session: &mut Session, words: &[&str], reply: Reply<'_>) {
    session.ask(
        scene,
        &command(words),
        Duration::from_micros(150),
        &reply.bytes(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_lists_of_counted_strings() {
        assert_eq!(
            command(&["GET", "cart:7"]),
            b"*2\r\n$3\r\nGET\r\n$6\r\ncart:7\r\n"
        );
        assert_eq!(Reply::Bulk("ab").bytes(), b"$2\r\nab\r\n");
    }
}
