//! Options that several commands share: same name, same meaning.

use std::path::PathBuf;

use ipnetwork::IpNetwork;

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
