//! What commands print, as an answer begins or somewhere in its first bytes.

use super::Commands;

/// The longest line looked at.
const MAX_LINE: usize = 200;
/// What may stand before the output, beside tags: one word, as some tools put there to find it again.
const MAX_MARKER: usize = 40;
/// Bytes of variables that are looked at.
const MAX_VARIABLES: usize = 512;
/// Places in an answer that are looked at.
const MAX_PLACES: usize = 256;

/// The tag in which scripts put text.
const PRE: &[u8] = b"<pre>";

/// What an answer is the output of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(in crate::dissect) struct Printed {
    /// The commands.
    pub(in crate::dissect) kinds: Commands,
    /// Whether the answer begins with it: before it stand tags, or one word.
    pub(in crate::dissect) bare: bool,
}

/// Whether an answer that begins so may begin with what a command prints, as far as its first bytes tell. Pages begin with
/// a tag, data with a bracket.
pub(in crate::dissect) fn may_be_printed(answer: &[u8]) -> bool {
    match answer {
        [] | [b'{' | b'[' | b'"' | b'%' | 0x80.., ..] => false,
        [b'<', ..] => answer.len() < PRE.len() || answer.starts_with(PRE),
        _ => true,
    }
}

/// Whether an answer is a page or data, by how it begins.
pub(in crate::dissect) fn is_document(answer: &[u8]) -> bool {
    let begins = without_chunk_size(answer).trim_ascii_start().first();
    matches!(begins, Some(b'<' | b'{' | b'['))
}

/// Reads the first bytes of an answer. Looked for within are only the commands in `asked`, what the answer begins with is
/// told in any case. `whole` if there is no more of it.
pub(in crate::dissect) fn printed(answer: &[u8], asked: Commands, whole: bool) -> Printed {
    if asked.is_empty() {
        return begins(answer);
    }
    let mut found = Printed::default();
    for at in places(answer).take(MAX_PLACES) {
        let (before, here) = answer.split_at_checked(at).unwrap_or_default();
        let kinds = kinds_at(here, asked);
        if !kinds.is_empty() {
            found.bare |= is_nothing(before);
            found.kinds |= kinds;
        }
    }
    if found.kinds.is_empty() && whole && asked.intersects(Commands::ONE_WORD) {
        found.kinds = one_word(without_tags(answer).trim_ascii()) & asked;
    }
    found
}

/// Where output may begin: a line, what follows a tag or a quote, and what no marker before it can hide.
fn places(answer: &[u8]) -> impl Iterator<Item = usize> {
    let before = std::iter::once(b'\n').chain(answer.iter().copied());
    before.enumerate().filter_map(|(at, before)| {
        let here = answer.get(at..)?;
        let starts = matches!(before, b'\n' | b'>' | b'"' | b'|');
        (starts || here.starts_with(b"uid=") || here.starts_with(b"root:")).then_some(at)
    })
}

/// What an answer begins with that nobody is known to have asked for.
fn begins(answer: &[u8]) -> Printed {
    let mut rest = without_chunk_size(answer).trim_ascii_start();
    if let Some(inner) = rest.strip_prefix(PRE) {
        rest = inner.trim_ascii_start();
    }
    let kinds = kinds_at(rest, Commands::empty());
    Printed {
        kinds,
        bare: !kinds.is_empty(),
    }
}

/// Whether there is nothing but tags, and one word.
fn is_nothing(before: &[u8]) -> bool {
    let mut marker = 0_usize;
    let mut words = 0_usize;
    let mut spaced = true;
    for byte in Untagged::new(without_chunk_size(before)) {
        if byte.is_ascii_whitespace() {
            spaced = true;
        } else {
            words = words.saturating_add(usize::from(spaced));
            marker = marker.saturating_add(1);
            spaced = false;
        }
    }
    words <= 1 && marker <= MAX_MARKER
}

/// The bytes that stand outside of tags.
#[derive(Debug)]
struct Untagged<'a> {
    bytes: std::slice::Iter<'a, u8>,
    inside: bool,
}

impl<'a> Untagged<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self {
            bytes: text.iter(),
            inside: false,
        }
    }
}

impl Iterator for Untagged<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.next()?;
            match byte {
                b'<' => self.inside = true,
                b'>' if self.inside => self.inside = false,
                _ if !self.inside => return Some(byte),
                _ => {}
            }
        }
    }
}

/// Without tags before and after.
fn without_tags(text: &[u8]) -> &[u8] {
    let mut text = without_chunk_size(text).trim_ascii();
    while text.first() == Some(&b'<')
        && let Some(end) = memchr::memchr(b'>', text)
    {
        text = text.get(end.saturating_add(1)..).unwrap_or_default();
        text = text.trim_ascii();
    }
    while text.last() == Some(&b'>')
        && let Some(start) = memchr::memrchr(b'<', text)
    {
        text = text.get(..start).unwrap_or_default().trim_ascii();
    }
    text
}

/// Without the size that stands before a body's first chunk, and the empty chunk that ends it.
pub(in crate::dissect) fn without_chunk_size(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = digits.count();
    match text.split_at_checked(digits) {
        Some((_, [b'\r', b'\n', rest @ ..])) if (1..=8).contains(&digits) => {
            rest.strip_suffix(b"\r\n0\r\n\r\n").unwrap_or(rest)
        }
        _ => text,
    }
}

/// What `whoami` says in a container, or what `pwd` does.
fn one_word(text: &[u8]) -> Commands {
    const SERVICE_USERS: [&[u8]; 12] = [
        b"root",
        b"www-data",
        b"apache",
        b"nginx",
        b"nobody",
        b"tomcat",
        b"daemon",
        b"http",
        b"jboss",
        b"wildfly",
        b"node",
        b"app",
    ];
    let is_of_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    if SERVICE_USERS.contains(&text) || text.starts_with(b"nt authority\\") {
        Commands::USER
    } else if text.starts_with(b"/") && text.len() <= MAX_LINE && text.iter().all(is_of_path) {
        Commands::PLACE
    } else {
        Commands::empty()
    }
}

/// What stands here as a command prints it.
fn kinds_at(text: &[u8], asked: Commands) -> Commands {
    let text = text.get(..MAX_VARIABLES).unwrap_or(text);
    let head = text.get(..MAX_LINE).unwrap_or(text);
    let found = match text.first() {
        Some(b'u') if is_id(text) => Commands::ID,
        Some(b'r') if is_root_account(text) => Commands::ACCOUNTS,
        Some(b'L') if is_linux(head) => Commands::SYSTEM,
        Some(b't') if is_listing(text) => Commands::FILES,
        Some(b'-' | b'd' | b'l') if is_file(text) => Commands::FILES,
        Some(b'e') if asked.intersects(Commands::TOKEN) && is_token(text) => Commands::TOKEN,
        Some(b'1') if text.starts_with(b"1: lo: <") => Commands::INTERFACES,
        _ => Commands::empty(),
    };
    if !found.is_empty() {
        return found;
    }
    let line = head.split(|byte| matches!(byte, b'\n' | b'\r')).next();
    let line = line.unwrap_or_default();
    match line.first() {
        Some(b' ' | b'A'..=b'Z') => heading(line).unwrap_or_else(|| {
            if is_environment(text) {
                Commands::ENVIRONMENT
            } else {
                Commands::empty()
            }
        }),
        Some(b'a'..=b'z') if is_interface(line) => Commands::INTERFACES,
        _ => Commands::empty(),
    }
}

/// `uid=33(www-data) gid=33(www-data)`
fn is_id(text: &[u8]) -> bool {
    let named = |text| -> Option<&[u8]> {
        let rest = digits(text)?;
        let Some(name) = rest.strip_prefix(b"(") else {
            return Some(rest);
        };
        let end = memchr::memchr(b')', name.get(..40).unwrap_or(name))?;
        name.get(end.saturating_add(1)..)
    };
    let user = text.strip_prefix(b"uid=").and_then(named);
    let group = user.and_then(|rest| rest.strip_prefix(b" gid="));
    group.and_then(named).is_some()
}

/// What follows one digit or more.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.get(count..).filter(|_| count > 0)
}

/// The first line of the files that keep accounts.
fn is_root_account(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"root:") else {
        return false;
    };
    let mut fields = rest.split(|byte| *byte == b':');
    let (secret, number) = (fields.next(), fields.next());
    let (Some(secret), Some(number)) = (secret, number) else {
        return false;
    };
    let hashed = secret.starts_with(b"$") || matches!(secret, b"*" | b"!" | b"!*" | b"");
    let days = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    secret == b"x" && number == b"0" && fields.next() == Some(b"0")
        || hashed && days && number.len() == 5
}

/// `Linux web 6.1.0 #1 SMP …`, `Linux version 6.1.0 …`
fn is_linux(text: &[u8]) -> bool {
    let mut words = text.split(u8::is_ascii_whitespace);
    let (Some(b"Linux"), Some(host), Some(release)) = (words.next(), words.next(), words.next())
    else {
        return false;
    };
    let numbered = release.first().is_some_and(u8::is_ascii_digit) && release.contains(&b'.');
    let built = words.next().is_some_and(|word| word.starts_with(b"#"));
    numbered && !host.is_empty() && (built || host == b"version")
}

/// `total 12`, and a line of a file.
fn is_listing(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"total ").and_then(digits) else {
        return false;
    };
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
    rest.strip_prefix(b"\n").is_some_and(is_file)
}

/// `-rw-r--r-- 1 root …`
fn is_file(text: &[u8]) -> bool {
    let Some((kind, rest)) = text.split_first() else {
        return false;
    };
    let Some((modes, rest)) = rest.split_at_checked(9) else {
        return false;
    };
    let known = |(at, mode): (usize, &u8)| {
        *mode == b'-'
            || match at % 3 {
                0 => *mode == b'r',
                1 => *mode == b'w',
                _ => b"xsStT".contains(mode),
            }
    };
    let rest = match rest {
        [b'.' | b'+' | b'@', rest @ ..] | rest => rest,
    };
    let linked = rest.strip_prefix(b" ").map(<[u8]>::trim_ascii_start);
    b"-dlbcps".contains(kind)
        && modes.iter().enumerate().all(known)
        && linked
            .and_then(digits)
            .is_some_and(|rest| rest.starts_with(b" "))
}

/// The beginning of a signed token.
fn is_token(text: &[u8]) -> bool {
    text.starts_with(b"eyJhbGciOi")
}

/// The columns of tables, and what Windows says first.
fn heading(line: &[u8]) -> Option<Commands> {
    let words = || {
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
    };
    let has = |wanted: &[u8]| words().any(|word| word == wanted);
    let mut first = words();
    let kinds = match first.next()? {
        b"PID" | b"USER" | b"UID" | b"F" if has(b"PID") && (has(b"CMD") || has(b"COMMAND")) => {
            Commands::PROCESSES
        }
        b"Active" if first.next() == Some(b"Internet") && first.next() == Some(b"connections") => {
            Commands::SOCKETS
        }
        b"Netid" | b"State" | b"Proto" if has(b"Recv-Q") => Commands::SOCKETS,
        b"Filesystem" if has(b"Mounted") => Commands::DISKS,
        b"Windows" if first.next() == Some(b"IP") && first.next() == Some(b"Configuration") => {
            Commands::INTERFACES
        }
        b"Microsoft" if has(b"[Version") => Commands::SYSTEM,
        b"Volume" if first.next() == Some(b"in") && first.next() == Some(b"drive") => {
            Commands::FILES
        }
        b"Directory" if first.next() == Some(b"of") => Commands::FILES,
        _ => return None,
    };
    Some(kinds)
}

/// `eth0: flags=…`, `eth0      Link encap:…`, `default via …`
fn is_interface(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| byte.is_ascii_alphanumeric());
    let name = name.count();
    let rest = line.get(name..).unwrap_or_default();
    name <= 15
        && (rest.starts_with(b": flags=")
            || rest.trim_ascii_start().starts_with(b"Link encap:")
            || line.starts_with(b"default via "))
}

/// Lines of variables, among them one that every process has, or every pod.
fn is_environment(text: &[u8]) -> bool {
    let mut telling = 0_usize;
    let mut variables = 0_usize;
    for line in text.split(|byte| *byte == b'\n') {
        let name = line
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count();
        let Some((name, [b'=', value @ ..])) = line.split_at_checked(name) else {
            break;
        };
        variables = variables.saturating_add(usize::from(!name.is_empty()));
        let told = name == b"PATH" && value.starts_with(b"/")
            || name.starts_with(b"KUBERNETES_")
            || name == b"PWD" && value.starts_with(b"/");
        telling = telling.saturating_add(usize::from(told));
    }
    variables >= 2 && telling > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:\n";

    #[test]
    fn what_answers_begin_with() {
        let cases: &[(&[u8], Commands)] = &[
            (
                b"uid=33(www-data) gid=33(www-data) groups=33(www-data)\n",
                Commands::ID,
            ),
            (b"uid=1001 gid=0(root) groups=0(root)\n", Commands::ID),
            (
                b"36\r\nuid=0(root) gid=0(root) groups=0(root)\n",
                Commands::ID,
            ),
            (b"<pre>\nuid=0(root) gid=0(root)", Commands::ID),
            (PASSWD, Commands::ACCOUNTS),
            (b"root:$6$abc$def:19000:0:99999:7:::\n", Commands::ACCOUNTS),
            (b"root:*:19000:0:99999:7:::\n", Commands::ACCOUNTS),
            (
                b"Linux web-0 6.1.0-13-amd64 #1 SMP PREEMPT_DYNAMIC Debian x86_64 GNU/Linux\n",
                Commands::SYSTEM,
            ),
            (
                b"Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org)",
                Commands::SYSTEM,
            ),
            (
                b"total 12\ndrwxr-xr-x 2 root root 4096 Jan  1 10:00 .\n",
                Commands::FILES,
            ),
            (
                b"-rw-r--r-- 1 www-data www-data 31 Jan  1 10:00 index.php\n",
                Commands::FILES,
            ),
            (
                b"  PID TTY          TIME CMD\n    1 ?        00:00:00 apache2\n",
                Commands::PROCESSES,
            ),
            (
                b"USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n",
                Commands::PROCESSES,
            ),
            (
                b"PID   USER     TIME  COMMAND\n    1 root      0:00 httpd\n",
                Commands::PROCESSES,
            ),
            (
                b"1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue\n",
                Commands::INTERFACES,
            ),
            (
                b"eth0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500\n",
                Commands::INTERFACES,
            ),
            (
                b"Active Internet connections (only servers)\nProto\n",
                Commands::SOCKETS,
            ),
            (
                b"Filesystem      Size  Used Avail Use% Mounted on\n",
                Commands::DISKS,
            ),
            (
                b"KUBERNETES_PORT=tcp://10.96.0.1:443\nHOSTNAME=web\n",
                Commands::ENVIRONMENT,
            ),
            (
                b"HOSTNAME=web\nPATH=/usr/sbin:/usr/bin\n",
                Commands::ENVIRONMENT,
            ),
            (b" Volume in drive C has no label.\r\n", Commands::FILES),
        ];
        for (answer, expected) in cases {
            let found = printed(answer, Commands::empty(), true);
            assert_eq!(
                (found.kinds, found.bare),
                (*expected, true),
                "{}",
                answer.escape_ascii()
            );
        }
    }

    #[test]
    fn what_is_no_output() {
        let cases: &[&[u8]] = &[
            b"",
            b"OK",
            b"uid=1000&gid=5",
            b"uid=33(www-data)",
            b"root:secret",
            b"total 12 items\n",
            b"Linux is a family of operating systems",
            b"<!DOCTYPE html>\n<html><head><title>id</title></head><pre>uid=0(root) gid=0(root)",
            b"APP_NAME=shop\nDB_HOST=db\nDB_PASSWORD=x\n",
            b"Filesystem checks are run at boot",
            b"PID controllers are widespread",
            b"- item\n- item\n",
            b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        ];
        for answer in cases {
            let found = printed(answer, Commands::empty(), true);
            assert_eq!(found, Printed::default(), "{}", answer.escape_ascii());
        }
    }

    #[test]
    fn where_an_answer_has_it() {
        let id = b"uid=33(www-data) gid=33(www-data) groups=33(www-data)\n";
        let cases: &[(&[u8], bool)] = &[
            (b"", true),
            (
                b"<html><body>\n<form method=\"get\"><input name=\"cmd\"></form>\n<pre>",
                true,
            ),
            (b"->|", true),
            (b"5f3a9c21d0", true),
            (b"1f4\r\n<pre>", true),
            (b"Command: id<BR>\n", false),
            (
                b"<html><head><title>ID(1) - manual</title></head><body><h1>ID</h1>\n",
                false,
            ),
            (b"$ id\n", false),
        ];
        for (before, bare) in cases {
            let answer = [before, &id[..]].concat();
            let found = printed(&answer, Commands::ID, false);
            assert_eq!(
                (found.kinds, found.bare),
                (Commands::ID, *bare),
                "{}",
                before.escape_ascii()
            );
        }
        // Only in the middle of a line.
        let answer = b"the command id prints uid=0(root) gid=0(root) for root";
        assert!(!printed(answer, Commands::ID, true).bare);
    }

    #[test]
    fn one_word_to_who_has_asked() {
        let word = |answer: &[u8], asked| printed(answer, asked, true);
        assert_eq!(word(b"www-data\n", Commands::USER).kinds, Commands::USER);
        assert_eq!(
            word(b"<pre>www-data\n</pre>", Commands::USER).kinds,
            Commands::USER
        );
        assert_eq!(
            word(b"9\r\nwww-data\n\r\n0\r\n\r\n", Commands::USER).kinds,
            Commands::USER
        );
        assert_eq!(
            word(b"/var/www/html\n", Commands::PLACE).kinds,
            Commands::PLACE
        );
        assert!(!word(b"/var/www/html\n", Commands::PLACE).bare);
        for (answer, asked) in [
            (&b"alice"[..], Commands::USER),
            (b"www-data\n", Commands::ID),
            (b"www-data\n", Commands::empty()),
            (b"/a page", Commands::PLACE),
        ] {
            assert_eq!(word(answer, asked).kinds, Commands::empty());
        }
        let token = b"eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.c2ln";
        assert_eq!(
            word(token, Commands::TOKEN.union(Commands::ANY)).kinds,
            Commands::TOKEN
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(answer in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            for asked in [Commands::empty(), Commands::all()] {
                printed(&answer, asked, true);
            }
            super::super::in_query(&answer);
            super::super::in_body(&answer);
        }
    }
}
