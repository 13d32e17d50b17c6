//! Prints what captures hold of conversations with databases, an event a line: both ends, the product, what happened.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use spanwatch::dissect::{DatabaseEvent, Transaction};
use spanwatch::testkit::dissected::transactions;

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        let found = transactions(path).with_context(|| format!("read {}", path.display()))?;
        for dissected in found {
            let Transaction::Database(message) = dissected.transaction else {
                continue;
            };
            let ((client, client_port), (server, server_port)) = (dissected.orig, dissected.resp);
            let shown = |text: Option<_>| text.as_deref().unwrap_or("-").to_owned();
            let event = match message.event {
                DatabaseEvent::Hello { version } => format!("hello\t{}", shown(version)),
                DatabaseEvent::Login {
                    user,
                    database,
                    client,
                } => format!(
                    "login\t{}\t{}\t{}",
                    shown(user),
                    shown(database),
                    shown(client)
                ),
                DatabaseEvent::Secret(_) => continue,
                DatabaseEvent::LoginResult { success, code } => {
                    format!("outcome\t{success}\t{}", shown(code))
                }
                DatabaseEvent::Statement {
                    class,
                    marks,
                    verb,
                    fingerprint,
                    length,
                } => {
                    let marks: Vec<&str> = marks.iter_names().map(|(name, _)| name).collect();
                    let marks = marks.join(",");
                    format!("statement\t{verb}\t{class:?}\t{marks}\t{length}\t{fingerprint:016x}")
                }
                DatabaseEvent::Result { rows, bytes, error } => {
                    let rows = rows.map_or("-".to_owned(), |rows| rows.to_string());
                    format!("result\t{rows}\t{bytes}\t{}", shown(error))
                }
            };
            let product = message.product;
            writeln!(
                out,
                "{client}\t{client_port}\t{server}\t{server_port}\t{product}\t{event}"
            )?;
        }
    }
    Ok(())
}
