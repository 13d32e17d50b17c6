//! The journal's form on disk: there and back, and every version read.

use proptest::prelude::*;

use super::*;
use crate::identity::Confidence;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let moment = || proptest::option::of(0_i64..2_000_000_000_000_000_000);
    let text = || proptest::option::of("[a-z\"\\\\é]{1,6}");
    let who = (0..3_usize, text(), text(), text(), text(), any::<bool>());
    let source = 1..Source::ALL.len();
    (
        0_u32..3,
        any::<u8>(),
        source,
        (text(), text()),
        (moment(), moment(), moment()),
        who,
    )
        .prop_map(
            |(network, host, source, (uid, sandbox), (start, seen, end), who)| {
                let (kind, namespace, name, label, revision, current) = who;
                let arc = |text: Option<String>| text.map(Arc::<str>::from);
                let (uid, sandbox) = (arc(uid), arc(sandbox));
                let kind = [
                    IdentityKind::Pod,
                    IdentityKind::Service,
                    IdentityKind::External,
                ][kind];
                let namespace = arc(namespace);
                let workload = arc(name.clone()).map(|name| WorkloadId {
                    namespace: namespace.clone().unwrap_or_default(),
                    kind: "Deployment".into(),
                    name,
                });
                Claim {
                    network: NetworkId(network),
                    ip: [10, 0, 0, host].into(),
                    source: Source::ALL[source],
                    tenure: Tenure {
                        start: start.map(Timestamp::from_nanos),
                        settled: start.map(Timestamp::from_nanos),
                        last_seen: seen.map(Timestamp::from_nanos),
                        end: end.map(Timestamp::from_nanos),
                        standing: if current {
                            Standing::Current
                        } else {
                            Standing::Leaving
                        },
                    },
                    identity: Arc::new(Identity {
                        kind,
                        namespace,
                        name: arc(name),
                        uid: uid.clone().or_else(|| sandbox.clone()),
                        workload,
                        labels: arc(label)
                            .into_iter()
                            .map(|label| (label.clone(), label))
                            .collect(),
                        revision: arc(revision),
                        node: None,
                    }),
                    uid,
                    sandbox,
                }
            },
        )
}

fn journal() -> Journal {
    let mut journal = Journal::default();
    let networks = journal.networks_mut();
    let range = |text: &str| text.parse::<IpNetwork>().unwrap();
    networks.add_pods(range("10.1.0.0/16"));
    networks.add_services(range("fd00:96::/112"));
    networks.add_node_range(range("10.1.3.0/24"), "n3".into());
    networks.add_complete(range("10.1.3.0/24"), at(500));
    networks.add_complete(range("10.1.4.0/24"), Timestamp::MIN);
    networks.add_node(
        "172.18.0.2".parse().unwrap(),
        Some("n1".into()),
        Source::Kubernetes,
    );
    networks.add_node("172.18.0.3".parse().unwrap(), None, Source::CniCache);
    let office = Identity {
        name: Some("office".into()),
        ..Identity::bare(IdentityKind::External)
    };
    networks.add_named(range("10.9.0.0/16"), office);
    journal
}

#[test]
fn who_looked_when_is_remembered() {
    let mut journal = journal();
    let range: IpNetwork = "10.1.3.0/24".parse().unwrap();
    let look = |from, to, follows| Look {
        range,
        from,
        to,
        follows,
        leases: follows,
    };
    let networks = journal.networks_mut();
    networks.add_look(look(at(900), at(1200), false));
    networks.add_look(look(Timestamp::MIN, Timestamp::MAX, true));
    let ip: IpAddr = "10.1.3.7".parse().unwrap();
    let claim = |start, end| Claim {
        network: NetworkId(0),
        ip: "10.1.3.6".parse().unwrap(),
        source: Source::HostLocal,
        tenure: Tenure::between(at(start), at(end)),
        identity: Arc::new(Identity::bare(IdentityKind::Pod)),
        uid: None,
        sandbox: Some("x".into()),
    };
    journal.insert([claim(1000, 1100)]);
    let seen = |journal: &Journal, first, last| {
        let overlooked = journal.overlooked(NetworkId(0), ip, at(first), at(last));
        overlooked.map(|overlooked| overlooked.by_leases)
    };
    let snapshot = |time| {
        let mut text = Vec::new();
        journal.export_as_of(&mut text, time).unwrap();
        reread(&text)
    };
    assert_eq!(seen(&journal, 5000, 5100), Some(true));
    // Without the time of a snapshot, the list's alone is left.
    let timeless = snapshot(None);
    assert_eq!(seen(&timeless, 5000, 5100), None);
    assert_eq!(seen(&timeless, 800, 1300), Some(false));
    // Whoever was there across the moment of a snapshot was looked for; whoever came and went between two wasn't.
    let again = snapshot(Some(at(5050)));
    assert_eq!(seen(&again, 5000, 5100), Some(true));
    assert_eq!(seen(&again, 5060, 5100), None);
    assert_eq!(seen(&again, 4000, 5000), None);
}

fn reread(text: &[u8]) -> Journal {
    let mut journal = Journal::default();
    let mut claims = Vec::new();
    let cut = import(text, journal.networks_mut(), |claim| claims.push(claim)).unwrap();
    assert_eq!(cut, None);
    journal.insert(claims);
    journal
}

proptest! {
    #[test]
    fn a_journal_read_back_says_the_same(claims in proptest::collection::vec(any_claim(), 0..20)) {
        let mut journal = journal();
        journal.insert(claims);
        let mut text = Vec::new();
        journal.export(&mut text).unwrap();
        let again = reread(&text);
        prop_assert_eq!(journal.claims(), again.claims());
        let mut second = Vec::new();
        again.export(&mut second).unwrap();
        prop_assert_eq!(String::from_utf8(text).unwrap(), String::from_utf8(second).unwrap());
        for ip in ["10.1.3.1", "10.1.3.9", "10.9.1.1", "172.18.0.2", "172.18.0.3", "fd00:96::1"] {
            let ip = ip.parse().unwrap();
            prop_assert_eq!(
                journal.resolve(NetworkId(0), ip, at(600)),
                again.resolve(NetworkId(0), ip, at(600))
            );
            prop_assert_eq!(
                journal.allocation(NetworkId(0), ip, at(600)),
                again.allocation(NetworkId(0), ip, at(600))
            );
        }
    }
}

/// Journals of the first form stay readable for good: this text must never change.
#[test]
fn the_first_form_is_read() {
    let text = r#"{"schema":"spanwatch.journal/1","pod_cidrs":["10.1.0.0/16","10.1.3.0/24"],"service_cidrs":["10.96.0.0/12"],"node_ranges":[{"cidr":"10.1.3.0/24","node":"n3"}],"complete":[{"cidr":"10.1.3.0/24","since":"1970-01-01T00:08:20Z"}],"named":[{"cidr":"10.9.0.0/16","identity":{"kind":"external","name":"office"}}],"nodes":[{"ip":"172.18.0.2","name":"n1","source":"kubernetes"}]}
{"ip":"10.1.3.9","source":"kubernetes-watch","start":"1970-01-01T00:10:00Z","settled":"1970-01-01T00:10:01Z","last_seen":"1970-01-01T00:15:00.5Z","end":"1970-01-01T00:20:00Z","standing":"leaving","uid":"u1","identity":{"kind":"pod","namespace":"shop","name":"web-5d78c9869d-x2x9z","workload":{"namespace":"shop","kind":"Deployment","name":"web"},"labels":{"app":"web"},"revision":"5d78c9869d","node":"n3"},"a later field":[1]}
{"ip":"fd00::9","network":7,"source":"cni-cache","standing":"current","sandbox":"s1","identity":{"kind":"pod"}}
"#;
    let journal = reread(text.as_bytes());
    let answer = journal.resolve(NetworkId(0), "10.1.3.9".parse().unwrap(), at(700));
    assert_eq!(
        (answer.confidence, answer.source),
        (Confidence::Exact, Source::Watch)
    );
    assert_eq!(
        answer.identity.workload.as_ref().unwrap().to_string(),
        "shop/Deployment/web"
    );
    assert_eq!(answer.identity.uid.as_deref(), Some("u1"));
    let tagged = journal.resolve(NetworkId(7), "fd00::9".parse().unwrap(), at(700));
    assert_eq!(tagged.identity.uid.as_deref(), Some("s1"));
    let mut out = Vec::new();
    journal.export(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        text.replace(r#","a later field":[1]"#, "")
    );
}

#[test]
fn what_is_no_journal_is_refused_and_a_broken_end_is_noted() {
    let read = |text: &str| {
        let mut claims = 0;
        let read = import(text.as_bytes(), &mut Networks::default(), |_| claims += 1);
        (read, claims)
    };
    assert!(matches!(
        read(r#"{"schema":"spanwatch.journal/2"}"#).0,
        Err(ImportError::Schema(_))
    ));
    assert!(matches!(read("{}").0, Err(ImportError::Schema(_))));
    let header = r#"{"schema":"spanwatch.journal/1"}"#;
    let claim = r#"{"ip":"10.0.0.1","source":"csv","identity":{"kind":"pod"}}"#;
    assert!(matches!(
        read(&format!("{header}\n{claim}\n{{\"ip\":")),
        (Ok(Some(3)), 1)
    ));
    assert!(matches!(
        read(&format!("{header}\n{{\"ip\":5}}\n{claim}")),
        (Err(ImportError::Json(_)), 0)
    ));
}
