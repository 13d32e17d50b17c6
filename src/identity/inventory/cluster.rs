//! What a cluster's API has told so far, kept as it is at the moment: lists replace, watch events add to them.
//!
//! It is given the bytes of answers; whoever asks for them, and when, is not its business. Of each object the few fields that
//! tell who holds an address are kept, in as many objects as [`MAX_OBJECTS`] of a kind.

use std::collections::BTreeMap;

use super::lenient::Field;
use super::objects::{Document, Object};
use crate::time::Timestamp;

/// Objects of one kind that are kept; further ones are counted and passed over. Kubernetes itself promises 150,000 pods.
const MAX_OBJECTS: usize = 1 << 18;

/// A kind of object that tells who holds an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Their addresses.
    Pods,
    /// Theirs, which stand for many pods'.
    Services,
    /// Which pods are behind a service: on other nodes, too.
    EndpointSlices,
    /// Their addresses and the ranges of their pods.
    Nodes,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::Pods,
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
    ];

    /// The word used in paths, metrics and rights.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
        }
    }

    /// Where the API has them.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Pods => "/api/v1/pods",
            Self::Services => "/api/v1/services",
            Self::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Nodes => "/api/v1/nodes",
        }
    }

    const fn object(self) -> &'static str {
        match self {
            Self::Pods => "Pod",
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Nodes => "Node",
        }
    }
}

/// An answer that is not what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("not an answer of the Kubernetes API: {0}")]
pub struct Malformed(String);

impl Malformed {
    fn json(error: &serde_json::Error) -> Self {
        // Its own words have no piece of the answer in them, which may hold secrets.
        Self(error.to_string())
    }
}

/// What a watch event told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// How far the watch has come, and whether anything that matters changed.
    Change {
        /// The revision up to which everything was told.
        version: String,
        /// Whether it matters.
        matters: bool,
    },
    /// The watch has failed; 410 where its revision is too old.
    Failure {
        /// As in HTTP.
        code: u64,
        /// In the server's words.
        message: String,
    },
    /// Nothing that is known.
    Other,
}

/// Namespace and name.
type Name = (Box<str>, Box<str>);

#[derive(Clone, Debug)]
struct Held {
    object: Object,
    told: Timestamp,
}

/// A list, page by page.
#[derive(Debug)]
pub struct Listing {
    kind: Kind,
    objects: BTreeMap<Name, Held>,
    refused: u64,
}

impl Listing {
    /// One that has not begun.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            objects: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Takes a page that came `at` a time. Returns the list's revision, and what to ask for the rest with, if there is any.
    ///
    /// # Errors
    /// When it is no list of that kind.
    pub fn page(
        &mut self,
        text: &[u8],
        at: Timestamp,
    ) -> Result<(String, Option<String>), Malformed> {
        let Field(page): Field<Document> =
            serde_json::from_slice(text).map_err(|error| Malformed::json(&error))?;
        if page.kind.strip_suffix("List") != Some(self.kind.object()) {
            let wanted = self.kind.object();
            return Err(Malformed(format!(
                "a list of {wanted} objects was asked for"
            )));
        }
        for mut object in page.items {
            self.kind.object().clone_into(&mut object.kind);
            put(&mut self.objects, &mut self.refused, object, at);
        }
        let rest = page.metadata.rest;
        Ok((
            page.metadata.resource_version,
            (!rest.is_empty()).then_some(rest),
        ))
    }
}

/// All objects of a cluster, as they are at the moment.
#[derive(Debug, Default)]
pub struct Cluster {
    kinds: BTreeMap<Kind, Listing>,
}

impl Cluster {
    /// The kinds that were listed at least once.
    pub fn listed(&self) -> impl Iterator<Item = Kind> {
        self.kinds.keys().copied()
    }

    /// Objects known of a kind, and those for which there was no room.
    pub fn count(&self, kind: Kind) -> (usize, u64) {
        let listing = self.kinds.get(&kind);
        listing.map_or((0, 0), |listing| (listing.objects.len(), listing.refused))
    }

    /// A whole list takes the place of what was known of its kind. Returns whether that changes anything.
    pub fn replace(&mut self, mut listing: Listing) -> bool {
        let kind = listing.kind;
        let Some(known) = self.kinds.get(&kind) else {
            self.kinds.insert(kind, listing);
            return true;
        };
        let mut same = known.objects.len() == listing.objects.len();
        for (name, held) in &mut listing.objects {
            match known.objects.get(name) {
                Some(before) if before.object == held.object => held.told = before.told,
                _ => same = false,
            }
        }
        self.kinds.insert(kind, listing);
        !same
    }

    /// Takes a line of a watch that came `at` a time.
    ///
    /// # Errors
    /// When it is no watch event.
    pub fn event(&mut self, kind: Kind, line: &[u8], at: Timestamp) -> Result<Told, Malformed> {
        let Field(event): Field<Document> =
            serde_json::from_slice(line).map_err(|error| Malformed::json(&error))?;
        let Some(object) = event.object.map(|object| *object) else {
            return Err(Malformed("an event was expected".to_owned()));
        };
        let version = object.metadata.resource_version.clone();
        let mut matters = false;
        match &*event.event {
            "ERROR" => {
                return Ok(Told::Failure {
                    code: object.code,
                    message: object.message,
                });
            }
            "BOOKMARK" => {}
            word @ ("ADDED" | "MODIFIED" | "DELETED") if object.kind == kind.object() => {
                let listing = self.kinds.entry(kind).or_insert_with(|| Listing::new(kind));
                let (objects, refused) = (&mut listing.objects, &mut listing.refused);
                matters = if word == "DELETED" {
                    objects.remove(&name(&object)).is_some()
                } else {
                    put(objects, refused, object, at)
                };
            }
            _ => return Ok(Told::Other),
        }
        Ok(Told::Change { version, matters })
    }

    /// Every object, with when it last changed.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Object, Timestamp)> {
        let held = self.kinds.values().flat_map(|kind| kind.objects.values());
        held.map(|held| (&held.object, held.told))
    }
}

fn name(object: &Object) -> Name {
    let metadata = &object.metadata;
    (
        metadata.namespace.as_str().into(),
        metadata.name.as_str().into(),
    )
}

/// Puts an object in its place. Returns whether anything that matters changed.
fn put(
    objects: &mut BTreeMap<Name, Held>,
    refused: &mut u64,
    mut object: Object,
    at: Timestamp,
) -> bool {
    strip(&mut object);
    let name = name(&object);
    let full = objects.len() >= MAX_OBJECTS;
    match objects.get_mut(&name) {
        Some(held) if held.object == object => false,
        Some(held) => {
            *held = Held { object, told: at };
            true
        }
        None if full => {
            *refused += 1;
            false
        }
        None => {
            objects.insert(name, Held { object, told: at });
            true
        }
    }
}

/// Takes off what changes often and tells nothing about addresses: revisions, and nodes' reports of their health.
fn strip(object: &mut Object) {
    object.metadata.resource_version.clear();
    match &*object.kind {
        "Node" => {
            object.status.conditions.clear();
            object.metadata.labels.clear();
        }
        "EndpointSlice" => object.metadata.labels.clear(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ip: &str, version: u32) -> Value {
        json!({"kind": "Pod", "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
               "resourceVersion": version.to_string()}, "status": {"podIP": ip}})
    }

    fn list(pods: &[Value], rest: &str) -> Vec<u8> {
        json!({"kind": "PodList", "metadata": {"resourceVersion": "9", "continue": rest}, "items": pods})
            .to_string()
            .into_bytes()
    }

    fn event(word: &str, object: &Value) -> Vec<u8> {
        json!({"type": word, "object": object})
            .to_string()
            .into_bytes()
    }

    const AT: Timestamp = Timestamp::from_secs(100);

    fn addresses(cluster: &Cluster) -> Vec<String> {
        let objects = cluster.objects();
        objects.map(|(one, _)| one.status.pod_ip.clone()).collect()
    }

    #[test]
    fn lists_come_in_pages_and_replace_what_was_known() {
        let mut cluster = Cluster::default();
        let mut listing = Listing::new(Kind::Pods);
        let page = listing.page(&list(&[pod("a", "10.0.0.1", 1)], "more"), AT);
        assert_eq!(page.unwrap(), ("9".to_owned(), Some("more".to_owned())));
        let page = listing.page(&list(&[pod("b", "10.0.0.2", 2)], ""), AT);
        assert_eq!(page.unwrap(), ("9".to_owned(), None));
        assert!(cluster.replace(listing));
        assert_eq!(addresses(&cluster), ["10.0.0.1", "10.0.0.2"]);

        // The same once more, at other revisions, is no news.
        let mut again = Listing::new(Kind::Pods);
        let pods = [pod("a", "10.0.0.1", 7), pod("b", "10.0.0.2", 8)];
        again
            .page(&list(&pods, ""), Timestamp::from_secs(200))
            .unwrap();
        assert!(!cluster.replace(again));
        assert!(cluster.objects().all(|(_, told)| told == AT));

        let mut without = Listing::new(Kind::Pods);
        without.page(&list(&pods[1..], ""), AT).unwrap();
        assert!(cluster.replace(without));
        assert_eq!(cluster.count(Kind::Pods), (1, 0));
        assert_eq!(cluster.listed().collect::<Vec<_>>(), [Kind::Pods]);
    }

    #[test]
    fn events_tell_what_changed_and_how_far_they_go() {
        let mut cluster = Cluster::default();
        let mut take = |line: &[u8]| cluster.event(Kind::Pods, line, AT).unwrap();
        let change = |version: &str, matters| Told::Change {
            version: version.to_owned(),
            matters,
        };
        let waiting = pod("a", "", 1);
        assert_eq!(take(&event("ADDED", &waiting)), change("1", true));
        let named = pod("a", "10.0.0.1", 2);
        assert_eq!(take(&event("MODIFIED", &named)), change("2", true));
        let again = pod("a", "10.0.0.1", 3);
        assert_eq!(take(&event("MODIFIED", &again)), change("3", false));
        let mark = json!({"kind": "Pod", "metadata": {"resourceVersion": "8"}});
        assert_eq!(take(&event("BOOKMARK", &mark)), change("8", false));
        let gone =
            json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
        let failure = Told::Failure {
            code: 410,
            message: "too old".to_owned(),
        };
        assert_eq!(take(&event("ERROR", &gone)), failure);
        assert_eq!(take(&event("DELETED", &again)), change("3", true));
        assert_eq!(take(&event("DELETED", &again)), change("3", false));
        assert_eq!(take(&event("LATER", &again)), Told::Other);
        let other = json!({"kind": "Node", "metadata": {"name": "n"}});
        assert_eq!(take(&event("ADDED", &other)), Told::Other);
        assert!(addresses(&cluster).is_empty());
    }

    #[test]
    fn a_nodes_heartbeat_is_no_news() {
        let node = |at: &str| {
            json!({"kind": "Node", "metadata": {"name": "n1"}, "status": {
                "addresses": [{"address": "192.168.1.1"}],
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": at}]}})
        };
        let mut cluster = Cluster::default();
        let mut take = |at: &str| {
            let line = event("MODIFIED", &node(at));
            let told = cluster.event(Kind::Nodes, &line, AT).unwrap();
            matches!(told, Told::Change { matters: true, .. })
        };
        assert!(take("2026-01-01T00:00:00Z"));
        assert!(!take("2026-01-01T00:05:00Z"));
    }

    #[test]
    fn what_is_no_answer_is_said_without_quoting_it() {
        let mut cluster = Cluster::default();
        for line in [
            &b"{\"type\":\"ADDED\",\"obj"[..],
            b"<html>",
            b"",
            b"{}",
            b"[]",
        ] {
            cluster.event(Kind::Pods, line, AT).unwrap_err();
        }
        let login = b"<html>secret</html>";
        let error = Listing::new(Kind::Pods).page(login, AT).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let nodes = list(&[], "");
        Listing::new(Kind::Nodes).page(&nodes, AT).unwrap_err();
    }
}
