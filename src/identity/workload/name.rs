//! The rules by which Kubernetes makes names, read backwards.
//!
//! A random suffix is five characters of an alphabet with neither vowels nor `0 1 3`. A template hash is a 32-bit number
//! in decimal whose digits 0 to 9 are written `4 5 6 7 8 9 b c d f`; so a random word passes for one with a chance of
//! one in tens of thousands. A `CronJob` names its `Job`s by the minute (once, the second) they were due.

use std::ops::RangeInclusive;

use super::Lineage;

/// Bytes of a generated name, of which the last are the random suffix; what doesn't fit is cut off before it.
const NAME_MAX: usize = 63;
const SUFFIX_LEN: usize = 5;

/// Bytes of any object's name. What is longer was made by somebody else, perhaps to keep us busy.
const OBJECT_NAME_MAX: usize = 253;

/// Minutes since the epoch in the years 2020 to 2034, as a `CronJob` since Kubernetes 1.21 puts them into names.
const RUN_MINUTES: RangeInclusive<u64> = 26_297_280..=34_187_040;

/// The same in seconds, as before 1.21; these clusters were there from 2016 on.
const RUN_SECONDS: RangeInclusive<u64> = 1_451_606_400..=2_051_222_400;

/// Programs that kubelets run from files under their own name and the node's.
const STATIC_PODS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
];

/// What people write that passes for a random suffix: having no vowels, these are few.
const WORDS: [&str; 9] = [
    "https", "httpd", "mssql", "pgsql", "mqtts", "grpcs", "xhtml", "html5", "tftpd",
];

/// The workload's kind and name, by the pod's name alone. `Owner` is a controller of unknown kind.
pub(super) fn from_name<'a>(name: &'a str, lineage: &Lineage) -> (&'static str, &'a str) {
    if name.len() > OBJECT_NAME_MAX {
        return ("Pod", name);
    }
    if let Some(base) = strip_node(name, lineage) {
        return ("StaticPod", base);
    }
    if let Some(owner) = strip_suffix(name) {
        if let Some(base) = strip_hash(owner) {
            return ("Deployment", base);
        }
        if let Some(base) = strip_run_time(owner) {
            return ("CronJob", base);
        }
        if let Some((base, _)) = owner.rsplit_once('-').filter(|(base, index)| {
            !base.is_empty() && (1..=5).contains(&index.len()) && is_number(index)
        }) {
            return ("Owner", base);
        }
    }
    if let Some(base) = strip_ordinal(name) {
        return ("StatefulSet", base);
    }
    match strip_suffix_or_cut(name) {
        Some(base) => strip_hash(base).map_or(("Owner", base), |base| ("Deployment", base)),
        None => ("Pod", name),
    }
}

/// A name without its random suffix, before which a name of full length may have lost its dash.
pub(super) fn strip_suffix_or_cut(name: &str) -> Option<&str> {
    if name.len() < NAME_MAX {
        return strip_suffix(name);
    }
    let (base, suffix) = name.split_at_checked(NAME_MAX - SUFFIX_LEN)?;
    let base = base.trim_end_matches('-');
    (is_suffix(suffix) && !base.is_empty()).then_some(base)
}

/// `web` of `web-5d78c9869d`.
pub(super) fn strip_hash(name: &str) -> Option<&str> {
    let (base, hash) = name.rsplit_once('-')?;
    (!base.is_empty() && is_hash(hash)).then_some(base)
}

/// `web` of `web-<hash>-x2x9z`, whatever the hash looks like. Of long names the end of the hash is lost, and maybe the
/// dash after it.
pub(super) fn strip_known_hash<'a>(name: &'a str, hash: &str) -> Option<&'a str> {
    if hash.is_empty() || hash.len() > NAME_MAX {
        return None;
    }
    if name.len() < NAME_MAX {
        let base = strip_suffix(name)?.strip_suffix(hash)?.strip_suffix('-')?;
        return (!base.is_empty()).then_some(base);
    }
    let (cut, suffix) = name.split_at_checked(NAME_MAX - SUFFIX_LEN)?;
    if !is_suffix(suffix) {
        return None;
    }
    let cut = cut.strip_suffix('-').unwrap_or(cut);
    // Five characters of a hash are enough to be no coincidence.
    (SUFFIX_LEN..=hash.len()).rev().find_map(|len| {
        let base = cut.strip_suffix(hash.get(..len)?)?.strip_suffix('-')?;
        (!base.is_empty()).then_some(base)
    })
}

/// `backup` of `backup-28001440`.
pub(super) fn strip_run_time(name: &str) -> Option<&str> {
    let (base, time) = name.rsplit_once('-')?;
    let due: u64 = if is_number(time) {
        time.parse().ok()?
    } else {
        return None;
    };
    let plausible = match time.len() {
        8 => RUN_MINUTES.contains(&due),
        10 => RUN_SECONDS.contains(&due),
        _ => false,
    };
    (plausible && !base.is_empty()).then_some(base)
}

/// `postgres` of `postgres-0`.
pub(super) fn strip_ordinal(name: &str) -> Option<&str> {
    let (base, ordinal) = name.rsplit_once('-')?;
    let canonical = ordinal == "0" || !ordinal.starts_with('0');
    (!base.is_empty() && ordinal.len() <= 4 && is_number(ordinal) && canonical).then_some(base)
}

/// `etcd` of `etcd-node-1`, where there is a node of that name, or of a program that is known to run so.
fn strip_node<'a>(name: &'a str, lineage: &Lineage) -> Option<&'a str> {
    let dashes = name.match_indices('-').map(|(at, _)| at);
    let by_node = dashes
        .filter_map(|at| name.split_at_checked(at))
        .find(|(base, rest)| {
            !base.is_empty()
                && rest
                    .strip_prefix('-')
                    .is_some_and(|node| lineage.nodes.contains(node))
        });
    by_node.map(|(base, _)| base).or_else(|| {
        STATIC_PODS.into_iter().find(|program| {
            let node = name
                .strip_prefix(program)
                .and_then(|rest| rest.strip_prefix('-'));
            // A number alone is an ordinal, a lone suffix a DaemonSet's, and a hash a Deployment's.
            node.is_some_and(|node| {
                !node.is_empty() && !is_number(node) && strip_suffix(name).is_none()
            })
        })
    })
}

/// `web-5d78c9869d` of `web-5d78c9869d-x2x9z`.
fn strip_suffix(name: &str) -> Option<&str> {
    let (base, suffix) = name.rsplit_once('-')?;
    (!base.is_empty() && is_suffix(suffix)).then_some(base)
}

fn is_suffix(text: &str) -> bool {
    let drawn = |byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte);
    text.len() == SUFFIX_LEN && text.bytes().all(drawn) && !WORDS.contains(&text)
}

/// Six to ten digits of the hash alphabet that make a 32-bit number without leading zero. Shorter ones exist, one in a
/// hundred thousand, and would cost more words than they win hashes.
fn is_hash(text: &str) -> bool {
    let push = |number: u32, byte: u8| {
        let digit = b"456789bcdf".iter().position(|&letter| letter == byte)?;
        number.checked_mul(10)?.checked_add(digit as u32)
    };
    (6..=10).contains(&text.len())
        && !text.starts_with('4')
        && text.bytes().try_fold(0, push).is_some()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
