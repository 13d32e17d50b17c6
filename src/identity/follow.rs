//! Inventories that change while a capture goes on. Each reading is compared with the one before, so that the journal learns
//! when somebody came and when somebody went, and forgets neither.
//!
//! Reads files when told to; knows no clock and no way to tell that a file changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::claim::{Claim, Standing};
use super::inventory::{
    Apis, Cluster, Gathered, InventoryErrors, InventoryOptions, InventoryReport, Kind, gather,
};
use super::{Journal, Source};
use crate::address::NetworkId;
use crate::time::Timestamp;

/// Results without a lease that are remembered as such.
const LEAVING: usize = 1 << 16;

/// Inventories that are read again and again.
#[derive(Debug)]
pub struct LiveInventory {
    paths: Vec<PathBuf>,
    options: InventoryOptions,
    journal: Journal,
    /// What was claimed at the last reading.
    present: BTreeMap<Key, Claim>,
    /// What is still listed though its lease is gone: a result outlives it while a pod is taken down.
    leaving: BTreeSet<Key>,
    readings: u64,
    /// What a cluster's API had listed at the last reading.
    listed: BTreeSet<Kind>,
}

/// Whose claim it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    source: Source,
    network: NetworkId,
    ip: IpAddr,
    /// The holder's id; of one without any, its name.
    holder: Option<Arc<str>>,
}

impl Key {
    fn of(claim: &Claim) -> Self {
        let id = claim.uid.as_ref().or(claim.sandbox.as_ref());
        Self {
            source: claim.source,
            network: claim.network,
            ip: claim.ip,
            holder: id.or(claim.identity.name.as_ref()).cloned(),
        }
    }
}

impl LiveInventory {
    /// Inventories at these paths, not read yet.
    pub fn new(paths: Vec<PathBuf>, options: InventoryOptions) -> Self {
        Self {
            paths,
            options,
            journal: Journal::default(),
            present: BTreeMap::new(),
            leaving: BTreeSet::new(),
            readings: 0,
            listed: BTreeSet::new(),
        }
    }

    /// Where the inventories are.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// Who held which address when, by all that was read so far.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Reads all inventories as they are at `now`, and what APIs told by then. One that isn't there (yet), or is empty, tells that nobody is there.
    ///
    /// # Errors
    /// When one can't be read, as in the middle of its being written; then all stays as it was known.
    pub fn read(
        &mut self,
        now: Timestamp,
        apis: Apis<'_>,
    ) -> Result<InventoryReport, InventoryErrors> {
        let Gathered {
            networks,
            declared,
            claims,
            mut report,
        } = gather(&self.paths, &self.options, apis, true)?;
        let listed = apis.cluster.into_iter().flat_map(Cluster::listed);
        let listed: BTreeSet<Kind> = listed.collect();
        let first_listing = listed != self.listed;
        self.listed = listed;
        *self.journal.networks_mut() = networks;
        self.journal.declare(declared);
        let mut seen = BTreeMap::new();
        let mut leaving = BTreeSet::new();
        for mut claim in claims {
            let key = Key::of(&claim);
            let known = self.present.get(&key);
            let lost_lease = known.is_some_and(|known| known.tenure.standing == Standing::Current)
                && claim.tenure.standing == Standing::Silent;
            if lost_lease
                || self.leaving.contains(&key) && claim.tenure.standing != Standing::Current
            {
                leaving.insert(key);
                continue;
            }
            if claim.tenure.start.is_none() {
                // Who is there at the first reading may have been there for long.
                let first = match claim.source {
                    Source::Kubernetes | Source::Watch => first_listing,
                    _ => false,
                } || self.readings == 0;
                let first_seen = (!first).then_some(now);
                claim.tenure.start = known.map_or(first_seen, |known| known.tenure.start);
            }
            seen.insert(key, claim);
        }
        let gone = self.gone(&seen, now);
        let news = seen
            .iter()
            .filter(|(key, claim)| self.present.get(key) != Some(claim))
            .map(|(_, claim)| claim.clone());
        self.journal.insert(news.chain(gone).collect::<Vec<_>>());
        self.present = seen;
        self.leaving.append(&mut leaving);
        if self.leaving.len() > LEAVING {
            self.leaving.clear();
        }
        self.readings += 1;
        report.claims = self.journal.claims_count();
        Ok(report)
    }

    /// The claims of the last reading that are not made any more, with their end.
    fn gone(&self, seen: &BTreeMap<Key, Claim>, now: Timestamp) -> Vec<Claim> {
        let sandboxes: HashSet<_> = seen
            .values()
            .map(|claim| (claim.ip, claim.sandbox.as_ref()))
            .collect();
        // A lease that a result names by now isn't gone, and what a source ended itself needs no end of ours.
        let went = |(key, claim): &(&Key, &Claim)| {
            let same =
                claim.sandbox.is_some() && sandboxes.contains(&(claim.ip, claim.sandbox.as_ref()));
            !seen.contains_key(key) && claim.tenure.end.is_none() && !same
        };
        let gone = self.present.iter().filter(went).map(|(key, claim)| {
            // Whoever has the address now got it after it was free.
            let heirs = seen
                .values()
                .filter(|heir| (heir.network, heir.ip) == (key.network, key.ip));
            let next = heirs
                .filter_map(|heir| heir.tenure.start)
                .filter(|&start| Some(start) > claim.tenure.start)
                .min();
            let mut gone = claim.clone();
            gone.tenure.end = Some(next.unwrap_or(now).min(now));
            gone.tenure.standing = Standing::Leaving;
            gone
        });
        gone.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::identity::Confidence;

    struct Node {
        folder: tempfile::TempDir,
        inventory: LiveInventory,
    }

    impl Node {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for part in ["networks/lab", "results"] {
                fs::create_dir_all(folder.path().join(part)).unwrap();
            }
            let inventory =
                LiveInventory::new(vec![folder.path().to_owned()], InventoryOptions::default());
            Self { folder, inventory }
        }

        fn lease(&self, ip: &str, sandbox: u8, at: i64) {
            let path = self.folder.path().join("networks/lab").join(ip);
            fs::write(&path, format!("{sandbox:064x}\r\neth0")).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at as u64);
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }

        fn free(&self, ip: &str) {
            fs::remove_file(self.folder.path().join("networks/lab").join(ip)).unwrap();
        }

        fn result(&self, ip: &str, sandbox: u8, pod: &str) {
            let result = json!({
                "kind": "cniCacheV1", "containerId": format!("{sandbox:064x}"), "ifName": "eth0", "networkName": "lab",
                "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod], ["K8S_POD_UID", format!("uid-{pod}")]],
                "result": {"ips": [{"address": format!("{ip}/24")}]},
            });
            fs::write(self.cached(sandbox), result.to_string()).unwrap();
        }

        fn cached(&self, sandbox: u8) -> PathBuf {
            self.folder
                .path()
                .join(format!("results/lab-{sandbox:064x}-eth0"))
        }

        fn read(&mut self, at: i64) {
            self.inventory
                .read(Timestamp::from_secs(at), Apis::default())
                .unwrap();
        }

        fn holder(&self, ip: &str, at: i64) -> (Option<String>, Confidence) {
            let time = Timestamp::from_secs(at);
            let journal = self.inventory.journal();
            let who = journal.resolve(NetworkId::default(), ip.parse().unwrap(), time);
            (
                who.identity.name.as_deref().map(str::to_owned),
                who.confidence,
            )
        }
    }

    const IP: &str = "10.88.7.4";

    #[test]
    fn an_address_that_is_given_again_belongs_to_each_in_its_time() {
        let mut node = Node::new();
        node.read(1000);
        node.lease(IP, 1, 1010);
        node.result(IP, 1, "old-1");
        node.read(1011);
        // Torn down: the lease goes first, the result long after the next pod has the address.
        node.free(IP);
        node.read(1050);
        node.lease(IP, 2, 1055);
        node.read(1056);
        node.result(IP, 2, "new-1");
        node.read(1057);
        fs::remove_file(node.cached(1)).unwrap();
        node.read(1070);
        assert_eq!(node.holder(IP, 1020).0.as_deref(), Some("old-1"));
        assert_eq!(node.holder(IP, 1049).0.as_deref(), Some("old-1"));
        let after = node.holder(IP, 1060);
        assert_eq!(after, (Some("new-1".to_owned()), Confidence::Exact));
        assert_eq!(node.holder(IP, 2000).0.as_deref(), Some("new-1"));
    }

    #[test]
    fn a_change_between_two_readings_leaves_no_doubt() {
        let mut node = Node::new();
        node.lease(IP, 1, 1010);
        node.result(IP, 1, "old-1");
        node.read(1011);
        node.lease(IP, 2, 1040);
        node.result(IP, 2, "new-1");
        fs::remove_file(node.cached(1)).unwrap();
        node.read(1060);
        assert_eq!(node.holder(IP, 1030).0.as_deref(), Some("old-1"));
        assert_eq!(node.holder(IP, 1045).0.as_deref(), Some("new-1"));
    }

    #[test]
    fn a_name_may_come_after_the_lease() {
        let mut node = Node::new();
        node.read(1000);
        node.lease(IP, 1, 1010);
        node.read(1011);
        assert_eq!(node.holder(IP, 1012).0, None);
        node.result(IP, 1, "late-1");
        node.read(1019);
        assert_eq!(node.holder(IP, 1012).0.as_deref(), Some("late-1"));
        node.read(1020);
        assert_eq!(node.holder(IP, 1500).0.as_deref(), Some("late-1"));
    }

    #[test]
    fn a_file_in_the_middle_of_its_writing_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("pods.json");
        let paths = vec![list.clone()];
        let mut inventory = LiveInventory::new(paths, InventoryOptions::default());
        inventory
            .read(Timestamp::from_secs(1), Apis::default())
            .unwrap();
        fs::write(&list, "ip,namespace,pod\n10.1.1.1,shop,web-0\n").unwrap();
        inventory
            .read(Timestamp::from_secs(2), Apis::default())
            .unwrap();
        fs::write(&list, r#"{"kind":"List","items":[{"kind":"Pod","#).unwrap();
        inventory
            .read(Timestamp::from_secs(3), Apis::default())
            .unwrap_err();
        let who = inventory.journal().resolve(
            NetworkId::default(),
            "10.1.1.1".parse().unwrap(),
            Timestamp::from_secs(4),
        );
        assert_eq!(who.identity.name.as_deref(), Some("web-0"));
    }
}
