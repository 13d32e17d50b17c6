//! Literals in every quoting are left out; classes follow the words.

use proptest::prelude::*;

use super::*;
use Dialect::{ClickHouse, Cql, MsSql, MySql, Oracle, Postgres};

fn normal(text: &str, dialect: Dialect) -> String {
    lexer::normalise(text.as_bytes(), dialect, true).0
}

fn read(text: &str, dialect: Dialect) -> (&'static str, StatementClass, u64) {
    let DatabaseEvent::Statement {
        class,
        verb,
        fingerprint,
        ..
    } = statement(text.as_bytes(), text.len() as u64, dialect)
    else {
        panic!("{text}");
    };
    (verb, class, fingerprint)
}

#[test]
fn literals_comments_case_and_spaces_are_left_out() {
    let cases = [
        (
            Postgres,
            "SELECT  a,b FROM T WHERE x = 'se''cret' AND y=$1 -- secret\n AND z > 1.5e3",
            "select a,b from t where x=? and y=? and z>?",
        ),
        (
            Postgres,
            "select E'a\\'secret', $q$it's secret$q$, $$secret$$, 'a\\', U.\"Name\" /* a /* b */ secret */ limit 5",
            "select ?,u.name limit ?",
        ),
        (
            MySql,
            "select \"it\\\"s secret\", `Col`, x'ff', 0xff # secret\nfrom t",
            "select ?,col,? from t",
        ),
        (
            MySql,
            "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y'),(3,NULL)",
            "insert into t(a,b)values(?),(?,null)",
        ),
        (MySql, "/*!40101 SET NAMES utf8 */", "set names utf8"),
        (MySql, "select 1 /* a /* b */ from t", "select ? from t"),
        (MySql, "select 'secret", "select ?"),
        (Postgres, "select $q$secret", "select ?"),
        (Postgres, "select a.b, t1.c2, .5", "select a.b,t1.c2,?"),
        (Postgres, "x in (1,2,3)", "x in(?)"),
        (MySql, "select 5--1", "select ?--?"),
        (
            MsSql,
            "select [a b], N'it''s \\' from [dbo].[T]",
            "select a b,? from dbo.t",
        ),
        (
            Oracle,
            "select q'[it's]', 'a' from dual",
            "select ? from dual",
        ),
        (
            Cql,
            "select a from t where k=$$it's$$ // secret",
            "select a from t where k=?",
        ),
        (
            ClickHouse,
            "select 'it\\'s', `A`, \"B\" from t",
            "select ?,a,b from t",
        ),
    ];
    for (dialect, text, expected) in cases {
        assert_eq!(normal(text, dialect), expected, "{text}");
    }
}

#[test]
fn fingerprints_are_the_same_everywhere() {
    let one = read("select * from users where id = 7", MySql);
    let other = read("SELECT *\nFROM users WHERE id=  'x'", MySql);
    assert_eq!(one, other);
    assert_eq!(one.2, 0xf952_96af_bf77_a963);
    assert_ne!(one.2, read("select * from orders where id = 7", MySql).2);
    // Cut anywhere in its values, a long statement stays the same.
    let long = |value: &str| {
        format!(
            "insert into t values {}",
            format!("({value}),").repeat(5000)
        )
    };
    assert_eq!(read(&long("1"), MySql).2, read(&long("1,'two'"), MySql).2);
}

#[test]
fn classes_follow_the_words() {
    use StatementClass::*;
    let cases = [
        ("SELECT 1", "SELECT", Read),
        ("(select 1) union select 2", "SELECT", Read),
        ("update t set a=1", "UPDATE", Write),
        (
            "with x as (select 1) insert into t select * from x",
            "WITH",
            Write,
        ),
        ("COPY t FROM STDIN", "COPY", Write),
        ("copy t to stdout", "COPY", Read),
        ("COPY t FROM PROGRAM 'id'", "COPY", Abuse),
        ("select 'copy from program'", "SELECT", Read),
        ("BEGIN", "BEGIN", Transaction),
        ("select 1; drop table t", "SELECT", Schema),
        ("create table t (a int)", "CREATE", Schema),
        ("create user x with password 'y'", "CREATE", Admin),
        ("alter system set x = 1", "ALTER", Admin),
        ("GRANT ALL ON t TO x", "GRANT", Admin),
        ("show tables", "SHOW", Catalogue),
        (
            "select table_name from information_schema.tables",
            "SELECT",
            Catalogue,
        ),
        ("select * from pg_stat_activity", "SELECT", Catalogue),
        (
            "select usename, passwd from pg_shadow",
            "SELECT",
            CredentialTable,
        ),
        ("select * from `mysql`.`user`", "SELECT", CredentialTable),
        (
            "select user, host, max_connections from mysql.user",
            "SELECT",
            Catalogue,
        ),
        (
            "select user, Password from mysql.user",
            "SELECT",
            CredentialTable,
        ),
        (
            "select host from mysql.user where authentication_string like 'a%'",
            "SELECT",
            CredentialTable,
        ),
        (
            "select u.user, t.* from mysql.user u join mysql.user t",
            "SELECT",
            CredentialTable,
        ),
        ("table mysql.user", "TABLE", CredentialTable),
        (
            "select host from mysql.user, mysql.global_priv",
            "SELECT",
            CredentialTable,
        ),
        (
            "select /*!50000 load_file*/('/etc/passwd')",
            "SELECT",
            Abuse,
        ),
        (
            "select '<?php' into outfile '/var/www/x.php'",
            "SELECT",
            Abuse,
        ),
        ("select pg_read_file('/etc/passwd')", "SELECT", Abuse),
        ("select pg_ls_dir('/etc')", "SELECT", Abuse),
        ("select count(*) from pg_ls_waldir()", "SELECT", Read),
        ("select 1 and sleep(5)", "SELECT", Abuse),
        (
            "select * from performance_schema.threads",
            "SELECT",
            Catalogue,
        ),
        ("select user, host from mysql.db", "SELECT", Catalogue),
        ("select name from sys.databases", "SELECT", Catalogue),
        ("select name from master..sysdatabases", "SELECT", Catalogue),
        ("exec sp_helpdb", "EXEC", Catalogue),
        ("exec sp_configure 'xp_cmdshell', 1", "EXEC", Admin),
        (
            "select name, password_hash from sys.sql_logins",
            "SELECT",
            CredentialTable,
        ),
        (
            "select name from master.sys.syslogins",
            "SELECT",
            CredentialTable,
        ),
        ("select table_name from all_tables", "SELECT", Catalogue),
        ("select * from v$version", "SELECT", Catalogue),
        ("select * from dba_tab_columns", "SELECT", Catalogue),
        (
            "select name, spare4 from sys.user$",
            "SELECT",
            CredentialTable,
        ),
        (
            "select role, salted_hash from system_auth.roles",
            "SELECT",
            CredentialTable,
        ),
        ("select * from system_schema.keyspaces", "SELECT", Catalogue),
        ("select * from system.tables", "SELECT", Catalogue),
        (
            "select auth_params from system.users",
            "SELECT",
            CredentialTable,
        ),
        ("show create user root", "SHOW", CredentialTable),
        ("show grants", "SHOW", Catalogue),
        ("select users.name, system from users", "SELECT", Read),
        ("hunter2", "OTHER", Other),
        ("", "OTHER", Other),
    ];
    for (text, verb, class) in cases {
        let (found_verb, found_class, _) = read(text, MySql);
        assert_eq!((found_verb, found_class), (verb, class), "{text}");
    }
}

#[test]
fn a_statement_is_told_by_its_verb() {
    let cases: &[(&[u8], Option<bool>)] = &[
        (b"sel", None),
        (b"select", None),
        (b"  SELECT 1", Some(true)),
        (b"begin;", Some(true)),
        (b"selector", None),
        (b"selectormatic", Some(false)),
        (b"select\x01", Some(false)),
        (b"\x00\x01", Some(false)),
    ];
    for (text, expected) in cases {
        assert_eq!(begins_statement(text), *expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        for dialect in [MySql, Postgres, MsSql, Oracle, Cql, ClickHouse] {
            statement(&text, text.len() as u64, dialect);
        }
    }

    #[test]
    fn no_literal_is_left(literal in "[a-z'\\\\$\"]{0,20}", before in "[a-z ,(]{0,10}") {
        let quoted = literal.replace('\\', "\\\\").replace('\'', "''");
        let text = format!("{before} '{quoted}' end");
        prop_assert_eq!(normal(&text, MySql), normal(&format!("{before} 1 end"), MySql));
        let text = format!("{before} '{}' end", literal.replace('\'', "''"));
        prop_assert_eq!(normal(&text, Postgres), normal(&format!("{before} 1 end"), Postgres));
    }
}
