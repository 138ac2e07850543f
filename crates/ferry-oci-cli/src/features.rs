//! `features`: what this runtime knows of the specification.

use ferry_runtime::capability;
use serde_json::json;

use crate::Global;
use crate::error::CliError;
use crate::list::print;

/// The newest version of the specification that is served.
pub(crate) const SPEC_VERSION: &str = "1.3.0";
const OLDEST_VERSION: &str = "1.0.0";

/// Mount options that are no file system's own.
const MOUNT_OPTIONS: &str = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand \
     noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
     ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime \
     rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
     runbindable rw shared silent slave strictatime suid symfollow sync unbindable";

const SECCOMP_ACTIONS: &str = "SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD \
     SCMP_ACT_LOG SCMP_ACT_NOTIFY SCMP_ACT_TRACE SCMP_ACT_TRAP";
const SECCOMP_OPERATORS: &str = "SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_LE SCMP_CMP_LT SCMP_CMP_MASKED_EQ \
     SCMP_CMP_NE";
const SECCOMP_FLAGS: &str = "SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_TSYNC \
     SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";

const MEMORY_MODES: &str = "MPOL_BIND MPOL_DEFAULT MPOL_INTERLEAVE MPOL_LOCAL MPOL_PREFERRED MPOL_PREFERRED_MANY \
     MPOL_WEIGHTED_INTERLEAVE";
const MEMORY_FLAGS: &str = "MPOL_F_NUMA_BALANCING MPOL_F_RELATIVE_NODES MPOL_F_STATIC_NODES";

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

/// Runs `features`.
pub(crate) fn features(_: &Global, _: &[String]) -> Result<i32, CliError> {
    let document = json!({
        "ociVersionMin": OLDEST_VERSION,
        "ociVersionMax": SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": words(MOUNT_OPTIONS),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capability::names(u64::MAX >> 23),
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": words(SECCOMP_ACTIONS),
                "operators": words(SECCOMP_OPERATORS),
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": words(SECCOMP_FLAGS),
                "supportedFlags": words(SECCOMP_FLAGS),
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": { "modes": words(MEMORY_MODES), "flags": words(MEMORY_FLAGS) },
            "mountExtensions": { "idmap": { "enabled": true } },
            "netDevices": { "enabled": true },
        },
        "annotations": { "io.ferry.runtime.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": [],
    });
    print(&serde_json::to_string_pretty(&document).expect("a document of strings always serializes"))
}
