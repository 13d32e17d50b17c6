//! The integration tests: one binary, a module per topic.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests stop at the first thing that is not as it should be"
)]

/// Results, forms and exit status of `analyze`.
mod analyze;
/// A stand-in for the Kubernetes API; no tests.
#[cfg(target_os = "linux")]
mod apiserver;
/// One address, several holders.
mod attribution;
/// Damaged files and requests that can't be met.
mod bad_input;
/// The `baseline` command, and what befalls its file.
mod baseline;
/// The bundled captures: made from a seed, and found as expected.
mod captures;
/// Every bundled case, expectations and words.
mod cases;
/// Runs the command; no tests.
mod command;
/// Configuration files.
#[cfg(target_os = "linux")]
mod config;
/// A real container runtime; no tests.
#[cfg(target_os = "linux")]
mod containerd;
/// A stand-in for a container runtime; no tests.
#[cfg(target_os = "linux")]
mod criserver;
/// What is deployed, against what the program is.
#[cfg(target_os = "linux")]
mod deploy;
/// Packets of alerts.
mod evidence;
/// What somebody has allowed.
mod exceptions;
/// Why something alerted, or didn't.
mod explain;
/// The `flows` command.
mod flows;
/// Traffic in pieces.
mod fragments;
/// Guessing in every manner.
mod guessing;
/// Alerts tied together.
mod incidents;
/// Network namespaces with pods in them; no tests.
#[cfg(target_os = "linux")]
mod lab;
/// Baselines.
mod learn;
/// Live captures.
#[cfg(target_os = "linux")]
mod live;
/// Attacks by real tools on a live node.
#[cfg(target_os = "linux")]
mod live_attacks;
/// Identities by a container runtime.
#[cfg(target_os = "linux")]
mod live_cri;
/// Alerts of live captures, on their way.
#[cfg(target_os = "linux")]
mod live_delivery;
/// Live captures, as they are deployed.
#[cfg(target_os = "linux")]
mod live_deploy;
/// Identities by the Kubernetes API.
#[cfg(target_os = "linux")]
mod live_kubernetes;
/// Live captures under load.
#[cfg(target_os = "linux")]
mod live_load;
/// Live captures at mirror ports.
#[cfg(target_os = "linux")]
mod live_mirror;
/// Live captures of ports that are forwarded.
#[cfg(target_os = "linux")]
mod live_port_forward;
/// Flows against tshark.
mod oracle;
/// Databases against tshark.
mod oracle_databases;
/// DNS, TLS and HTTP against tshark.
mod oracle_messages;
/// Real servers in network namespaces.
mod real_servers;
/// Captures of real tools.
mod recorded;
/// What may be renamed or moved in a capture without a word changing.
mod renamed;
/// What has a time of its own.
mod seasons;
/// Planted secrets stay inside.
mod secrets;
/// Services and masquerading.
mod services;
/// Catalogue, pages, checks.
mod signatures;
/// A stand-in for an API server that forwards ports; no tests.
#[cfg(target_os = "linux")]
mod streamserver;
/// The same packets at several taps.
mod taps;
/// The repository's own rules.
mod tidy;
/// How soon attacks are told.
mod time_to_detect;
/// Traffic seen wrapped.
mod tunnels;
