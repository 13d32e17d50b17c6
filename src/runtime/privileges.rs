//! Rights given up: what a thread doesn't need it can't be made to misuse by what it reads.
//!
//! Before anything is opened, root for another user, if one is named. Once the interfaces are open the thread that captures keeps
//! NET_RAW, for interfaces that come later; all others keep nothing. Nothing can be executed, nothing written but where results go,
//! and the kernel answers no call that only an intruder would make. What the system can't do is told, not hidden.
//!
//! All of it is each thread's own, and passed on to those that it starts.

use std::fs;
use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The newest form of Landlock that is asked for; older kernels do what they can of it.
const FORM: ABI = ABI::V5;

/// What a program that reads packets and writes files never calls: to run and look into programs, mount, change namespaces, the kernel,
/// keys and the clock, and the interfaces through which kernels are attacked most. A list of what it does call would be tighter and
/// break with the next version of a library.
const NEVER: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// A user to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// By name, as `/etc/passwd` has it, or by number: `UID` or `UID:GID`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(name: &str) -> Result<Self, String> {
        // All ones stand for "as it is".
        let number = |text: &str| text.parse().ok().filter(|&id| id != u32::MAX);
        let (uid, gid) = name.split_once(':').unwrap_or((name, name));
        if let (Some(uid), Some(gid)) = (number(uid), number(gid)) {
            return Ok(Self { uid, gid });
        }
        let users = fs::read_to_string("/etc/passwd");
        let users = users.map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
        let found = users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let same = fields.next() == Some(name);
            let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
            same.then_some(Self { uid, gid })
        });
        found.ok_or_else(|| {
            format!("there is no user {name} in /etc/passwd; name one, or give UID:GID")
        })
    }
}

/// Goes on as another user: this thread, and those that it starts from now on. Of what root may do that leaves what opens interfaces.
///
/// # Errors
/// When this user may not become that one.
pub fn become_user(user: User) -> Result<(), String> {
    if rustix::process::getuid().as_raw() == user.uid {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let change = || -> rustix::io::Result<()> {
        set_keep_capabilities(true)?;
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)
    };
    change().map_err(|error| {
        let User { uid, gid } = user;
        format!("cannot become user {uid}, group {gid}: {error}; that takes root, or the capabilities SETUID and SETGID")
    })?;
    drop_all_but(Some(Capability::CAP_NET_RAW))
}

/// Has the kernel refuse, to this thread and those that it starts, what is never called.
pub(super) fn filter_calls() -> Result<(), String> {
    let filter = || -> Result<BpfProgram, seccompiler::BackendError> {
        let architecture = std::env::consts::ARCH.try_into()?;
        let never = NEVER.iter().map(|&call| (call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        SeccompFilter::new(never, SeccompAction::Allow, refuse, architecture)?.try_into()
    };
    let filter = filter().map_err(|error| error.to_string())?;
    apply_filter(&filter).map_err(|error| error.to_string())
}

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
    drop_all_but(one)?;
    rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string())
}

fn drop_all_but(one: Option<Capability>) -> Result<(), String> {
    let held = caps::read(None, CapSet::Permitted).map_err(|error| error.to_string())?;
    let kept: CapsHashSet = one.into_iter().filter(|cap| held.contains(cap)).collect();
    let drop = || -> Result<(), caps::errors::CapsError> {
        caps::clear(None, CapSet::Ambient)?;
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)?;
        caps::clear(None, CapSet::Inheritable)
    };
    drop().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = User { uid: 0, gid: 0 };
        assert_eq!(User::find("root"), Ok(root));
        assert_eq!(User::find("0"), Ok(root));
        assert_eq!(User::find("7:8"), Ok(User { uid: 7, gid: 8 }));
        for wrong in ["", "no such user", "7:", "4294967295", "-1"] {
            User::find(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_is_never_called_is_refused_and_the_rest_works() {
        let confined = std::thread::Builder::new().spawn(|| {
            keep(None).unwrap();
            filter_calls().unwrap();
            let run = std::process::Command::new("/bin/true").status();
            let files = fs::read_to_string("/proc/self/status");
            (run.unwrap_err().kind(), files.is_ok())
        });
        let (refused, reads) = confined.unwrap().join().unwrap();
        assert_eq!(refused, std::io::ErrorKind::PermissionDenied);
        assert!(reads);
    }
}
