//! Reads [`Marks`] off a statement's tokens as they pass.
//!
//! Sees literals only to compare two of them with each other; keeps nothing of them. Constant memory, one look a token.

use super::super::fingerprint::fingerprint;
use super::{Dialect, Marks};

/// A token, by what it means here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The beginning of a statement.
    Start,
    Key(Key),
    /// Any other word, and every quoted name.
    Name,
    Mark(u8),
    Number,
    Text,
    Placeholder,
}

/// The words that the forms looked for are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Select,
    Modifier,
    Union,
    From,
    To,
    Limit,
    Having,
    Tail,
    And,
    Or,
    When,
    Not,
    Compare,
    Cast,
    Null,
    Constant,
    As,
    Word,
    Chr,
    CodeOf,
    Part,
    Xml,
    Floor,
    Rand,
    Exp,
    Wait,
    Infile,
    Local,
    Language,
    Stdout,
    Program,
    Create,
    Copy,
    Bulk,
    Backup,
    Declare,
    Change,
    Into,
}
use Key as K;

fn key(word: &[u8]) -> Token {
    let key = match word {
        b"select" => K::Select,
        b"distinct"
        | b"distinctrow"
        | b"all"
        | b"unique"
        | b"sql_no_cache"
        | b"high_priority"
        | b"sql_calc_found_rows"
        | b"straight_join" => K::Modifier,
        b"union" => K::Union,
        b"from" => K::From,
        b"to" => K::To,
        b"where" | b"limit" | b"top" | b"fetch" | b"rownum" | b"sample" | b"tablesample"
        | b"prewhere" => K::Limit,
        b"having" => K::Having,
        b"order" | b"group" | b"for" | b"offset" => K::Tail,
        b"and" => K::And,
        b"or" | b"xor" => K::Or,
        b"when" => K::When,
        b"not" => K::Not,
        b"like" | b"rlike" | b"ilike" | b"regexp" | b"in" => K::Compare,
        b"cast" | b"convert" | b"try_cast" | b"try_convert" => K::Cast,
        b"null" => K::Null,
        b"true" | b"false" | b"default" | b"user" | b"current_user" | b"session_user"
        | b"system_user" | b"current_database" | b"current_schema" | b"current_date"
        | b"current_timestamp" | b"sysdate" => K::Constant,
        b"as" => K::As,
        b"case" | b"then" | b"else" | b"end" | b"is" | b"div" | b"mod" | b"separator" => K::Word,
        b"char" | b"chr" | b"nchar" => K::Chr,
        b"ascii" | b"ord" | b"unicode" => K::CodeOf,
        b"substring" | b"substr" | b"substrc" | b"mid" => K::Part,
        b"extractvalue" | b"updatexml" => K::Xml,
        b"floor" => K::Floor,
        b"rand" => K::Rand,
        b"exp" => K::Exp,
        b"waitfor" => K::Wait,
        b"infile" => K::Infile,
        b"local" => K::Local,
        b"language" => K::Language,
        b"stdout" => K::Stdout,
        b"program" => K::Program,
        b"create" => K::Create,
        b"copy" => K::Copy,
        b"bulk" => K::Bulk,
        b"backup" => K::Backup,
        b"declare" => K::Declare,
        b"insert" | b"update" | b"delete" | b"replace" | b"merge" | b"with" => K::Change,
        b"into" => K::Into,
        _ => return Token::Name,
    };
    Token::Key(key)
}

/// What a name says wherever it stands. What lists a fixed directory of PostgreSQL's own (`pg_ls_waldir`, `pg_ls_logdir`,
/// `pg_ls_tmpdir`) lets nobody choose a path or read a file: monitors are granted it to count segments.
fn named(word: &[u8]) -> Marks {
    match word {
        b"pg_sleep" | b"pg_sleep_for" | b"pg_sleep_until" | b"sleepeachrow" | b"dbms_pipe"
        | b"dbms_lock" => Marks::TIME_DELAY,
        b"load_file"
        | b"pg_read_file"
        | b"pg_read_binary_file"
        | b"pg_ls_dir"
        | b"pg_stat_file"
        | b"lo_import"
        | b"bfilename"
        | b"utl_file"
        | b"xp_subdirs"
        | b"xp_availablemedia" => Marks::FILE_READ,
        b"xp_dirtree" | b"xp_fileexist" => Marks::FILE_READ.union(Marks::OUTBOUND),
        b"lo_export" | b"pg_file_write" => Marks::FILE_WRITE,
        b"xp_cmdshell"
        | b"sys_exec"
        | b"sys_eval"
        | b"sys_bineval"
        | b"soname"
        | b"sp_oacreate"
        | b"sp_oamethod"
        | b"sp_execute_external_script"
        | b"xp_servicecontrol"
        | b"xp_regwrite"
        | b"sp_addextendedproc"
        | b"dbms_scheduler"
        | b"dbms_java"
        | b"dbms_java_test" => Marks::PROGRAM,
        b"utl_http" | b"utl_tcp" | b"utl_smtp" | b"dbms_ldap" | b"httpuritype"
        | b"dblink_connect" | b"dblink_connect_u" | b"dblink_exec" | b"openrowset"
        | b"opendatasource" => Marks::OUTBOUND,
        b"utl_inaddr" => Marks::OUTBOUND.union(Marks::ERROR_BASED),
        b"ctxsys" | b"sqlid_to_sqlhash" | b"gtid_subset" | b"name_const" => Marks::ERROR_BASED,
        b"start_replication"
        | b"pg_create_logical_replication_slot"
        | b"pg_create_physical_replication_slot" => Marks::REPLICATES,
        b"base_backup" | b"pg_start_backup" | b"pg_backup_start" => Marks::SNAPSHOT,
        _ => Marks::empty(),
    }
}

/// What a name says if it is called.
fn called(word: &[u8], dialect: Dialect) -> Marks {
    match word {
        b"sleep" | b"benchmark" => Marks::TIME_DELAY,
        b"dblink" => Marks::OUTBOUND,
        _ if dialect != Dialect::ClickHouse => Marks::empty(),
        b"file" => Marks::FILE_READ,
        b"executable" => Marks::PROGRAM,
        b"url" | b"s3" | b"remote" | b"remotesecure" | b"mysql" | b"postgresql" | b"mongodb"
        | b"redis" | b"jdbc" | b"odbc" | b"hdfs" => Marks::OUTBOUND,
        _ => Marks::empty(),
    }
}

/// Goes along with the lexer.
pub(super) struct Watch {
    dialect: Dialect,
    marks: Marks,
    /// The statement's first word.
    verb: Token,
    /// Whether the text's first statement reads or writes rows; not known before it ended.
    follows_rows: Option<bool>,
    /// Brackets open.
    depth: u32,
    /// The tokens before, the latest first.
    before: [Token; 4],
    /// What the latest word says if a bracket follows.
    if_called: Marks,
    condition: Condition,
    union: Union,
    /// Whether the statement has a `FROM`, selects `*`, and leaves out anything.
    from: bool,
    star: bool,
    limited: bool,
    /// Characters given by their codes.
    codes: u32,
}

/// How far a comparison of two literals has come.
#[derive(Clone, Copy)]
enum Condition {
    None,
    Open { or: bool },
    Left { or: bool, literal: Literal },
    Compare { or: bool, literal: Literal },
}

/// Enough of a literal to tell whether another is equal.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Literal {
    hash: u64,
    /// 0 or 1, which query builders compare.
    trivial: bool,
}

/// How far a `UNION` has come.
#[derive(Clone, Copy)]
enum Union {
    None,
    Begun,
    List(List),
}

/// What a `UNION` selects.
#[derive(Clone, Copy, Default)]
struct List {
    depth: u32,
    items: u32,
    columns: u32,
    nulls: u32,
    item: Item,
}

#[derive(Clone, Copy, Default)]
struct Item {
    any: bool,
    null: bool,
    column: bool,
    /// A name that is a column, unless it turns out to be called.
    pending: bool,
}

impl Watch {
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            marks: Marks::empty(),
            verb: Token::Start,
            follows_rows: None,
            depth: 0,
            before: [Token::Start; 4],
            if_called: Marks::empty(),
            condition: Condition::None,
            union: Union::None,
            from: false,
            star: false,
            limited: false,
            codes: 0,
        }
    }

    /// A word in lower case; `quoted` if it can't be a keyword.
    pub(super) fn word(&mut self, word: &[u8], quoted: bool) {
        let token = if quoted { Token::Name } else { key(word) };
        self.marks |= named(word);
        self.if_called = called(word, self.dialect);
        if matches!(word, b"outfile" | b"dumpfile")
            && self.latest() == Token::Key(K::Into)
            // There it is the client that writes.
            && self.dialect != Dialect::ClickHouse
        {
            self.marks |= Marks::FILE_WRITE;
        }
        let starts = self.verb == Token::Start;
        if starts {
            self.verb = token;
            if self.follows_rows == Some(true) && super::words::verb_in(word) {
                self.marks |= Marks::STACKED;
            }
        }
        match self.latest() {
            Token::Key(K::Language) => self.language(word),
            Token::Key(K::Wait) if matches!(word, b"delay" | b"time") => {
                self.marks |= Marks::TIME_DELAY;
            }
            Token::Key(K::Backup) if matches!(word, b"database" | b"log" | b"table" | b"all") => {
                self.marks |= Marks::SNAPSHOT;
            }
            _ => {}
        }
        self.take(token, Literal::NONE);
    }

    /// A number or quoted text, without its quotes.
    pub(super) fn literal(&mut self, raw: &[u8], is_text: bool) {
        if is_text && self.latest() == Token::Key(K::Language) {
            self.language(&raw.to_ascii_lowercase());
        }
        let literal = Literal {
            hash: fingerprint(raw),
            trivial: matches!(raw, b"0" | b"1"),
        };
        self.take(if is_text { Token::Text } else { Token::Number }, literal);
    }

    pub(super) fn placeholder(&mut self) {
        self.take(Token::Placeholder, Literal::NONE);
    }

    pub(super) fn mark(&mut self, mark: u8) {
        if mark == b';' {
            self.end_statement(true);
            return;
        }
        if mark == b'(' {
            self.marks |= self.if_called;
        }
        self.take(Token::Mark(mark), Literal::NONE);
    }

    /// A comment that cuts off what follows.
    pub(super) fn comment_tail(&mut self) {
        self.marks |= Marks::COMMENT_TAIL;
        // `OR 1 --`: true by itself.
        if let Condition::Left { or: true, .. } = self.condition {
            self.marks |= Marks::TAUTOLOGY;
        }
    }

    /// The end of the text; `whole` unless more of it wasn't read.
    pub(super) fn finish(mut self, whole: bool) -> Marks {
        self.end_statement(whole);
        self.marks
    }

    const fn latest(&self) -> Token {
        let [latest, ..] = self.before;
        latest
    }

    fn language(&mut self, name: &[u8]) {
        let runs_anything = matches!(
            name,
            b"c" | b"plpythonu" | b"plpython2u" | b"plpython3u" | b"plperlu" | b"pltclu" | b"plsh"
        );
        if runs_anything && self.verb == Token::Key(K::Create) {
            self.marks |= Marks::PROGRAM;
        }
    }

    fn take(&mut self, token: Token, literal: Literal) {
        if token == Token::Mark(b')') {
            self.depth = self.depth.saturating_sub(1);
        }
        self.forms(token);
        self.copies(token);
        self.condition(token, literal);
        self.union(token);
        self.selects(token);
        if token == Token::Mark(b'(') {
            self.depth = self.depth.saturating_add(1);
        }
        let [a, b, c, _] = self.before;
        self.before = [token, a, b, c];
        if !matches!(token, Token::Name | Token::Key(_)) {
            self.if_called = Marks::empty();
        }
    }

    /// Calls in which a few tokens tell.
    fn forms(&mut self, token: Token) {
        const OPEN: Token = Token::Mark(b'(');
        let [latest, second, third, fourth] = self.before;
        if latest != OPEN {
            return;
        }
        match (token, second) {
            (Token::Key(K::Part), Token::Key(K::CodeOf)) => self.marks |= Marks::CHAR_PROBE,
            (Token::Number | Token::Key(K::Rand), Token::Key(K::Xml))
            | (Token::Mark(b'~'), Token::Key(K::Exp)) => self.marks |= Marks::ERROR_BASED,
            (Token::Number, Token::Key(K::Rand)) if (third, fourth) == (OPEN, FLOOR) => {
                self.marks |= Marks::ERROR_BASED;
            }
            // A column's type or a cast's stands after a name.
            (Token::Number, Token::Key(K::Chr))
                if !matches!(
                    third,
                    Token::Name | Token::Key(K::As) | Token::Mark(b':') | Token::Start
                ) =>
            {
                self.codes = self.codes.saturating_add(1);
                if self.codes >= 3 {
                    self.marks |= Marks::CHAR_CODES;
                }
            }
            _ => {}
        }
    }

    /// Files and programs at the server's end, by the word before.
    fn copies(&mut self, token: Token) {
        let latest = self.latest();
        self.marks |= match (self.verb, latest, token) {
            (Token::Key(K::Copy), _, Token::Key(K::Program)) => Marks::PROGRAM,
            (Token::Key(K::Copy | K::Bulk), Token::Key(K::From), Token::Text) => Marks::FILE_READ,
            (Token::Key(K::Copy), Token::Key(K::To), Token::Text) => Marks::FILE_WRITE,
            (Token::Key(K::Copy), Token::Key(K::To), Token::Key(K::Stdout)) => Marks::BULK_READ,
            (_, Token::Key(K::Local), Token::Key(K::Infile)) => Marks::empty(),
            (_, _, Token::Key(K::Infile)) if self.dialect == Dialect::MySql => Marks::FILE_READ,
            _ => Marks::empty(),
        };
    }

    fn condition(&mut self, token: Token, right: Literal) {
        use Condition::{Compare, Left, None, Open};
        self.condition = match (self.condition, token) {
            (_, Token::Key(K::And | K::When | K::Having)) => Open { or: false },
            (_, Token::Key(K::Or)) => Open { or: true },
            (open @ Open { .. }, Token::Mark(b'(' | b'-' | b'+') | Token::Key(K::Not)) => open,
            (Open { or }, Token::Number | Token::Text) => Left { or, literal: right },
            (
                Left { or, literal } | Compare { or, literal },
                Token::Mark(b'=' | b'<' | b'>' | b'!') | Token::Key(K::Compare | K::Not),
            ) => Compare { or, literal },
            (compare @ Compare { .. }, Token::Mark(b'(' | b'-' | b'+')) => compare,
            (Compare { or, literal }, Token::Number | Token::Text) => {
                let builders = literal.trivial && right.trivial;
                if !builders || or && literal == right {
                    self.marks |= Marks::TAUTOLOGY;
                }
                None
            }
            (Compare { .. }, Token::Key(K::Cast)) => {
                self.marks |= Marks::ERROR_BASED;
                None
            }
            _ => None,
        };
    }

    fn union(&mut self, token: Token) {
        match (&mut self.union, token) {
            // Rows are put together so for an INSERT, and lists of constants without any table.
            (Union::None, Token::Key(K::Union)) if self.from && self.verb != CHANGE => {
                self.union = Union::Begun;
            }
            (Union::Begun, Token::Key(K::Select)) => {
                self.union = Union::List(List {
                    depth: self.depth,
                    ..List::default()
                });
            }
            (Union::Begun, Token::Key(K::Modifier) | Token::Mark(b'(')) | (Union::None, _) => {}
            (Union::Begun, _) => self.union = Union::None,
            (Union::List(list), _) => {
                let [latest, ..] = self.before;
                if list.take(token, latest, self.depth) {
                    self.end_union();
                    if token == Token::Key(K::Union) {
                        self.union = Union::Begun;
                    }
                }
            }
        }
    }

    fn end_union(&mut self) {
        if let Union::List(mut list) = std::mem::replace(&mut self.union, Union::None) {
            list.end_item();
            let ladder = list.columns == 1 && list.nulls >= 2;
            if list.items > 0 && (list.columns == 0 || ladder) {
                self.marks |= Marks::UNION_CONSTANTS;
            }
        }
    }

    fn selects(&mut self, token: Token) {
        match token {
            Token::Key(K::From) => self.from = true,
            Token::Key(K::Limit | K::Having) => self.limited = true,
            Token::Mark(b'*') if self.depth == 0 && !self.from => {
                self.star |= is_star(self.latest());
            }
            _ => {}
        }
    }

    fn end_statement(&mut self, whole: bool) {
        if whole {
            self.end_union();
            let reads = matches!(self.verb, Token::Key(K::Select | K::Declare));
            if reads && self.star && self.from && !self.limited {
                self.marks |= Marks::BULK_READ;
            }
        }
        let rows = matches!(self.verb, Token::Key(K::Select) | CHANGE);
        *self = Self {
            marks: self.marks,
            // What begins otherwise is a script, or a body of statements.
            follows_rows: self
                .follows_rows
                .or((self.verb != Token::Start).then_some(rows)),
            codes: self.codes,
            ..Self::new(self.dialect)
        };
    }
}

const FLOOR: Token = Token::Key(K::Floor);
const CHANGE: Token = Token::Key(K::Change);

impl Literal {
    const NONE: Self = Self {
        hash: 0,
        trivial: false,
    };
}

impl List {
    /// Takes a token; says whether the list is over.
    fn take(&mut self, token: Token, latest: Token, depth: u32) -> bool {
        let at_top = depth == self.depth;
        if depth < self.depth {
            return true;
        }
        match token {
            Token::Mark(b',') if at_top => {
                self.end_item();
                return false;
            }
            Token::Key(K::From | K::Limit | K::Having | K::Tail | K::Union | K::Into) if at_top => {
                return true;
            }
            Token::Mark(b'(') => self.item.pending = false,
            Token::Mark(b'.') => {}
            _ => {
                self.item.column |= self.item.pending;
                self.item.pending = false;
            }
        }
        self.item.any = true;
        match token {
            Token::Key(K::Null) => self.item.null = true,
            Token::Placeholder => self.item.column = true,
            Token::Mark(b'*') if is_star(latest) => self.item.column = true,
            // A variable, a type, another name for what stands before.
            Token::Name
                if !matches!(
                    latest,
                    Token::Mark(b'@' | b':' | b')')
                        | Token::Key(K::As | K::Null)
                        | Token::Number
                        | Token::Text
                        | Token::Name
                ) =>
            {
                self.item.pending = true;
            }
            _ => {}
        }
        false
    }

    fn end_item(&mut self) {
        let item = std::mem::take(&mut self.item);
        let column = item.column || item.pending;
        self.items = self.items.saturating_add(u32::from(item.any));
        self.columns = self.columns.saturating_add(u32::from(column));
        self.nulls = self.nulls.saturating_add(u32::from(item.null && !column));
    }
}

/// Whether a `*` after this means all columns.
const fn is_star(latest: Token) -> bool {
    matches!(
        latest,
        Token::Key(K::Select | K::Modifier) | Token::Mark(b'.' | b',')
    )
}

#[cfg(test)]
mod tests;
