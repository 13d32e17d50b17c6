//! What goes on in the cluster on an ordinary day.
//!
//! People shop, the front asks the back, the back its databases; the worker polls a partner's API; kubelet probes,
//! Prometheus scrapes, clocks are read, a backup runs, and when a pod goes away some calls still go to its old address.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::cluster::{
    API, BACKUP, Cluster, DNS, GATEWAY, POSTGRES, PROMETHEUS, Pod, REDIS, WEB, WORKER, Workload,
    outside,
};
use super::resolver::Resolver;
use super::scene::{Route, Scene};
use super::talk::http::{self, Request};
use super::talk::postgres::{self, Login};
use super::talk::redis::{self, Reply};
use super::talk::tcp::{self, Session, Side};
use super::talk::{datagram, tls};
use super::wire::Host;
use crate::time::Timestamp;

/// Mean time between visitors of the shop.
const VISITS: Duration = Duration::from_secs(7);
const PROBES: Duration = Duration::from_secs(15);
const SCRAPES: Duration = Duration::from_secs(30);
const POLLS: Duration = Duration::from_secs(20);
const CLOCKS: Duration = Duration::from_secs(64);
const RESOLUTIONS: Duration = Duration::from_secs(45);
const BROWSERS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/133.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
];
/// The partner whose API the worker polls.
const PARTNER: (&str, Ipv4Addr) = ("queue.partner.example", Ipv4Addr::new(198, 51, 100, 20));
/// The time server.
const CLOCK: (&str, Ipv4Addr) = ("ntp.clock.example", Ipv4Addr::new(198, 51, 100, 123));
/// How far hosts on the Internet are.
const FAR: Duration = Duration::from_millis(18);

/// Plays an ordinary day's traffic into a scene.
pub fn play(scene: &mut Scene, cluster: &Cluster, from: Timestamp, length: Duration) {
    let mut day = Day {
        scene,
        cluster,
        resolver: Resolver::new(cluster),
        from,
        until: from.after(length),
    };
    day.visitors();
    day.probes();
    day.scrapes();
    day.polls();
    day.clocks();
    day.backups();
    day.departures();
    day.resolutions();
}

struct Day<'a> {
    scene: &'a mut Scene,
    cluster: &'a Cluster,
    resolver: Resolver,
    from: Timestamp,
    until: Timestamp,
}

impl<'a> Day<'a> {
    fn visitors(&mut self) {
        let mut at = self.from;
        loop {
            at = at.after(self.scene.rng.pause(VISITS));
            if at >= self.until {
                return;
            }
            self.visit(at);
        }
    }

    /// Somebody opens a page or two.
    fn visit(&mut self, at: Timestamp) {
        let Some(web) = self.any(WEB, at) else { return };
        let visitor = Ipv4Addr::new(203, 0, 113, self.scene.rng.within(2..240) as u8);
        let far = Duration::from_millis(self.scene.rng.within(8..60));
        let agent = self.scene.rng.pick(BROWSERS);
        let route = Route::direct(outside(visitor, far), web.host, 8080);
        let mut session = Session::open(self.scene, route, at);
        for _ in 0..=self.scene.rng.below(2) {
            let path = format!("/product/{}", self.scene.rng.below(400));
            let request = Request::get("shop.example", &path, agent).bytes();
            session.say(self.scene, Side::Client, &request);
            let made = self.front_asks_back(web, session.now());
            session.wait_until(self.scene, made);
            let len = self.scene.rng.within(400..1500) as usize;
            let page = http::page(&mut self.scene.rng, len);
            let response = http::response("200 OK", "shop-web/4.2", "text/html", &page);
            session.say(self.scene, Side::Server, &response);
            let reading = self.scene.rng.about(Duration::from_millis(1500));
            session.wait(self.scene, reading);
        }
        session.close(self.scene, Side::Client);
    }

    /// A front pod needs data for a page. The time when it has them.
    fn front_asks_back(&mut self, web: &Pod, at: Timestamp) -> Timestamp {
        let at = at.after(self.scene.rng.about(Duration::from_millis(1)));
        let at = self
            .resolver
            .service(self.scene, web, self.cluster.service("api"), at);
        let Some(api) = self.any(API, at) else {
            return at;
        };
        let mut session = Session::open(self.scene, Route::service(web.host, api.host, 8080), at);
        let path = format!("/v1/items?page={}", self.scene.rng.below(40));
        let request = Request::get("api:8080", &path, "shop-web/4.2").bytes();
        session.say(self.scene, Side::Client, &request);
        let ready = self.back_asks_stores(api, session.now());
        session.wait_until(self.scene, ready);
        let len = self.scene.rng.within(200..900) as usize;
        let items = http::json(&mut self.scene.rng, len);
        let response = http::response("200 OK", "shop-api/2.9", "application/json", &items);
        session.say(self.scene, Side::Server, &response);
        session.close(self.scene, Side::Client)
    }

    /// A back pod looks into the cache, and every third time into the database.
    fn back_asks_stores(&mut self, api: &Pod, at: Timestamp) -> Timestamp {
        let at = at.after(self.scene.rng.about(Duration::from_micros(300)));
        let mut at = self
            .resolver
            .service(self.scene, api, self.cluster.service("redis"), at);
        if let Some(redis) = self.any(REDIS, at) {
            let route = Route::service(api.host, redis.host, redis::PORT);
            let mut session = Session::open(self.scene, route, at);
            let key = format!("items:{}", self.scene.rng.below(400));
            redis::ask(
                self.scene,
                &mut session,
                &["AUTH", "shop-cache"],
                Reply::Simple("OK"),
            );
            let cached = http::json(&mut self.scene.rng, 120);
            redis::ask(
                self.scene,
                &mut session,
                &["GET", &key],
                Reply::Bulk(&cached),
            );
            at = session.close(self.scene, Side::Client);
        }
        if self.scene.rng.chance(33) {
            at = self
                .resolver
                .service(self.scene, api, self.cluster.service("postgres"), at);
            if let Some(postgres) = self.any(POSTGRES, at) {
                let route = Route::service(api.host, postgres.host, postgres::PORT);
                let mut session = Session::open(self.scene, route, at);
                postgres::log_in(self.scene, &mut session, &LOGIN, true);
                for rows in [3, 1] {
                    let id = self.scene.rng.below(9000);
                    let sql = format!(
                        "SELECT id, name, price, stock FROM items WHERE category_id = {id} AND deleted_at IS NULL ORDER BY rank LIMIT 20"
                    );
                    postgres::query(self.scene, &mut session, &sql, rows, 60);
                }
                at = postgres::leave(self.scene, session);
            }
        }
        at
    }

    /// The kubelet asks every pod with an HTTP probe how it is.
    fn probes(&mut self) {
        for pod in self.present(&[WEB, API, DNS]) {
            let first = self
                .from
                .max(pod.start)
                .after(self.scene.rng.between(Duration::ZERO, PROBES));
            for at in self.times(first, PROBES, self.end_of(pod)) {
                let (path, port) = ("/healthz", 8080);
                let host = format!("{}:{port}", pod.host.ip);
                let mut session =
                    Session::open(self.scene, Route::direct(GATEWAY, pod.host, port), at);
                let mut request = Request::get(&host, path, "kube-probe/1.31");
                request.close = true;
                let answer = http::response("200 OK", "health", "text/plain", "ok");
                session.ask(
                    self.scene,
                    &request.bytes(),
                    Duration::from_micros(300),
                    &answer,
                );
                session.close(self.scene, Side::Server);
            }
        }
    }

    /// Prometheus keeps a connection to each target, and asks it again and again.
    fn scrapes(&mut self) {
        let Some(prometheus) = self.any(PROMETHEUS, self.from) else {
            return;
        };
        for pod in self.present(&[DNS, WEB, API, WORKER]) {
            let port = if pod.workload == DNS { 9153 } else { 9100 };
            let first = self
                .from
                .max(pod.start)
                .after(self.scene.rng.between(Duration::ZERO, SCRAPES));
            let times = self.times(first, SCRAPES, self.end_of(pod));
            let Some(&first) = times.first() else {
                continue;
            };
            let mut session = Session::open(
                self.scene,
                Route::direct(prometheus.host, pod.host, port),
                first,
            );
            for at in times {
                session.wait_until(self.scene, at);
                let host = format!("{}:{port}", pod.host.ip);
                let request = Request::get(&host, "/metrics", "Prometheus/2.55.1").bytes();
                let metrics = http::metrics(&mut self.scene.rng, 600);
                let answer = http::response("200 OK", "metrics", "text/plain", &metrics);
                session.ask(self.scene, &request, Duration::from_millis(2), &answer);
            }
        }
    }

    /// The worker asks a partner for orders, over TLS.
    fn polls(&mut self) {
        for worker in self.present(&[WORKER]) {
            let first = self
                .from
                .max(worker.start)
                .after(self.scene.rng.between(Duration::ZERO, POLLS));
            for at in self.times(first, POLLS, self.end_of(worker)) {
                let (name, ip) = PARTNER;
                let known = self.resolver.outside(self.scene, worker, name, &[ip], at);
                let route = Route::direct(worker.host, outside(ip, FAR), 443);
                let mut session = Session::open(self.scene, route, known);
                tls::handshake(self.scene, &mut session, &tls::GO, name);
                let answered = self.scene.rng.within(120..900) as usize;
                tls::exchange(self.scene, &mut session, 310, answered);
                session.close(self.scene, Side::Client);
            }
        }
    }

    /// The worker reads a clock.
    fn clocks(&mut self) {
        for worker in self.present(&[WORKER]) {
            let first = self
                .from
                .max(worker.start)
                .after(self.scene.rng.between(Duration::ZERO, CLOCKS));
            for at in self.times(first, CLOCKS, self.end_of(worker)) {
                let (name, ip) = CLOCK;
                let known = self.resolver.outside(self.scene, worker, name, &[ip], at);
                let route = Route::direct(worker.host, outside(ip, FAR), 123);
                datagram::read_clock(self.scene, &route, known);
            }
        }
    }

    /// The backup job copies the database's tables out.
    fn backups(&mut self) {
        for job in self.present(&[BACKUP]) {
            let at = job.start.after(Duration::from_secs(1));
            if at < self.from {
                continue;
            }
            let known =
                self.resolver
                    .service(self.scene, job, self.cluster.service("postgres"), at);
            let Some(postgres) = self.any(POSTGRES, known) else {
                return;
            };
            let route = Route::service(job.host, postgres.host, postgres::PORT);
            let mut session = Session::open(self.scene, route, known).offloading(23_168);
            let login = Login {
                user: "backup",
                database: "shop",
                application: "pg_dump",
            };
            postgres::log_in(self.scene, &mut session, &login, true);
            postgres::query(
                self.scene,
                &mut session,
                "SELECT pg_catalog.set_config('search_path', '', false)",
                1,
                10,
            );
            for (table, len) in [
                ("public.items", 24_000),
                ("public.orders", 16_000),
                ("public.users", 7_000),
            ] {
                postgres::copy_out(self.scene, &mut session, table, len);
                session.wait(self.scene, Duration::from_millis(900));
            }
            postgres::leave(self.scene, session);
        }
    }

    /// After a back pod went away, some calls still go to its old address until the node's rules follow: first it refuses,
    /// then nobody is there.
    fn departures(&mut self) {
        for pod in self.present(&[API]) {
            let Some((end, _)) = pod.end.filter(|&(end, _)| end < self.until) else {
                continue;
            };
            let late = [5, 180, 420, 900, 1400, 2300];
            for (number, millis) in late.into_iter().enumerate() {
                let at = end.after(self.scene.rng.about(Duration::from_millis(millis)));
                let Some(web) = self.any(WEB, at) else {
                    continue;
                };
                let route = Route::service(web.host, pod.host, 8080);
                if number < 3 {
                    tcp::refused(self.scene, route, at);
                } else {
                    tcp::unreachable(self.scene, route, GATEWAY, at);
                }
            }
        }
    }

    /// Pods and the node renew each other's Ethernet addresses.
    fn resolutions(&mut self) {
        let gateway = GATEWAY;
        let here: Vec<&Pod> = self
            .cluster
            .pods
            .iter()
            .filter(|pod| !pod.host_network)
            .collect();
        for pod in here {
            let first = self
                .from
                .max(pod.start)
                .after(self.scene.rng.between(Duration::ZERO, RESOLUTIONS));
            for at in self.times(first, RESOLUTIONS, self.end_of(pod)) {
                let (asks, asked): (Host, Host) = if self.scene.rng.chance(50) {
                    (pod.host, gateway)
                } else {
                    (gateway, pod.host)
                };
                datagram::resolve(self.scene, asks, asked, at);
            }
        }
    }

    /// The pods of some workloads that live at some time of the day.
    fn present(&self, workloads: &[Workload]) -> Vec<&'a Pod> {
        self.cluster
            .pods
            .iter()
            .filter(|pod| workloads.contains(&pod.workload))
            .filter(|pod| pod.start < self.until && pod.end.is_none_or(|(end, _)| end > self.from))
            .collect()
    }

    fn any(&mut self, workload: Workload, at: Timestamp) -> Option<&'a Pod> {
        let alive = self.cluster.alive(workload, at);
        (!alive.is_empty()).then(|| self.scene.rng.pick(&alive))
    }

    fn end_of(&self, pod: &Pod) -> Timestamp {
        pod.end.map_or(self.until, |(end, _)| end.min(self.until))
    }

    /// Every `period` or so from `first`, before `until`.
    fn times(&mut self, first: Timestamp, period: Duration, until: Timestamp) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let mut at = first;
        while at < until {
            times.push(
                at.after(
                    self.scene
                        .rng
                        .between(Duration::ZERO, Duration::from_millis(20)),
                ),
            );
            at = at.after(period);
        }
        times
    }
}

/// How the back logs in to the database.
pub const LOGIN: Login<'static> = Login {
    user: "shop",
    database: "shop",
    application: "api",
};
