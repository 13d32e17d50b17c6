//! Alerts and their parts to the published form.

use super::{
    ActorV1, AlertV1, AttackV1, AttributionV1, BaselineV1, CoverageV1, EndV1, EvidenceV1, FlowV1,
    IncidentV1, SCHEMA, StageV1, SuppressedV1, TacticV1, TargetV1, TimesV1, UtcTime,
};
use crate::alert::{Alert, AlertFlow, Incident, Suppression, tactic_name};
use crate::detectors::{Evidence, Target};
use crate::event::{Endpoint, FlowInfo};
use crate::flow::{Protocol, community_id};
use crate::identity::{Identity, IdentityKind};

impl EndV1 {
    /// The originator's and the responder's end of a flow.
    pub fn both(flow: &FlowInfo) -> [Self; 2] {
        let has_ports = matches!(
            flow.protocol,
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp
        );
        [(&flow.orig, flow.orig_port), (&flow.resp, flow.resp_port)].map(|(end, port)| Self {
            ip: end.ip,
            port: has_ports.then_some(port),
        })
    }
}

/// The Community ID of a flow.
pub fn flow_community_id(flow: &FlowInfo) -> String {
    community_id(
        flow.protocol.number(),
        flow.orig.ip,
        flow.orig_port,
        flow.resp.ip,
        flow.resp_port,
    )
}

impl From<&Endpoint> for ActorV1 {
    fn from(end: &Endpoint) -> Self {
        let identity = &end.who.identity;
        let own = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            ip: end.ip,
            identity: identity.kind.into(),
            namespace: own(&identity.namespace),
            pod: own(&identity.name).filter(|_| identity.kind == IdentityKind::Pod),
            workload: workload(identity),
            labels: identity
                .labels
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        }
    }
}

/// The workload, or the service or node itself in a workload's form.
fn workload(identity: &Identity) -> Option<String> {
    if let Some(workload) = &identity.workload {
        return Some(workload.to_string());
    }
    let name = identity.name.as_deref()?;
    match (identity.kind, identity.namespace.as_deref()) {
        (IdentityKind::Service, Some(namespace)) => Some(format!("{namespace}/Service/{name}")),
        (IdentityKind::Service, None) => Some(format!("Service/{name}")),
        (IdentityKind::Node, _) => Some(format!("Node/{name}")),
        _ => None,
    }
}

impl From<&Target> for TargetV1 {
    fn from(target: &Target) -> Self {
        let end = target.endpoint.as_ref().map(ActorV1::from);
        let (ip, identity) = end.as_ref().map(|end| (end.ip, end.identity)).unzip();
        let (namespace, pod, workload, labels) = end
            .map(|end| (end.namespace, end.pod, end.workload, end.labels))
            .unwrap_or_default();
        Self {
            ip,
            identity,
            namespace,
            pod,
            workload,
            labels,
            port: target.port,
            protocol: target.protocol.map(str::to_owned),
            domain: target.domain.as_deref().map(str::to_owned),
        }
    }
}

impl From<&Evidence> for EvidenceV1 {
    fn from(evidence: &Evidence) -> Self {
        Self {
            feature: evidence.feature.to_owned(),
            family: evidence.family.into(),
            observed: evidence.observed,
            expected: evidence.expected.clone(),
            bits: evidence.bits,
            signature_grade: evidence.signature_grade,
            text: evidence.text.clone(),
        }
    }
}

impl From<&AlertFlow> for FlowV1 {
    fn from(flow: &AlertFlow) -> Self {
        let [src, dst] = EndV1::both(&flow.info);
        Self {
            community_id: flow_community_id(&flow.info),
            src,
            dst,
            proto: flow.info.protocol.to_string(),
            app: flow.totals.and_then(|totals| totals.app).map(str::to_owned),
            bytes: flow.totals.map(|totals| totals.bytes),
            packets: flow.totals.map(|totals| totals.packets),
        }
    }
}

impl From<&Suppression> for SuppressedV1 {
    fn from(suppression: &Suppression) -> Self {
        Self {
            reason: suppression.reason.clone(),
            owner: suppression.owner.clone(),
            by: suppression.by.clone(),
        }
    }
}

impl From<&Incident> for IncidentV1 {
    fn from(incident: &Incident) -> Self {
        let tactics = incident.tactics.iter().map(|tactic| TacticV1 {
            tactic: tactic.clone(),
            name: tactic_name(tactic).to_owned(),
        });
        let stages = incident.stages.iter().map(|stage| StageV1 {
            alert: stage.alert.clone(),
            signature: stage.signature.clone(),
            tactic: stage.tactic.clone(),
            severity: stage.severity.into(),
            first: UtcTime(stage.first),
            last: UtcTime(stage.last),
            ip: stage.actor.ip,
            workload: workload(&stage.actor.who.identity),
        });
        Self {
            id: incident.id.clone(),
            severity: incident.severity.into(),
            first: UtcTime(incident.first),
            last: UtcTime(incident.last),
            tactics: tactics.collect(),
            stages: stages.collect(),
            stage_count: incident.stage_count,
        }
    }
}

impl From<&Alert> for AlertV1 {
    fn from(alert: &Alert) -> Self {
        let attack = alert.signature.attack.iter().map(|attack| AttackV1 {
            tactic: attack.tactic.clone(),
            technique: attack.technique.clone(),
            name: attack.name.clone(),
        });
        let lost = alert.coverage.lost.iter();
        Self {
            schema: SCHEMA.to_owned(),
            id: alert.id.clone(),
            status: alert.status.into(),
            time: TimesV1 {
                first: UtcTime(alert.first),
                last: UtcTime(alert.last),
                raised: UtcTime(alert.raised),
            },
            signature: alert.signature.id.clone(),
            category: alert.signature.category.into(),
            title: alert.signature.title.clone(),
            severity: alert.severity.into(),
            score_bits: alert.score,
            confidence: alert.confidence,
            attack: attack.collect(),
            actor: ActorV1::from(&alert.actor),
            targets: alert.targets.iter().map(TargetV1::from).collect(),
            target_count: alert.target_count,
            evidence: alert.evidence.iter().map(EvidenceV1::from).collect(),
            baseline: BaselineV1 {
                state: alert.baseline.state.into(),
                observed_s: alert.baseline.observed.as_secs(),
            },
            coverage: CoverageV1 {
                packets: alert.coverage.packets,
                lost: lost
                    .map(|(loss, count)| (loss.label().to_owned(), count))
                    .collect(),
            },
            attribution: AttributionV1 {
                confidence: alert.actor.who.confidence.label().to_owned(),
                source: alert.actor.who.source.label().to_owned(),
            },
            flows: alert.flows.iter().map(FlowV1::from).collect(),
            summary: alert.sentence(),
            response: alert.response.clone(),
            incident: alert.incident.as_deref().map(IncidentV1::from),
            suppressed: alert.suppressed.as_ref().map(SuppressedV1::from),
        }
    }
}
