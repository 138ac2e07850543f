//! Who a process is and what it may: user, groups, capabilities, seccomp.
//!
//! Owns the order of these steps, which is what makes them hold: the bounding set and the ids while
//! privileged, the filter as the last step but one, the capabilities last.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use ferry_sys::capability;
use ferry_sys::namespace::{has_group, in_user_namespace};
use rustix::io::Errno;
use rustix::thread::{Gid, Uid};

use super::plan::{LimitPlan, ProcessPlan};
use crate::create::Step;
use crate::error::StepError;

/// `CAP_SYS_ADMIN`, which seccomp(2) asks for where no_new_privs is not set.
const SYS_ADMIN: u64 = 1 << 21;

/// Gives the process a session keyring of its own, so that it sees no key of the host.
pub(crate) fn new_session_keyring(id: &str) -> Result<(), StepError> {
    let fail = |errno| StepError::new(Step::Keyring, id, errno);
    let name = CString::new(format!("ferry-{id}")).map_err(|_| fail(Errno::INVAL))?;
    match ferry_sys::keyring::join_session(&name) {
        // A kernel without keyrings has none to hide.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(fail(errno)),
    }
}

/// Sets resource limits. What may not be raised is raised as far as it goes and told.
pub(crate) fn set_limits(limits: &[LimitPlan], warn: &mut dyn FnMut(String)) -> Result<(), StepError> {
    for limit in limits {
        let fail = |errno| {
            StepError::new(
                Step::ResourceLimits,
                format!("{} to {}:{}", limit.name, limit.soft, limit.hard),
                errno,
            )
        };
        match ferry_sys::execute::set_resource_limit(limit.resource, limit.soft, limit.hard) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                let current = ferry_sys::execute::hard_resource_limit(limit.resource).map_err(fail)?;
                let (soft, hard) = (limit.soft.min(current), limit.hard.min(current));
                ferry_sys::execute::set_resource_limit(limit.resource, soft, hard).map_err(fail)?;
                warn(format!(
                    "ulimit {}={}:{} is above the hard limit {current} of this machine and CAP_SYS_RESOURCE is missing: {soft}:{hard} is set",
                    limit.name, limit.soft, limit.hard
                ));
            }
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}

/// Gives up what is outside the bounding set and becomes the container's user.
///
/// Permitted capabilities stay until [`lock_down`].
pub(crate) fn become_user(plan: &ProcessPlan) -> Result<(), StepError> {
    let user = &plan.user;
    let fail = |what: String| move |errno| StepError::new(Step::User, what, errno);
    capability::limit_bounding(plan.capabilities.bounding)
        .map_err(|errno| StepError::new(Step::Capabilities, "bounding set", errno))?;
    rustix::thread::set_keep_capabilities(true).map_err(fail("keeping capabilities".to_owned()))?;
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A user with a single id may not change groups at all, and has none but that one to be in.
        Err(Errno::PERM) if user.gid == 0 && user.groups.iter().all(|group| *group == 0) && one_group() => {}
        result => result.map_err(fail(format!("groups {:?}", user.groups)))?,
    }
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(fail(format!("group {}", user.gid)))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(fail(format!("{}", user.uid)))?;
    rustix::thread::set_keep_capabilities(false).map_err(fail("dropping capabilities".to_owned()))?;
    Ok(())
}

/// Sets the final capabilities and the seccomp filter: the last thing before the command.
///
/// `hand_on` is given the filter's listener, where it has one, before anything else is called.
pub(crate) fn lock_down(
    plan: &ProcessPlan,
    hand_on: impl FnOnce(&OwnedFd) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let fail = |what: &'static str| move |errno| StepError::new(Step::Capabilities, what, errno);
    // What the kernel does not know or this process does not have cannot be given; it was warned about.
    let permitted = capability::permitted().map_err(fail("permitted set"))?;
    let sets = plan.capabilities.limited_to(permitted);
    let helper = match &plan.seccomp {
        Some(_) if !plan.no_new_privileges => SYS_ADMIN & permitted,
        _ => 0,
    };
    capability::set(sets.effective | helper, sets.permitted | helper, sets.inheritable)
        .map_err(fail("sets"))?;
    capability::set_ambient(sets.ambient).map_err(fail("ambient set"))?;
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(fail("no_new_privs"))?;
    }
    if let Some(filter) = &plan.seccomp {
        let listener = ferry_sys::seccomp::load(&filter.program, filter.flags).map_err(|errno| {
            StepError::new(Step::Seccomp, format!("of {} bytes", filter.program.len()), errno)
        })?;
        if let Some(listener) = &listener {
            hand_on(listener)?;
        }
    }
    if helper & !sets.permitted != 0 {
        // The one call that a profile must allow besides execve; Docker's does.
        capability::set(sets.effective, sets.permitted, sets.inheritable).map_err(fail("sets"))?;
    }
    Ok(())
}

/// Whether this user namespace has no second group.
fn one_group() -> bool {
    in_user_namespace() && !has_group(1)
}
