//! What Redis commands do, by their names. Arguments are looked at only where the name doesn't tell.

use super::super::{Marks, SecretMark, StatementClass, fingerprint::fingerprint};
use super::resp::MAX_HEAD;
use StatementClass::{
    Abuse, Admin, Catalogue, CredentialTable, Other, Read, Schema, Transaction, Write,
};

/// Enough for `HELLO 3 AUTH user password`.
const MAX_ARGUMENTS: usize = 5;

/// The first arguments of a command, each cut to what is kept of it.
pub(super) struct Command {
    /// One after another, so that a connection's commands share one allocation.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// How many there are in all.
    count: usize,
}

/// What a command is for.
pub(super) enum Does {
    Login {
        user: Option<Vec<u8>>,
        /// A mark of user and password.
        secret: SecretMark,
    },
    Other {
        class: StatementClass,
        marks: Marks,
        verb: &'static str,
        fingerprint: u64,
        /// The connection is something else from here on.
        last: bool,
    },
}

impl Command {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.count = 0;
    }

    pub(super) fn argument(&mut self, head: &[u8]) {
        self.count = self.count.saturating_add(1);
        if self.ends.len() < MAX_ARGUMENTS {
            self.bytes
                .extend_from_slice(head.get(..MAX_HEAD).unwrap_or(head));
            self.ends.push(self.bytes.len());
        }
    }

    /// A command in one line, as people type it.
    pub(super) fn inline(&mut self, line: &[u8]) {
        for word in line.split(u8::is_ascii_whitespace) {
            if !word.is_empty() {
                self.argument(word);
            }
        }
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.bytes.get(start..*self.ends.get(index)?)
    }

    /// What it does; nothing if it is empty.
    pub(super) fn does(&self) -> Option<Does> {
        let name = self.get(0)?;
        if name.eq_ignore_ascii_case(b"AUTH") {
            // With one argument, that is the password.
            let user = self.get(1).filter(|_| self.count == 3);
            return Some(Does::Login {
                user: user.map(<[u8]>::to_vec),
                secret: self.secret(1),
            });
        }
        let asks_in = self
            .get(2)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"));
        if name.eq_ignore_ascii_case(b"HELLO") && asks_in {
            let user = self.get(3).map(<[u8]>::to_vec);
            let secret = self.secret(3);
            return Some(Does::Login { user, secret });
        }
        let (verb, class) = self.find();
        let class = match verb {
            "CONFIG GET" if self.get(2).is_some_and(names_secret) => CredentialTable,
            _ => class,
        };
        Some(Does::Other {
            class,
            marks: self.marks(verb),
            verb,
            fingerprint: fingerprint(verb.as_bytes()),
            last: matches!(verb, "PSYNC" | "SYNC" | "MONITOR"),
        })
    }

    /// A mark of the arguments from `first` on, which are user and password.
    fn secret(&self, first: usize) -> SecretMark {
        let start = first
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        let rest = start.and_then(|start| self.bytes.get(*start..));
        SecretMark::of(rest.unwrap_or_default())
    }

    fn marks(&self, verb: &str) -> Marks {
        let first = self.get(1).unwrap_or_default();
        match verb {
            "KEYS" | "SCAN" => Marks::KEY_WALK,
            "MONITOR" => Marks::EAVESDROPS,
            "DEBUG" => Marks::DEBUG,
            "SAVE" | "BGSAVE" => Marks::SNAPSHOT,
            // To become nobody's replica ends it.
            "REPLICAOF" | "SLAVEOF" if first.eq_ignore_ascii_case(b"no") => Marks::empty(),
            "REPLICAOF" | "SLAVEOF" | "PSYNC" | "SYNC" | "REPLCONF rdb-only" => Marks::REPLICATES,
            "MIGRATE" => Marks::OUTBOUND,
            "MODULE LOAD" | "MODULE LOADEX" | "SYSTEM.EXEC" | "SYSTEM.REV" => Marks::PROGRAM,
            // Where the next dump goes: into a crontab, or a list of keys.
            "CONFIG SET" => {
                let setting = self.get(2).unwrap_or_default();
                let places = setting.eq_ignore_ascii_case(b"dir")
                    || setting.eq_ignore_ascii_case(b"dbfilename");
                if places {
                    Marks::FILE_WRITE
                } else {
                    Marks::empty()
                }
            }
            _ => Marks::empty(),
        }
    }

    /// The command in the catalogue, with its subcommand if it has such.
    fn find(&self) -> (&'static str, StatementClass) {
        let name = self.get(0).unwrap_or_default();
        let subcommand = self.get(1).unwrap_or_default();
        let known = COMMANDS.iter().find(|(known, _)| {
            let mut words = known.as_bytes().splitn(2, |byte| *byte == b' ');
            words
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(name))
                && words
                    .next()
                    .is_none_or(|word| word.eq_ignore_ascii_case(subcommand))
        });
        known.copied().unwrap_or(("OTHER", Other))
    }
}

/// Whether a pattern of `CONFIG GET` is made to show passwords.
fn names_secret(pattern: &[u8]) -> bool {
    let lower = pattern.to_ascii_lowercase();
    matches!(&lower[..], b"*" | b"masteruser")
        || lower
            .windows(4)
            .any(|part| part == b"pass" || part == b"auth")
}

/// Commands by use, the commonest first; a bare name stands for the subcommands not named before it.
const COMMANDS: &[(&str, StatementClass)] = &[
    ("GET", Read),
    ("SET", Write),
    ("MGET", Read),
    ("HGET", Read),
    ("HSET", Write),
    ("HGETALL", Read),
    ("HMGET", Read),
    ("EXISTS", Read),
    ("EXPIRE", Write),
    ("DEL", Write),
    ("INCR", Write),
    ("SETEX", Write),
    ("LPUSH", Write),
    ("RPUSH", Write),
    ("LPOP", Write),
    ("RPOP", Write),
    ("BLPOP", Write),
    ("BRPOP", Write),
    ("LRANGE", Read),
    ("LLEN", Read),
    ("SADD", Write),
    ("SREM", Write),
    ("SMEMBERS", Read),
    ("SISMEMBER", Read),
    ("ZADD", Write),
    ("ZREM", Write),
    ("ZRANGE", Read),
    ("ZRANGEBYSCORE", Read),
    ("ZCARD", Read),
    ("ZSCORE", Read),
    ("PUBLISH", Write),
    ("SUBSCRIBE", Read),
    ("PSUBSCRIBE", Read),
    ("UNSUBSCRIBE", Read),
    ("XADD", Write),
    ("XREAD", Read),
    ("XREADGROUP", Write),
    ("XACK", Write),
    ("EVAL", Write),
    ("EVALSHA", Write),
    ("FCALL", Write),
    ("MSET", Write),
    ("SETNX", Write),
    ("PSETEX", Write),
    ("GETSET", Write),
    ("GETDEL", Write),
    ("GETEX", Write),
    ("APPEND", Write),
    ("STRLEN", Read),
    ("GETRANGE", Read),
    ("SETRANGE", Write),
    ("INCRBY", Write),
    ("INCRBYFLOAT", Write),
    ("DECR", Write),
    ("DECRBY", Write),
    ("TTL", Read),
    ("PTTL", Read),
    ("PEXPIRE", Write),
    ("EXPIREAT", Write),
    ("PERSIST", Write),
    ("UNLINK", Write),
    ("RENAME", Write),
    ("TYPE", Read),
    ("HDEL", Write),
    ("HMSET", Write),
    ("HSETNX", Write),
    ("HEXISTS", Read),
    ("HINCRBY", Write),
    ("HKEYS", Read),
    ("HVALS", Read),
    ("HLEN", Read),
    ("HSCAN", Read),
    ("SCARD", Read),
    ("SPOP", Write),
    ("SSCAN", Read),
    ("ZSCAN", Read),
    ("LINDEX", Read),
    ("LREM", Write),
    ("LSET", Write),
    ("LTRIM", Write),
    ("RPOPLPUSH", Write),
    ("LMOVE", Write),
    ("BLMOVE", Write),
    ("ZINCRBY", Write),
    ("ZRANK", Read),
    ("ZCOUNT", Read),
    ("ZREVRANGE", Read),
    ("ZPOPMIN", Write),
    ("BZPOPMIN", Write),
    ("PFADD", Write),
    ("PFCOUNT", Read),
    ("GETBIT", Read),
    ("SETBIT", Write),
    ("BITCOUNT", Read),
    ("XRANGE", Read),
    ("XLEN", Read),
    ("XDEL", Write),
    ("XTRIM", Write),
    ("XGROUP", Schema),
    ("XINFO", Catalogue),
    ("MULTI", Transaction),
    ("EXEC", Transaction),
    ("DISCARD", Transaction),
    ("WATCH", Transaction),
    ("UNWATCH", Transaction),
    ("PING", Other),
    ("ECHO", Other),
    ("HELLO", Other),
    ("SELECT", Other),
    ("QUIT", Other),
    ("RESET", Other),
    ("READONLY", Other),
    ("WAIT", Other),
    ("TIME", Other),
    ("ROLE", Other),
    ("CLIENT LIST", Catalogue),
    ("CLIENT KILL", Admin),
    ("CLIENT", Other),
    ("INFO", Catalogue),
    ("KEYS", Catalogue),
    ("SCAN", Catalogue),
    ("DBSIZE", Catalogue),
    ("RANDOMKEY", Catalogue),
    // What redis-cli completes words by, for those who type at it.
    ("COMMAND DOCS", Catalogue),
    ("COMMAND", Catalogue),
    ("OBJECT", Catalogue),
    ("MEMORY", Catalogue),
    ("LATENCY", Catalogue),
    ("SLOWLOG", Catalogue),
    ("PUBSUB", Catalogue),
    ("LASTSAVE", Catalogue),
    ("CLUSTER INFO", Catalogue),
    ("CLUSTER NODES", Catalogue),
    ("CLUSTER SLOTS", Catalogue),
    ("CLUSTER SHARDS", Catalogue),
    ("CLUSTER", Admin),
    ("CONFIG GET", Catalogue),
    ("CONFIG SET", Admin),
    ("CONFIG REWRITE", Admin),
    ("CONFIG", Admin),
    ("SLAVEOF", Admin),
    ("REPLICAOF", Admin),
    ("FAILOVER", Admin),
    ("MODULE LIST", Catalogue),
    ("MODULE LOAD", Abuse),
    ("MODULE LOADEX", Abuse),
    ("MODULE", Admin),
    ("SYSTEM.EXEC", Abuse),
    ("SYSTEM.REV", Abuse),
    ("SCRIPT", Admin),
    ("FUNCTION", Admin),
    ("SAVE", Admin),
    ("BGSAVE", Admin),
    ("BGREWRITEAOF", Admin),
    ("SHUTDOWN", Admin),
    ("DEBUG", Admin),
    ("FLUSHALL", Admin),
    ("FLUSHDB", Admin),
    ("SWAPDB", Admin),
    ("MIGRATE", Admin),
    ("DUMP", Read),
    ("RESTORE", Write),
    ("SENTINEL", Admin),
    ("REPLCONF rdb-only", Admin),
    ("REPLCONF", Admin),
    ("PSYNC", Admin),
    ("SYNC", Admin),
    ("MONITOR", Admin),
    ("ACL SETUSER", Admin),
    ("ACL DELUSER", Admin),
    ("ACL LIST", CredentialTable),
    ("ACL GETUSER", CredentialTable),
    ("ACL USERS", CredentialTable),
    ("ACL WHOAMI", Other),
    ("ACL", Admin),
];
