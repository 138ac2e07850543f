//! What a specification asks for and only some machines have: said before anything is made.

use std::path::Path;

use ferry_oci::runtime::Spec;

use crate::error::SpecError;

const APPARMOR: &str = "/sys/kernel/security/apparmor";
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Refuses what this machine lacks.
pub(super) fn check(spec: &Spec) -> Result<(), SpecError> {
    let Some(process) = spec.process() else { return Ok(()) };
    needs(
        "process.apparmorProfile",
        process.apparmor_profile(),
        APPARMOR,
        "AppArmor is not enabled on this machine",
    )?;
    needs("process.selinuxLabel", process.selinux_label(), SELINUX, "SELinux is not enabled on this machine")
}

fn needs(field: &str, value: &Option<String>, path: &str, reason: &str) -> Result<(), SpecError> {
    match value.as_deref().filter(|value| !value.is_empty()) {
        Some(value) if value != "unconfined" && !Path::new(path).exists() => {
            Err(SpecError::new(field, value, reason))
        }
        _ => Ok(()),
    }
}
