//! `db-injection`: somebody in a pod injects SQL through a web application, by hand, and it reaches the database; the twin
//! is the same application among visitors with odd names, and programmers with habits.

use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, Workload};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::mysql;
use crate::testkit::talk::tcp::{Session, Side};
use crate::time::Timestamp;

const MYSQL: Workload = Workload {
    namespace: "shop",
    kind: "StatefulSet",
    name: "mysql",
};
const SEARCH: Workload = Workload {
    namespace: "shop",
    kind: "Deployment",
    name: "search",
};
const RUNNER: Workload = Workload {
    namespace: "ci",
    kind: "Deployment",
    name: "runner",
};
const PORT: u16 = 8080;
const BEGINS: u64 = 50;

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = cluster();
    let expect = |actor: u8| {
        let begins = Duration::from_secs(BEGINS);
        Expect::new("db-injection", "database", cluster.pod(actor), begins).within(60)
    };
    Case {
        id: "db-injection",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "Somebody in a CI pod tries a search page with quotes, finds how many columns there are, and reads from the catalogue; the application passes all of it on to MySQL.",
                seed: 79,
                record: attack,
                inventory: Inventory::List(cluster.clone()),
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "People look for O'Reilly, rock'n'roll and C#. The application adds a line to each list by UNION, and a migration sends several statements at once. A developer makes mistakes.",
                seed: 80,
                record: benign,
                inventory: Inventory::List(cluster.clone()),
            },
        ],
        expect: vec![expect(31), expect(27)],
    }
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let since = START.before(Duration::from_hours(60));
    cluster.add_stateful(MYSQL, since, 22);
    cluster.deploy(SEARCH, "1", since, &[27]);
    cluster.deploy(RUNNER, "1", since, &[31]);
    cluster
}

/// The attack's capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let mut now = at(BEGINS);
    for (value, code) in [
        ("%25%27", Some(1064)),
        ("%25%27+or+%270%27%3D%270", None),
        ("%25%27+order+by+9--+-", Some(1054)),
        ("%25%27+union+select+null%2Cnull--+-", Some(1222)),
        ("%25%27+union+select+null%2Cnull%2Cnull--+-", None),
        (
            "%25%27+union+select+null%2Cversion()%2Cdatabase()--+-",
            None,
        ),
        (
            "%25%27+union+select+null%2Ctable_name%2Cnull+from+information_schema.tables--+-",
            None,
        ),
    ] {
        search(&mut scene, &cluster, 31, value, code, now);
        now = now.after(scene.rng.about(Duration::from_secs(7)));
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = cluster();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let values = [
        "O%27Reilly",
        "rock%27n%27roll+--+live",
        "C%23",
        "black+and+white",
        "select+a+gift",
        "salt+%26+pepper%3B+200g",
    ];
    for (n, value) in (0..).zip(values.iter().cycle().take(18)) {
        // The application escapes what it is given.
        search(&mut scene, &cluster, 10, value, None, at(10 + n * 9));
    }
    let route = Route::service(cluster.pod(27).host, cluster.pod(22).host, mysql::PORT);
    let mut session = Session::open(&mut scene, route, at(20));
    mysql::log_in(&mut scene, &mut session, "search", "shop", true);
    for n in 0..12 {
        let sql = format!(
            "SELECT id, name FROM categories WHERE shop = {n} UNION SELECT 0, 'all' ORDER BY 1"
        );
        mysql::query(&mut scene, &mut session, &sql, 4, 20);
        let pause = scene.rng.about(Duration::from_secs(8));
        session.wait(&mut scene, pause);
    }
    mysql::leave(&mut scene, session);
    let mut session = Session::open(&mut scene, route, at(40));
    mysql::log_in(&mut scene, &mut session, "migrate", "shop", true);
    let sql = "INSERT INTO versions VALUES (42); UPDATE settings SET value = '42' WHERE name = 'version'; DELETE FROM locks WHERE owner = 7";
    mysql::query(&mut scene, &mut session, sql, 0, 0);
    for sql in ["SELEC 1", "SELECT nam FROM products"] {
        mysql::fail(
            &mut scene,
            &mut session,
            sql,
            1064,
            "You have an error in your SQL syntax",
        );
    }
    mysql::leave(&mut scene, session);
    scene.finish()
}

/// A client looks for something; the application puts what it is given between quotes, as it comes.
fn search(
    scene: &mut Scene,
    cluster: &Cluster,
    client: u8,
    value: &str,
    code: Option<u16>,
    start: Timestamp,
) {
    let (client, app) = (cluster.pod(client).host, cluster.pod(27).host);
    let path = format!("/search?q={value}&page=1");
    let request = Request::get("search.shop", &path, "Mozilla/5.0 (X11; Linux x86_64)");
    let mut asking = Session::open(scene, Route::direct(client, app, PORT), start);
    asking.say(scene, Side::Client, &request.bytes());

    let route = Route::service(app, cluster.pod(22).host, mysql::PORT);
    let mut session = Session::open(scene, route, asking.now());
    mysql::log_in(scene, &mut session, "search", "shop", true);
    let text = decoded(value);
    // An honest one is escaped.
    let text = if code.is_some() || text.starts_with('%') {
        text
    } else {
        text.replace('\'', "\\'")
    };
    let sql = format!("SELECT id, name, price FROM products WHERE name LIKE '%{text}%' LIMIT 20");
    match code {
        Some(code) => mysql::fail(scene, &mut session, &sql, code, "error"),
        None => mysql::query(scene, &mut session, &sql, 6, 60),
    }
    let done = mysql::leave(scene, session);
    asking.wait_until(scene, done);
    let status = if code.is_some() {
        "500 Internal Server Error"
    } else {
        "200 OK"
    };
    let page = http::page(&mut scene.rng, 3_000);
    let answer = http::response(status, "gunicorn", "text/html", &page);
    asking.say(scene, Side::Server, &answer);
    asking.close(scene, Side::Client);
}

fn decoded(value: &str) -> String {
    value
        .replace("%25", "%")
        .replace("%27", "'")
        .replace("%3D", "=")
        .replace("%2C", ",")
        .replace("%23", "#")
        .replace("%26", "&")
        .replace("%3B", ";")
        .replace('+', " ")
}
