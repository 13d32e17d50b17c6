//! Listens to an answer for the output of commands: to its first 2 KiB where the request asks for one, else only to how it
//! begins.

use super::body::{Declared, First};
use crate::dissect::commands::{in_body, is_document, may_be_printed, printed, without_chunk_size};
use crate::dissect::{CommandRun, Commands, buffer, unpack};

/// What a request asks for, and what was heard of its answer.
#[derive(Debug, Default)]
pub(super) struct Overheard {
    asked: Commands,
    /// The answer's first bytes, if a command was asked for.
    heard: Vec<u8>,
    /// Whether there is nothing to hear any more.
    deaf: bool,
}

impl Overheard {
    pub(super) fn new(asked: Commands) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// The answer's head has come, to a request with a body that began so.
    pub(super) fn answered(&mut self, body: &[u8], declared: Declared) {
        if !body.is_empty() {
            self.asked |= in_body(body);
        }
        // What is compressed is worth unpacking only where a command was asked for.
        self.deaf = self.asked.is_empty() && declared != Declared::Text;
    }

    /// Bytes of the answer have come, perhaps the first. Whether their beginning is to be kept elsewhere.
    pub(super) fn hear(&mut self, data: &[u8], first: bool) -> bool {
        if self.deaf {
            return false;
        }
        if self.asked.is_empty() {
            self.deaf = first && !may_be_printed(data);
            return !self.deaf;
        }
        let room = CommandRun::WINDOW.saturating_sub(self.heard.len());
        let part = data.get(..room).unwrap_or(data);
        // It fits: there is room for it.
        let _fits = buffer::append(&mut self.heard, part, CommandRun::WINDOW);
        false
    }

    /// What the answer turns out to be, once: when it has ended, or enough of it was heard. `first` is how it begins.
    pub(super) fn tell(&mut self, first: &First, ended: bool) -> Option<CommandRun> {
        if self.deaf {
            return None;
        }
        let (answer, full) = if self.asked.is_empty() {
            (first.bytes(), first.is_full())
        } else {
            let full = self.heard.len() >= CommandRun::WINDOW;
            (self.heard.as_slice(), full)
        };
        if !ended && !full {
            return None;
        }
        self.deaf = true;
        let unpacked = unpacked(answer).filter(|_| !self.asked.is_empty());
        let answer = unpacked.as_deref().unwrap_or(answer);
        let said = answer
            .len()
            .saturating_mul(usize::from(!is_document(answer)));
        let answered = u32::try_from(said).unwrap_or(u32::MAX);
        let found = printed(answer, self.asked, ended && !full);
        let worth = !found.kinds.is_empty() || self.asked.intersects(Commands::CODE);
        let asked = self.asked;
        self.heard = Vec::new();
        worth.then(|| CommandRun {
            asked,
            printed: found.kinds,
            bare: found.bare,
            answered,
            ..CommandRun::default()
        })
    }
}

/// What was compressed with gzip (RFC 1952), without a name or the like, as servers do it.
fn unpacked(answer: &[u8]) -> Option<Vec<u8>> {
    let member = without_chunk_size(answer).strip_prefix(b"\x1f\x8b\x08\0")?;
    let packed = member.get(6..)?;
    Some(unpack::deflate(packed, CommandRun::WINDOW))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::dissect::http1::HTTP1;
    use crate::dissect::testing::conversation;
    use crate::flow::Direction::{Orig, Resp};

    const OUTPUT: &[u8] = b"uid=33(www-data) gid=33(www-data) groups=33(www-data)\n";

    /// What is told of commands when a request is answered so.
    fn told(request: &[u8], answer: &[u8]) -> Vec<String> {
        let mut lines = conversation(HTTP1.build, &[(Orig, request), (Resp, answer)]);
        lines.retain(|line| line.starts_with("Command("));
        lines
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn a_command_and_its_output() {
        let get = b"GET /x.php?c=id HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = b"POST /x.php HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nc=id;";
        let mut gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
        let mut packer = flate2::write::DeflateEncoder::new(&mut gzip, flate2::Compression::fast());
        packer.write_all(OUTPUT).unwrap();
        packer.finish().unwrap();
        let length = format!("Content-Length: {}", OUTPUT.len());
        let packed = format!("Content-Encoding: gzip\r\nContent-Length: {}", gzip.len());
        let chunked = [b"36\r\n", OUTPUT, b"\r\n0\r\n\r\n"].concat();
        let answers = [
            answer(&length, OUTPUT),
            answer("Transfer-Encoding: chunked", &chunked),
            answer("Content-Type: text/html", OUTPUT),
            answer(&packed, &gzip),
        ];
        for answer in &answers {
            for request in [&get[..], post] {
                let told = told(request, answer);
                assert_eq!(told.len(), 1, "{}", answer.escape_ascii());
                let shown = r#"path: "/x.php", status: 200, asked: Commands(ID), printed: Commands(ID), bare: true"#;
                assert!(told[0].contains(shown), "{}", told[0]);
            }
        }
    }

    #[test]
    fn output_that_was_not_asked_for_and_code_that_prints_nothing() {
        let get = |query: &str| format!("GET /x?{query} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let output = answer(&format!("Content-Length: {}", OUTPUT.len()), OUTPUT);
        let told_of = |query, answer: &[u8]| told(&get(query), answer).concat();
        assert!(told_of("c=1", &output).contains("asked: Commands(0x0), printed: Commands(ID)"));
        let nothing = answer("Content-Length: 0", b"");
        assert!(
            told_of("c=phpinfo()", &nothing)
                .contains("asked: Commands(CODE), printed: Commands(0x0)")
        );
        assert_eq!(told_of("c=id", &nothing), "");
        let answered = |body: &[u8]| {
            let answer = answer(&format!("Content-Length: {}", body.len()), body);
            told_of("c=eval(1)", &answer)
        };
        assert!(answered(b"->|a.php|<-").contains("answered: 11 "));
        // Which may only show what it was asked.
        assert!(answered(b"<p>no eval(1) here</p>").contains("answered: 0 "));
        let page = b"<!doctype html><title>id</title><p>prints uid=0(root)";
        let page = answer(&format!("Content-Length: {}", page.len()), page);
        assert_eq!(told_of("c=1", &page), "");
        assert_eq!(told_of("c=id", &page), "");
    }
}
