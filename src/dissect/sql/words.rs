//! What the words of a normalised statement tell of its purpose.

use super::super::StatementClass;
use StatementClass::{Admin, Catalogue, CredentialTable, Other, Read, Schema, Transaction, Write};

/// The longest verb's length.
pub(super) const MAX_VERB: usize = 11;

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
    ("exec", "EXEC", Write),
    ("if", "IF", Other),
    ("while", "WHILE", Other),
    ("print", "PRINT", Other),
    ("waitfor", "WAITFOR", Other),
    ("bulk", "BULK", Write),
    ("backup", "BACKUP", Admin),
    ("restore", "RESTORE", Admin),
    ("reconfigure", "RECONFIGURE", Admin),
    ("dbcc", "DBCC", Admin),
    ("deny", "DENY", Admin),
    ("exists", "EXISTS", Catalogue),
    ("list", "LIST", Catalogue),
    ("system", "SYSTEM", Admin),
    ("attach", "ATTACH", Schema),
    ("detach", "DETACH", Schema),
    ("handler", "HANDLER", Read),
    ("start_replication", "START_REPLICATION", Admin),
    ("identify_system", "IDENTIFY_SYSTEM", Admin),
    ("base_backup", "BASE_BACKUP", Admin),
];

/// A statement's words, marks left out.
pub(super) struct Words<'a>(std::str::Split<'a, fn(char) -> bool>);

impl<'a> Words<'a> {
    pub(super) fn new(statement: &'a str) -> Self {
        Self(statement.split(|char| !(matches!(char, '_' | '$') || char.is_alphanumeric())))
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

/// Whether `word` begins statements.
pub(super) fn verb_in(word: &[u8]) -> bool {
    std::str::from_utf8(word).is_ok_and(|word| verb(word).is_some())
}

/// What one normalised statement is about, if it is there as a `whole`.
pub(super) fn class_of(statement: &str, whole: bool) -> StatementClass {
    let mut words = Words::new(statement);
    let Some(first) = words.next() else {
        return Other;
    };
    let mut class = verb(first).map_or(Other, |(_, class)| class);
    let mut before = first;
    for word in words {
        class = class
            .max(of_word(first, before, word))
            .max(of_name(before, word));
        before = word;
    }
    if class == CredentialTable && whole && lists_accounts(statement) {
        return Catalogue;
    }
    class
}

/// Whether a statement asks MySQL who has an account and what he may do, as exporters and administrators do: it reads the
/// table that has the hashes, and no other, but none of its columns that hold them, which takes their names or a star.
fn lists_accounts(statement: &str) -> bool {
    let named = |word: &str| word == "password" || of_any(word.as_bytes()) == CredentialTable;
    let mut words = Words::new(statement);
    let mut before = words.next().unwrap_or_default();
    before == "select"
        && !statement.contains('*')
        && words.all(|word| {
            let another = before != "mysql" && of_name(before, word) == CredentialTable;
            before = word;
            !another && !named(word)
        })
}

fn of_word(verb: &str, before: &str, word: &str) -> StatementClass {
    let defines = matches!(verb, "create" | "alter" | "drop" | "set" | "rename");
    match word {
        "from" if verb == "copy" => Write,
        "user" if verb == "show" && before == "create" => CredentialTable,
        "user" | "role" | "group" | "system" | "global" | "password" | "extension" | "server"
        | "subscription" | "publication" | "login" | "credential" | "trigger" | "assembly"
            if defines && before == verb =>
        {
            Admin
        }
        "slave" | "replica" | "replication" if matches!(verb, "start" | "stop" | "reset") => Admin,
        // Within a common table expression, or after EXPLAIN ANALYZE.
        "into" if before == "insert" => Write,
        "from" if before == "delete" => Write,
        _ => Other,
    }
}

/// What the name of a table or procedure tells, whatever is done with it.
fn of_name(before: &str, word: &str) -> StatementClass {
    // Patterns of bytes become a decision tree, those of text one comparison after another.
    let word = word.as_bytes();
    let class = match before {
        "mysql" => of_mysql(word),
        "sys" => of_sys(word),
        "system" if word == b"users" => CredentialTable,
        // MySQL's and SQL Server's views; Cassandra's and ClickHouse's own tables.
        "from" | "join" if matches!(word, b"sys" | b"system") => Catalogue,
        _ => Other,
    };
    class.max(of_any(word))
}

fn of_mysql(table: &[u8]) -> StatementClass {
    match table {
        b"user" => CredentialTable,
        b"db" | b"tables_priv" | b"columns_priv" | b"procs_priv" | b"proxies_priv"
        | b"role_edges" | b"default_roles" | b"proc" | b"func" | b"plugin" | b"servers" => {
            Catalogue
        }
        _ => Other,
    }
}

fn of_sys(table: &[u8]) -> StatementClass {
    match table {
        b"credentials" | b"linked_logins" => CredentialTable,
        b"databases"
        | b"tables"
        | b"columns"
        | b"objects"
        | b"all_objects"
        | b"all_columns"
        | b"schemas"
        | b"views"
        | b"procedures"
        | b"types"
        | b"indexes"
        | b"foreign_keys"
        | b"sql_modules"
        | b"all_sql_modules"
        | b"server_principals"
        | b"database_principals"
        | b"server_permissions"
        | b"database_permissions"
        | b"server_role_members"
        | b"database_role_members"
        | b"configurations"
        | b"servers"
        | b"master_files"
        | b"database_files"
        | b"dm_exec_sessions"
        | b"dm_exec_connections"
        | b"dm_exec_requests"
        | b"sysprocesses" => Catalogue,
        _ => Other,
    }
}

fn of_any(word: &[u8]) -> StatementClass {
    match word {
        // Where passwords, their hashes and keys are kept.
        b"pg_shadow" | b"pg_authid" | b"pg_user_mapping" | b"pg_user_mappings" | b"rolpassword"
        | b"global_priv" | b"authentication_string" | b"sql_logins" | b"syslogins"
        | b"sysxlogins" | b"dba_users" | b"user$" | b"user_history$" | b"link$"
        | b"system_auth" => CredentialTable,
        b"sp_addlogin" | b"sp_addsrvrolemember" | b"sp_addrolemember" | b"sp_adduser"
        | b"sp_configure" | b"sp_password" | b"sp_addlinkedserver" | b"sp_addlinkedsrvlogin"
        | b"sp_grantdbaccess" => Admin,
        // Anywhere.
        b"information_schema" | b"sqlite_master" | b"sqlite_schema" | b"syscat"
            // PostgreSQL.
            | b"pg_catalog" | b"pg_class" | b"pg_tables" | b"pg_database" | b"pg_namespace"
            | b"pg_attribute" | b"pg_attrdef" | b"pg_type" | b"pg_enum" | b"pg_range" | b"pg_roles"
            | b"pg_user" | b"pg_group" | b"pg_auth_members" | b"pg_proc" | b"pg_operator"
            | b"pg_aggregate" | b"pg_settings" | b"pg_file_settings" | b"pg_hba_file_rules"
            | b"pg_extension" | b"pg_available_extensions" | b"pg_index" | b"pg_indexes"
            | b"pg_constraint" | b"pg_views" | b"pg_matviews" | b"pg_sequences" | b"pg_sequence"
            | b"pg_description" | b"pg_shdescription" | b"pg_language" | b"pg_trigger"
            | b"pg_rewrite" | b"pg_rules" | b"pg_policies" | b"pg_policy" | b"pg_tablespace"
            | b"pg_inherits" | b"pg_depend" | b"pg_collation" | b"pg_locks" | b"pg_foreign_server"
            | b"pg_foreign_table" | b"pg_replication_slots" | b"pg_default_acl"
            // MySQL.
            | b"performance_schema"
            // SQL Server, and Sybase before it.
            | b"sysobjects" | b"syscolumns" | b"sysdatabases" | b"sysindexes" | b"systypes"
            | b"sysusers" | b"sysprocesses" | b"sysservers" | b"syscomments" | b"sysfiles"
            | b"sysprotects" | b"sp_tables" | b"sp_columns" | b"sp_databases" | b"sp_help"
            | b"sp_helpdb" | b"sp_helptext" | b"sp_helpuser" | b"sp_helplogins" | b"sp_helprole"
            | b"sp_helprolemember" | b"sp_helpsrvrolemember" | b"sp_linkedservers" | b"sp_who"
            | b"sp_who2" | b"sp_stored_procedures" | b"xp_msver" | b"xp_loginconfig"
            | b"xp_enumgroups" | b"is_srvrolemember" | b"has_dbaccess"
            // Oracle.
            | b"session_privs" | b"session_roles" | b"role_sys_privs" | b"all_tables"
            | b"all_tab_columns" | b"all_tab_cols" | b"all_users" | b"all_objects" | b"all_views"
            | b"all_source" | b"all_constraints" | b"all_cons_columns" | b"all_indexes"
            | b"all_ind_columns" | b"all_synonyms" | b"all_db_links" | b"all_procedures"
            | b"all_arguments" | b"all_tab_privs" | b"all_sequences" | b"user_tables"
            | b"user_tab_columns" | b"user_objects" | b"user_views" | b"user_source"
            | b"user_constraints" | b"user_indexes" | b"user_sys_privs" | b"user_role_privs"
            | b"user_tab_privs" | b"user_db_links"
            // Cassandra.
            | b"system_schema" | b"system_virtual_schema" => Catalogue,
        _ if [&b"pg_stat"[..], b"dba_", b"v$", b"gv$", b"x$"]
            .iter()
            .any(|known| word.starts_with(known)) =>
        {
            Catalogue
        }
        _ => Other,
    }
}
