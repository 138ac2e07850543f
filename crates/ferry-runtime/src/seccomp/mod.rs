//! Seccomp: Docker's profile, its compiler to BPF, and the syscall tables of the architectures.
//!
//! Owns everything between a profile and the bytes the kernel loads. Pure, but for the question
//! which kernel is running.

mod error;

mod docker;
mod profile;

mod arch;
mod table;

mod compile;
pub(crate) mod notify;
mod program;

#[cfg(test)]
mod tests;

pub use arch::Architecture;
pub use error::SeccompError;

use ferry_oci::runtime::{Capabilities, LinuxSeccomp, LinuxSeccompFilterFlag};

use docker::Situation;

/// Compiles a profile to the bytes of a BPF program for this machine's architecture.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    compile::compile(profile, Architecture::NATIVE)
}

/// Docker's default profile for a container with these capabilities, on this machine's kernel.
pub fn default_profile(capabilities: &Capabilities) -> LinuxSeccomp {
    let situation =
        Situation { architecture: Architecture::NATIVE, capabilities, kernel: crate::kernel::version() };
    docker::resolve(&profile::docker_default(), situation)
        .expect("the built-in profile is valid, as a test proves")
}

/// Reads a profile in Docker's JSON form (`--security-opt seccomp=FILE`) and resolves its
/// conditions for a container with these capabilities on this machine's kernel.
pub fn parse_docker_profile(json: &[u8], capabilities: &Capabilities) -> Result<LinuxSeccomp, SeccompError> {
    let situation =
        Situation { architecture: Architecture::NATIVE, capabilities, kernel: crate::kernel::version() };
    docker::resolve(&docker::parse(json)?, situation)
}

/// The filter flags a profile asks for, as the kernel's bits.
pub(crate) fn flags(profile: &LinuxSeccomp) -> Result<u32, SeccompError> {
    let unsupported = |flag: &LinuxSeccompFilterFlag, reason: &str| {
        Err(SeccompError::Profile { reason: format!("flag {flag:?} {reason}") })
    };
    let mut bits = 0;
    for flag in profile.flags().as_deref().unwrap_or_default() {
        bits |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => ferry_sys::seccomp::FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => ferry_sys::seccomp::FLAG_SPEC_ALLOW,
            // The process has one thread when the filter is loaded.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notify::is_wanted(profile) => {
                ferry_sys::seccomp::FLAG_WAIT_KILLABLE_RECV
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return unsupported(flag, "needs a rule with the action SCMP_ACT_NOTIFY");
            }
        };
    }
    if notify::is_wanted(profile) {
        bits |= ferry_sys::seccomp::FLAG_NEW_LISTENER;
    }
    Ok(bits)
}
