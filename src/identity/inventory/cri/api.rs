//! A container runtime's own API (CRI, version 1): its replies, message by message.
//!
//! A list tells which sandboxes there are; a status has the addresses of one, which don't change while it lives. Of the messages
//! only what is used stands here; the rest is passed over.

use std::collections::BTreeMap;

use prost::Message;

use super::{Ip, Moment, Network, PodRef, Sandbox, add};
use crate::identity::inventory::collector::Collector;
use crate::time::Timestamp;

/// Sandboxes that are kept at most; a node has some hundreds.
const ROOM: usize = 1 << 14;

/// `PodSandboxState`: its network is there. That of a stopped one may be another's by now.
const READY: i32 = 0;
/// `NamespaceMode`: the pod lives in the node's network.
const NODE: i32 = 2;

/// Not a message of the API.
#[derive(Debug, thiserror::Error)]
#[error("not a reply of a container runtime: {0}")]
pub struct Unreadable(#[from] prost::DecodeError);

#[derive(Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Item>,
}

#[derive(Message)]
struct Item {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    labels: BTreeMap<String, String>,
}

#[derive(Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Message)]
struct Question {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Message)]
struct Reply {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Message)]
struct Status {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "5")]
    network: Option<Addresses>,
    #[prost(message, optional, tag = "6")]
    linux: Option<Linux>,
}

#[derive(Message)]
struct Addresses {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    more: Vec<Address>,
}

#[derive(Message)]
struct Address {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Message)]
struct Linux {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Message)]
struct Namespaces {
    #[prost(message, optional, tag = "2")]
    options: Option<Options>,
}

#[derive(Message)]
struct Options {
    #[prost(int32, tag = "1")]
    network: i32,
}

/// Where a sandbox is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    /// Not told yet.
    Unknown,
    /// In the node's own network.
    Node,
    /// At these addresses.
    Own(Vec<String>),
}

/// The sandboxes that a runtime has at the moment.
#[derive(Default, Debug)]
pub struct Sandboxes(BTreeMap<String, (Item, Place)>);

/// What a list came to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Listed {
    /// Whether somebody came or went.
    pub changed: bool,
    /// The ids of those whose status is still to be asked for.
    pub unknown: Vec<String>,
}

impl Sandboxes {
    /// Takes the reply to `ListPodSandbox`: those that aren't in it are gone.
    ///
    /// # Errors
    /// When it is no such reply; then all stays as it was known.
    pub fn list(&mut self, reply: &[u8]) -> Result<Listed, Unreadable> {
        let List { items } = List::decode(reply)?;
        let mut before = std::mem::take(&mut self.0);
        let mut listed = Listed::default();
        let ready = |item: &Item| item.state == READY && !item.id.is_empty();
        for item in items.into_iter().filter(ready).take(ROOM) {
            let known = before.remove(&item.id).map(|(_, place)| place);
            if known.is_none() && self.0.contains_key(&item.id) {
                // Listed twice.
                continue;
            }
            listed.changed |= known.is_none();
            let place = known.unwrap_or(Place::Unknown);
            if place == Place::Unknown {
                listed.unknown.push(item.id.clone());
            }
            self.0.insert(item.id.clone(), (item, place));
        }
        listed.changed |= !before.is_empty();
        Ok(listed)
    }

    /// The message of `PodSandboxStatus` that asks for one.
    pub fn question(id: &str) -> Vec<u8> {
        let id = id.to_owned();
        Question { id }.encode_to_vec()
    }

    /// Takes the reply to `PodSandboxStatus`; whether it tells anything new.
    ///
    /// # Errors
    /// When it is no such reply.
    pub fn status(&mut self, reply: &[u8]) -> Result<bool, Unreadable> {
        let Some(status) = Reply::decode(reply)?.status else {
            return Ok(false);
        };
        let options = status.linux.and_then(|linux| linux.namespaces?.options);
        let addresses = status.network.into_iter().flat_map(|network| {
            let more = network.more.into_iter().map(|address| address.ip);
            std::iter::once(network.ip).chain(more)
        });
        let addresses: Vec<String> = addresses.filter(|ip| !ip.is_empty()).collect();
        let told = if options.is_some_and(|options| options.network == NODE) {
            Place::Node
        } else if addresses.is_empty() {
            // It has none yet: to be asked for again.
            Place::Unknown
        } else {
            Place::Own(addresses)
        };
        let Some((_, place)) = self.0.get_mut(&status.id) else {
            return Ok(false);
        };
        let news = *place != told;
        *place = told;
        Ok(news)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds what they tell of addresses, and of whose the leases are that bear their ids.
    pub(in crate::identity::inventory) fn collect(&self, collector: &mut Collector) {
        for (item, place) in self.0.values() {
            let mut addresses = match place {
                Place::Node => continue,
                Place::Unknown => Vec::new(),
                Place::Own(addresses) => addresses.clone(),
            }
            .into_iter();
            let created = Some(item.created_at).filter(|&nanos| nanos > 0);
            let metadata = item.metadata.as_ref();
            let metadata = metadata.map(|metadata| PodRef {
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
                namespace: metadata.namespace.clone(),
            });
            let sandbox = Sandbox {
                id: item.id.clone(),
                metadata: metadata.unwrap_or_default(),
                created_at: Moment(created.map(Timestamp::from_nanos)),
                network: Network {
                    ip: addresses.next().unwrap_or_default(),
                    additional_ips: addresses.map(|ip| Ip { ip }).collect(),
                },
                labels: item.labels.clone(),
                ..Sandbox::default()
            };
            add(sandbox, None, collector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, state: i32) -> Item {
        let text = str::to_owned;
        Item {
            id: id.to_owned(),
            metadata: Some(Metadata {
                name: format!("web-{id}"),
                uid: format!("uid-{id}"),
                namespace: text("shop"),
            }),
            state,
            created_at: 1_700_000_000_000_000_000,
            labels: [(text("app"), text("web"))].into(),
        }
    }

    fn list(items: Vec<Item>) -> Vec<u8> {
        List { items }.encode_to_vec()
    }

    fn status(id: &str, ips: &[&str], network: i32) -> Vec<u8> {
        let mut ips = ips.iter().map(|&ip| ip.to_owned());
        let status = Status {
            id: id.to_owned(),
            network: Some(Addresses {
                ip: ips.next().unwrap_or_default(),
                more: ips.map(|ip| Address { ip }).collect(),
            }),
            linux: Some(Linux {
                namespaces: Some(Namespaces {
                    options: Some(Options { network }),
                }),
            }),
        };
        let status = Some(status);
        Reply { status }.encode_to_vec()
    }

    fn listed(changed: bool, unknown: &[&str]) -> Listed {
        let unknown = unknown.iter().map(|&id| id.to_owned()).collect();
        Listed { changed, unknown }
    }

    /// Addresses with the pods that have them.
    fn held(sandboxes: &Sandboxes) -> Vec<(String, String)> {
        let mut collector = Collector::default();
        sandboxes.collect(&mut collector);
        let (_, claims) = collector.finish(&[]);
        let mut held: Vec<_> = claims
            .iter()
            .map(|claim| {
                let name = claim.identity.name.as_deref().unwrap_or_default();
                (claim.ip.to_string(), name.to_owned())
            })
            .collect();
        held.sort();
        held
    }

    fn pair(ip: &str, name: &str) -> (String, String) {
        (ip.to_owned(), name.to_owned())
    }

    #[test]
    fn each_is_asked_for_once_and_forgotten_when_it_stops() {
        let mut sandboxes = Sandboxes::default();
        let (a, b) = (|state| item("a", state), || item("b", READY));
        let first = sandboxes.list(&list(vec![a(READY), b()])).unwrap();
        assert_eq!(first, listed(true, &["a", "b"]));
        assert!(
            sandboxes
                .status(&status("a", &["10.1.1.1", "fd00::1"], 0))
                .unwrap()
        );
        // Its network isn't there yet.
        assert!(!sandboxes.status(&status("b", &[], 0)).unwrap());
        let a_has = [pair("10.1.1.1", "web-a"), pair("fd00::1", "web-a")];
        assert_eq!(held(&sandboxes), a_has);
        let again = sandboxes.list(&list(vec![b(), a(READY)])).unwrap();
        assert_eq!(again, listed(false, &["b"]));
        assert!(sandboxes.status(&status("b", &["10.1.1.2"], 0)).unwrap());
        assert!(!sandboxes.status(&status("c", &["10.1.1.3"], 0)).unwrap());
        let twice = sandboxes.list(&list(vec![b(), b(), a(READY), a(READY)]));
        assert_eq!(twice.unwrap(), listed(false, &[]));
        // One that is stopped has no address any more, though it is listed.
        let stopped = sandboxes.list(&list(vec![a(1), b()])).unwrap();
        assert_eq!(stopped, listed(true, &[]));
        assert_eq!(held(&sandboxes), [pair("10.1.1.2", "web-b")]);
        assert_eq!(sandboxes.list(&[]).unwrap(), listed(true, &[]));
        assert_eq!(sandboxes.count(), 0);
    }

    #[test]
    fn the_nodes_own_address_is_no_pods() {
        let mut sandboxes = Sandboxes::default();
        sandboxes.list(&list(vec![item("a", READY)])).unwrap();
        assert!(
            sandboxes
                .status(&status("a", &["192.168.1.1"], NODE))
                .unwrap()
        );
        assert_eq!(held(&sandboxes), []);
        let again = sandboxes.list(&list(vec![item("a", READY)])).unwrap();
        assert_eq!(again, listed(false, &[]));
    }

    #[test]
    fn what_is_no_reply_changes_nothing() {
        let mut sandboxes = Sandboxes::default();
        sandboxes.list(&list(vec![item("a", READY)])).unwrap();
        sandboxes.status(&status("a", &["10.1.1.1"], 0)).unwrap();
        let whole = list(vec![item("a", READY)]);
        let cut = whole.split_last().unwrap().1;
        sandboxes.list(cut).unwrap_err();
        sandboxes.status(b"HTTP/1.1 400 Bad Request").unwrap_err();
        assert_eq!(held(&sandboxes), [pair("10.1.1.1", "web-a")]);
    }
}
