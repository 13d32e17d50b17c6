//! Finding and reading the files of a CNI tree, whatever version wrote them.

use std::fs::{self, DirEntry, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::super::lenient::{Field, records};
use crate::address::canonical;
use crate::time::Timestamp;

/// Directories below the root that are looked into.
const MAX_DEPTH: usize = 8;
/// Files looked at: a thousand pods leave two thousand.
const MAX_FILES: usize = 200_000;
/// Bytes of a file. Results take two thousand or so.
const MAX_SIZE: u64 = 1 << 20;

records! {
    /// Any of the JSON files: a result in its cache, a bare result, a configuration, a list of such.
    pub(super) CniFile {
        /// Of a cached result.
        container_id: String,
        if_name: String,
        network_name: String,
        /// The configuration in base64.
        config: String,
        cni_args: Vec<Vec<String>>,
        capability_args: CapabilityArgs,
        result: CniResult,
        /// Of a bare result, as libcni before 0.8 left it in the same place.
        interfaces: Vec<Interface>,
        ips: Vec<IpConfig>,
        ip4: IpConfig,
        ip6: IpConfig,
        /// Of a configuration.
        name: String,
        plugins: Vec<Plugin>,
        #[serde(rename = "type")]
        kind: String,
        is_gateway: bool,
        ipam: Ipam,
    }

    /// What a plugin answered.
    pub(super) CniResult {
        ips: Vec<IpConfig>,
        /// Before CNI 0.3.
        ip4: IpConfig,
        ip6: IpConfig,
    }

    /// An interface; only whether there is one matters.
    pub(super) Interface {
        name: String,
    }

    /// An address with its prefix length.
    pub(super) IpConfig {
        address: String,
        /// Before CNI 0.3.
        ip: String,
        gateway: String,
    }

    /// What the runtime asked for besides.
    pub(super) CapabilityArgs {
        dns: Dns,
    }

    /// The pod's resolver.
    pub(super) Dns {
        #[serde(rename = "Servers")]
        servers: Vec<String>,
        #[serde(rename = "Searches")]
        searches: Vec<String>,
    }

    /// One plugin of a configuration.
    pub(super) Plugin {
        #[serde(rename = "type")]
        kind: String,
        is_gateway: bool,
        ipam: Ipam,
    }

    /// How addresses are chosen.
    pub(super) Ipam {
        ranges: Vec<Vec<Range>>,
        subnet: String,
        gateway: String,
    }

    /// One range of addresses.
    pub(super) Range {
        subnet: String,
        gateway: String,
    }
}

/// A lease of host-local: a file whose name is the address and whose content is the sandbox's id.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Lease {
    pub(super) network: String,
    pub(super) ip: IpAddr,
    pub(super) sandbox: String,
    /// When the file was written, by its own account.
    pub(super) modified: Option<Timestamp>,
}

/// What a tree holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) leases: Vec<Lease>,
    pub(super) results: Vec<CniFile>,
    pub(super) confs: Vec<CniFile>,
    pub(super) unreadable: usize,
    pub(super) unfinished: usize,
    /// Whether the tree was larger than anyone's.
    pub(super) cut_short: bool,
    files: usize,
}

/// Reads every file of a tree that is worth it.
pub(super) fn walk(root: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    found.directory(root, 0)?;
    Ok(found)
}

impl Found {
    fn directory(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(path)?.filter_map(Result::ok).collect();
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let Ok(file_type) = entry.file_type() else {
                continue;
            };
            if file_type.is_dir() && depth < MAX_DEPTH {
                let denied = self.directory(&entry.path(), depth + 1).is_err();
                self.unreadable += usize::from(denied);
            } else if file_type.is_file() {
                if self.files >= MAX_FILES {
                    self.cut_short = true;
                    return Ok(());
                }
                self.files += 1;
                self.file(path, &entry);
            }
        }
        Ok(())
    }

    fn file(&mut self, parent: &Path, entry: &DirEntry) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Windows has no colons in names.
        let ip = name.parse().or_else(|_| name.replace('_', ":").parse());
        if let Ok(ip) = ip {
            let network = parent
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            self.lease(network.unwrap_or_default(), canonical(ip), entry);
        } else if name != "lock" && !name.starts_with("last_reserved_ip") {
            self.json(&name, entry);
        }
    }

    fn lease(&mut self, network: String, ip: IpAddr, entry: &DirEntry) {
        let Some(content) = self.content(entry) else {
            return;
        };
        // The id, then CR LF and the interface since plugins 0.8. An empty file is being written.
        let content = String::from_utf8_lossy(&content);
        let Some(sandbox) = content.split_whitespace().next() else {
            self.unfinished += 1;
            return;
        };
        let modified = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.leases.push(Lease {
            network,
            ip,
            sandbox: sandbox.to_owned(),
            modified: modified.map(|since| Timestamp::from_nanos(0).after(since)),
        });
    }

    fn json(&mut self, name: &str, entry: &DirEntry) {
        // Files of the kernel say they are empty and aren't; they are none of ours.
        if !entry
            .metadata()
            .is_ok_and(|metadata| (1..=MAX_SIZE).contains(&metadata.len()))
        {
            return;
        }
        let Some(content) = self.content(entry) else {
            return;
        };
        if content.trim_ascii_start().first() != Some(&b'{') {
            return;
        }
        let Ok(Field(mut file)) = serde_json::from_slice::<Field<CniFile>>(&content) else {
            self.unfinished += 1;
            return;
        };
        if !file.plugins.is_empty() || !file.kind.is_empty() {
            self.confs.push(file);
            return;
        }
        let bare = !file.interfaces.is_empty() || !file.ips.is_empty();
        if bare || !file.ip4.ip.is_empty() || !file.ip6.ip.is_empty() {
            // The name is network, id and interface with dashes between; a network's name may have dashes too.
            let id = name.split('-').find(|part| part.len() == 64);
            id.unwrap_or_default().clone_into(&mut file.container_id);
            let CniFile { ips, ip4, ip6, .. } = &mut file;
            file.result = CniResult {
                ips: std::mem::take(ips),
                ip4: std::mem::take(ip4),
                ip6: std::mem::take(ip6),
            };
        }
        if !file.container_id.is_empty() {
            self.results.push(file);
        }
    }

    fn content(&mut self, entry: &DirEntry) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let read =
            File::open(entry.path()).and_then(|file| file.take(MAX_SIZE).read_to_end(&mut content));
        self.unreadable += usize::from(read.is_err());
        read.is_ok().then_some(content)
    }
}

impl CniFile {
    /// An argument that the runtime gave: `K8S_POD_NAME` and the like, in no certain order.
    pub(super) fn arg(&self, name: &str) -> &str {
        let pair = self
            .cni_args
            .iter()
            .find(|pair| pair.first().is_some_and(|key| key == name));
        pair.and_then(|pair| pair.get(1)).map_or("", |value| value)
    }

    /// The plugins of a configuration, whether it is one or a list.
    pub(super) fn plugins(&mut self) -> Vec<Plugin> {
        let own = Plugin {
            kind: std::mem::take(&mut self.kind),
            is_gateway: self.is_gateway,
            ipam: std::mem::take(&mut self.ipam),
        };
        let mut plugins = std::mem::take(&mut self.plugins);
        if !own.kind.is_empty() {
            plugins.push(own);
        }
        plugins
    }
}

impl Ipam {
    /// Subnets with the gateway that is given for them, in the new form and the old.
    pub(super) fn subnets(&self) -> impl Iterator<Item = (&str, &str)> {
        let ranges = self.ranges.iter().flatten();
        let ranges = ranges.map(|range| (&*range.subnet, &*range.gateway));
        ranges.chain([(&*self.subnet, &*self.gateway)])
    }
}

impl CniResult {
    /// Addresses with prefix length, each with its gateway.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.ips.iter().chain([&self.ip4, &self.ip6]);
        all.flat_map(|entry| {
            [
                (&*entry.address, &*entry.gateway),
                (&*entry.ip, &*entry.gateway),
            ]
        })
    }
}
