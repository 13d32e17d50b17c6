//! Command lines in the parameters of a request: in its query, or in the first bytes of its body.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::Commands;

/// Parameters looked at.
const MAX_VALUES: usize = 24;
/// Bytes of one that are looked at, once decoded.
const MAX_VALUE: usize = 128;
/// Commands looked at in one.
const MAX_PIECES: usize = 16;
/// Shorter base64 may be any word.
const SHORTEST_ENCODED: usize = 3;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What the values of `name=value&name=value` ask for, and what stands there without a name.
pub(in crate::dissect) fn in_query(query: &[u8]) -> Commands {
    if query.is_empty() {
        return Commands::empty();
    }
    let pairs = query.split(|byte| *byte == b'&').take(MAX_VALUES);
    pairs.fold(Commands::empty(), |asked, pair| {
        let at = memchr::memchr(b'=', pair);
        let value = at.and_then(|at| pair.get(at.saturating_add(1)..));
        asked | in_encoded(value.unwrap_or(pair))
    })
}

/// What a body asks for that begins so: a form in whatever coding, JSON, or nothing but a command line.
pub(in crate::dissect) fn in_body(first: &[u8]) -> Commands {
    match first.trim_ascii_start() {
        json @ [b'{' | b'[', ..] => in_strings(json),
        parts @ [b'-', b'-', ..] => {
            let lines = parts.split(|byte| *byte == b'\n').take(MAX_VALUES);
            lines
                .filter(|line| !line.starts_with(b"--") && !line.starts_with(b"Content-"))
                .fold(Commands::empty(), |asked, line| asked | in_value(line))
        }
        other => in_query(other) | in_value(other),
    }
}

/// JSON's strings that aren't names.
fn in_strings(json: &[u8]) -> Commands {
    let mut parts = json.split(|byte| *byte == b'"').take(MAX_VALUES * 2);
    let mut asked = Commands::empty();
    // What stands outside of strings, then a string, in turn.
    while let (Some(_), Some(string)) = (parts.next(), parts.next()) {
        let after = parts.clone().next();
        if after.is_some_and(|after| !after.trim_ascii_start().starts_with(b":")) {
            asked |= in_value(string);
        }
    }
    asked
}

/// A value in the coding of forms.
fn in_encoded(value: &[u8]) -> Commands {
    if memchr::memchr2(b'%', b'+', value).is_none() {
        return in_value(value);
    }
    let mut out = [0; MAX_VALUE];
    in_value(unescaped(value, &mut out))
}

/// Without percent signs; a plus is a space.
fn unescaped<'a>(value: &[u8], out: &'a mut [u8; MAX_VALUE]) -> &'a [u8] {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut rest = value;
    let mut len = 0_usize;
    for slot in out.iter_mut() {
        let escaped = match rest {
            [b'%', high, low, after @ ..] => digit(*high).zip(digit(*low)).zip(Some(after)),
            _ => None,
        };
        *slot = match (escaped, rest) {
            (Some(((high, low), after)), _) => {
                rest = after;
                u8::try_from(high << 4 | low).unwrap_or_default()
            }
            (None, [byte, after @ ..]) => {
                rest = after;
                if *byte == b'+' { b' ' } else { *byte }
            }
            (None, []) => break,
        };
        len = len.saturating_add(1);
    }
    out.get(..len).unwrap_or_default()
}

/// A value as the application gets it, or one in base64.
fn in_value(value: &[u8]) -> Commands {
    let value = value.get(..MAX_VALUE).unwrap_or(value);
    let mut asked = in_text(value);
    let mut out = [0; MAX_VALUE];
    if let Some(decoded) = decoded(value, &mut out) {
        asked |= in_text(decoded);
    }
    asked
}

/// What base64 hides, if it is text that may be a command line. Four characters tell that for most.
fn decoded<'a>(value: &[u8], out: &'a mut [u8; MAX_VALUE]) -> Option<&'a [u8]> {
    let value = value.trim_ascii();
    if value.len() < SHORTEST_ENCODED {
        return None;
    }
    let mut first = [0; 3];
    let first_len = BASE64
        .decode_slice(value.get(..4).unwrap_or(value), &mut first)
        .ok()?;
    let begins = first.get(..first_len)?;
    let is_text = |bytes: &[u8]| {
        bytes
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n'))
    };
    if !is_text(begins) {
        return None;
    }
    let cut = value.len().saturating_sub(value.len() % 4);
    // What the beginning of a longer one lacks is not missed.
    let len = BASE64
        .decode_slice(value, out)
        .or_else(|_| BASE64.decode_slice(value.get(..cut).unwrap_or_default(), out))
        .ok()?;
    out.get(..len).filter(|text| is_text(text))
}

/// Readable text.
fn in_text(text: &[u8]) -> Commands {
    let mut asked = Commands::empty();
    if is_code(text) {
        asked |= Commands::CODE;
    }
    if memchr::memchr(b'/', text).is_some() {
        let there = SYSTEM_FILES
            .iter()
            .filter(|(file, _)| memmem::find(text, file).is_some());
        asked = there.fold(asked, |asked, (_, kind)| asked | *kind);
    }
    let pieces = text.split(|byte| ENDS_COMMAND.contains(byte));
    pieces
        .take(MAX_PIECES)
        .fold(asked, |asked, piece| asked | kind_of(piece))
}

/// What separates commands, in a shell's lines or in the code that runs them.
const ENDS_COMMAND: &[u8] = b";|&\n\r`$(){}'\"<>";

/// Files that only a shell, or a page that gives out whatever file, has a reason to show.
const SYSTEM_FILES: [(&[u8], Commands); 5] = [
    (b"/etc/passwd", Commands::ACCOUNTS),
    (b"/etc/shadow", Commands::ACCOUNTS),
    (b"/proc/self/environ", Commands::ENVIRONMENT),
    (b"/proc/version", Commands::SYSTEM),
    (b"/serviceaccount/token", Commands::TOKEN),
];

/// Whether a value begins with code: a call of what runs code or commands, maybe behind a tag, a `@`, or a `print`.
fn is_code(text: &[u8]) -> bool {
    let Some(open) = memchr::memchr(b'(', text) else {
        return false;
    };
    let before = text.get(..open).unwrap_or_default().trim_ascii_end();
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let start = before.iter().rposition(|byte| !is_of_name(byte));
    let start = start.map_or(0, |at| at.saturating_add(1));
    let Some((lead, name)) = before.split_at_checked(start) else {
        return false;
    };
    let lead = lead.trim_ascii();
    let leads = [
        "", "@", "<?php", "<?php @", "echo", "print", "return", ";", "die",
    ]
    .iter()
    .any(|known| lead.eq_ignore_ascii_case(known.as_bytes()));
    leads
        && CALLS
            .iter()
            .any(|call| name.eq_ignore_ascii_case(call.as_bytes()))
}

/// Calls that run code or commands, or prepare for it.
const CALLS: [&str; 24] = [
    "eval",
    "assert",
    "system",
    "passthru",
    "shell_exec",
    "exec",
    "popen",
    "proc_open",
    "base64_decode",
    "gzinflate",
    "ini_set",
    "set_time_limit",
    "error_reporting",
    "call_user_func",
    "create_function",
    "file_put_contents",
    "phpinfo",
    "Execute",
    "Response.Write",
    "os.system",
    "os.popen",
    "subprocess.check_output",
    "__import__",
    "java.lang.Runtime.getRuntime",
];

/// The kind of one command with its arguments.
fn kind_of(command: &[u8]) -> Commands {
    let command = command.trim_ascii();
    let end = command.iter().position(u8::is_ascii_whitespace);
    let word = end.and_then(|end| command.get(..end)).unwrap_or(command);
    let name = match memchr::memrchr(b'/', word) {
        Some(at) if word.first() == Some(&b'/') => word.get(at.saturating_add(1)..),
        _ => Some(word),
    };
    match name.unwrap_or_default() {
        b"id" => Commands::ID,
        b"whoami" => Commands::USER,
        b"uname" | b"ver" | b"hostnamectl" => Commands::SYSTEM,
        b"ls" | b"ll" | b"dir" | b"stat" => Commands::FILES,
        b"ps" | b"top" | b"tasklist" => Commands::PROCESSES,
        b"ip" | b"ifconfig" | b"ipconfig" | b"route" => Commands::INTERFACES,
        b"ss" | b"netstat" | b"lsof" => Commands::SOCKETS,
        b"env" | b"printenv" | b"set" | b"export" => Commands::ENVIRONMENT,
        b"df" | b"mount" => Commands::DISKS,
        b"pwd" => Commands::PLACE,
        b"cat" | b"head" | b"tail" | b"more" | b"less" | b"nl" | b"tac" | b"strings" | b"grep"
        | b"find" | b"awk" | b"sed" | b"getent" | b"type" | b"sh" | b"bash" | b"dash" | b"ash"
        | b"busybox" | b"python" | b"python3" | b"perl" | b"php" | b"ruby" | b"node" | b"echo"
        | b"printf" | b"sudo" | b"su" | b"timeout" | b"nohup" | b"sleep" | b"cd" | b"chmod"
        | b"curl" | b"wget" | b"nc" | b"kubectl" | b"crontab" | b"cmd" | b"cmd.exe"
        | b"powershell" | b"powershell.exe" | b"systeminfo" | b"net" | b"which" => Commands::ANY,
        _ => Commands::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_parameters() {
        let cases: &[(&[u8], Commands)] = &[
            (b"cmd=id", Commands::ID),
            (b"page=2&c=uname%20-a&x=1", Commands::SYSTEM),
            (b"cmd=ls+-la+/var/www", Commands::FILES),
            (b"cmd=/usr/bin/id", Commands::ID),
            (b"ip=8.8.8.8%3Bid", Commands::ID),
            (b"ip=8.8.8.8|whoami", Commands::USER),
            (b"host=$(id)", Commands::ID),
            (b"id", Commands::ID),
            (
                b"c=cat+/etc/passwd",
                Commands::ANY.union(Commands::ACCOUNTS),
            ),
            (
                b"c=cat${IFS}/etc/passwd",
                Commands::ANY.union(Commands::ACCOUNTS),
            ),
            (b"page=../../../../etc/passwd", Commands::ACCOUNTS),
            (
                b"c=cat%20/var/run/secrets/kubernetes.io/serviceaccount/token",
                Commands::ANY.union(Commands::TOKEN),
            ),
            // `id`, `uname -a`.
            (b"c=aWQ=", Commands::ID),
            (b"c=aWQ%3D", Commands::ID),
            (b"c=dW5hbWUgLWE", Commands::SYSTEM),
            (b"x=system('id');", Commands::CODE.union(Commands::ID)),
            (
                b"x=@eval(base64_decode($_POST[z0]));&z0=aWQ",
                Commands::CODE.union(Commands::ID),
            ),
            (
                b"x=%40ini_set(%22display_errors%22%2C%220%22)%3B",
                Commands::CODE,
            ),
            (
                b"x=echo shell_exec('ps aux')",
                Commands::CODE
                    .union(Commands::ANY)
                    .union(Commands::PROCESSES),
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(in_query(query), *expected, "{}", query.escape_ascii());
        }
    }

    #[test]
    fn ordinary_parameters_ask_for_none() {
        let cases: &[&[u8]] = &[
            b"",
            b"id=5&ls=3&set=a",
            b"q=identity&page=2",
            b"q=salt+%26+pepper%3B+200g",
            b"sort=id_asc&fields=name,id,price",
            b"code=abc(def)&q=evaluate(x)",
            b"q=how+does+eval(+work",
            b"token=eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiIxIn0.c2ln",
            b"q=100%",
            b"q=%zz%",
            b"t=AAECAwQFBgcICQ==",
        ];
        for query in cases {
            assert_eq!(
                in_query(query),
                Commands::empty(),
                "{}",
                query.escape_ascii()
            );
        }
    }

    #[test]
    fn commands_in_bodies() {
        let cases: &[(&[u8], Commands)] = &[
            (b"cmd=id&x=1", Commands::ID),
            (b"id", Commands::ID),
            (b"echo; id", Commands::ANY.union(Commands::ID)),
            (br#"{"id":5,"cmd":"ls -l","set":[1]}"#, Commands::FILES),
            (
                br#"{"id":5,"name":"a set of knives","q":"a"}"#,
                Commands::empty(),
            ),
            (br#"["sh","-c"]"#, Commands::ANY),
            (br#"{"id"#, Commands::empty()),
            (
                b"--b\r\nContent-Disposition: form-data; name=\"cmd\"\r\n\r\nwhoami\r\n--b",
                Commands::USER,
            ),
            (b"", Commands::empty()),
            (b"\xff\xfe\x00", Commands::empty()),
        ];
        for (body, expected) in cases {
            assert_eq!(in_body(body), *expected, "{}", body.escape_ascii());
        }
    }
}
