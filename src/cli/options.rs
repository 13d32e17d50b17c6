//! Options that several commands share: same name, same meaning.

use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::memory::{LEAST_LIMIT, MOST_LIMIT, on_small_pages, remembered};
use crate::memory::Share;

/// What to read, and whose addresses are in it.
#[derive(Debug, clap::Args)]
pub(super) struct Input {
    /// Capture files: pcap or pcapng, also compressed with gzip or zstd; '-' is standard input. Several are merged in
    /// time order
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) inventory: Inventory,
    /// Only packets that match this BPF expression, as tcpdump takes it
    #[arg(short, long, value_name = "BPF")]
    pub(super) filter: Option<String>,
    /// Processors to use: on 2, one takes the packets apart and the other judges; more than 2 are not used [default: as
    /// many as there are]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) threads: Option<u8>,
    /// MiB of memory to make do with: what is remembered of flows, peers and attacks is less or more in proportion [default:
    /// what suits some 200,000 open flows, half a GiB at most]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(LEAST_LIMIT..=MOST_LIMIT))]
    pub(super) memory_limit: Option<u32>,
}

/// MiB that the program itself takes, with what reads files.
const FIXED: u32 = 20;

impl Input {
    /// The share of memory that is left for what traffic can fill.
    pub(super) fn share(&self) -> Share {
        let Some(limit) = self.memory_limit else {
            return Share::WHOLE;
        };
        on_small_pages();
        remembered(limit, FIXED)
    }
}

/// Whose addresses are in the packets.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Inventory {
    /// Who held which address: 'kubectl get pods,svc,nodes,endpointslices -A -o json', watch events, a copied
    /// /var/lib/cni, CSV, or a journal; repeatable, recognised by content
    #[arg(long = "inventory", value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Range of pod addresses, where the inventory doesn't tell; repeatable
    #[arg(long, value_name = "CIDR")]
    pub(super) cluster_cidr: Vec<IpNetwork>,
    /// Range of service addresses, where the inventory doesn't tell; repeatable
    #[arg(long, value_name = "CIDR")]
    pub(super) service_cidr: Vec<IpNetwork>,
}
