//! Profiles that let an agent answer syscalls ("notify"): what of them can work at all.

use ferry_oci::runtime::{LinuxSeccomp, LinuxSeccompAction};

use super::error::SeccompError;

/// What the runtime itself calls between loading the filter and handing its listener to the agent.
const NEEDED: [&str; 2] = ["sendmsg", "exit_group"];

/// Whether any rule asks an agent.
pub(crate) fn is_wanted(profile: &LinuxSeccomp) -> bool {
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    profile.default_action() == LinuxSeccompAction::ScmpActNotify
        || rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify)
}

/// Refuses a profile whose agent could never hear of it.
pub(super) fn check(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    if !is_wanted(profile) {
        return Ok(());
    }
    let refuse = |reason: &str| {
        let action = LinuxSeccompAction::ScmpActNotify.to_string();
        Err(SeccompError::Action { action, reason: reason.to_owned() })
    };
    if profile.listener_path().as_ref().is_none_or(|path| path.as_os_str().is_empty()) {
        return refuse("linux.seccomp.listenerPath is missing, so no agent can be given the listener");
    }
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return refuse(
            "as the default action it would hold up the runtime before the agent has the listener",
        );
    }
    let rules = profile.syscalls().as_deref().unwrap_or_default();
    let notified = rules.iter().filter(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    match notified.flat_map(|rule| rule.names()).find(|name| NEEDED.contains(&name.as_str())) {
        Some(name) => refuse(&format!("{name} is how the agent gets the listener")),
        None => Ok(()),
    }
}
