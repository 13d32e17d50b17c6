//! Rights given up once the interfaces are open: what a thread doesn't need it can't be made to misuse by what it reads.
//!
//! The thread that captures keeps NET_RAW, for interfaces that come later; all others keep nothing. Nothing can be executed, and
//! nothing written but where results go. What the system can't do is told, not hidden.

use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};

/// The newest form of Landlock that is asked for; older kernels do what they can of it.
const FORM: ABI = ABI::V5;

/// Confines this thread, and those that it starts, to reading files and to writing below `writable`.
pub(super) fn confine(writable: &[PathBuf]) -> Result<(), String> {
    let every = AccessFs::from_all(FORM);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let confined = Ruleset::default()
        .handle_access(every)
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rules(path_beneath_rules(["/"], read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable, every)))
        .and_then(landlock::RulesetCreated::restrict_self);
    match confined.map(|status| status.ruleset) {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Ok(()),
        Ok(RulesetStatus::NotEnforced) => Err("this kernel has no Landlock".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Gives up every capability of this thread but one, and the way to get any back.
pub(super) fn keep(one: Option<Capability>) -> Result<(), String> {
    let held = caps::read(None, CapSet::Permitted).map_err(|error| error.to_string())?;
    let kept: CapsHashSet = one.into_iter().filter(|cap| held.contains(cap)).collect();
    let drop = || -> Result<(), caps::errors::CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)?;
        caps::clear(None, CapSet::Inheritable)
    };
    drop().map_err(|error| error.to_string())?;
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
}
