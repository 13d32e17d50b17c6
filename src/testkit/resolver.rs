//! DNS as a pod has it: the search list of `ndots:5`, the cluster's DNS pods behind their service address, and the leg on
//! which they forward what isn't the cluster's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::cluster::{Cluster, DNS, Pod, Service, UPSTREAM_DNS};
use super::scene::{Route, Scene};
use super::talk::datagram;
use super::talk::dns::{A, AAAA, Answer, Data, Question};
use super::wire::Host;
use crate::time::Timestamp;

const PORT: u16 = 53;
/// What the forwarder offers by EDNS.
const FORWARDED_EDNS: u16 = 1232;
/// How long the cluster's DNS remembers an answer at most.
const CACHE: Duration = Duration::from_secs(30);
/// Between the two questions, for IPv4 and IPv6, that a resolver library sends at once.
const BACK_TO_BACK: Duration = Duration::from_micros(18);
/// The cluster's own domain.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// The cluster's DNS, with what it remembers.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<Host>,
    /// Until when an answer is remembered.
    remembered: BTreeMap<(String, u16), Timestamp>,
}

impl Resolver {
    /// The DNS pods of a cluster.
    pub fn new(cluster: &Cluster) -> Self {
        let pods = cluster.pods.iter().filter(|pod| pod.workload == DNS);
        Self {
            servers: pods.map(|pod| pod.host).collect(),
            remembered: BTreeMap::new(),
        }
    }

    /// A pod looks up a service by the shortest name it can. The time when it knows the address.
    pub fn service(
        &mut self,
        scene: &mut Scene,
        pod: &Pod,
        service: &Service,
        at: Timestamp,
    ) -> Timestamp {
        let (name, namespace) = (service.name, service.namespace);
        let full = format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}");
        let mut at = at;
        if namespace != pod.workload.namespace {
            let wrong = format!(
                "{name}.{namespace}.{}.svc.{CLUSTER_DOMAIN}",
                pod.workload.namespace
            );
            at = self.both(scene, pod, &wrong, &Answer::NoSuchName, at);
        }
        self.both(
            scene,
            pod,
            &full,
            &Answer::Records(5, vec![Data::A(service.ip)]),
            at,
        )
    }

    /// A pod looks up a name outside the cluster, by way of the search list. The time when it knows the addresses.
    pub fn outside(
        &mut self,
        scene: &mut Scene,
        pod: &Pod,
        name: &str,
        ips: &[Ipv4Addr],
        at: Timestamp,
    ) -> Timestamp {
        let mut at = at;
        for domain in [
            format!("{}.svc.{CLUSTER_DOMAIN}", pod.workload.namespace),
            format!("svc.{CLUSTER_DOMAIN}"),
            CLUSTER_DOMAIN.to_owned(),
        ] {
            at = self.both(
                scene,
                pod,
                &format!("{name}.{domain}"),
                &Answer::NoSuchName,
                at,
            );
        }
        let records = ips.iter().map(|&ip| Data::A(ip)).collect();
        self.both(scene, pod, name, &Answer::Records(30, records), at)
    }

    /// The addresses of a name as given, IPv4 and (in vain) IPv6 at once, from one port.
    pub fn both(
        &mut self,
        scene: &mut Scene,
        pod: &Pod,
        name: &str,
        answer: &Answer,
        at: Timestamp,
    ) -> Timestamp {
        let port = scene.port(pod.host.ip);
        let server = scene.rng.pick(&self.servers);
        let v6 = match answer {
            Answer::NoSuchName => Answer::NoSuchName,
            _ => Answer::NoData,
        };
        let mut asked = at;
        let mut known = at;
        for (kind, answer) in [(A, answer), (AAAA, &v6)] {
            let question = Question {
                name,
                kind,
                edns: None,
            };
            let route = Route::service(pod.host, server, PORT);
            known = known.max(self.exchange(scene, &route, port, &question, answer, asked));
            asked = asked.after(BACK_TO_BACK);
        }
        known.after(scene.rng.about(Duration::from_micros(60)))
    }

    /// One question, from a port of its own. The time of the answer.
    pub fn ask(
        &mut self,
        scene: &mut Scene,
        client: Host,
        question: &Question<'_>,
        answer: &Answer,
        at: Timestamp,
    ) -> Timestamp {
        let port = scene.port(client.ip);
        let server = scene.rng.pick(&self.servers);
        self.exchange(
            scene,
            &Route::service(client, server, PORT),
            port,
            question,
            answer,
            at,
        )
    }

    fn exchange(
        &mut self,
        scene: &mut Scene,
        route: &Route,
        port: u16,
        question: &Question<'_>,
        answer: &Answer,
        at: Timestamp,
    ) -> Timestamp {
        let id = scene.rng.bits() as u16;
        datagram::question(scene, route, port, &question.ask(id), at);
        let own = question.name.ends_with(CLUSTER_DOMAIN);
        let mut back = at.after(scene.rng.about(route.server.distance * 2));
        if !own && !self.remembers(question, answer, at) {
            back = forward(scene, route.server, question, answer, back);
        }
        back = back.after(scene.rng.about(Duration::from_micros(40)));
        let reply = question.answer(id, answer, own);
        datagram::answer(scene, route, port, &reply, back);
        back
    }

    /// Whether the answer was given not long ago; from now on it was.
    fn remembers(&mut self, question: &Question<'_>, answer: &Answer, at: Timestamp) -> bool {
        let keep = match answer {
            Answer::Records(ttl, _) => CACHE.min(Duration::from_secs(u64::from(*ttl))),
            Answer::NoData | Answer::NoSuchName => CACHE,
        };
        let key = (question.name.to_owned(), question.kind);
        let known = self.remembered.get(&key).is_some_and(|&until| at < until);
        if !known {
            self.remembered.insert(key, at.after(keep));
        }
        known
    }
}

/// The DNS pod asks the resolver beyond the node. The time of the answer.
fn forward(
    scene: &mut Scene,
    server: Host,
    question: &Question<'_>,
    answer: &Answer,
    at: Timestamp,
) -> Timestamp {
    let route = Route::direct(server, UPSTREAM_DNS, PORT);
    let (port, id) = (scene.port(server.ip), scene.rng.bits() as u16);
    let forwarded = Question {
        edns: Some(FORWARDED_EDNS),
        ..*question
    };
    datagram::question(scene, &route, port, &forwarded.ask(id), at);
    let back = at.after(scene.rng.about(UPSTREAM_DNS.distance));
    datagram::answer(
        scene,
        &route,
        port,
        &forwarded.answer(id, answer, false),
        back,
    );
    back
}

/// The name under which an address is looked up in reverse.
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6
                .octets()
                .into_iter()
                .rev()
                .flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::cluster::{API, START, WORKER};
    use crate::testkit::pcap::records;
    use simple_dns::Packet;

    /// Names asked for, by whom (last byte of the Ethernet address), in order; each frame's first copy alone.
    fn questions(file: &[u8]) -> Vec<(u8, String)> {
        records(file)
            .filter(|(_, frame)| frame[22] == 64 && frame[36..38] == [0, 53])
            .map(|(_, frame)| {
                let packet = Packet::parse(&frame[42..]).unwrap();
                (frame[11], packet.questions[0].qname.to_string())
            })
            .collect()
    }

    #[test]
    fn a_name_outside_walks_the_search_list_and_is_forwarded_once() {
        let cluster = Cluster::default();
        let mut scene = Scene::new(1);
        let mut resolver = Resolver::new(&cluster);
        let worker = cluster.alive(WORKER, START)[0];
        let ips = [Ipv4Addr::new(198, 51, 100, 20)];
        let known = resolver.outside(&mut scene, worker, "queue.partner.example", &ips, START);
        resolver.outside(&mut scene, worker, "queue.partner.example", &ips, known);
        let asked = questions(&scene.finish());
        let by_worker = asked.iter().filter(|(who, _)| *who == 14).count();
        assert_eq!(by_worker, 16, "4 names, 2 types, twice");
        let forwarded: Vec<&str> = asked
            .iter()
            .filter(|(who, _)| *who != 14)
            .map(|(_, name)| name.as_str())
            .collect();
        assert_eq!(forwarded, ["queue.partner.example"; 2]);
    }

    #[test]
    fn a_service_of_the_same_namespace_is_found_at_once() {
        let cluster = Cluster::default();
        let mut scene = Scene::new(1);
        let api = cluster.alive(API, START)[0];
        Resolver::new(&cluster).service(&mut scene, api, cluster.service("redis"), START);
        let names: Vec<String> = questions(&scene.finish())
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        assert_eq!(names, ["redis.shop.svc.cluster.local"; 2]);
    }

    #[test]
    fn reverse_names() {
        assert_eq!(
            reverse_name("10.1.2.3".parse().unwrap()),
            "3.2.1.10.in-addr.arpa"
        );
        assert!(reverse_name("2001:db8::1".parse().unwrap()).starts_with("1.0.0.0."));
    }
}
