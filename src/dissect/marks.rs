//! Facts about one statement to a database, beside its class: signs of injection, what it does to the server, whether it
//! takes all there is.

bitflags::bitflags! {
    /// What can be said of a statement's form without keeping any of its literals.
    ///
    /// Each is a fact, none a verdict: applications do some of these things, and only what their database is used to
    /// tells which. Names are stable, for reports (`Marks::iter_names`).
    #[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
    pub struct Marks: u32 {
        /// To a query that reads a table, `UNION` adds a row that names no column (`NULL`s, literals, functions of
        /// them), or one column among `NULL`s. Lists for menus (`UNION SELECT 0, 'all'`) do so too.
        const UNION_CONSTANTS = 1 << 0;
        /// A comparison of two literals after `AND`, `OR` or `WHEN`. Not the `WHERE 1=1`, `AND 1=1` and `AND 1=0` of
        /// query builders; `OR 1=1` is one.
        const TAUTOLOGY = 1 << 1;
        /// The text ends in a comment to the end of the line, or in one that is not closed, with code before it on the
        /// same line: what followed is cut off. Not the closed comments that libraries append for tracing.
        const COMMENT_TAIL = 1 << 2;
        /// After a statement that reads or writes rows another begins in the same text.
        const STACKED = 1 << 3;
        /// The server is made to wait: `SLEEP`, `BENCHMARK`, `pg_sleep`, `WAITFOR DELAY`, `DBMS_PIPE.RECEIVE_MESSAGE`.
        const TIME_DELAY = 1 << 4;
        /// Functions fed so that the error shows their argument: `EXTRACTVALUE(1, …)`, `UPDATEXML(1, …)`,
        /// `FLOOR(RAND(0)…)`, `EXP(~…)`, a literal compared with a `CAST`, `UTL_INADDR`, `CTXSYS`.
        const ERROR_BASED = 1 << 5;
        /// Text spelled by character codes, three or more: `CHR(113)||CHR(118)||CHR(98)`.
        const CHAR_CODES = 1 << 6;
        /// One character of something taken as a number, as when guessing it bit by bit: `ASCII(SUBSTRING(…`.
        const CHAR_PROBE = 1 << 7;

        /// Reads the server's files or directories: `LOAD_FILE`, `pg_read_file`, `lo_import`, `COPY … FROM 'file'`,
        /// `BULK INSERT`, `xp_dirtree`.
        const FILE_READ = 1 << 8;
        /// Writes the server's files: `INTO OUTFILE`, `lo_export`, `COPY … TO 'file'`, Redis's `CONFIG SET dir`.
        const FILE_WRITE = 1 << 9;
        /// Runs programs or loads code: `COPY … PROGRAM`, `xp_cmdshell`, `sys_exec`, `CREATE FUNCTION … LANGUAGE C`,
        /// Redis's `MODULE LOAD`.
        const PROGRAM = 1 << 10;
        /// Makes the server call others: `UTL_HTTP`, `dblink`, `OPENROWSET`, `xp_dirtree`, ClickHouse's `url()`.
        const OUTBOUND = 1 << 11;

        /// All rows and columns of a table that isn't the catalogue's: `SELECT * FROM t` without `WHERE` or a limit,
        /// `COPY … TO STDOUT`, an unfiltered `find`, a scroll or a search for 1,000 rows or more, all of etcd's keys.
        const BULK_READ = 1 << 12;
        /// Goes through a store's keys: `KEYS`, `SCAN`, Memcached's `stats cachedump` and `lru_crawler metadump`.
        const KEY_WALK = 1 << 13;
        /// Makes this server another's replica, or the client one of this: `REPLICAOF`, `PSYNC`, `START_REPLICATION`,
        /// a dump of the binary log. Not the end of it (`REPLICAOF NO ONE`).
        const REPLICATES = 1 << 14;
        /// Makes the server write out everything: `SAVE`, `BGSAVE`, `BACKUP DATABASE`, `BASE_BACKUP`.
        const SNAPSHOT = 1 << 15;
        /// Shows others' commands as they come: `MONITOR`, Memcached's `watch`.
        const EAVESDROPS = 1 << 16;
        /// `DEBUG` and the like, which no application needs.
        const DEBUG = 1 << 17;
        /// Runs a script of the client's in the server: MongoDB's `$where`, `$function` and `mapReduce`.
        const SCRIPT = 1 << 18;

        /// Signs of injection.
        const INJECTION = Self::UNION_CONSTANTS.bits()
            | Self::TAUTOLOGY.bits()
            | Self::COMMENT_TAIL.bits()
            | Self::STACKED.bits()
            | Self::TIME_DELAY.bits()
            | Self::ERROR_BASED.bits()
            | Self::CHAR_CODES.bits()
            | Self::CHAR_PROBE.bits();
        /// What makes a statement [`Abuse`](super::StatementClass::Abuse).
        const ABUSE = Self::TIME_DELAY.bits()
            | Self::FILE_READ.bits()
            | Self::FILE_WRITE.bits()
            | Self::PROGRAM.bits();
        /// What takes all there is, or lays hands on it.
        const BULK = Self::BULK_READ.bits()
            | Self::KEY_WALK.bits()
            | Self::REPLICATES.bits()
            | Self::SNAPSHOT.bits();
    }
}
