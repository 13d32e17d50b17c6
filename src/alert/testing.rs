//! Made-up pods, flows and findings for tests of alerts and of whatever shows them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::NetworkId;
use crate::detectors::{Evidence, Family, Finding, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::flow::{ConnState, EndReason, FlowId, FlowRecord, Inspection, Protocol};
use crate::identity::{Attribution, Confidence, Identity, IdentityKind, Source, WorkloadId};
use crate::time::Timestamp;

/// 2026-03-01 03:12:00 UTC.
pub(crate) const START: i64 = 1_772_334_720;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

fn end(ip: &str, identity: Identity, confidence: Confidence, source: Source) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        who: Attribution {
            identity: Arc::new(identity),
            confidence,
            source,
        },
    }
}

/// `namespace/workload-7d4b9c6f5-SUFFIX` of a Deployment.
pub(crate) fn pod(namespace: &str, workload: &str, suffix: &str, ip: &str) -> Endpoint {
    let identity = Identity {
        namespace: Some(namespace.into()),
        name: Some(format!("{workload}-7d4b9c6f5-{suffix}").into()),
        workload: Some(WorkloadId {
            namespace: namespace.into(),
            kind: "Deployment".into(),
            name: workload.into(),
        }),
        labels: [("app".into(), workload.into())].into(),
        node: Some("worker-1".into()),
        ..Identity::bare(IdentityKind::Pod)
    };
    end(ip, identity, Confidence::Exact, Source::Watch)
}

pub(crate) fn service(namespace: &str, name: &str, ip: &str) -> Endpoint {
    let identity = Identity {
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        ..Identity::bare(IdentityKind::Service)
    };
    end(ip, identity, Confidence::Exact, Source::Kubernetes)
}

pub(crate) fn unknown(ip: &str) -> Endpoint {
    let identity = Identity::bare(IdentityKind::Unknown);
    end(ip, identity, Confidence::UnknownPrivate, Source::None)
}

pub(crate) fn external(ip: &str) -> Endpoint {
    let identity = Identity::bare(IdentityKind::External);
    end(ip, identity, Confidence::External, Source::None)
}

pub(crate) fn flow(id: u64, orig: &Endpoint, resp: &Endpoint, port: u16) -> Arc<FlowInfo> {
    Arc::new(FlowInfo {
        id: FlowId(id),
        network: NetworkId(0),
        protocol: Protocol::Tcp,
        start: at(0),
        orig: orig.clone(),
        resp: resp.clone(),
        orig_port: 40_000,
        resp_port: port,
        service: None,
        masquerade: None,
        sender: None,
        begun: true,
    })
}

pub(crate) fn record(app: Option<&'static str>) -> FlowRecord {
    FlowRecord {
        end: at(3),
        packets: [4, 3],
        wire_bytes: [400, 300],
        payload_bytes: [120, 60],
        repeated_bytes: [10, 0],
        missing_bytes: [0, 0],
        copies: [0; 2],
        copied_bytes: [0; 2],
        tcp_flags: [0x1b, 0x12],
        state: ConnState::Sf,
        reason: EndReason::Closed,
        app,
        inspection: Inspection::Whole,
        tunnel: None,
    }
}

pub(crate) fn evidence(feature: &'static str, family: Family, bits: f64) -> Evidence {
    Evidence {
        feature,
        family,
        observed: 55.0,
        expected: "at most 20 %".to_owned(),
        bits,
        signature_grade: false,
        text: "55 of 57 first contacts were refused or stayed silent".to_owned(),
    }
}

pub(crate) fn target(endpoint: Endpoint, port: u16) -> Target {
    Target {
        endpoint: Some(endpoint),
        port: Some(port),
        protocol: Some("tcp"),
        domain: None,
    }
}

/// A port scan by `shop/cart`, from second `first` to second `last`, of the given weight.
pub(crate) fn finding(first: i64, last: i64, bits: f64) -> Finding {
    let victim = pod("shop", "db", "k2l9q", "10.244.2.9");
    Finding {
        signature: "port-scan",
        subject: "10.244.2.9".to_owned(),
        actor: pod("shop", "cart", "x2x9k", "10.244.1.7"),
        first: at(first),
        last: at(last),
        targets: vec![target(victim.clone(), 6379), target(victim, 5432)],
        target_count: 57,
        evidence: vec![evidence("scan.failed_contacts", Family::Outcome, bits)],
        flows: Vec::new(),
        summary: "tried 57 ports on 10.244.2.9, 55 of which refused or stayed silent".to_owned(),
    }
}

/// `10.0.x.y` for a number.
pub(crate) fn address(n: u16) -> String {
    IpAddr::from([10, 0, (n >> 8) as u8, n as u8]).to_string()
}
