//! What the words of a normalised statement tell of its purpose.

use super::super::StatementClass;
use StatementClass::{
    Abuse, Admin, Catalogue, CredentialTable, Other, Read, Schema, Transaction, Write,
};

/// The longest verb's length.
pub(super) const MAX_VERB: usize = 10;

/// The first keywords of statements.
const VERBS: &[(&str, &str, StatementClass)] = &[
    ("select", "SELECT", Read),
    ("insert", "INSERT", Write),
    ("update", "UPDATE", Write),
    ("delete", "DELETE", Write),
    ("begin", "BEGIN", Transaction),
    ("commit", "COMMIT", Transaction),
    ("rollback", "ROLLBACK", Transaction),
    ("start", "START", Transaction),
    ("end", "END", Transaction),
    ("savepoint", "SAVEPOINT", Transaction),
    ("release", "RELEASE", Transaction),
    ("abort", "ABORT", Transaction),
    ("xa", "XA", Transaction),
    ("prepare", "PREPARE", Other),
    ("execute", "EXECUTE", Other),
    ("deallocate", "DEALLOCATE", Other),
    ("set", "SET", Other),
    ("use", "USE", Other),
    ("reset", "RESET", Other),
    ("discard", "DISCARD", Other),
    ("listen", "LISTEN", Other),
    ("unlisten", "UNLISTEN", Other),
    ("notify", "NOTIFY", Other),
    ("lock", "LOCK", Other),
    ("unlock", "UNLOCK", Other),
    ("declare", "DECLARE", Read),
    ("fetch", "FETCH", Read),
    ("close", "CLOSE", Other),
    ("move", "MOVE", Other),
    ("do", "DO", Write),
    ("call", "CALL", Write),
    ("with", "WITH", Read),
    ("values", "VALUES", Read),
    ("table", "TABLE", Read),
    ("explain", "EXPLAIN", Read),
    ("copy", "COPY", Read),
    ("load", "LOAD", Write),
    ("replace", "REPLACE", Write),
    ("merge", "MERGE", Write),
    ("truncate", "TRUNCATE", Write),
    ("create", "CREATE", Schema),
    ("alter", "ALTER", Schema),
    ("drop", "DROP", Schema),
    ("rename", "RENAME", Schema),
    ("comment", "COMMENT", Schema),
    ("analyze", "ANALYZE", Schema),
    ("vacuum", "VACUUM", Schema),
    ("reindex", "REINDEX", Schema),
    ("cluster", "CLUSTER", Schema),
    ("refresh", "REFRESH", Schema),
    ("optimize", "OPTIMIZE", Schema),
    ("check", "CHECK", Schema),
    ("show", "SHOW", Catalogue),
    ("describe", "DESCRIBE", Catalogue),
    ("desc", "DESC", Catalogue),
    ("grant", "GRANT", Admin),
    ("revoke", "REVOKE", Admin),
    ("reassign", "REASSIGN", Admin),
    ("security", "SECURITY", Admin),
    ("checkpoint", "CHECKPOINT", Admin),
    ("change", "CHANGE", Admin),
    ("stop", "STOP", Admin),
    ("kill", "KILL", Admin),
    ("flush", "FLUSH", Admin),
    ("purge", "PURGE", Admin),
    ("shutdown", "SHUTDOWN", Admin),
    ("install", "INSTALL", Admin),
    ("uninstall", "UNINSTALL", Admin),
];

/// A statement's words, marks left out.
pub(super) struct Words<'a>(std::str::Split<'a, fn(char) -> bool>);

impl<'a> Words<'a> {
    pub(super) fn new(statement: &'a str) -> Self {
        Self(statement.split(|char| !(char == '_' || char.is_alphanumeric())))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0.find(|word| !word.is_empty())
    }
}

/// A verb as it is shown, and what it alone says of the statement.
pub(super) fn verb(word: &str) -> Option<(&'static str, StatementClass)> {
    let found = VERBS.iter().find(|(known, ..)| *known == word);
    found.map(|(_, shown, class)| (*shown, *class))
}

/// The verb of a normalised text's first statement.
pub(super) fn verb_of(normal: &str) -> &'static str {
    let first = Words::new(normal).next();
    first.and_then(verb).map_or("OTHER", |(shown, _)| shown)
}

/// What one normalised statement is about.
pub(super) fn class_of(statement: &str) -> StatementClass {
    let mut words = Words::new(statement);
    let Some(first) = words.next() else {
        return Other;
    };
    let mut class = verb(first).map_or(Other, |(_, class)| class);
    let mut before = first;
    for word in words {
        class = class.max(of_word(first, before, word));
        before = word;
    }
    let waits = statement.contains("sleep(") || statement.contains("benchmark(");
    if waits { Abuse } else { class }
}

fn of_word(verb: &str, before: &str, word: &str) -> StatementClass {
    let defines = matches!(verb, "create" | "alter" | "drop" | "set" | "rename");
    match word {
        "program" if verb == "copy" => Abuse,
        "from" if verb == "copy" => Write,
        "soname"
        | "outfile"
        | "dumpfile"
        | "load_file"
        | "pg_read_file"
        | "pg_read_binary_file"
        | "pg_ls_dir"
        | "pg_stat_file"
        | "lo_import"
        | "lo_export"
        | "xp_cmdshell"
        | "sys_exec"
        | "sys_eval" => Abuse,
        "pg_shadow"
        | "pg_authid"
        | "pg_user_mapping"
        | "pg_user_mappings"
        | "global_priv"
        | "authentication_string"
        | "sql_logins"
        | "syslogins"
        | "dba_users" => CredentialTable,
        "user" if before == "mysql" => CredentialTable,
        "user" | "role" | "group" | "system" | "global" | "password" | "extension" | "server"
        | "subscription" | "publication"
            if defines && before == verb =>
        {
            Admin
        }
        "slave" | "replica" | "replication" if matches!(verb, "start" | "stop" | "reset") => Admin,
        "information_schema" | "performance_schema" | "pg_catalog" | "pg_class" | "pg_tables"
        | "pg_database" | "pg_namespace" | "pg_attribute" | "pg_type" | "pg_roles" | "pg_user"
        | "pg_group" | "pg_proc" | "pg_settings" | "pg_extension" | "pg_index" | "pg_views"
        | "sqlite_master" => Catalogue,
        "sys" if matches!(before, "from" | "join") => Catalogue,
        _ if word.starts_with("pg_stat") => Catalogue,
        // Within a common table expression, or after EXPLAIN ANALYZE.
        "into" if before == "insert" => Write,
        "from" if before == "delete" => Write,
        _ => Other,
    }
}
