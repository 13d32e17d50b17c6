//! The claims on one address, sorted by whom they mean: several sources that speak of one owner become one holder.
//!
//! Knows ids and names; what holders mean to one another is the business of [`super::timeline`].

use std::collections::HashMap;
use std::sync::Arc;

use super::claim::{Claim, Standing, Tenure};
use super::{Identity, IdentityKind, Source};

/// One owner of an address, as all sources together know it.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// Name and fields by the best-trusted source, gaps filled from the others.
    pub(super) identity: Arc<Identity>,
    /// The best-trusted source.
    pub(super) source: Source,
    /// The union of what the sources know of the times.
    pub(super) tenure: Tenure,
}

impl Holder {
    /// Whether it is known who it is, not only that somebody is there.
    pub(super) fn is_named(&self) -> bool {
        self.identity.name.is_some() || self.identity.kind != IdentityKind::Pod
    }

    /// Whether naming the one would be right for the other: a `StatefulSet` pod that comes back with its old address
    /// has a new uid and the same name.
    pub(super) fn same_name(&self, other: &Self) -> bool {
        let (a, b) = (&*self.identity, &*other.identity);
        a.kind == b.kind
            && a.namespace == b.namespace
            && a.name == b.name
            && (a.name.is_some() || a == b)
    }
}

/// Groups claims by owner. `claims` must be in canonical order, so that equal sets give equal holders.
pub(super) fn holders(claims: &[Claim]) -> Vec<Holder> {
    let mut grouping = Grouping::default();
    let has_sandbox_only = |claim: &&Claim| claim.uid.is_none() && claim.sandbox.is_some();
    claims
        .iter()
        .filter(|claim| claim.uid.is_some())
        .for_each(|claim| grouping.by_uid(claim));
    claims
        .iter()
        .filter(has_sandbox_only)
        .for_each(|claim| grouping.by_sandbox(claim));
    let with_ids = grouping.groups.len();
    for claim in claims
        .iter()
        .filter(|claim| claim.uid.is_none() && claim.sandbox.is_none())
    {
        grouping.by_name(claim, with_ids);
    }
    grouping.groups.into_iter().filter_map(merge).collect()
}

/// Kind, namespace and name.
type NameKey<'a> = (IdentityKind, Option<&'a str>, &'a str);

#[derive(Default)]
struct Grouping<'a> {
    groups: Vec<Vec<&'a Claim>>,
    uids: HashMap<&'a str, usize>,
    sandboxes: HashMap<&'a str, usize>,
    /// The group of a name; `None` where several owners bear it.
    names: HashMap<NameKey<'a>, Option<usize>>,
}

impl<'a> Grouping<'a> {
    fn by_uid(&mut self, claim: &'a Claim) {
        let next = self.groups.len();
        let group = claim
            .uid
            .as_deref()
            .map_or(next, |uid| *self.uids.entry(uid).or_insert(next));
        self.put(group, claim);
    }

    /// A claim with no uid goes to the group of its sandbox, else to the only owner that bears its name.
    fn by_sandbox(&mut self, claim: &'a Claim) {
        let known = claim
            .sandbox
            .as_deref()
            .and_then(|id| self.sandboxes.get(id).copied());
        let group = known
            .or_else(|| self.only_bearer(claim))
            .unwrap_or(self.groups.len());
        self.put(group, claim);
    }

    /// A claim with a name alone joins the only owner with ids that bears the name, unless they lived at other times.
    fn by_name(&mut self, claim: &'a Claim, with_ids: usize) {
        let compatible = |&group: &usize| {
            group < with_ids
                && self.groups.get(group).is_some_and(|members| {
                    members
                        .iter()
                        .all(|member| member.tenure.may_overlap(&claim.tenure))
                })
        };
        let group = self.only_bearer(claim).filter(compatible);
        self.put(group.unwrap_or(self.groups.len()), claim);
    }

    fn only_bearer(&self, claim: &'a Claim) -> Option<usize> {
        self.names.get(&name_key(claim)?).copied().flatten()
    }

    fn put(&mut self, group: usize, claim: &'a Claim) {
        match self.groups.get_mut(group) {
            Some(members) => members.push(claim),
            None => self.groups.push(vec![claim]),
        }
        if let Some(sandbox) = claim.sandbox.as_deref() {
            self.sandboxes.entry(sandbox).or_insert(group);
        }
        if let Some(key) = name_key(claim) {
            let bearer = self.names.entry(key).or_insert(Some(group));
            if *bearer != Some(group) {
                *bearer = None;
            }
        }
    }
}

fn name_key(claim: &Claim) -> Option<NameKey<'_>> {
    let Identity {
        kind,
        namespace,
        name,
        ..
    } = &*claim.identity;
    Some((*kind, namespace.as_deref(), name.as_deref()?))
}

/// One holder from the claims about it; `None` when there are none.
fn merge(mut claims: Vec<&Claim>) -> Option<Holder> {
    // Stable, so canonical order still decides among equals.
    claims.sort_by_key(|claim| std::cmp::Reverse((claim.is_named(), claim.source)));
    let (best, rest) = claims.split_first()?;
    let mut holder = Holder {
        identity: best.identity.clone(),
        source: best.source,
        tenure: best.tenure,
    };
    for claim in rest {
        fill(&mut holder.identity, &claim.identity);
        let start = holder
            .tenure
            .start
            .map(|start| (Some(start), holder.tenure.settled));
        holder.tenure = holder.tenure.join(claim.tenure);
        // Of several starts that of the best-trusted source counts, not the earliest.
        if let Some((start, settled)) = start {
            (holder.tenure.start, holder.tenure.settled) = (start, settled);
        }
    }
    repair(&mut holder.tenure);
    Some(holder)
}

/// Takes from `other` what `identity` lacks; copies only when there is something to take.
fn fill(identity: &mut Arc<Identity>, other: &Arc<Identity>) {
    let weak = |identity: &Identity| {
        identity
            .workload
            .as_ref()
            .is_none_or(|workload| &*workload.kind == "Owner")
    };
    let better_workload = weak(identity) && !weak(other);
    let lacks =
        |mine: &Option<Arc<str>>, theirs: &Option<Arc<str>>| mine.is_none() && theirs.is_some();
    if !(better_workload
        || lacks(&identity.uid, &other.uid)
        || lacks(&identity.revision, &other.revision)
        || lacks(&identity.node, &other.node)
        || identity.labels.is_empty() && !other.labels.is_empty()
        || identity.workload.is_none() && other.workload.is_some())
    {
        return;
    }
    let mine = Arc::make_mut(identity);
    if better_workload || mine.workload.is_none() {
        mine.workload.clone_from(&other.workload);
    }
    if mine.labels.is_empty() {
        mine.labels.clone_from(&other.labels);
    }
    for (mine, theirs) in [
        (&mut mine.uid, &other.uid),
        (&mut mine.revision, &other.revision),
        (&mut mine.node, &other.node),
    ] {
        if mine.is_none() {
            mine.clone_from(theirs);
        }
    }
}

/// Makes contradictory times harmless: an end before the start is no end, and nothing settles before it starts.
fn repair(tenure: &mut Tenure) {
    if tenure
        .end
        .is_some_and(|end| tenure.start.is_some_and(|start| end < start))
    {
        tenure.end = None;
        tenure.standing = Standing::Leaving;
    }
    tenure.settled = tenure.settled.max(tenure.start);
    if let (Some(settled), Some(end)) = (tenure.settled, tenure.end) {
        tenure.settled = Some(settled.min(end));
    }
}
