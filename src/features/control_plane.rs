//! What runs a cluster, by address and port, and what is worth asking it for, by path.
//!
//! Ports are those of Kubernetes' own documentation ("Ports and Protocols"), metadata addresses and paths those of the
//! clouds' manuals.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dissect::HttpRequest;
use crate::event::FlowInfo;
use crate::flow::Protocol;
use crate::identity::{AddressClass, IdentityKind, Networks};

/// A part of the control plane, or what is as good as one to an intruder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Component {
    /// A cloud's metadata service.
    Metadata,
    /// The API server.
    ApiServer,
    /// The API server's old port without TLS, and `kubectl proxy`.
    InsecureApi,
    /// The kubelet's API.
    Kubelet,
    /// The kubelet's old read-only port.
    ReadOnlyKubelet,
    /// The cluster's store.
    Etcd,
    /// Scheduler and controller manager.
    Controllers,
    /// kube-proxy's health and metrics.
    KubeProxy,
    /// The old container statistics.
    Cadvisor,
    /// A container runtime's API.
    Docker,
    /// Helm 2's server.
    Tiller,
}

impl Component {
    /// The word used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Metadata => "cloud metadata",
            Self::ApiServer => "API server",
            Self::InsecureApi => "API server without TLS",
            Self::Kubelet => "kubelet",
            Self::ReadOnlyKubelet => "kubelet's read-only port",
            Self::Etcd => "etcd",
            Self::Controllers => "scheduler or controller manager",
            Self::KubeProxy => "kube-proxy",
            Self::Cadvisor => "cAdvisor",
            Self::Docker => "Docker API",
            Self::Tiller => "Tiller",
        }
    }

    /// The component that a port of a node (or of what may be one) is.
    pub const fn of_port(protocol: Protocol, port: u16) -> Option<Self> {
        if !matches!(protocol, Protocol::Tcp) {
            return None;
        }
        Some(match port {
            443 | 6443 | 8443 | 16443 => Self::ApiServer,
            8001 | 8080 => Self::InsecureApi,
            10250 => Self::Kubelet,
            10255 => Self::ReadOnlyKubelet,
            2379 | 2380 | 4001 => Self::Etcd,
            10251 | 10252 | 10257 | 10259 => Self::Controllers,
            10249 | 10256 => Self::KubeProxy,
            4194 => Self::Cadvisor,
            2375 | 2376 => Self::Docker,
            44134 => Self::Tiller,
            _ => return None,
        })
    }

    /// The component that a flow is for, as far as port and address tell.
    pub fn of(flow: &FlowInfo, networks: &Networks) -> Option<Self> {
        if is_metadata(flow.resp.ip) {
            return Some(Self::Metadata);
        }
        let component = Self::of_port(flow.protocol, flow.resp_port)?;
        let identity = &flow.resp.who.identity;
        let name = identity.name.as_deref();
        let ours = match identity.kind {
            IdentityKind::Node => true,
            // Databases and web servers of the pods' own have these ports as well.
            IdentityKind::Pod | IdentityKind::External => false,
            IdentityKind::Service => {
                name == Some("kubernetes") && identity.namespace.as_deref() == Some("default")
            }
            IdentityKind::Unknown => {
                networks.classify(flow.resp.ip) == AddressClass::Private
                    && (flow.resp_port != 443 || is_first_service(flow.resp.ip))
            }
        };
        ours.then_some(component)
    }
}

/// Whether an address looks like the first of a range of services, which is the API server's: 10.96.0.1, 10.43.0.1.
const fn is_first_service(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => matches!(v4.octets(), [_, _, 0, 1]),
        IpAddr::V6(_) => false,
    }
}

/// AWS, GCP, Azure, OpenStack and others; ECS tasks; EKS pod identity; Alibaba; Oracle.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// AWS, EKS pod identity, GCP.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Whether an address is that of a cloud's metadata service.
pub fn is_metadata(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => METADATA_V4.contains(&v4),
        IpAddr::V6(v6) => METADATA_V6.contains(&v6),
    }
}

/// What a request in clear asks the control plane for; in ascending order of interest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wanted {
    /// One harmless fact about the instance: its name, its zone.
    Fact,
    /// What there is.
    Listing,
    /// The script or configuration that the instance was started with.
    UserData,
    /// Objects of the cluster: pods, secrets, containers, keys.
    Objects,
    /// Credentials of the instance or the task.
    Credentials,
    /// To run something.
    Execution,
}

impl Wanted {
    /// The words used in alerts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fact => "facts about the instance",
            Self::Listing => "a list of what there is",
            Self::UserData => "the instance's start-up data",
            Self::Objects => "the cluster's objects",
            Self::Credentials => "credentials",
            Self::Execution => "to run something",
        }
    }

    /// What a request to a component wants; `None` if it is nothing special.
    pub fn of(component: Component, request: &HttpRequest) -> Option<Self> {
        let path = &*request.path;
        match component {
            Component::Metadata => Some(metadata(path)),
            Component::Docker => docker(&request.method, path),
            Component::Kubelet | Component::ReadOnlyKubelet | Component::Cadvisor => kubelet(path),
            Component::Etcd => {
                let keys = ["/v2/keys", "/v3/kv", "/v3alpha/kv", "/v3beta/kv"];
                starts_with(path, &keys).then_some(Self::Objects)
            }
            _ => {
                let call = request.kubernetes()?;
                let runs = matches!(call.subresource, Some("exec" | "attach" | "portforward"));
                Some(if runs { Self::Execution } else { Self::Objects })
            }
        }
    }
}

fn starts_with(path: &str, heads: &[&str]) -> bool {
    heads.iter().any(|head| path.starts_with(head))
}

fn metadata(path: &str) -> Wanted {
    const CREDENTIALS: &[&str] = &[
        "iam/security-credentials",
        "ram/security-credentials",
        "identity-credentials/",
        "service-accounts/",
        "/metadata/identity/",
        "/v1/credentials",
        "/v2/credentials",
    ];
    const USER_DATA: &[&str] = &[
        "user-data",
        "user_data",
        "kube-env",
        "/opc/v1/instance/metadata",
        "/opc/v2/instance/metadata",
        "ssh-keys",
        "customData",
    ];
    let has = |parts: &[&str]| parts.iter().any(|part| path.contains(part));
    if has(CREDENTIALS) {
        Wanted::Credentials
    } else if has(USER_DATA) {
        Wanted::UserData
    } else if path.ends_with('/') || path.ends_with("meta-data") || path == "/metadata/instance" {
        Wanted::Listing
    } else {
        Wanted::Fact
    }
}

fn kubelet(path: &str) -> Option<Wanted> {
    const RUNS: &[&str] = &["/run/", "/exec/", "/attach/", "/cri/", "/portForward/"];
    const OBJECTS: &[&str] = &[
        "/pods",
        "/runningpods",
        "/containerLogs/",
        "/configz",
        "/logs/",
        "/debug/",
    ];
    if starts_with(path, RUNS) {
        Some(Wanted::Execution)
    } else {
        starts_with(path, OBJECTS).then_some(Wanted::Objects)
    }
}

/// Docker's paths may begin with a version: `/v1.41/containers/json`.
fn docker(method: &str, path: &str) -> Option<Wanted> {
    let rest = path.strip_prefix("/v").and_then(|rest| {
        let (version, rest) = rest.split_once('/')?;
        let number = |c: char| c.is_ascii_digit() || c == '.';
        version.chars().all(number).then_some(rest)
    });
    let rest = rest.or_else(|| path.strip_prefix('/'))?;
    let objects = [
        "containers/",
        "images/",
        "info",
        "secrets",
        "swarm",
        "nodes",
        "volumes",
    ];
    if method == "POST" && starts_with(rest, &["containers/", "exec/"]) {
        Some(Wanted::Execution)
    } else {
        starts_with(rest, &objects).then_some(Wanted::Objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(component: Component, method: &str, path: &str) -> Option<Wanted> {
        let request = HttpRequest {
            method: method.into(),
            path: path.into(),
            ..HttpRequest::default()
        };
        Wanted::of(component, &request)
    }

    #[test]
    fn what_metadata_paths_are_after() {
        for (path, expected) in [
            ("/latest/meta-data/", Wanted::Listing),
            ("/latest/meta-data", Wanted::Listing),
            ("/latest/meta-data/instance-id", Wanted::Fact),
            ("/latest/api/token", Wanted::Fact),
            (
                "/latest/meta-data/iam/security-credentials/node-role",
                Wanted::Credentials,
            ),
            ("/latest/user-data", Wanted::UserData),
            (
                "/computeMetadata/v1/instance/service-accounts/default/token",
                Wanted::Credentials,
            ),
            (
                "/computeMetadata/v1/instance/attributes/kube-env",
                Wanted::UserData,
            ),
            ("/metadata/identity/oauth2/token", Wanted::Credentials),
            ("/metadata/instance", Wanted::Listing),
            ("/v2/credentials/6b2c", Wanted::Credentials),
            (
                "/latest/meta-data/ram/security-credentials/",
                Wanted::Credentials,
            ),
        ] {
            assert_eq!(
                wanted(Component::Metadata, "GET", path),
                Some(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn what_others_are_asked_for() {
        use Component::{Docker, Etcd, InsecureApi, ReadOnlyKubelet};
        for (component, method, path, expected) in [
            (ReadOnlyKubelet, "GET", "/pods", Some(Wanted::Objects)),
            (ReadOnlyKubelet, "GET", "/metrics", None),
            (
                ReadOnlyKubelet,
                "POST",
                "/run/shop/web/web",
                Some(Wanted::Execution),
            ),
            (
                Docker,
                "GET",
                "/v1.41/containers/json",
                Some(Wanted::Objects),
            ),
            (Docker, "GET", "/containers/json", Some(Wanted::Objects)),
            (
                Docker,
                "POST",
                "/v1.41/containers/create",
                Some(Wanted::Execution),
            ),
            (Docker, "GET", "/version", None),
            (Etcd, "GET", "/v2/keys/", Some(Wanted::Objects)),
            (InsecureApi, "GET", "/api/v1/secrets", Some(Wanted::Objects)),
            (InsecureApi, "GET", "/cart/items", None),
            (
                InsecureApi,
                "POST",
                "/api/v1/namespaces/shop/pods/web/exec",
                Some(Wanted::Execution),
            ),
        ] {
            assert_eq!(wanted(component, method, path), expected, "{path}");
        }
    }

    #[test]
    fn metadata_addresses() {
        for ip in [
            "169.254.169.254",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
        ] {
            assert!(is_metadata(ip.parse().unwrap()), "{ip}");
        }
        assert!(!is_metadata("169.254.1.1".parse().unwrap()));
    }
}
