//! Names and numbers of Linux capabilities, and Docker's default set.
//!
//! Owns the name table; never asks the kernel.

use ferry_oci::runtime::{Capabilities, Capability};

/// Every capability by its kernel number (`CAP_CHOWN` is 0).
const TABLE: [(Capability, &str); 41] = [
    (Capability::Chown, "CAP_CHOWN"),
    (Capability::DacOverride, "CAP_DAC_OVERRIDE"),
    (Capability::DacReadSearch, "CAP_DAC_READ_SEARCH"),
    (Capability::Fowner, "CAP_FOWNER"),
    (Capability::Fsetid, "CAP_FSETID"),
    (Capability::Kill, "CAP_KILL"),
    (Capability::Setgid, "CAP_SETGID"),
    (Capability::Setuid, "CAP_SETUID"),
    (Capability::Setpcap, "CAP_SETPCAP"),
    (Capability::LinuxImmutable, "CAP_LINUX_IMMUTABLE"),
    (Capability::NetBindService, "CAP_NET_BIND_SERVICE"),
    (Capability::NetBroadcast, "CAP_NET_BROADCAST"),
    (Capability::NetAdmin, "CAP_NET_ADMIN"),
    (Capability::NetRaw, "CAP_NET_RAW"),
    (Capability::IpcLock, "CAP_IPC_LOCK"),
    (Capability::IpcOwner, "CAP_IPC_OWNER"),
    (Capability::SysModule, "CAP_SYS_MODULE"),
    (Capability::SysRawio, "CAP_SYS_RAWIO"),
    (Capability::SysChroot, "CAP_SYS_CHROOT"),
    (Capability::SysPtrace, "CAP_SYS_PTRACE"),
    (Capability::SysPacct, "CAP_SYS_PACCT"),
    (Capability::SysAdmin, "CAP_SYS_ADMIN"),
    (Capability::SysBoot, "CAP_SYS_BOOT"),
    (Capability::SysNice, "CAP_SYS_NICE"),
    (Capability::SysResource, "CAP_SYS_RESOURCE"),
    (Capability::SysTime, "CAP_SYS_TIME"),
    (Capability::SysTtyConfig, "CAP_SYS_TTY_CONFIG"),
    (Capability::Mknod, "CAP_MKNOD"),
    (Capability::Lease, "CAP_LEASE"),
    (Capability::AuditWrite, "CAP_AUDIT_WRITE"),
    (Capability::AuditControl, "CAP_AUDIT_CONTROL"),
    (Capability::Setfcap, "CAP_SETFCAP"),
    (Capability::MacOverride, "CAP_MAC_OVERRIDE"),
    (Capability::MacAdmin, "CAP_MAC_ADMIN"),
    (Capability::Syslog, "CAP_SYSLOG"),
    (Capability::WakeAlarm, "CAP_WAKE_ALARM"),
    (Capability::BlockSuspend, "CAP_BLOCK_SUSPEND"),
    (Capability::AuditRead, "CAP_AUDIT_READ"),
    (Capability::Perfmon, "CAP_PERFMON"),
    (Capability::Bpf, "CAP_BPF"),
    (Capability::CheckpointRestore, "CAP_CHECKPOINT_RESTORE"),
];

/// Docker's default capabilities of a container.
pub const DOCKER_DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// A capability name nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid capability {name:?}")]
pub struct UnknownCapability {
    /// The name as given.
    pub name: String,
}

/// A capability's `CAP_...` name.
pub fn name(capability: Capability) -> &'static str {
    TABLE[number(capability) as usize].1
}

/// A capability's number in the kernel.
pub fn number(capability: Capability) -> u32 {
    let position = TABLE.iter().position(|(entry, _)| *entry == capability);
    u32::try_from(position.expect("the table lists every variant")).expect("41 entries")
}

/// Parses a name as Docker's `--cap-add` takes it: any case, with or without `CAP_`.
pub fn parse(name: &str) -> Result<Capability, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    TABLE
        .iter()
        .find(|(_, full)| full.strip_prefix("CAP_") == Some(bare))
        .map(|(capability, _)| *capability)
        .ok_or_else(|| UnknownCapability { name: name.to_owned() })
}

/// Every capability this table knows.
pub fn all() -> Capabilities {
    TABLE.iter().map(|(capability, _)| *capability).collect()
}

/// Docker's default capabilities as a set.
pub fn docker_default() -> Capabilities {
    DOCKER_DEFAULT.into_iter().collect()
}

/// A set as the kernel's bit mask.
pub fn mask(capabilities: &Capabilities) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | 1 << number(*capability))
}

/// The names of a mask's capabilities; numbers beyond the table are written as numbers.
pub fn names(mask: u64) -> Vec<String> {
    (0..u64::BITS)
        .filter(|number| mask & (1 << number) != 0)
        .map(|number| {
            TABLE.get(number as usize).map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_in_every_spelling() {
        for spelling in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"] {
            assert_eq!(parse(spelling), Ok(Capability::NetAdmin), "{spelling}");
        }
        assert_eq!(parse("NET_ADMIM").unwrap_err().to_string(), "invalid capability \"NET_ADMIM\"");
    }

    #[test]
    fn docker_default_mask_is_the_known_one() {
        // The mask `grep Cap /proc/self/status` shows in every Docker container.
        assert_eq!(mask(&docker_default()), 0x0000_0000_a804_25fb);
    }

    #[test]
    fn numbers_follow_the_kernel() {
        assert_eq!(number(Capability::SysAdmin), 21);
        assert_eq!(number(Capability::CheckpointRestore), 40);
        assert_eq!(mask(&all()), (1 << 41) - 1);
        assert_eq!(name(Capability::Perfmon), "CAP_PERFMON");
    }
}
